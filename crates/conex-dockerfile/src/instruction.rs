//! From a statement to a typed instruction. One function per keyword; none stops at its first
//! mistake if there can be a second.

mod config;
mod copy;
mod from;
mod onbuild;
mod run;

use conex_report::{Diagnostic, Span};

pub(crate) use from::as_far_as_understood;

use crate::ast::{Command, Heredoc, Kind, Word};
use crate::diag;
use crate::flags::{Flags, Known};
use crate::json::{self, Form};
use crate::source::Part;
use crate::statement::{self, Statement};

/// What the reading of one instruction needs and fills.
pub(crate) struct Reading<'r, 'l> {
    pub(crate) statement: Statement<'l>,
    /// The keyword in upper case.
    pub(crate) name: String,
    pub(crate) escape: char,
    pub(crate) heredocs: &'r [Heredoc],
    pub(crate) diagnostics: &'r mut Vec<Diagnostic>,
}

/// The reading cannot go on, and the diagnostics say why.
pub(crate) struct Said;

/// Reads one instruction; `None` if it cannot be used, and then the reason has been said.
pub(crate) fn read(
    whole: Part<'_>,
    escape: char,
    heredocs: &[Heredoc],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Kind> {
    let statement = statement::split(whole, escape);
    let name = statement.keyword.text().to_ascii_uppercase();
    let mut reading = Reading { statement, name, escape, heredocs, diagnostics };
    let errors = reading.diagnostics.len();
    let kind = match reading.name.as_str() {
        "FROM" => from::from(&mut reading),
        "ARG" => config::arg(&mut reading),
        "ENV" => config::pairs(&mut reading).map(Kind::Env),
        "LABEL" => config::pairs(&mut reading).map(Kind::Label),
        "RUN" => run::run(&mut reading),
        "CMD" => run::command(&mut reading).map(Kind::Cmd),
        "ENTRYPOINT" => run::command(&mut reading).map(Kind::Entrypoint),
        "HEALTHCHECK" => run::healthcheck(&mut reading),
        "SHELL" => run::shell(&mut reading),
        "COPY" => copy::copy(&mut reading),
        "ADD" => copy::add(&mut reading),
        "EXPOSE" => config::expose(&mut reading),
        "VOLUME" => config::volume(&mut reading),
        "USER" => config::single(&mut reading, "a user").map(Kind::User),
        "WORKDIR" => config::single(&mut reading, "a path").map(Kind::Workdir),
        "STOPSIGNAL" => config::stopsignal(&mut reading),
        "MAINTAINER" => config::single(&mut reading, "a name").map(Kind::Maintainer),
        "ONBUILD" => onbuild::onbuild(&mut reading),
        _ => {
            reading.unknown();
            None
        }
    };
    if reading.diagnostics.len() > errors { None } else { kind }
}

impl<'l> Reading<'_, 'l> {
    fn unknown(&mut self) {
        let keyword = self.statement.keyword.word();
        let diagnostic = if keyword.raw.is_empty() {
            diag::continues_nothing(keyword.span)
        } else {
            diag::unknown_instruction(&keyword)
        };
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn span(&self) -> Span {
        self.statement.whole.span()
    }

    pub(crate) fn flags(&mut self, known: &[Known]) -> Flags {
        Flags::read(&self.statement, &self.name, known, self.diagnostics)
    }

    /// Says that arguments are missing if there are none.
    pub(crate) fn arguments(&mut self, expected: &str) -> Option<Part<'l>> {
        let args = self.statement.args;
        if args.text().is_empty() {
            self.error(diag::needs_arguments(self.span(), &self.name, expected));
            return None;
        }
        Some(args)
    }

    /// The JSON form, or `Ok(None)` for the plain one.
    pub(crate) fn json(&mut self, args: Part<'_>) -> Result<Option<Vec<Word>>, Said> {
        match json::parse(args) {
            Form::Plain => Ok(None),
            Form::Strings(words) => Ok(Some(words)),
            Form::Mixed => {
                self.error(diag::mixed_json(args.span(), &self.name));
                Err(Said)
            }
        }
    }

    /// A command in either form.
    pub(crate) fn command(&mut self, args: Part<'_>) -> Result<Command, Said> {
        Ok(match self.json(args)? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(args.word()),
        })
    }

    /// Words in the JSON form or cut at blanks, and whether it was JSON.
    pub(crate) fn words(&mut self, args: Part<'_>) -> Result<(Vec<Word>, bool), Said> {
        Ok(match self.json(args)? {
            Some(words) => (words, true),
            None => {
                let words = statement::blank_separated(args);
                (words.iter().map(Part::word).collect(), false)
            }
        })
    }
}
