//! `--chmod`: octal and symbolic modes.

use crate::error::Error;

/// Every bit that a mode may set: permissions, set-user-id, set-group-id and sticky.
pub const MODE_MAX: u32 = 0o7777;

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const OTHER: u32 = 0o007;

/// A `--chmod` value, read once and applied to many files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode(Change);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Absolute(u32),
    Symbolic(Vec<Step>),
}

/// One operator with its right side, as in `u=rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The bits that may change.
    who: u32,
    operator: Operator,
    /// Bits named by letters.
    bits: u32,
    /// `X`: execute where something already executes, and on directories.
    search: bool,
    /// The class whose permissions are copied (`g=u`), as a shift.
    copied: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// Whether a mode is applied to a directory: `X` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

impl Mode {
    /// Reads `755`, `0755`, `u=rwX,go=rX`, `+x`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let numeric = text.starts_with(|c: char| c.is_ascii_digit());
        if numeric || text.is_empty() {
            let value = if text.bytes().all(|byte| byte.is_ascii_digit()) {
                u32::from_str_radix(text, 8).ok().filter(|value| *value <= MODE_MAX)
            } else {
                None
            };
            return value.map(|value| Self(Change::Absolute(value))).ok_or_else(|| invalid(text));
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            clause_steps(clause, &mut steps).ok_or_else(|| invalid(text))?;
        }
        Ok(Self(Change::Symbolic(steps)))
    }

    /// The mode that a file with mode `current` gets. Bits beyond [`MODE_MAX`] are dropped.
    pub fn apply(&self, current: u32, entry: EntryType) -> u32 {
        match &self.0 {
            Change::Absolute(mode) => *mode,
            Change::Symbolic(steps) => {
                let current = current & MODE_MAX;
                let searchable = entry == EntryType::Directory || current & 0o111 != 0;
                steps.iter().fold(current, |mode, step| step.apply(mode, searchable))
            }
        }
    }

    /// The mode if it does not depend on what it is applied to.
    pub fn absolute(&self) -> Option<u32> {
        match &self.0 {
            Change::Absolute(mode) => Some(*mode),
            Change::Symbolic(_) => None,
        }
    }
}

impl Step {
    fn apply(&self, mode: u32, searchable: bool) -> u32 {
        let copied = self.copied.map_or(0, |shift| ((mode >> shift) & OTHER) * 0o111);
        let search = if self.search && searchable { 0o111 } else { 0 };
        let bits = (self.bits | copied | search) & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // A copy replaces permissions and leaves the special bits.
            Operator::Set if self.copied.is_some() => (mode & !(self.who & 0o777)) | bits,
            Operator::Set => (mode & !self.who) | bits,
        }
    }
}

/// Reads one clause: classes, then operators with letters.
fn clause_steps(clause: &str, steps: &mut Vec<Step>) -> Option<()> {
    let classes = clause.find(['+', '-', '='])?;
    let (classes, mut rest) = clause.split_at_checked(classes)?;
    let mut who = 0;
    for class in classes.chars() {
        who |= match class {
            'u' => SET_USER | 0o700,
            'g' => SET_GROUP | 0o070,
            'o' => OTHER,
            'a' => SET_USER | SET_GROUP | 0o777,
            _ => return None,
        };
    }
    // Without a class all are meant; a file creation mask does not take part.
    let who = if who == 0 { SET_USER | SET_GROUP | 0o777 } else { who };
    while let Some(operator) = rest.chars().next() {
        rest = rest.get(1..)?;
        let letters = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (letters, behind) = rest.split_at_checked(letters)?;
        steps.push(step(who, operator, letters)?);
        rest = behind;
    }
    Some(())
}

fn step(who: u32, operator: char, letters: &str) -> Option<Step> {
    let operator = match operator {
        '+' => Operator::Add,
        '-' => Operator::Remove,
        '=' => Operator::Set,
        _ => return None,
    };
    let mut step = Step { who, operator, bits: 0, search: false, copied: None };
    for letter in letters.chars() {
        match letter {
            'r' => step.bits |= 0o444,
            'w' => step.bits |= 0o222,
            'x' => step.bits |= 0o111,
            // Taking away has no condition.
            'X' if operator == Operator::Remove => step.bits |= 0o111,
            'X' => step.search = true,
            // For others alone the special bits mean nothing.
            's' if who != OTHER => step.bits |= SET_USER | SET_GROUP,
            't' if who != OTHER => {
                step.bits |= STICKY;
                step.who |= STICKY;
            }
            's' | 't' => {}
            'u' | 'g' | 'o' if letters.len() == 1 => {
                step.copied = Some(match letter {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                });
            }
            _ => return None,
        }
    }
    Some(step)
}

fn invalid(text: &str) -> Error {
    Error::value(format!("`{text}` is no file mode")).with_hint(Some(
        "write it in octal, at most `07777`, or in symbols like `u=rwX,go=rX`".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::{EntryType, Mode};

    #[test]
    fn octal_and_symbolic_modes_apply() {
        for (mode, current, file, directory) in [
            ("755", 0o600, 0o755, 0o755),
            ("0644", 0o7777, 0o644, 0o644),
            ("4755", 0, 0o4755, 0o4755),
            ("7777", 0, 0o7777, 0o7777),
            ("0", 0o777, 0, 0),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o701, 0o755, 0o755),
            ("a+x", 0o644, 0o755, 0o755),
            ("+x", 0o644, 0o755, 0o755),
            ("+X", 0o644, 0o644, 0o755),
            ("go-rwx", 0o777, 0o700, 0o700),
            ("g=u", 0o640, 0o660, 0o660),
            ("o=g-w", 0o664, 0o664, 0o664),
            ("u+s", 0o755, 0o4755, 0o4755),
            ("g+s", 0o755, 0o2755, 0o2755),
            ("ug+s", 0o755, 0o6755, 0o6755),
            ("+t", 0o755, 0o1755, 0o1755),
            ("o+t", 0o755, 0o755, 0o755),
            ("g=u", 0o2640, 0o2660, 0o2660),
            ("u=", 0o4755, 0o055, 0o055),
            ("=r", 0o1777, 0o1444, 0o1444),
            ("u+r-w", 0o200, 0o400, 0o400),
            ("a-X", 0o755, 0o644, 0o644),
        ] {
            let parsed = Mode::parse(mode).unwrap();
            assert_eq!(parsed.apply(current, EntryType::Other), file, "{mode} on a file");
            assert_eq!(parsed.apply(current, EntryType::Directory), directory, "{mode} on a dir");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for mode in
            ["", "8", "10000", "0o755", "755x", "rwx", "u", "z+x", "u+q", "u=rwx,", "a", "-"]
        {
            let read = Mode::parse(mode);
            if mode == "-" {
                assert!(read.is_ok(), "an operator without letters changes nothing");
            } else {
                assert!(read.is_err(), "{mode}");
            }
        }
    }
}
