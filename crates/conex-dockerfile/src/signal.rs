//! `STOPSIGNAL`: a signal by name or number.

use crate::error::{Error, suggestion};

/// Signals of Linux with their numbers on the architectures that images are built for (amd64,
/// arm64 and others with the generic numbers).
const SIGNALS: &[(&str, u8)] = &[
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];

const REALTIME_FIRST: u8 = 34;
const REALTIME_LAST: u8 = 64;

/// Reads `SIGTERM`, `term`, `15`, `RTMIN+3`; gives the number.
pub fn parse_signal(text: &str) -> Result<u8, Error> {
    let refused = || Error::value(format!("`{text}` is no signal"));
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse::<u8>().ok();
        return number
            .filter(|number| (1..=REALTIME_LAST).contains(number))
            .ok_or_else(|| refused().with_hint(Some("signals go from 1 to 64".to_owned())));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    realtime(name).ok_or_else(|| {
        refused().with_hint(suggestion(name, SIGNALS.iter().map(|(known, _)| *known)))
    })
}

fn realtime(name: &str) -> Option<u8> {
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign)?.parse::<u8>().ok(),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REALTIME_FIRST.checked_add(offset(rest, '+')?)?
    } else {
        REALTIME_LAST.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (REALTIME_FIRST..=REALTIME_LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("sigint", 2),
            ("9", 9),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "TERMINATE", "RTMIN+31", "RTMAX-31", "RTMIN-1"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
        assert_eq!(parse_signal("SIGTREM").unwrap_err().hint(), Some("did you mean `TERM`?"));
    }
}
