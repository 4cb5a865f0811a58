//! Colours, for those who want them.
//!
//! Invariant: with [`Palette::PLAIN`] no escape sequence is written, and no meaning is carried by
//! colour alone.

/// What the person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// Colour on a terminal that can show it, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Colour, whatever is written to.
    Always,
    /// No colour.
    Never,
}

impl ColorChoice {
    /// Decides, given whether the stream is a terminal, the value of `NO_COLOR` and that of `TERM`.
    /// `NO_COLOR` counts when it is set and not empty, as its authors ask (no-color.org).
    pub fn palette(self, is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Palette {
        let colored = match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb")
            }
        };
        if colored { Palette::COLOR } else { Palette::PLAIN }
    }
}

/// Paints words, or leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    colored: bool,
}

impl Palette {
    /// Leaves words as they are.
    pub const PLAIN: Palette = Palette { colored: false };
    /// Paints them with the sixteen colours that every terminal theme defines.
    pub const COLOR: Palette = Palette { colored: true };

    /// Tells whether words are painted.
    pub fn is_colored(self) -> bool {
        self.colored
    }

    /// What went wrong.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What may be wrong.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// What helps.
    pub fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What is going on.
    pub fn active(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// What was reused.
    pub fn reused(self, text: &str) -> String {
        self.paint("34", text)
    }

    /// What is worth a second look only.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What a line is about.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if !self.colored || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::{ColorChoice, Palette};

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        use ColorChoice::{Always, Auto, Never};
        for (choice, terminal, no_color, term, colored) in [
            (Auto, true, None, Some("xterm"), true),
            (Auto, true, None, None, true),
            (Auto, true, Some(""), Some("xterm"), true),
            (Auto, true, Some("1"), Some("xterm"), false),
            (Auto, true, None, Some("dumb"), false),
            (Auto, false, None, Some("xterm"), false),
            (Always, false, Some("1"), Some("dumb"), true),
            (Never, true, None, Some("xterm"), false),
        ] {
            let palette = choice.palette(terminal, no_color, term);
            assert_eq!(
                palette.is_colored(),
                colored,
                "{choice:?} {terminal} {no_color:?} {term:?}"
            );
        }
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(Palette::PLAIN.error("no"), "no");
        assert_eq!(Palette::COLOR.error("no"), "\x1b[1;31mno\x1b[0m");
        assert_eq!(Palette::COLOR.error(""), "");
    }
}
