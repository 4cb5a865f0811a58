//! Which files are looked at, and what lies beside them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_dockerfile::Ignore;
use conex_dockerfile::limits::{DOCKERFILE_SIZE_MAX, IGNORE_SIZE_MAX};
use conex_lint::{CheckOptions, LintOptions, Linted, RULES_VERSION, Scope};
use conex_oci::Platform;

use super::Config;
use crate::error::{CliError, Doing as _, Result};

/// One Dockerfile.
pub(in crate::commands) struct Input {
    /// What it is called in findings.
    pub(in crate::commands) name: String,
    /// Where it is; nowhere, if it came from standard input.
    pub(in crate::commands) path: Option<PathBuf>,
    /// Its bytes; those that are no UTF-8 make it no text.
    pub(in crate::commands) bytes: Vec<u8>,
    /// Its text.
    pub(in crate::commands) text: String,
}

/// Deepest folder that is searched below the one that was named.
const FOLDER_DEPTH_MAX: usize = 64;

/// Most files looked at in one run: whoever names `/` by mistake gets an answer.
const FILE_COUNT_MAX: usize = 100_000;

/// Most names at the top of a context that rules are told of.
const CONTEXT_NAME_COUNT_MAX: usize = 10_000;

/// Reads the files that are named, and those in folders that are named.
pub(in crate::commands) fn find(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(DOCKERFILE_SIZE_MAX as u64 + 1)
                .read_to_end(&mut bytes)
                .doing(|| "cannot read standard input".to_owned())?;
            inputs.push(Input::new("-".to_owned(), None, bytes));
        } else if path.is_dir() {
            let mut found = Vec::new();
            search(path, 0, &mut found)?;
            if found.is_empty() {
                return Err(CliError::new(format!("no Dockerfile lies in `{}`", path.display()))
                    .with_hint("name the file itself"));
            }
            for file in found {
                inputs.push(read(&file)?);
            }
        } else {
            inputs.push(read(path)?);
        }
    }
    Ok(inputs)
}

impl Input {
    /// A file's bytes under a name.
    pub(in crate::commands) fn new(name: String, path: Option<PathBuf>, bytes: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Self { name, path, bytes, text }
    }
}

fn read(path: &Path) -> Result<Input> {
    let act = || format!("cannot read `{}`", path.display());
    let file = std::fs::File::open(path).doing(act)?;
    let mut bytes = Vec::new();
    file.take(DOCKERFILE_SIZE_MAX as u64 + 1).read_to_end(&mut bytes).doing(act)?;
    let name = path.strip_prefix("./").unwrap_or(path).display().to_string();
    Ok(Input::new(name, Some(path.to_owned()), bytes))
}

