//! The shell text of an instruction: put together from its lines and heredocs, parsed, and with the
//! way back to the file.

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

/// A script within a Dockerfile.
pub(crate) struct ShellText {
    pub(crate) text: String,
    /// Offset in `text`, offset in the file, ascending.
    places: Vec<(usize, usize)>,
    pub(crate) script: Script,
    pub(crate) shell: Shell,
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
            shell: Shell::Other,
            commands: vec![command],
            is_exec: true,
        })
    }

    /// The script of an instruction that has one.
    pub(crate) fn of(instruction: &Instruction, source: &str, shell: Shell) -> Option<Self> {
        let form = match &instruction.kind {
            Kind::Run(run) => &run.command,
            Kind::Cmd(command) | Kind::Entrypoint(command) => command,
            Kind::Healthcheck(Healthcheck::Command { command, .. }) => command,
            _ => return None,
        };
        let Form::Shell(word) = form else { return None };
        let is_run = matches!(instruction.kind, Kind::Run(_));
        let (text, places, shell) = match instruction.heredocs.first() {
            Some(first) if is_run && is_heredoc_alone(&word.raw) => {
                let (text, places) = heredoc_text(first);
                let shell = shebang(&text).unwrap_or(shell);
                (text, places, shell)
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
                (text, places, shell)
            }
        };
        if shell == Shell::Other {
            return None;
        }
        let script = conex_shell::parse(&text);
        let commands = commands(&script, &text);
        Some(Self { text, places, script, shell, commands, is_exec: false })
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
    if !heredoc.strip_tabs {
        return (heredoc.content.clone(), vec![(0, heredoc.source.start)]);
    }
    let (mut text, mut places, mut at) = (String::new(), Vec::new(), heredoc.source.start);
    for line in heredoc.content.split_inclusive('\n') {
        let stripped = line.trim_start_matches('\t');
        places.push((text.len(), at + line.len() - stripped.len()));
        text.push_str(stripped);
        at += line.len();
    }
    (text, places)
}

/// The shell that a script asks for in its first line.
fn shebang(text: &str) -> Option<Shell> {
    let line = text.strip_prefix("#!")?.lines().next()?;
    let mut words = line.split_whitespace().filter(|word| !word.starts_with('-'));
    let program = words.next()?;
    let program = if program.ends_with("/env") { words.next()? } else { program };
    Some(Shell::of_program(program))
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
