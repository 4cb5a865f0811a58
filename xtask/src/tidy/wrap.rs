//! Moves the end of a comment line that is too wide to the next line, which rustfmt does not do.
//!
//! Touches nothing but lines that are a comment from the first character on; code fences, tables
//! and addresses stay as they are.

use super::sources::COLUMN_COUNT_MAX;

/// Wraps every comment line that is too wide. Gives none if there is none.
pub(crate) fn wrap(source: &str) -> Option<String> {
    let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let mut is_changed = false;
    let mut is_fenced = false;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let comment = Comment::parse(line);
        is_fenced ^= comment.as_ref().is_some_and(|comment| comment.text.starts_with("```"));
        if let Some(comment) = comment
            && !is_fenced
            && line.chars().count() > COLUMN_COUNT_MAX
            && let Some((kept, moved)) = comment.split()
        {
            let next = lines.get(at + 1).and_then(|next| Comment::parse(next));
            match next.filter(|next| next.continues(&comment)) {
                Some(next) => {
                    let joined = format!("{}{moved} {}", next.prefix, next.text);
                    lines.splice(at..at + 2, [kept, joined]);
                }
                None => {
                    let added = format!("{}{}{moved}", comment.prefix, comment.hanging_indent());
                    lines.splice(at..=at, [kept, added]);
                }
            }
            is_changed = true;
        }
        at += 1;
    }
    is_changed.then(|| lines.join("\n") + "\n")
}

/// A line that is a comment.
struct Comment {
    /// Blanks, marks, and the blanks behind them.
    prefix: String,
    text: String,
}

impl Comment {
    fn parse(line: &str) -> Option<Self> {
        let marks = line.trim_start();
        let text = ["///", "//!", "//"].iter().find_map(|mark| marks.strip_prefix(mark))?;
        let text = text.trim_start();
        let prefix = line.strip_suffix(text).unwrap_or(line).to_owned();
        Some(Self { prefix, text: text.to_owned() })
    }

    /// The line as far as it fits, and the words that do not; none if it has to stay.
    fn split(&self) -> Option<(String, String)> {
        if self.text.starts_with('|') || self.text.contains("://") {
            return None;
        }
        let room = COLUMN_COUNT_MAX.checked_sub(self.prefix.chars().count())?;
        // A blank right behind the room leaves the line full.
        let end = self.text.char_indices().nth(room + 1).map_or(self.text.len(), |(end, _)| end);
        let blank = self.text.get(..end)?.rfind(' ')?;
        let (kept, moved) = (self.text.get(..blank)?, self.text.get(blank + 1..)?);
        // A code span is not torn apart.
        let is_torn = kept.matches('`').count() % 2 == 1;
        let kept = if is_torn { kept.get(..kept.rfind(" `")?)? } else { kept };
        let moved = if is_torn { self.text.get(kept.len() + 1..)? } else { moved };
        Some((format!("{}{kept}", self.prefix), moved.to_owned()))
    }

    /// Whether this line goes on with the paragraph of the line above.
    fn continues(&self, above: &Self) -> bool {
        let mark = |comment: &Self| comment.prefix.trim().to_owned();
        let is_start = ["- ", "* ", "#", "|", "```", "1", "SAFETY"]
            .iter()
            .any(|start| self.text.starts_with(start));
        !self.text.is_empty()
            && !is_start
            && mark(self) == mark(above)
            && self.prefix.len() == above.prefix.len() + above.hanging_indent().len()
    }

    /// What the further lines of a list's item begin with.
    fn hanging_indent(&self) -> &'static str {
        if self.text.starts_with("- ") || self.text.starts_with("* ") { "  " } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    fn wide(words: usize) -> String {
        vec!["word"; words].join(" ")
    }

    #[test]
    fn wide_comments_flow_into_the_next_line() {
        for (source, expected) in [
            (format!("// {}\n", wide(20)), format!("// {}\n// word\n", wide(19))),
            (
                format!("/// {}\n/// end.\n", wide(21)),
                format!("/// {}\n/// word word end.\n", wide(19)),
            ),
            (
                format!("/// {}\n///\n/// Next.\n", wide(20)),
                format!("/// {}\n/// word\n///\n/// Next.\n", wide(19)),
            ),
            (
                format!("    // - {}\n    // - two\n", wide(20)),
                format!("    // - {}\n    //   word word\n    // - two\n", wide(18)),
            ),
            (
                format!("// {} `a code span`\n", wide(18)),
                format!("// {}\n// `a code span`\n", wide(18)),
            ),
        ] {
            let wrapped = wrap(&source);
            assert_eq!(wrapped.as_deref(), Some(expected.as_str()), "{source}");
            assert_eq!(wrap(&expected), None, "wrapping twice is wrapping once");
        }
    }

    #[test]
    fn what_is_no_paragraph_stays() {
        let wide = wide(30);
        for source in [
            format!("let a = 1; // {wide}\n"),
            format!("/// | {wide} |\n"),
            format!("/// ```\n/// {wide}\n/// ```\n"),
            format!("// https://example.org/{wide}\n"),
            format!("// {}\n", "x".repeat(200)),
        ] {
            assert_eq!(wrap(&source), None, "{source}");
        }
    }
}
