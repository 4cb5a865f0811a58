//! Rules about the commands of RUN: what ShellCheck finds too, under its codes, as far as it
//! happens in Dockerfiles.

mod habits;
mod portable;
mod quoting;

use conex_shell::{CommandKind, Part, PartKind, Visit, Word};

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::{Context, View};
use crate::finding::{Edit, Fix, Sink};
use crate::script::ShellText;

pub(super) static RULES: &[&Rule] = &[
    &quoting::UNQUOTED_VARIABLE,
    &quoting::UNQUOTED_SUBSTITUTION,
    &quoting::UNQUOTED_ARGUMENTS,
    &quoting::SINGLE_QUOTED_DOLLAR,
    &quoting::BACKQUOTES,
    &quoting::DASH_GLOB,
    &quoting::LITERAL_BRACE,
    &quoting::UNASSIGNED,
    &habits::CD_UNCHECKED,
    &habits::DECLARE_MASKS,
    &habits::NEGATION_IGNORED,
    &habits::LOOP_ONCE,
    &habits::FOR_OVER_CAT,
    &habits::ECHO_ESCAPES,
    &habits::USELESS_CAT,
    &habits::AND_OR_IF,
    &habits::FIND_XARGS,
    &habits::RM_ROOT,
    &habits::READ_WITHOUT_R,
    &habits::STATUS_CHECKED_LATE,
    &habits::OLD_GREP,
    &habits::TEST_AND_OR,
    &habits::USELESS_ECHO,
    &habits::PARSED_LS,
    &habits::CONSTANT_TEST,
    &portable::ECHO_FLAGS,
    &portable::BASH_VARIABLE,
    &portable::SOURCE,
    &portable::DOUBLE_BRACKET,
    &portable::SET_OPTION,
    &portable::DOUBLE_EQUALS,
    &portable::BRACE_EXPANSION,
    &portable::HERE_STRING,
    &portable::ARRAY,
    &portable::BOTH_OUTPUTS,
    &portable::PROCESS,
    &portable::SUBSTRING,
    &portable::REPLACEMENT,
    &portable::DOLLAR_QUOTE,
    &portable::DECLARE,
    &portable::FUNCTION_KEYWORD,
];

/// Every RUN whose script could be read.
fn scripts<'c, 'a>(
    context: &'c Context<'a>,
) -> impl Iterator<Item = (&'c View<'a>, &'c ShellText)> + use<'c, 'a> {
    context.runs().filter(|(_, script)| script.script.error.is_none())
}

/// Calls `visit` for every part of every word, with whether it stands in double quotes.
struct Parts<'s, 'f> {
    visit: &'f mut dyn FnMut(&'s Part, bool),
    quoted: bool,
}

impl<'s> Visit<'s> for Parts<'s, '_> {
    fn part(&mut self, part: &'s Part) {
        (self.visit)(part, self.quoted);
        let before = self.quoted;
        self.quoted = match &part.kind {
            PartKind::DoubleQuoted(_) => true,
            PartKind::Command { .. } | PartKind::Process(_) => false,
            _ => before,
        };
        conex_shell::walk_part(self, part);
        self.quoted = before;
    }
}

fn each_part<'s>(script: &'s ShellText, mut visit: impl FnMut(&'s Part, bool)) {
    script.script.visit(&mut Parts { visit: &mut visit, quoted: false });
}

/// Calls `visit` for every command.
struct Commands<'f>(&'f mut dyn FnMut(&conex_shell::Command));

impl<'s> Visit<'s> for Commands<'_> {
    fn command(&mut self, command: &'s conex_shell::Command) {
        (self.0)(command);
        conex_shell::walk_command(self, command);
    }
}

fn each_command(script: &ShellText, mut visit: impl FnMut(&conex_shell::Command)) {
    script.script.visit(&mut Commands(&mut visit));
}

/// Calls `visit` for every list.
struct Lists<'f>(&'f mut dyn FnMut(&conex_shell::List));

impl<'s> Visit<'s> for Lists<'_> {
    fn list(&mut self, list: &'s conex_shell::List) {
        (self.0)(list);
        conex_shell::walk_list(self, list);
    }
}

fn each_list(script: &ShellText, mut visit: impl FnMut(&conex_shell::List)) {
    script.script.visit(&mut Lists(&mut visit));
}

/// Calls `visit` for every pipeline.
struct Pipelines<'f>(&'f mut dyn FnMut(&conex_shell::Pipeline));

impl<'s> Visit<'s> for Pipelines<'_> {
    fn pipeline(&mut self, pipeline: &'s conex_shell::Pipeline) {
        (self.0)(pipeline);
        conex_shell::walk_pipeline(self, pipeline);
    }
}

fn each_pipeline(script: &ShellText, mut visit: impl FnMut(&conex_shell::Pipeline)) {
    script.script.visit(&mut Pipelines(&mut visit));
}

/// The words of a simple command.
fn words(command: &conex_shell::Command) -> &[Word] {
    match &command.kind {
        CommandKind::Simple(simple) => &simple.words,
        _ => &[],
    }
}

/// The program that a command starts, if it is written plainly.
fn program(command: &conex_shell::Command, text: &str) -> Option<String> {
    let path = words(command).first()?.literal(text)?;
    Some(path.rsplit('/').next().unwrap_or("").to_owned())
}

/// The rest of a rule's findings are one edit of a piece of the script.
fn replacing(
    context: &Context<'_>,
    script: &ShellText,
    span: conex_shell::Span,
    title: &str,
    text: &str,
) -> Option<Fix> {
    let range = script.source(span);
    (script.is_one_piece(span) && context.written(&range) == span.of(&script.text))
        .then(|| Fix::risky(title, vec![Edit::replace(range, text)]))
}
