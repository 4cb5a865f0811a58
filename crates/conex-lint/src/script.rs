//! The shell text of an instruction: put together from its lines and heredocs, parsed, and with the
//! way back to the file.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::text::Lines;
use conex_dockerfile::{Command as Form, Healthcheck, Instruction, Kind};
use conex_shell::{CommandKind, PartKind, Script, Simple, Span, Visit, Word};

/// Which shell reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// `sh` as POSIX has it (dash, BusyBox).
    Posix,
    /// bash and those that know what it knows.
    Bash,
    /// PowerShell, `cmd`, or a program that is no shell at all.
    Other,
}

impl Shell {
    /// The shell of a program's path, with the options that make it fail when part of a pipe does.
    pub(crate) fn of_program(program: &str) -> Self {
        let name = program.rsplit(['/', '\\']).next().unwrap_or("");
        match name.strip_suffix(".exe").unwrap_or(name) {
            "sh" | "dash" | "ash" | "busybox" => Self::Posix,
            "bash" | "ksh" | "ksh93" | "mksh" | "zsh" => Self::Bash,
            _ => Self::Other,
        }
    }
}

/// What reads a script: a shell, and what it was told when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) shell: Shell,
    /// Told to end when a command fails (`-e`).
    pub(crate) has_errexit: bool,
    /// Told to fail when a part of a pipe does (`-o pipefail`).
    pub(crate) has_pipefail: bool,
}

impl Reader {
    /// The shell of a name, told nothing.
    pub(crate) fn of_program(program: &str) -> Self {
        Self { shell: Shell::of_program(program), has_errexit: false, has_pipefail: false }
    }

    /// The shell of a program with its arguments, `env` before it looked through.
    pub(crate) fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<Self> {
        let mut words = words.into_iter();
        let mut program = words.next()?;
        if program.ends_with("/env") || program == "env" {
            program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        }
        let mut reader = Self::of_program(program);
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
                continue;
            };
            reader.has_errexit |= letters.contains('e');
            if letters.ends_with('o') {
                match words.next() {
                    Some("pipefail") => reader.has_pipefail = true,
                    Some("errexit") => reader.has_errexit = true,
                    _ => {}
                }
            }
        }
        Some(reader)
    }
}

/// A script within a Dockerfile.
pub(crate) struct ShellText {
    pub(crate) text: String,
    /// Offset in `text`, offset in the file, ascending.
    places: Vec<(usize, usize)>,
    pub(crate) script: Script,
    pub(crate) reader: Reader,
    /// Every simple command, in order.
    pub(crate) commands: Vec<Cmd>,
    /// Written as a JSON array: one command without a shell, which no edit of a script mends.
    pub(crate) is_exec: bool,
}

impl ShellText {
    /// The one command of a RUN in the JSON form.
    pub(crate) fn of_exec(instruction: &Instruction, lines: &Lines<'_>) -> Option<Self> {
        let Kind::Run(run) = &instruction.kind else { return None };
        let Form::Exec(words) = &run.command else { return None };
        let (mut text, mut places, mut args) = (String::new(), Vec::new(), Vec::new());
        for word in words {
            let start = text.len();
            // Behind the quote that opens the string.
            places.push((start, lines.range(word.span).start + 1));
            text.push_str(&word.raw);
            let span = Span::new(start, text.len());
            args.push(Arg { text: word.raw.clone(), span, is_literal: true });
            text.push(' ');
        }
        let first = (!args.is_empty()).then(|| args.remove(0))?;
        let name = first.text.rsplit('/').next().unwrap_or("").to_owned();
        let span = Span::new(0, text.trim_end().len());
        let command = Cmd { name, name_span: first.span, args, span, depth: 0, is_wrapped: false };
        Some(Self {
            text,
            places,
            script: Script::default(),
            reader: Reader::of_program(""),
            commands: vec![command],
            is_exec: true,
        })
    }

