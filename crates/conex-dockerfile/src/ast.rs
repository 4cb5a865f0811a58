//! What a Dockerfile says: stages of typed instructions, every field still unexpanded.
//!
//! Invariant: each [`Word`] carries the exact place it was written at, and each [`Instruction`] the
//! byte range of the source that it was read from, so that a linter can point, a fixer can edit and
//! a formatter can print without a second parser. Which fields expand variables is said by
//! [`Instruction::expandable`], in one place for the builder and the linter alike.
//!
//! Nothing here is evaluated: no variable has a value yet and no name is looked up.

use std::ops::Range;

use conex_report::Span;

use crate::duration::Duration;
use crate::mount::MountFlag;

/// A piece of text as written: continuations joined, quotes and variables kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub raw: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What the comments at the very top ask of the parser.
    pub directives: Directives,
    /// The character that continues lines and escapes in words: `\` or `` ` ``.
    pub escape: char,
    /// The `ARG` instructions before the first `FROM`; every kind is [`Kind::Arg`].
    pub global_args: Vec<Instruction>,
    /// The stages, in order; never empty when the parse found no error.
    pub stages: Vec<Stage>,
    /// Every comment of the file in order, those inside continuations too.
    pub comments: Vec<Comment>,
}

/// Parser directives (`# syntax=…`), which stand before everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the front end asked for. Accepted, not acted on.
    pub syntax: Option<Word>,
    /// `# escape=`: see [`Dockerfile::escape`].
    pub escape: Option<Word>,
    /// `# check=`: options for the linter.
    pub check: Option<Word>,
}

/// One comment line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The text behind `#`, trimmed.
    pub text: String,
    /// From the `#` to the end of the line.
    pub span: Span,
    /// The same as byte offsets into the source.
    pub source: Range<usize>,
}

/// A `FROM` and what follows it up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The position in the file, from 0.
    pub index: usize,
    /// The name behind `AS`, in lower case.
    pub name: Option<String>,
    /// What it starts from: an earlier stage, `scratch` or an image. Expands with global arguments.
    pub base: Word,
    /// `--platform`, unexpanded.
    pub platform: Option<Word>,
    /// The `FROM` itself.
    pub from: Instruction,
    /// The instructions behind it.
    pub instructions: Vec<Instruction>,
    /// From the `FROM` to the end of the last instruction.
    pub span: Span,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The first word as written (`FROM`, `from`).
    pub keyword: Word,
    /// Everything, heredoc bodies included.
    pub span: Span,
    /// The part without heredoc bodies.
    pub head: Span,
    /// Byte offsets of [`Instruction::span`] in the source.
    pub source: Range<usize>,
    /// The instruction on one line, as history and progress show it: continuations joined, comments
    /// inside it dropped, trimmed, without heredoc bodies.
    pub text: String,
    /// Where the pieces of [`Instruction::text`] come from: (byte offset in it, byte offset in the
    /// source), ascending. See [`Instruction::place`].
    pub places: Vec<(usize, usize)>,
    /// The comment lines directly above it that belong to it.
    pub comments: Vec<Comment>,
    /// The heredocs it opens, in order.
    pub heredocs: Vec<Heredoc>,
    /// The empty lines inside its continuation, which a later syntax will refuse.
    pub empty_continuations: Vec<Span>,
    /// What it says.
    pub kind: Kind,
}

/// A heredoc: the lines below an instruction up to a terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word behind `<<`, without quotes: the terminator, and the file name in COPY.
    pub name: String,
    /// The number before `<<` (`3<<EOF`); 0 if there is none.
    pub file_descriptor: u32,
    /// Whether variables in the body expand (COPY and ADD): no part of the word is quoted.
    pub expand: bool,
    /// Written `<<-`: leading tabs of every line are dropped.
    pub strip_tabs: bool,
    /// The lines between, line ends included, tabs still there.
    pub content: String,
    /// The first to the last line of the body, without the terminator.
    pub span: Span,
    /// Byte offsets of the body in the source.
    pub source: Range<usize>,
}

