//! Which line of a Dockerfile made each layer.
//!
//! An image remembers what its instructions said, not where they stood. So the steps of its history
//! are held against the instructions of the Dockerfile, in order, from the end: steps of the base
//! image find no instruction, and instructions that are not this image's find no step. What is not
//! found has no line; nothing is guessed.

use std::path::{Path, PathBuf};

use conex_dockerfile::{Dockerfile, Instruction, Kind, Script, Transfer};
use conex_inventory::SourceLine;
use conex_oci::ImageConfig;

use crate::error::{CliError, Doing as _, Result};

/// Largest Dockerfile read, as in a build.
const FILE_SIZE_MAX: u64 = 4 << 20;

/// Most pairs of a step and an instruction that are held against each other for one stage: a
/// thousand of each.
const PAIRS_MAX: usize = 1_000_000;

/// Most stages whose instructions are tried: more make no sense of a search.
const STAGES_MAX: usize = 100;

/// Names that are looked for where none is given, as in a build.
const NAMES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// How well a step and an instruction fit: not, in kind with a text that only the build knows, or
/// word for word.
const MAYBE: u32 = 1;
const SURELY: u32 = 4;

/// The line of each layer, by a file that was named, or by the one in the working folder if it is
/// the one that the image was made from.
pub fn find(file: Option<&Path>, config: &ImageConfig) -> Result<Vec<Option<SourceLine>>> {
    if let Some(path) = file {
        let Some(text) = read(path)? else {
            return Err(CliError::new(format!("there is no Dockerfile `{}`", path.display())));
        };
        let (dockerfile, mistakes) = conex_dockerfile::parse(&text);
        if let Some(mistake) = mistakes.first().filter(|_| dockerfile.stages.is_empty()) {
            let line = mistake.span.map_or(1, |span| span.start.line);
            return Err(CliError::new(format!("{}:{line}: {}", path.display(), mistake.message)));
        }
        let found = lines(&dockerfile, config);
        return Ok(found.named(&path.display().to_string()));
    }
    for name in NAMES {
        // A file that cannot be read, and that nobody named, is none.
        if let Ok(Some(text)) = read(Path::new(name)) {
            let found = lines(&conex_dockerfile::parse(&text).0, config);
            if found.is_whole {
                return Ok(found.named(name));
            }
        }
    }
    Ok(Vec::new())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let act = || format!("cannot read `{}`", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::because(act(), error)),
    };
    let mut text = Vec::new();
    file.take(FILE_SIZE_MAX).read_to_end(&mut text).doing(act)?;
    Ok(Some(text))
}

/// What was found.
#[derive(Debug, Default)]
struct Lines {
    /// By layer.
    lines: Vec<Option<u32>>,
    /// Whether every instruction of the stage that makes a layer was found, word for word.
    is_whole: bool,
}

impl Lines {
    fn named(self, file: &str) -> Vec<Option<SourceLine>> {
        let place = |line: u32| SourceLine { file: file.to_owned(), line };
        self.lines.into_iter().map(|line| line.map(place)).collect()
    }
}

/// The lines of the stage that fits the history best, the last of those that fit alike.
fn lines(dockerfile: &Dockerfile, config: &ImageConfig) -> Lines {
    let steps: Vec<Step> = config.history.iter().map(|step| Step::of(&step.created_by)).collect();
    let mut best = (0, Lines::default());
    for stage in dockerfile.stages.iter().rev().take(STAGES_MAX) {
        let wanted = chain(dockerfile, stage.index);
        if steps.len().saturating_mul(wanted.len()) > PAIRS_MAX {
            continue;
        }
        let (score, found) = aligned(&steps, &wanted);
        if score > best.0 {
            let own = &stage.instructions;
            best = (score, by_layer(config, &steps, &wanted, &found, own));
        }
    }
    best.1
}

/// The instructions that lead to a stage, those of the stages it is made from first.
fn chain(dockerfile: &Dockerfile, last: usize) -> Vec<&Instruction> {
    let mut stages = Vec::new();
    let mut at = dockerfile.stages.get(last);
    while let Some(stage) = at {
        stages.push(stage);
        at = dockerfile.stage_named(&stage.base.raw, stage.index);
    }
    stages.iter().rev().flat_map(|stage| &stage.instructions).collect()
}

/// The instruction of each step, and how well all of it fits: the pairs in order that fit best
/// together, late ones rather than early ones.
fn aligned(steps: &[Step], wanted: &[&Instruction]) -> (u32, Vec<Option<usize>>) {
    let width = wanted.len() + 1;
    let fits: Vec<u32> =
        steps.iter().flat_map(|step| wanted.iter().map(|one| step.fits(one))).collect();
    let fit = |step: usize, one: usize| fits[step * wanted.len() + one];
    let mut sums = vec![0; (steps.len() + 1) * width];
    for step in 0..steps.len() {
        for one in 0..wanted.len() {
            let without = sums[step * width + one + 1].max(sums[(step + 1) * width + one]);
            let with = match fit(step, one) {
                0 => 0,
                fit => sums[step * width + one] + fit,
            };
            sums[(step + 1) * width + one + 1] = without.max(with);
        }
    }
    let mut found = vec![None; steps.len()];
    let (mut step, mut one) = (steps.len(), wanted.len());
    while step > 0 && one > 0 {
        let here = sums[step * width + one];
        let fit = fit(step - 1, one - 1);
        if fit > 0 && here == sums[(step - 1) * width + one - 1] + fit {
            found[step - 1] = Some(one - 1);
            (step, one) = (step - 1, one - 1);
        } else if here == sums[(step - 1) * width + one] {
            step -= 1;
        } else {
            one -= 1;
        }
    }
    (sums.last().copied().unwrap_or(0), found)
}

