//! Flags of one instruction against the flags that it knows.

use conex_report::Diagnostic;

use crate::ast::Word;
use crate::diag;
use crate::statement::{RawFlag, Statement};

/// A flag that an instruction knows.
pub(crate) struct Known(pub(crate) &'static str, pub(crate) Shape);

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value.
    Value,
    /// A value, each time it stands.
    Values,
    /// Nothing, `true` or `false`.
    Switch,
}

/// The flags found. What is wrong with the rest has been said.
pub(crate) struct Flags {
    found: Vec<(&'static str, Word)>,
}

impl Flags {
    pub(crate) fn read(
        statement: &Statement<'_>,
        name: &str,
        known: &[Known],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut found: Vec<(&'static str, Word)> = Vec::new();
        for flag in &statement.flags {
            match read_one(flag, name, known, &found) {
                Ok(flag) => found.push(flag),
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
        Self { found }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Word> {
        let at = self.found.iter().position(|(found, _)| *found == name)?;
        Some(self.found.remove(at).1)
    }

    pub(crate) fn take_all(&mut self, name: &str) -> Vec<Word> {
        let (taken, rest) =
            std::mem::take(&mut self.found).into_iter().partition(|(found, _)| *found == name);
        self.found = rest;
        let taken: Vec<(&'static str, Word)> = taken;
        taken.into_iter().map(|(_, word)| word).collect()
    }

    pub(crate) fn take_switch(&mut self, name: &str) -> Option<bool> {
        self.take(name).map(|word| word.raw == "true")
    }
}

fn read_one(
    flag: &RawFlag<'_>,
    name: &str,
    known: &[Known],
    found: &[(&'static str, Word)],
) -> Result<(&'static str, Word), Box<Diagnostic>> {
    let span = flag.part.span();
    let Some(Known(flag_name, shape)) = known.iter().find(|known| known.0 == flag.name) else {
        let names: Vec<&str> = known.iter().map(|known| known.0).collect();
        return Err(Box::new(diag::unknown_flag(span, name, &flag.name, &names)));
    };
    if *shape != Shape::Values && found.iter().any(|(other, _)| other == flag_name) {
        return Err(Box::new(diag::repeated_flag(span, flag_name)));
    }
    let raw = match (shape, &flag.value) {
        (Shape::Switch, None) => "true".to_owned(),
        (Shape::Switch, Some(value)) => {
            let lower = value.to_ascii_lowercase();
            if lower != "true" && lower != "false" {
                return Err(Box::new(diag::flag_not_boolean(span, flag_name, value)));
            }
            lower
        }
        (_, None) => return Err(Box::new(diag::flag_needs_value(span, flag_name))),
        (_, Some(value)) => value.clone(),
    };
    Ok((*flag_name, Word { raw, span: value_span(flag) }))
}

/// The part behind `=`, or all of a switch.
fn value_span(flag: &RawFlag<'_>) -> conex_report::Span {
    match flag.part.text().find('=') {
        Some(at) => flag.part.from(at + 1).span(),
        None => flag.part.span(),
    }
}
