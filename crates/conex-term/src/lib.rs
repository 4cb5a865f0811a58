//! How things look on a terminal: live progress, findings with their source text, error chains,
//! tables, sizes, ages, timestamps and the templates of `--format`.
//!
//! Invariant: the same input gives the same text. Nothing here reads the environment, the clock or
//! the working directory: whether there is a terminal, how wide it is, what time it is and where
//! to write all come as arguments. Text from outside is neutralised before it is shown, so that
//! no log line and no label can move the cursor, change a colour or hide another line.
//!
//! It does not know images, the store or builds.

#![forbid(unsafe_code)]

mod error;
mod findings;
mod human;
mod progress;
mod prompt;
mod style;
mod table;
mod template;
mod terminal;
mod text;
mod time;

pub use error::{Error, ErrorKind};
pub use findings::{ErrorText, Findings, Source};
pub use human::{
    ago, bytes_size, go_duration, human_duration, human_size, human_size_short, seconds,
};
pub use progress::{Clock, Mode, Progress, ProgressOptions, SizeOf, TAIL_LINES, Writer, auto_mode};
pub use prompt::{Answer, confirm};
pub use style::{ColorChoice, Palette};
pub use table::{Table, align_tabs};
pub use template::{Format, Missing, Template, TemplateOptions};
pub use terminal::{Size, is_terminal, terminal_size};
pub use text::{clean, cut, ellipsis, width};
pub use time::{Civil, Timestamp};