impl Heredoc {
    /// The body as the file or script that it makes: leading tabs dropped if `<<-` asked for it.
    pub fn text(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What an instruction says. `*` marks fields that expand variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `FROM [--platform=*] BASE* [AS NAME]`
    From(From),
    /// `ARG NAME[=DEFAULT*]…`
    Arg(Arg),
    /// `ENV KEY*=VALUE*…`
    Env(Pairs),
    /// `LABEL KEY*=VALUE*…`
    Label(Pairs),
    /// `RUN [--mount=…*] [--network=…] [--security=…] COMMAND`
    Run(Run),
    /// `COPY [--from=…] [--chown=*] [--chmod=*] [--link] [--parents] [--exclude=…] SOURCE*… TO*`
    Copy(Copy),
    /// `ADD [--chown=*] [--chmod=*] [--checksum=*] … SOURCE*… TARGET*`
    Add(Add),
    /// `CMD COMMAND`; an empty exec form clears.
    Cmd(Command),
    /// `ENTRYPOINT COMMAND`; an empty exec form clears.
    Entrypoint(Command),
    /// `EXPOSE PORT*…`; each word may expand to several. In the order of the file: BuildKit's
    /// history shows the raw words sorted.
    Expose(Vec<Word>),
    /// `VOLUME PATH*…`
    Volume(Vec<Word>),
    /// `USER NAME*[:GROUP*]`
    User(Word),
    /// `WORKDIR PATH*`
    Workdir(Word),
    /// `SHELL ["PROGRAM", "ARGUMENT"…]`
    Shell(Vec<Word>),
    /// `STOPSIGNAL SIGNAL*`
    Stopsignal(Word),
    /// `HEALTHCHECK NONE` or `HEALTHCHECK [OPTIONS] CMD COMMAND`
    Healthcheck(Healthcheck),
    /// `ONBUILD INSTRUCTION`
    Onbuild(Onbuild),
    /// `MAINTAINER NAME`
    Maintainer(Word),
}

impl Kind {
    /// The keyword in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::From(_) => "FROM",
            Kind::Arg(_) => "ARG",
            Kind::Env(_) => "ENV",
            Kind::Label(_) => "LABEL",
            Kind::Run(_) => "RUN",
            Kind::Copy(_) => "COPY",
            Kind::Add(_) => "ADD",
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Expose(_) => "EXPOSE",
            Kind::Volume(_) => "VOLUME",
            Kind::User(_) => "USER",
            Kind::Workdir(_) => "WORKDIR",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// What the stage starts from.
    pub base: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The word `AS` as written.
    pub as_keyword: Option<Word>,
    /// The name as written.
    pub name: Option<Word>,
}

/// `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The variables declared, in order.
    pub args: Vec<ArgDefinition>,
}

/// One variable that `ARG` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// Its name.
    pub name: Word,
    /// The default, which is expanded only when no value was given from outside. `None` is unset,
    /// not empty.
    pub default: Option<Word>,
}

/// `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// The pairs in order.
    pub pairs: Vec<Pair>,
}

/// One key with its value. Both expand, with the variables as they were before the instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Written in the old form `KEY VALUE`, where the value is the rest of the line.
    pub legacy: bool,
}

/// The two ways to write a command. Neither expands variables: that is the shell's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell (`SHELL`, or `/bin/sh -c`).
    Shell(Word),
    /// Program and arguments, from the JSON form.
    Exec(Vec<Word>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command. With heredocs, use [`Instruction::script`] for what is really run.
    pub command: Command,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
}

/// What a `RUN` really executes, heredocs worked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script<'a> {
    /// These arguments, as they are.
    Exec(Vec<&'a str>),
    /// One argument for the shell.
    Shell(String),
    /// A file to be made executable under this name (in `/dev/pipes/`) and run directly: a heredoc
    /// whose body begins with `#!`.
    File {
        /// The heredoc's name.
        name: &'a str,
        /// The body.
        content: String,
    },
}

/// Which network a `RUN` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// The build's.
    #[default]
    Default,
    /// Only a loopback device.
    None,
    /// The host's.
    Host,
}

/// How closed in a `RUN` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// The normal sandbox.
    #[default]
    Sandbox,
    /// All capabilities, no seccomp; needs the user's leave.
    Insecure,
}

/// What COPY and ADD share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Paths (or URLs, for ADD) to copy, in order. Each expands to exactly one word.
    pub sources: Vec<Word>,
    /// Files whose content stands in the Dockerfile; they come behind the sources.
    pub inline_files: Vec<InlineFile>,
    /// Where to. A slash at the end says that it is a directory.
    pub target: Word,
    /// Written in the JSON form.
    pub json: bool,
    /// `--chown`: [`crate::Owner`] once expanded.
    pub chown: Option<Word>,
    /// `--chmod`: [`crate::Mode`] once expanded.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in order; patterns as in an ignore file. Does not expand.
    pub excludes: Vec<Word>,
}

