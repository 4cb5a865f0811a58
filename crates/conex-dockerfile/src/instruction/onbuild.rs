//! `ONBUILD`: an instruction kept for child builds.

use super::{Reading, read};
use crate::ast::{Instruction, Kind, Onbuild};
use crate::diag;
use crate::heredoc::reassemble;
use crate::statement;

/// Instructions that cannot be triggers.
pub(crate) const FORBIDDEN: [&str; 3] = ["ONBUILD", "FROM", "MAINTAINER"];

pub(super) fn onbuild(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    reading.flags(&[]);
    let args = reading.arguments("an instruction")?;
    let keyword = statement::split(args, reading.escape).keyword;
    let name = keyword.text().to_ascii_uppercase();
    if FORBIDDEN.contains(&name.as_str()) {
        reading.error(diag::onbuild_forbidden(keyword.span(), &name));
        return None;
    }
    let kind = read(args, reading.escape, reading.heredocs, reading.diagnostics)?;
    let heredocs = reading.heredocs.to_vec();
    let expression = reassemble(args.text(), &heredocs);
    let head = args.span();
    let end = heredocs.last().map_or(head.end, |heredoc| heredoc.span.end);
    let mut source = args.source();
    source.end = heredocs.last().map_or(source.end, |heredoc| heredoc.source.end);
    Some(Kind::Onbuild(Onbuild {
        trigger: Box::new(Instruction {
            keyword: keyword.word(),
            span: conex_report::Span { start: head.start, end },
            head,
            source,
            text: args.text().to_owned(),
            places: args.places(),
            comments: Vec::new(),
            heredocs,
            empty_continuations: Vec::new(),
            kind,
        }),
        expression,
    }))
}
