//! What the kernel knows of a terminal: whether a descriptor is one, and how large it is.
//!
//! Never opens a device: the caller hands the descriptor over.

use std::os::fd::AsFd;

/// How many character cells a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Cells in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// What to take where the kernel does not know, or the terminal says 0 × 0.
    pub const FALLBACK: Size = Size { columns: 80, rows: 24 };
}

/// Tells whether a descriptor is a terminal.
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}

/// Asks how large the terminal behind a descriptor is; `None` where it is no terminal or does not
/// know (a serial line says 0 × 0).
pub fn terminal_size(descriptor: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(descriptor).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size { columns: size.ws_col, rows: size.ws_row })
}

#[cfg(test)]
mod tests {
    use super::{Size, is_terminal, terminal_size};

    #[test]
    fn a_file_is_no_terminal_and_has_no_size() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_terminal(&file));
        assert_eq!(terminal_size(&file), None);
    }

    #[test]
    fn a_pseudo_terminal_tells_its_size() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let Ok(terminal) = openpt(flags) else {
            assert!(std::env::var_os("CI").is_none(), "CI has pseudo terminals");
            eprintln!("skipped: no pseudo terminals here");
            return;
        };
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        assert!(is_terminal(&terminal));
        assert_eq!(terminal_size(&terminal), None, "a new one is 0 × 0");
        let size = rustix::termios::Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        assert_eq!(terminal_size(&terminal), Some(Size { columns: 97, rows: 31 }));
    }
}
