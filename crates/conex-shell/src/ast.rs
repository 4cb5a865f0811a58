//! What a script says.
//!
//! Invariant: a span is a byte range of the text that was parsed, on character boundaries.

/// A byte range of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The first byte behind.
    pub end: usize,
}

impl Span {
    /// Makes a span.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The text at this place.
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or("")
    }
}

/// A whole script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Its commands.
    pub body: List,
    /// The bodies of its heredocs, to which redirections point.
    pub heredocs: Vec<Heredoc>,
    /// Its comments, from `#` to the end of the line.
    pub comments: Vec<Span>,
    /// Where it stops being a script, if it does. What stands behind was not read.
    pub error: Option<Error>,
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub span: Span,
    /// What is wrong: lower case, no full stop.
    pub message: String,
}

/// Commands one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// The commands with what ends them.
    pub items: Vec<Item>,
    /// From the first to the last.
    pub span: Span,
}

/// An and-or list, and what ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The commands.
    pub and_or: AndOr,
    /// What stands behind; nothing at the end of a list.
    pub terminator: Option<(Terminator, Span)>,
}

/// What ends an and-or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminator {
    /// `;`
    Semicolon,
    /// `&`
    Background,
    /// A line end.
    Newline,
}

/// Pipelines connected by `&&` and `||`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AndOr {
    /// The first.
    pub first: Pipeline,
    /// The others with what stands before each.
    pub rest: Vec<(Connector, Span, Pipeline)>,
}

impl AndOr {
    /// All pipelines in order.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        std::iter::once(&self.first).chain(self.rest.iter().map(|(_, _, pipeline)| pipeline))
    }

    /// From the first to the last.
    pub fn span(&self) -> Span {
        let end = self.rest.last().map_or(self.first.span.end, |(_, _, last)| last.span.end);
        Span { start: self.first.span.start, end }
    }
}

/// What connects two pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// `&&`
    And,
    /// `||`
    Or,
}

/// Commands connected by `|`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// `!` before it.
    pub bang: Option<Span>,
    /// `time` before it.
    pub time: Option<Span>,
    /// The commands; one at least, unless the script has an error here.
    pub commands: Vec<Command>,
    /// What stands between them; one fewer.
    pub pipes: Vec<(Pipe, Span)>,
    /// All of it.
    pub span: Span,
}

/// What connects two commands of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// `|`
    Output,
    /// `|&`, which takes standard error along.
    OutputAndError,
}

/// One command with its redirections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What it is.
    pub kind: CommandKind,
    /// The redirections; those of a simple command stand between its words.
    pub redirects: Vec<Redirect>,
    /// All of it.
    pub span: Span,
}

/// What a command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandKind {
    /// A program, builtin or function with arguments; or assignments alone.
    Simple(Simple),
    /// `{ LIST; }`
    Brace(List),
    /// `( LIST )`
    Subshell(List),
    /// `if LIST; then LIST; [elif LIST; then LIST;]… [else LIST;] fi`
    If {
        /// Conditions with what they guard.
        branches: Vec<(List, List)>,
        /// Behind `else`.
        otherwise: Option<List>,
    },
    /// `while` or `until`.
    Loop {
        /// Written `until`.
        until: bool,
        /// What is asked.
        condition: List,
        /// What is done.
        body: List,
    },
    /// `for NAME [in WORD…]; do LIST; done`, or `select`.
    For {
        /// The variable.
        name: Span,
        /// The words behind `in`; `None` without `in`.
        words: Option<Vec<Word>>,
        /// What is done.
        body: List,
    },
    /// `for ((…; …; …)); do LIST; done`
    ArithmeticFor {
        /// What stands between the parentheses.
        expression: Word,
        /// What is done.
        body: List,
    },
    /// `case WORD in …) … esac`
    Case(Case),
    /// `NAME() COMMAND`
    Function {
        /// The name.
        name: Span,
        /// What it does.
        body: Box<Command>,
        /// Written with the word `function`.
        keyword: bool,
    },
    /// `[[ … ]]`
    Test(Condition),
    /// `(( … ))`
    Arithmetic(Word),
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Simple {
    /// `NAME=value` before the first word.
    pub assignments: Vec<Assignment>,
    /// The program and its arguments.
    pub words: Vec<Word>,
}

/// `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The name alone.
    pub name: Span,
    /// Written `+=`.
    pub append: bool,
    /// The value; empty if nothing stands behind `=`.
    pub value: Word,
    /// The elements, if it is an array: `NAME=(…)`.
    pub array: Option<Vec<Word>>,
    /// All of it.
    pub span: Span,
}

/// `case`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What is matched.
    pub subject: Word,
    /// The branches.
    pub items: Vec<CaseItem>,
}

/// One branch of `case`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseItem {
    /// The patterns.
    pub patterns: Vec<Word>,
    /// What is done.
    pub body: List,
}

/// The inside of `[[ … ]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its words and operators, in order.
    pub tokens: Vec<TestToken>,
}

/// A piece of `[[ … ]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestToken {
    /// A word, `-f` and `=~` among them.
    Word(Word),
    /// `(`, `)`, `&&`, `||`, `<`, `>`.
    Operator(Span),
}