    /// The script of an instruction that has one.
    pub(crate) fn of(instruction: &Instruction, source: &str, reader: Reader) -> Option<Self> {
        let form = match &instruction.kind {
            Kind::Run(run) => &run.command,
            Kind::Cmd(command) | Kind::Entrypoint(command) => command,
            Kind::Healthcheck(Healthcheck::Command { command, .. }) => command,
            _ => return None,
        };
        let Form::Shell(word) = form else { return None };
        let is_run = matches!(instruction.kind, Kind::Run(_));
        let (text, places, reader) = match instruction.heredocs.first() {
            Some(first) if is_run && is_heredoc_alone(&word.raw) => {
                let (text, places) = heredoc_text(first);
                let reader = shebang(&text).unwrap_or(reader);
                (text, places, reader)
            }
            first => {
                let start = instruction.text.len().checked_sub(word.raw.len())?;
                let mut places = vec![(0, instruction.place(start))];
                let behind = instruction.places.iter().filter(|(at, _)| *at > start);
                places.extend(behind.map(|(at, source)| (at - start, *source)));
                let mut text = word.raw.clone();
                if let (true, Some(first)) = (is_run, first) {
                    text.push('\n');
                    let body = first.source.start..instruction.source.end;
                    places.push((text.len(), body.start));
                    text.push_str(source.get(body).unwrap_or(""));
                    text.push('\n');
                }
                (text, places, reader)
            }
        };
        (reader.shell != Shell::Other).then(|| Self::new(text, places, reader))
    }

    fn new(text: String, places: Vec<(usize, usize)>, reader: Reader) -> Self {
        let script = conex_shell::parse(&text);
        let commands = commands(&script, &text);
        Self { text, places, script, reader, commands, is_exec: false }
    }

    /// The scripts in heredocs that shells of this one read: `bash <<EOF`, `cat <<EOF | sh`.
    pub(crate) fn inner(&self) -> Vec<Self> {
        let mut found = Vec::new();
        self.push_inner(INNER_DEPTH_MAX, &mut found);
        found
    }

    fn push_inner(&self, depth: usize, found: &mut Vec<Self>) {
        if self.is_exec || self.script.heredocs.is_empty() || self.script.error.is_some() {
            return;
        }
        // Of programs that start programs the last one, which is what reads.
        let programs = self.commands.iter().map(|cmd| (cmd.span.start, cmd)).collect();
        let mut readers = Readers { programs, found: Vec::new() };
        self.script.visit(&mut readers);
        for (index, reader) in readers.found {
            let Some(heredoc) = self.script.heredocs.get(index) else { continue };
            let body = heredoc.body.of(&self.text);
            let start = self.place(heredoc.body.start);
            let (text, places) = without_tabs(body, start, heredoc.strip_tabs);
            let inner = Self::new(text, places, reader);
            // What the outer shell expands may well read otherwise before.
            if inner.script.error.is_some() && !heredoc.quoted {
                continue;
            }
            if let Some(depth) = depth.checked_sub(1) {
                inner.push_inner(depth, found);
            }
            found.push(inner);
        }
    }

    /// The byte of the file that a byte of the text was read from.
    fn place(&self, offset: usize) -> usize {
        let piece = self.places.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        self.places.get(piece).map_or(0, |(start, source)| source + offset.saturating_sub(*start))
    }

    /// The bytes of the file from the first to the last character of a span.
    pub(crate) fn source(&self, span: Span) -> Range<usize> {
        let start = self.place(span.start);
        if span.end <= span.start {
            return start..start;
        }
        let written = span.of(&self.text);
        let last = written.char_indices().next_back().map_or(0, |(at, _)| at);
        start..(self.place(span.start + last) + written.len() - last).max(start)
    }

    /// Whether a span is one piece of the file, so that an edit of it touches nothing else.
    pub(crate) fn is_one_piece(&self, span: Span) -> bool {
        let range = self.source(span);
        range.end - range.start == span.end.saturating_sub(span.start)
    }
}

fn is_heredoc_alone(text: &str) -> bool {
    text.starts_with("<<") && !text.contains([' ', '\t', '|', '>', ';', '&'])
}

fn heredoc_text(heredoc: &conex_dockerfile::Heredoc) -> (String, Vec<(usize, usize)>) {
    without_tabs(&heredoc.content, heredoc.source.start, heredoc.strip_tabs)
}