fn by_layer(
    config: &ImageConfig,
    steps: &[Step],
    wanted: &[&Instruction],
    found: &[Option<usize>],
    own: &[Instruction],
) -> Lines {
    let mut lines = Vec::new();
    let mut sure: Vec<&Instruction> = Vec::new();
    for ((step, found), history) in steps.iter().zip(found).zip(&config.history) {
        let instruction = found.and_then(|at| wanted.get(at)).copied();
        if let Some(instruction) = instruction
            && step.fits(instruction) == SURELY
        {
            sure.push(instruction);
        }
        if !history.empty_layer {
            lines.push(instruction.map(|one| one.span.start.line));
        }
    }
    lines.resize(config.rootfs.diff_ids.len(), None);
    let makes_a_layer =
        |one: &&Instruction| matches!(one.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_));
    let mut makers = own.iter().filter(makes_a_layer).peekable();
    let has_any = makers.peek().is_some();
    let is_sure = |one: &Instruction| sure.iter().any(|known| std::ptr::eq(*known, one));
    Lines { lines, is_whole: has_any && makers.all(is_sure) }
}

/// A step of a history, taken apart.
#[derive(Debug)]
struct Step {
    /// In capitals.
    keyword: String,
    words: Vec<String>,
    /// Docker's classic builder: what was copied is a digest, whole commands are lists.
    is_classic: bool,
}

impl Step {
    fn of(created_by: &str) -> Self {
        let text = created_by.trim();
        let text = text.strip_suffix("# buildkit").unwrap_or(text).trim();
        let shell = "/bin/sh -c ";
        let (text, is_classic) = match text.strip_prefix("/bin/sh -c #(nop)") {
            Some(rest) => (rest.trim().to_owned(), true),
            None if text.starts_with(shell) || text.starts_with('|') => {
                (format!("RUN {text}"), true)
            }
            None => (text.to_owned(), false),
        };
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        // `|2 A=1 B=2 /bin/sh -c …`: values that were given to the build.
        if keyword.eq_ignore_ascii_case("RUN")
            && let Some(count) = words.first().and_then(|word| word.strip_prefix('|'))
            && let Ok(count) = count.parse::<usize>()
        {
            // A value with spaces is several words; the shell comes behind the last.
            let shell = words.iter().skip(count).position(|word| word.starts_with('/'));
            let at = shell.map_or(words.len(), |at| at + count);
            words.drain(..at.min(words.len()));
        }
        Self { keyword: keyword.to_ascii_uppercase(), words, is_classic }
    }

    /// How well an instruction fits.
    fn fits(&self, instruction: &Instruction) -> u32 {
        if self.keyword != instruction.kind.name().to_ascii_uppercase() {
            return 0;
        }
        match &instruction.kind {
            Kind::Run(_) => self.fits_run(instruction),
            Kind::Copy(copy) => self.fits_copy(&copy.transfer),
            Kind::Add(add) => self.fits_copy(&add.transfer),
            _ => {
                let own: Vec<&str> = instruction.text.split_whitespace().skip(1).collect();
                if self.words_are(&own) { SURELY } else { MAYBE }
            }
        }
    }

    fn fits_run(&self, instruction: &Instruction) -> u32 {
        let script = match instruction.script() {
            Some(Script::Exec(words)) => words.join(" "),
            Some(Script::Shell(text)) => text,
            Some(Script::File { content, .. }) => content,
            None => return 0,
        };
        let own: Vec<&str> = script.split_whitespace().collect();
        // The shell and its options stand before it.
        let ends_with_it =
            self.words.len() >= own.len() && self.words[self.words.len() - own.len()..] == own[..];
        let is_shell = |word: &String| word == "-c" || word.ends_with("sh");
        let before = self.words.len().saturating_sub(own.len());
        let is_it = ends_with_it
            && !own.is_empty()
            && (before == 0 || self.words[..before].iter().any(is_shell));
        if is_it { SURELY } else { 0 }
    }