/// Whether a file's name says that it is a Dockerfile.
pub(in crate::commands) fn is_dockerfile(name: &str) -> bool {
    let named = |word: &str| {
        name == word
            || name.strip_prefix(word).is_some_and(|rest| rest.starts_with('.') && rest.len() > 1)
            || name.strip_suffix(word).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    let other = [".dockerignore", ".containerignore", ".md", ".orig", ".rej", ".swp", "~"];
    let is_other = other.iter().any(|end| name.ends_with(end));
    !is_other
        && ["Dockerfile", "Containerfile", "dockerfile", "containerfile"].iter().any(|w| named(w))
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    /// Folders that hold other people's files.
    const SKIPPED: [&str; 5] = [".git", "node_modules", "target", ".venv", "vendor"];
    if depth > FOLDER_DEPTH_MAX {
        return Ok(());
    }
    let act = || format!("cannot look into `{}`", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).doing(act)? {
        let entry = entry.doing(act)?;
        entries.push((entry.file_name(), entry.file_type().doing(act)?));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let text = name.to_string_lossy();
        if kind.is_dir() && !SKIPPED.contains(&text.as_ref()) {
            search(&folder.join(&name), depth + 1, found)?;
        } else if !kind.is_dir() && is_dockerfile(&text) {
            if found.len() >= FILE_COUNT_MAX {
                return Err(CliError::new(format!("more than {FILE_COUNT_MAX} Dockerfiles")));
            }
            found.push(folder.join(&name));
        }
    }
    Ok(())
}

/// Largest file of a context that rules may ask for: 1 MiB, ten thousand locked requirements.
const CONTEXT_TEXT_SIZE_MAX: u64 = 1 << 20;

/// Reads a file at the top of a context. What is no plain file there, a link out of it among them,
/// is none.
pub(in crate::commands) fn read_of_context(folder: &Path, name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return None;
    }
    let path = folder.join(name);
    let metadata = std::fs::symlink_metadata(&path).ok()?;
    let is_plain = metadata.is_file() && metadata.len() <= CONTEXT_TEXT_SIZE_MAX;
    let file = std::fs::File::open(&path).ok().filter(|_| is_plain)?;
    let mut text = String::new();
    file.take(CONTEXT_TEXT_SIZE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What lies in the folder of a Dockerfile: names at its top, and the ignore file.
struct Surroundings {
    names: Arc<Vec<String>>,
    ignore: Option<Ignore>,
}

impl Surroundings {
    /// Looks; what cannot be read is not known.
    fn of(path: &Path) -> Self {
        let folder = folder_of(path);
        let names = names_in(folder);
        let own = path.file_name().map(|name| format!("{}.dockerignore", name.to_string_lossy()));
        let places = own.into_iter().chain([".dockerignore".to_owned()]);
        let ignore = places.into_iter().find_map(|name| {
            let file = std::fs::File::open(folder.join(name)).ok()?;
            let mut bytes = Vec::new();
            file.take(IGNORE_SIZE_MAX as u64).read_to_end(&mut bytes).ok()?;
            Some(conex_lint::ignore_file(&bytes))
        });
        Self { names, ignore }
    }
}

thread_local! {
    /// The folder that was looked into last, and its names.
    static LAST: RefCell<Option<(PathBuf, Arc<Vec<String>>)>> = const { RefCell::new(None) };
}

/// Looks into folders anew from here on: for who runs long, while files come and go.
pub(in crate::commands) fn forget_folders() {
    LAST.set(None);
}

/// The names in a folder. Those of the last folder are kept: files come folder by folder, and one
/// may hold thousands.
pub(in crate::commands) fn names_in(folder: &Path) -> Arc<Vec<String>> {
    LAST.with_borrow_mut(|last| {
        if let Some((_, names)) = last.as_ref().filter(|(known, _)| known == folder) {
            return Arc::clone(names);
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.take(CONTEXT_NAME_COUNT_MAX);
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let names = Arc::new(names);
        *last = Some((folder.to_owned(), Arc::clone(&names)));
        names
    })
}

/// Makes the options for one file.
pub(in crate::commands) fn with_options<T>(
    config: &Config,
    input: &Input,
    work: impl FnOnce(&LintOptions<'_>) -> T,
) -> T {
    let surroundings = input.path.as_deref().map(Surroundings::of);
    let platform = Platform::host();
    let build = CheckOptions {
        build_args: BTreeMap::new(),
        target: None,
        scope: Scope::All,
        ignore: surroundings.as_ref().and_then(|around| around.ignore.as_ref()),
        build_platform: platform.clone(),
        target_platform: platform,
        base: &|_, _| None,
    };
    let names = surroundings.as_ref().map(|around| around.names.as_slice());
    let folder = input.path.as_deref().map(folder_of);
    let read = |name: &str| read_of_context(folder?, name);
    work(&LintOptions { context_text: Some(&read), ..options(config, build, names) })
}

/// The options that settings ask for, of a file with these names in its context.
pub(in crate::commands) fn options<'o>(
    config: &'o Config,
    build: CheckOptions<'o>,
    names: Option<&'o [String]>,
) -> LintOptions<'o> {
    let settings = &config.settings;
    LintOptions {
        ignored: settings.ignored.iter().cloned().collect::<BTreeSet<_>>(),
        levels: settings.levels.clone(),
        trusted_registries: settings.trusted_registries.clone(),
        label_schema: settings.label_schema.clone(),
        strict_labels: settings.strict_labels.unwrap_or(false),
        no_pragmas: settings.no_pragmas.unwrap_or(false),
        rules_version: settings.rules_version.unwrap_or(RULES_VERSION),
        context_files: names,
        versions: config.versions.as_ref(),
        ..LintOptions::new(build)
    }
}

/// Looks at all files, on all processors.
pub(in crate::commands) fn lint_all(inputs: &[Input], config: &Config) -> Vec<Linted> {
    let one = |input: &Input| {
        with_options(config, input, |options| conex_lint::lint(&input.bytes, options))
    };
    let threads = crate::session::parallelism().clamp(1, inputs.len().div_ceil(8).max(1));
    let share = inputs.len().div_ceil(threads).max(1);
    if threads == 1 {
        return inputs.iter().map(one).collect();
    }
    std::thread::scope(|scope| {
        let one = &one;
        let workers: Vec<_> = inputs
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(linted) => linted,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::is_dockerfile;

    #[test]
    fn dockerfiles_are_known_by_their_names() {
        for (name, expected) in [
            ("Dockerfile", true),
            ("Dockerfile.dev", true),
            ("app.Dockerfile", true),
            ("Containerfile", true),
            ("Dockerfile.dockerignore", false),
            ("Dockerfile.md", false),
            ("MyDockerfile", false),
            (".Dockerfile", false),
            ("main.rs", false),
        ] {
            assert_eq!(is_dockerfile(name), expected, "{name}");
        }
    }
}