/// The body of a heredoc that stands at `start` of the file, as its reader gets it.
fn without_tabs(body: &str, start: usize, strips: bool) -> (String, Vec<(usize, usize)>) {
    if !strips {
        return (body.to_owned(), vec![(0, start)]);
    }
    let (mut text, mut places, mut at) = (String::new(), Vec::new(), start);
    for line in body.split_inclusive('\n') {
        let stripped = line.trim_start_matches('\t');
        places.push((text.len(), at + line.len() - stripped.len()));
        text.push_str(stripped);
        at += line.len();
    }
    (text, places)
}

/// The shell that a script asks for in its first line.
fn shebang(text: &str) -> Option<Reader> {
    Reader::of_words(text.strip_prefix("#!")?.lines().next()?.split_whitespace())
}

/// Deepest nesting of scripts in heredocs of scripts.
const INNER_DEPTH_MAX: usize = 3;

/// Looks for shells that read heredocs.
struct Readers<'c> {
    programs: BTreeMap<usize, &'c Cmd>,
    /// Which heredoc, and what reads it.
    found: Vec<(usize, Reader)>,
}

impl Readers<'_> {
    /// The shell that a command is, if it reads its script from standard input.
    fn shell(&self, command: &conex_shell::Command) -> Option<Reader> {
        let cmd = self.programs.get(&command.span.start)?;
        let mut words = cmd.args.iter().map(|arg| arg.text.as_str());
        let mut has_script = false;
        while let Some(word) = words.next() {
            match word {
                "-s" | "-" | "--" => break,
                _ if word.starts_with('-') && word.contains('c') && !word.starts_with("--") => {
                    return None;
                }
                _ if word.starts_with(['-', '+']) && word.ends_with(['o', 'O']) => {
                    words.next();
                }
                _ => has_script |= !word.starts_with(['-', '+']),
            }
        }
        let args = cmd.args.iter().map(|arg| arg.text.as_str());
        let reader = Reader::of_words(std::iter::once(cmd.name.as_str()).chain(args))?;
        (reader.shell != Shell::Other && !has_script).then_some(reader)
    }
}

impl<'s> Visit<'s> for Readers<'_> {
    fn pipeline(&mut self, pipeline: &'s conex_shell::Pipeline) {
        if let [first, second, ..] = pipeline.commands.as_slice()
            && let Some(cat) = self.programs.get(&first.span.start)
            && cat.is("cat")
            && cat.args.is_empty()
            && let Some(reader) = self.shell(second)
        {
            self.found.extend(heredoc_of(first).map(|heredoc| (heredoc, reader)));
        }
        conex_shell::walk_pipeline(self, pipeline);
    }

    fn command(&mut self, command: &'s conex_shell::Command) {
        if let Some(heredoc) = heredoc_of(command)
            && let Some(reader) = self.shell(command)
        {
            self.found.push((heredoc, reader));
        }
        conex_shell::walk_command(self, command);
    }
}

/// The heredoc that is a command's standard input.
fn heredoc_of(command: &conex_shell::Command) -> Option<usize> {
    let inputs = command.redirects.iter().filter(|one| one.descriptor.is_none());
    inputs.filter_map(|one| one.heredoc).next_back()
}

/// One simple command with a name.
#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    /// The program, without its folder.
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) args: Vec<Arg>,
    pub(crate) span: Span,
    /// How many subshells and substitutions it stands in.
    pub(crate) depth: usize,
    /// Started by `sudo`, `env` or the like.
    pub(crate) is_wrapped: bool,
}

/// One argument.
#[derive(Debug, Clone)]
pub(crate) struct Arg {
    /// Quotes removed; `${VAR}` for what expands.
    pub(crate) text: String,
    pub(crate) span: Span,
    /// Whether nothing in it expands.
    pub(crate) is_literal: bool,
}

impl Cmd {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(crate) fn is_any(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    /// Whether a word stands among the arguments.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.args.iter().any(|arg| arg.text == word)
    }