    fn fits_copy(&self, transfer: &Transfer) -> u32 {
        let target = transfer.target.raw.as_str();
        if self.is_classic {
            // `COPY file:0123… in /target`
            let last = self.words.last().map_or("", |word| word.trim_end_matches('/'));
            let is_it = last == target.trim_end_matches('/') || target.contains('$');
            return if is_it { MAYBE.max(SURELY - 1) } else { 0 };
        }
        let inline = transfer.inline_files.iter().map(|file| format!("<<{}", file.name));
        let own: Vec<String> = transfer
            .sources
            .iter()
            .map(|word| word.raw.clone())
            .chain(inline)
            .chain([target.to_owned()])
            .collect();
        let own: Vec<&str> = own.iter().flat_map(|word| word.split_whitespace()).collect();
        let words: Vec<&str> =
            self.words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
        if same_words(&words, &own) {
            return SURELY;
        }
        // A variable may have become several words, or none.
        let same_target = target.contains('$') || words.last() == Some(&target);
        if same_target && own.iter().any(|word| word.contains('$')) { MAYBE } else { 0 }
    }

    fn words_are(&self, own: &[&str]) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        same_words(&words, own)
    }
}

/// Whether words are the same but for quotes, and for those whose value only the build knows.
fn same_words(words: &[&str], own: &[&str]) -> bool {
    let bare = |word: &str| word.replace(['"', '\'', '\\', ',', '[', ']'], "");
    words.len() == own.len()
        && words.iter().zip(own).all(|(word, own)| own.contains('$') || bare(word) == bare(own))
}

/// The file that was named on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FileArgs {
    /// The Dockerfile that the image was made from, so that lines of it are named
    ///
    /// Without it, `Dockerfile` or `Containerfile` of the working folder is taken, if all its
    /// instructions are in the image's history.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use conex_oci::{DiffId, Digest, History, Platform};

    /// Steps of a history, those without a layer with `-` before them.
    fn config(steps: &[&str]) -> ImageConfig {
        let mut config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
        for step in steps {
            let empty_layer = step.starts_with('-');
            let created_by = step.trim_start_matches('-').to_owned();
            config.history.push(History { created_by, empty_layer, ..History::default() });
            if !empty_layer {
                config.rootfs.diff_ids.push(DiffId(Digest::of(step.as_bytes())));
            }
        }
        config
    }

    const FILE: &str = "\
ARG VERSION=1
FROM golang AS build
COPY . /src
RUN make

FROM debian
ARG VERSION
ENV A=1 \\
    B=2
RUN apt-get update \\
    && apt-get install -y curl
COPY --from=build --chown=1 /src/app /usr/bin/
RUN <<EOF
set -e
make install
EOF
COPY $FROM /x
RUN [\"true\", \"a\"]
CMD [\"app\"]
";

    #[test]
    fn layers_have_the_lines_of_their_instructions() {
        let base = "/bin/sh -c #(nop) ADD file:0123 in / ";
        for (what, steps, expected, is_whole) in [
            (
                "buildkit",
                &[
                    base,
                    "-/bin/sh -c #(nop)  CMD [\"bash\"]",
                    "-ARG VERSION=1",
                    "-ENV A=1 B=2",
                    "RUN |1 VERSION=1 2 /bin/sh -c apt-get update     && apt-get install -y curl # \
                     buildkit",
                    "COPY --chown=1 /src/app /usr/bin/ # buildkit",
                    "RUN |1 VERSION=1 /bin/sh -c set -e\nmake install\n # buildkit",
                    "COPY from /x # buildkit",
                    "RUN true a # buildkit",
                    "-CMD [\"app\"]",
                ][..],
                &[None, Some(10), Some(12), Some(13), Some(17), Some(18)][..],
                true,
            ),
            (
                "classic",
                &[
                    base,
                    "-/bin/sh -c #(nop)  ENV A=1 B=2",
                    "|1 VERSION=1 /bin/sh -c apt-get update && apt-get install -y curl",
                    "/bin/sh -c #(nop) COPY file:0123 in /usr/bin/ ",
                    "-/bin/sh -c #(nop)  CMD [\"app\"]",
                ][..],
                &[None, Some(10), Some(12)][..],
                false,
            ),
            (
                "the stage before",
                &[base, "COPY . /src # buildkit", "RUN /bin/sh -c make # buildkit"][..],
                &[None, Some(3), Some(4)][..],
                true,
            ),
            (
                "another image",
                &["RUN /bin/sh -c apt-get update # buildkit", "COPY a b # buildkit"][..],
                &[None, None][..],
                false,
            ),
            ("without history", &[][..], &[][..], false),
        ] {
            let found = lines(&conex_dockerfile::parse(FILE.as_bytes()).0, &config(steps));
            let mut lines = found.lines;
            lines.resize(expected.len(), None);
            assert_eq!((lines.as_slice(), found.is_whole), (expected, is_whole), "{what}");
        }
    }

    #[test]
    fn equal_instructions_are_told_apart_by_their_order() {
        let file = b"FROM a AS one\nRUN x\nFROM one\nRUN y\nRUN x\nRUN x\n";
        let run = |text: &str| format!("RUN /bin/sh -c {text} # buildkit");
        let steps = ["z", "x", "y", "x", "x"].map(run);
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let found = lines(&conex_dockerfile::parse(file).0, &config(&steps));
        assert_eq!(found.lines, [None, Some(2), Some(4), Some(5), Some(6)]);
    }
}
