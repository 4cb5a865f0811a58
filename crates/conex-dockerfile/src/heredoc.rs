//! Which heredocs a line opens, and how they are put back into a command.
//!
//! The words of the line are read as a shell reads them, always with `\`, whatever `# escape` says:
//! heredocs belong to the shell's language, not to the Dockerfile's.

use conex_report::Span;

use crate::ast::Heredoc;
use crate::expand::{Expander, Raw};

/// The heredocs opened by a line, in order, with empty bodies. A line whose quotes do not close
/// opens none.
pub(crate) fn opened_by(line: &str) -> Vec<Heredoc> {
    let words = lexer(Raw::QuotesAndEscapes).expand_words(line).map(|expanded| expanded.words);
    // A line that the lexer cannot read opens nothing; the shell will say what is wrong with it.
    words.unwrap_or_default().iter().filter_map(|word| parse(word)).collect()
}

/// Whether a whole text is nothing but one heredoc word.
pub(crate) fn is_heredoc_word(text: &str) -> bool {
    parse(text).is_some()
}

/// Reads `[FD]<<[-]WORD`.
pub(crate) fn parse(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = word.split_at_checked(digits)?;
    let rest = rest.strip_prefix("<<")?;
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = only_word(lexer(Raw::Nothing), rest)?;
    let quoted = only_word(lexer(Raw::Quotes), rest)?;
    Some(Heredoc {
        expand: quotes(&name) == quotes(&quoted),
        name,
        file_descriptor: number.parse().unwrap_or(0),
        strip_tabs,
        content: String::new(),
        span: Span::new((1, 1), (1, 1)),
        source: 0..0,
    })
}

/// The command with its heredocs below it, as a shell reads them.
pub(crate) fn reassemble(text: &str, heredocs: &[Heredoc]) -> String {
    let mut whole = text.to_owned();
    for heredoc in heredocs {
        whole.push('\n');
        whole.push_str(&heredoc.content);
        whole.push_str(&heredoc.name);
    }
    whole
}

fn lexer(raw: Raw) -> Expander<'static> {
    Expander::keeping_variables('\\', raw)
}

fn only_word(lexer: Expander<'_>, text: &str) -> Option<String> {
    let mut words = lexer.expand_words(text).ok()?.words;
    if words.len() == 1 { words.pop() } else { None }
}

fn quotes(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}