    /// The arguments that are no flags.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &Arg> {
        self.args.iter().filter(|arg| !arg.text.starts_with('-'))
    }

    /// The first argument that is no flag: `install` in `apt-get -y install x`.
    pub(crate) fn verb(&self) -> Option<&Arg> {
        self.plain().next()
    }

    pub(crate) fn verb_is(&self, verbs: &[&str]) -> bool {
        self.verb().is_some_and(|verb| verbs.contains(&verb.text.as_str()))
    }

    /// Whether a flag stands among the arguments: `y` for `-y` and `-qqy`, `yes` for `--yes` and
    /// `--yes=1`.
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| is_flag(&arg.text, flag))
    }

    pub(crate) fn has_any_flag(&self, flags: &[&str]) -> bool {
        flags.iter().any(|flag| self.has_flag(flag))
    }

    /// What stands behind a flag: its own `=value`, or the next argument.
    pub(crate) fn flag_value(&self, flag: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| is_flag(&arg.text, flag))?;
        let text = &self.args.get(at)?.text;
        match text.split_once('=') {
            Some((_, value)) => Some(value),
            None => self.args.get(at + 1).map(|arg| arg.text.as_str()),
        }
    }
}

fn is_flag(text: &str, flag: &str) -> bool {
    if let Some(long) = text.strip_prefix("--") {
        return long.split('=').next() == Some(flag);
    }
    match text.strip_prefix('-') {
        Some(short) if flag.chars().count() == 1 => {
            short.split('=').next().unwrap_or("").contains(flag)
        }
        Some(short) => short == flag,
        None => false,
    }
}

/// Programs that start the program in their arguments, with the flags that take a value.
const WRAPPERS: [(&str, &[&str]); 8] = [
    ("sudo", &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-U"]),
    ("doas", &["-u", "-C"]),
    ("env", &["-u", "-C", "-S"]),
    ("exec", &["-a"]),
    ("command", &[]),
    ("nice", &["-n"]),
    ("nohup", &[]),
    ("eatmydata", &[]),
];

/// Most programs looked for behind one another (`sudo env nice …`).
const WRAPPED_MAX: usize = 4;

struct Collector<'t> {
    text: &'t str,
    depth: usize,
    found: Vec<Cmd>,
}

fn commands(script: &Script, text: &str) -> Vec<Cmd> {
    let mut collector = Collector { text, depth: 0, found: Vec::new() };
    script.visit(&mut collector);
    collector.found
}

impl<'s> Visit<'s> for Collector<'_> {
    fn command(&mut self, command: &'s conex_shell::Command) {
        if let CommandKind::Simple(simple) = &command.kind {
            self.simple(simple, command.span);
        }
        let inside = matches!(command.kind, CommandKind::Subshell(_));
        self.depth += usize::from(inside);
        conex_shell::walk_command(self, command);
        self.depth -= usize::from(inside);
    }

    fn part(&mut self, part: &'s conex_shell::Part) {
        let inside = matches!(part.kind, PartKind::Command { .. } | PartKind::Process(_));
        self.depth += usize::from(inside);
        conex_shell::walk_part(self, part);
        self.depth -= usize::from(inside);
    }
}

impl Collector<'_> {
    fn simple(&mut self, simple: &Simple, span: Span) {
        let mut words = simple.words.as_slice();
        for nesting in 0..WRAPPED_MAX {
            let Some((first, rest)) = words.split_first() else { return };
            let Some(path) = first.literal(self.text) else { return };
            let name = path.rsplit('/').next().unwrap_or("").to_owned();
            let args: Vec<Arg> = rest.iter().map(|word| self.arg(word)).collect();
            let inner = WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name);
            let skipped = inner.and_then(|(_, valued)| wrapped_at(&args, valued));
            self.found.push(Cmd {
                name,
                name_span: first.span,
                args,
                span,
                depth: self.depth,
                is_wrapped: nesting > 0,
            });
            match skipped {
                Some(skipped) => words = rest.get(skipped..).unwrap_or_default(),
                None => return,
            }
        }
    }

    fn arg(&self, word: &Word) -> Arg {
        let text = word.sketch(self.text);
        Arg { is_literal: word.literal(self.text).is_some(), text, span: word.span }
    }
}

/// Where the wrapped program stands among the wrapper's arguments.
fn wrapped_at(args: &[Arg], valued: &[&str]) -> Option<usize> {
    let mut at = 0;
    loop {
        let arg = args.get(at)?;
        if valued.contains(&arg.text.as_str()) {
            at += 2;
        } else if arg.text.starts_with('-') || arg.text.contains('=') {
            at += 1;
        } else {
            return Some(at);
        }
    }
}
