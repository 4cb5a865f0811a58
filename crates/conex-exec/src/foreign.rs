//! Whether this machine can run programs of another processor architecture.
//!
//! The kernel hands foreign programs to an emulator when one is registered with binfmt_misc. What
//! it would do with a program of an architecture is found by showing each registration the first
//! bytes of such a program.

use std::path::Path;

/// Largest registration looked at; the kernel writes less than a KiB.
const ENTRY_SIZE_MAX: usize = 64 << 10;

/// What becomes of a program of an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignRun {
    /// The processor runs it.
    Native,
    /// The kernel hands it to this emulator.
    Emulated {
        /// The emulator's path.
        interpreter: String,
    },
    /// It cannot run.
    Impossible {
        /// Why, and what would mend it.
        reason: String,
    },
}

/// Names as in an image's platform, with the ELF class (1: 32 bits, 2: 64), byte order (1: little,
/// 2: big) and machine number (elf(5)).
const ARCHITECTURES: [(&str, u8, u8, u16); 10] = [
    ("386", 1, 1, 3),
    ("amd64", 2, 1, 62),
    ("arm", 1, 1, 40),
    ("arm64", 2, 1, 183),
    ("loong64", 2, 1, 258),
    ("mips64le", 2, 1, 8),
    ("ppc64le", 2, 1, 21),
    ("riscv64", 2, 1, 243),
    ("s390x", 2, 2, 22),
    ("mips64", 2, 2, 8),
];

/// Finds out whether programs of an architecture, named as in an image's platform, can run.
///
/// `registrations` is the folder of binfmt_misc, `/proc/sys/fs/binfmt_misc`.
pub fn foreign_run(architecture: &str, registrations: &Path) -> ForeignRun {
    if is_native(architecture, std::env::consts::ARCH) {
        return ForeignRun::Native;
    }
    let Some(header) = elf_header(architecture) else {
        return ForeignRun::Impossible {
            reason: format!("`{architecture}` is not an architecture that conex knows"),
        };
    };
    let mut reason = format!(
        "no emulator for `{architecture}` is registered with the kernel: install qemu-user-static"
    );
    let Ok(entries) = std::fs::read_dir(registrations) else {
        return ForeignRun::Impossible { reason };
    };
    for entry in entries.flatten() {
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        let text = String::from_utf8_lossy(bytes.get(..ENTRY_SIZE_MAX).unwrap_or(&bytes));
        let Some(registration) = Registration::parse(&text) else { continue };
        if !registration.matches(&header) {
            continue;
        }
        if registration.is_fixed {
            return ForeignRun::Emulated { interpreter: registration.interpreter.to_owned() };
        }
        reason = format!(
            "the emulator for `{architecture}`, `{}`, is registered without flag `F`, so a \
             container cannot reach it: reinstall qemu-user-static",
            registration.interpreter
        );
    }
    ForeignRun::Impossible { reason }
}

/// `host` as Rust names it. 64-bit x86 kernels run 32-bit programs; 64-bit ARM mostly not any more.
fn is_native(architecture: &str, host: &str) -> bool {
    let own = match host {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    own == architecture || (own == "amd64" && architecture == "386")
}

/// The first 20 bytes of an executable of an architecture.
fn elf_header(architecture: &str) -> Option<[u8; 20]> {
    let known = ARCHITECTURES.iter().find(|(name, ..)| *name == architecture);
    let (_, class, order, machine) = *known?;
    let half = |value: u16| if order == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut header = [0; 20];
    let ([kind_0, kind_1], [machine_0, machine_1]) = (half(2), half(machine));
    let bytes = [0x7f, b'E', b'L', b'F', class, order, 1];
    for (target, byte) in header.iter_mut().zip(bytes) {
        *target = byte;
    }
    let tail = [kind_0, kind_1, machine_0, machine_1];
    for (target, byte) in header.iter_mut().skip(16).zip(tail) {
        *target = byte;
    }
    Some(header)
}

/// One file of binfmt_misc (Documentation/admin-guide/binfmt-misc.rst).
struct Registration<'t> {
    interpreter: &'t str,
    /// The kernel opened the interpreter when it was registered.
    is_fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Option<Vec<u8>>,
}

impl<'t> Registration<'t> {
    /// Enabled registrations by content only; those by file name do not concern programs.
    fn parse(text: &'t str) -> Option<Self> {
        if !text.lines().any(|line| line == "enabled") {
            return None;
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            interpreter: field("interpreter ")?,
            is_fixed: field("flags:").is_some_and(|flags| flags.contains('F')),
            offset: field("offset ")?.parse().ok()?,
            magic: bytes_of_hex(field("magic ")?)?,
            mask: match field("mask ") {
                Some(mask) => Some(bytes_of_hex(mask)?),
                None => None,
            },
        })
    }

    fn matches(&self, header: &[u8]) -> bool {
        let end = self.offset.saturating_add(self.magic.len());
        let Some(found) = header.get(self.offset..end) else { return false };
        let mask = |index: usize| match &self.mask {
            Some(mask) => mask.get(index).copied().unwrap_or(0xff),
            None => 0xff,
        };
        found
            .iter()
            .zip(&self.magic)
            .enumerate()
            .all(|(index, (found, magic))| found & mask(index) == magic & mask(index))
    }
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As qemu-user-static registers it.
    const S390X: &str = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: OCF\noffset 0\n\
        magic 7f454c4602020100000000000000000000020016\n\
        mask ffffffffffffff00fffffffffffffffffffeffff\n";

    fn found(architecture: &str, registration: &str) -> ForeignRun {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("qemu"), registration).unwrap();
        std::fs::write(folder.path().join("status"), "enabled\n").unwrap();
        foreign_run(architecture, folder.path())
    }

    #[test]
    fn registered_emulators_are_found_by_what_they_accept() {
        let interpreter = "/usr/bin/qemu-s390x-static".to_owned();
        assert_eq!(found("s390x", S390X), ForeignRun::Emulated { interpreter });
        for (architecture, registration, expected) in [
            ("riscv64", S390X.to_owned(), "no emulator for `riscv64`"),
            ("s390x", S390X.replace("enabled", "disabled"), "no emulator for `s390x`"),
            ("s390x", S390X.replace("OCF", "OC"), "is registered without flag `F`"),
            ("s390x", S390X.replace("offset 0", "offset 99999999999"), "no emulator"),
            ("s390x", S390X.replace("magic 7f", "magic zz"), "no emulator"),
            ("z80", S390X.to_owned(), "`z80` is not an architecture"),
        ] {
            let ForeignRun::Impossible { reason } = found(architecture, &registration) else {
                panic!("{architecture} can run with {registration}");
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn own_programs_need_no_emulator() {
        for (architecture, host, expected) in
            [("amd64", "x86_64", true), ("386", "x86_64", true), ("arm64", "x86_64", false)]
        {
            assert_eq!(is_native(architecture, host), expected);
        }
    }
}