/// A file whose content is a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its file name: one path component.
    pub name: String,
    /// Its content, tabs already dropped where `<<-` asked for it.
    pub content: String,
    /// Whether variables in the content expand ([`crate::Expander::expand_heredoc`]).
    pub expand: bool,
    /// The body's place.
    pub span: Span,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Sources, target and common flags.
    pub transfer: Transfer,
    /// `--from`: see [`Dockerfile::resolve_from`]. Never holds a variable.
    pub from: Option<Word>,
    /// `--parents`.
    pub parents: bool,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Sources, target and common flags.
    pub transfer: Transfer,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`; `None` unpacks local archives and leaves downloaded ones.
    pub unpack: Option<bool>,
    /// `--keep-git-dir`; `None` leaves it to the source's own query.
    pub keep_git_dir: Option<bool>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even the base image's.
    None,
    /// Run a command now and then.
    Command {
        /// The command.
        command: Command,
        /// `--interval`; zero or `None` inherits.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`.
        retries: Option<u32>,
    },
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction to run in the child build. Its heredocs are its own.
    pub trigger: Box<Instruction>,
    /// Its text with heredocs, as the image config stores it.
    pub expression: String,
}

/// How a field expands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expandable<'a> {
    /// To one word, quotes removed: [`crate::Expander::expand_word`].
    Word(&'a Word),
    /// To any number of words: [`crate::Expander::expand_words`].
    Words(&'a Word),
    /// A file's content, quotes kept: [`crate::Expander::expand_heredoc`].
    Heredoc(&'a InlineFile),
}

impl Instruction {
    /// The byte offset in the source of a byte of [`Instruction::text`].
    pub fn place(&self, offset: usize) -> usize {
        let piece = self.places.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        self.places.get(piece).map_or(0, |(start, source)| source + offset.saturating_sub(*start))
    }

    /// The fields that expand with the stage's variables, in the order they are evaluated. `FROM`
    /// has none: its fields expand with the global arguments.
    ///
    /// An `ARG` default stands here too, but must be expanded only if no value came from outside.
    pub fn expandable(&self) -> Vec<Expandable<'_>> {
        use Expandable::{Heredoc, Word as One, Words};
        match &self.kind {
            Kind::Arg(arg) => {
                arg.args.iter().filter_map(|arg| arg.default.as_ref()).map(One).collect()
            }
            Kind::Env(pairs) | Kind::Label(pairs) => {
                pairs.pairs.iter().flat_map(|pair| [One(&pair.key), One(&pair.value)]).collect()
            }
            Kind::Run(run) => run.mounts.iter().flat_map(MountFlag::values).map(One).collect(),
            Kind::Copy(copy) => copy.transfer.expandable(None),
            Kind::Add(add) => add.transfer.expandable(add.checksum.as_ref()),
            Kind::Expose(words) => words.iter().map(Words).collect(),
            Kind::Volume(words) => words.iter().map(One).collect(),
            Kind::User(word) | Kind::Workdir(word) | Kind::Stopsignal(word) => vec![One(word)],
            Kind::From(_)
            | Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Shell(_)
            | Kind::Healthcheck(_)
            | Kind::Onbuild(_)
            | Kind::Maintainer(_) => Vec::new(),
        }
        .into_iter()
        .filter(|field| !matches!(field, Heredoc(file) if !file.expand))
        .collect()
    }

    /// What a `RUN` executes, heredocs worked in; `None` for every other instruction.
    pub fn script(&self) -> Option<Script<'_>> {
        let Kind::Run(run) = &self.kind else { return None };
        let text = match &run.command {
            Command::Exec(words) => {
                return Some(Script::Exec(words.iter().map(|word| word.raw.as_str()).collect()));
            }
            Command::Shell(text) => text.raw.as_str(),
        };
        let Some(first) = self.heredocs.first() else {
            return Some(Script::Shell(text.to_owned()));
        };
        if !crate::heredoc::is_heredoc_word(text) {
            // A command with heredocs in it: put back together for the shell to read.
            return Some(Script::Shell(crate::heredoc::reassemble(text, &self.heredocs)));
        }
        let content = first.text();
        Some(if content.starts_with("#!") {
            Script::File { name: &first.name, content }
        } else {
            Script::Shell(content)
        })
    }
}

impl Transfer {
    fn expandable<'a>(&'a self, checksum: Option<&'a Word>) -> Vec<Expandable<'a>> {
        let flags = [self.chown.as_ref(), self.chmod.as_ref(), checksum];
        flags
            .into_iter()
            .flatten()
            .chain(&self.sources)
            .chain([&self.target])
            .map(Expandable::Word)
            .chain(self.inline_files.iter().map(Expandable::Heredoc))
            .collect()
    }
}