/// A redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The number (or `{name}`) before the operator.
    pub descriptor: Option<Span>,
    /// What it does.
    pub kind: RedirectKind,
    /// The operator alone.
    pub operator: Span,
    /// The word behind it: a file, a descriptor, a heredoc's terminator.
    pub target: Word,
    /// Which heredoc, of [`Script::heredocs`].
    pub heredoc: Option<usize>,
    /// All of it, without a heredoc's body.
    pub span: Span,
}

/// What a redirection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectKind {
    /// `<`
    Input,
    /// `>`
    Output,
    /// `>>`
    Append,
    /// `>|`
    Clobber,
    /// `<>`
    ReadWrite,
    /// `<&`
    DuplicateInput,
    /// `>&`
    DuplicateOutput,
    /// `&>` and `&>>`
    OutputAndError,
    /// `<<` and `<<-`
    Heredoc,
    /// `<<<`
    HereString,
}

/// The body of a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The line that ends it.
    pub delimiter: String,
    /// Whether nothing in the body expands.
    pub quoted: bool,
    /// Written `<<-`.
    pub strip_tabs: bool,
    /// The lines between.
    pub body: Span,
    /// What expands in them.
    pub parts: Vec<Part>,
}

/// A word: parts without a blank between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Its parts in order.
    pub parts: Vec<Part>,
    /// All of it.
    pub span: Span,
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// All of it, quotes and dollar sign included.
    pub span: Span,
}

/// What a part of a word is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// Text as it stands; unquoted, it may hold `*`, `?`, `[…]`, `~` and `{…}`.
    Literal,
    /// `\x`
    Escaped,
    /// `'…'`
    SingleQuoted,
    /// `$'…'`
    DollarQuoted,
    /// `"…"`
    DoubleQuoted(Vec<Part>),
    /// `$NAME` and `${…}`
    Parameter(Parameter),
    /// `$(…)`, and `` `…` `` where `backquoted`
    Command {
        /// What runs.
        body: List,
        /// The old notation.
        backquoted: bool,
    },
    /// `$((…))` and `$[…]`
    Arithmetic(Vec<Part>),
    /// `<(…)` and `>(…)`
    Process(List),
    /// `@(…)` and its kind
    ExtendedGlob,
}

/// A parameter expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name alone, or the special character.
    pub name: Span,
    /// Written with braces.
    pub braced: bool,
    /// `#` before the name: how long it is.
    pub length: bool,
    /// `!` before the name: what it points at.
    pub indirect: bool,
    /// The index of an array with its brackets.
    pub subscript: Option<Span>,
    /// The operator (`:-`, `##`, `/`) alone.
    pub operator: Option<Span>,
    /// What stands behind the operator.
    pub argument: Vec<Part>,
}

impl Word {
    /// The text that it stands for, where it is the same on every run: quotes and escapes removed.
    /// `None` if anything in it expands.
    pub fn literal(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        literal_parts(&self.parts, text, false, &mut out).then_some(out)
    }

    /// Like [`Word::literal`], with `${VAR}` for whatever expands.
    pub fn sketch(&self, text: &str) -> String {
        let mut out = String::new();
        sketch_parts(&self.parts, text, false, &mut out);
        out
    }

    /// Whether any of it is quoted or escaped.
    pub fn has_quotes(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(
                part.kind,
                PartKind::Escaped
                    | PartKind::SingleQuoted
                    | PartKind::DollarQuoted
                    | PartKind::DoubleQuoted(_)
            )
        })
    }
}

fn literal_parts(parts: &[Part], text: &str, quoted: bool, out: &mut String) -> bool {
    parts.iter().all(|part| match &part.kind {
        PartKind::DoubleQuoted(inner) => literal_parts(inner, text, true, out),
        _ => push_plain(part, text, quoted, out),
    })
}

fn sketch_parts(parts: &[Part], text: &str, quoted: bool, out: &mut String) {
    for part in parts {
        match &part.kind {
            PartKind::DoubleQuoted(inner) => sketch_parts(inner, text, true, out),
            _ if push_plain(part, text, quoted, out) => {}
            _ => out.push_str("${VAR}"),
        }
    }
}

/// Appends a part that is the same on every run; whether it was one.
fn push_plain(part: &Part, text: &str, quoted: bool, out: &mut String) -> bool {
    let written = part.span.of(text);
    match &part.kind {
        PartKind::Literal | PartKind::ExtendedGlob => out.push_str(written),
        PartKind::Escaped => match written.get(1..) {
            Some("\n") => {}
            Some(escaped) if quoted && !matches!(escaped, "$" | "`" | "\"" | "\\") => {
                out.push_str(written);
            }
            Some(escaped) => out.push_str(escaped),
            None => out.push_str(written),
        },
        PartKind::SingleQuoted => {
            let inner = written.get(1..).unwrap_or("");
            out.push_str(inner.strip_suffix('\'').unwrap_or(inner));
        }
        PartKind::DollarQuoted => {
            let inner = written.get(2..).unwrap_or("");
            out.push_str(inner.strip_suffix('\'').unwrap_or(inner));
        }
        _ => return false,
    }
    true
}
