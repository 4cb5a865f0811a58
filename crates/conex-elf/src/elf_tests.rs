//! ELF files made by hand, of each width and byte order, whole and damaged.

use proptest::prelude::*;

use super::*;

/// Makes the smallest file that has an interpreter, two needs and every kind of search path.
fn sample(class: Class, endianness: Endianness) -> Vec<u8> {
    let wide = class == Class::Bits64;
    let (header_size, entry_size) = if wide { (64, 56) } else { (52, 32) };
    let strings = b"\0libone.so.1\0libtwo.so.2\0/rpath:$ORIGIN\0/runpath\0me.so\0dlopen\0";
    let interpreter = b"/lib/ld.so\0";
    let at = |text: &str| {
        strings.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
    };
    let interpreter_offset = header_size + 3 * entry_size;
    let strings_offset = interpreter_offset + interpreter.len();
    let dynamic_offset = strings_offset + strings.len();
    let base = 0x1000;
    let dynamic = [
        (DT_NEEDED, at("libone")),
        (DT_NEEDED, at("libtwo")),
        (DT_RPATH, at("/rpath")),
        (DT_RUNPATH, at("/runpath")),
        (DT_SONAME, at("me.so")),
        (DT_STRTAB, base + strings_offset as u64),
        (DT_STRSZ, strings.len() as u64),
        (DT_FLAGS_1, DF_1_NODEFLIB),
        (DT_NULL, 0),
        (DT_NEEDED, 9999),
    ];
    let mut file = Writer { bytes: Vec::new(), class, endianness };
    file.bytes.extend_from_slice(b"\x7fELF");
    file.bytes.push(if wide { 2 } else { 1 });
    file.bytes.push(if endianness == Endianness::Little { 1 } else { 2 });
    file.bytes.resize(16, 0);
    file.u16(3);
    file.u16(62);
    file.u32(1);
    file.word(0);
    file.word(header_size as u64);
    file.word(0);
    file.u32(0);
    file.u16(header_size as u16);
    file.u16(entry_size as u16);
    file.u16(3);
    file.bytes.resize(header_size, 0);
    let total = dynamic_offset + dynamic.len() * if wide { 16 } else { 8 };
    file.segment(PT_LOAD, 0, base, total);
    file.segment(PT_INTERP, interpreter_offset, 0, interpreter.len());
    file.segment(PT_DYNAMIC, dynamic_offset, 0, total - dynamic_offset);
    file.bytes.extend_from_slice(interpreter);
    file.bytes.extend_from_slice(strings);
    for (tag, value) in dynamic {
        file.word(tag);
        file.word(value);
    }
    file.bytes
}

struct Writer {
    bytes: Vec<u8>,
    class: Class,
    endianness: Endianness,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend(match self.endianness {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        });
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(match self.endianness {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        });
    }

    fn word(&mut self, value: u64) {
        match (self.class, self.endianness) {
            (Class::Bits32, _) => self.u32(value as u32),
            (_, Endianness::Little) => self.bytes.extend(value.to_le_bytes()),
            (_, Endianness::Big) => self.bytes.extend(value.to_be_bytes()),
        }
    }

    fn segment(&mut self, kind: u32, offset: usize, address: u64, size: usize) {
        self.u32(kind);
        if self.class == Class::Bits64 {
            self.u32(0);
        }
        self.word(offset as u64);
        self.word(address);
        self.word(address);
        self.word(size as u64);
        self.word(size as u64);
        self.word(0);
        if self.class == Class::Bits32 {
            self.u32(0);
        }
    }
}

const VARIANTS: [(Class, Endianness); 4] = [
    (Class::Bits32, Endianness::Little),
    (Class::Bits32, Endianness::Big),
    (Class::Bits64, Endianness::Little),
    (Class::Bits64, Endianness::Big),
];

#[test]
fn every_width_and_byte_order_reads_the_same() {
    for (class, endianness) in VARIANTS {
        let elf = Elf::parse(&sample(class, endianness)[..]).unwrap();
        assert_eq!(elf.linkage, Linkage { class, endianness, machine: 62 });
        assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld.so"));
        assert_eq!(elf.needed, ["libone.so.1", "libtwo.so.2"]);
        assert_eq!(elf.rpath, ["/rpath", "$ORIGIN"]);
        assert_eq!(elf.runpath, ["/runpath"]);
        assert_eq!(elf.soname.as_deref(), Some("me.so"));
        assert!(elf.no_default_folders);
        assert!(elf.names_any(&["dlsym", "dlopen"]));
        assert!(!elf.names_any(&["open"]), "the tail of another name is not the name");
    }
}

#[test]
fn cut_file_is_an_error_at_every_length() {
    for (class, endianness) in VARIANTS {
        let whole = sample(class, endianness);
        for length in 0..whole.len() {
            let error = Elf::parse(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Malformed, "{length}");
        }
    }
}

#[test]
fn sizes_without_bytes_behind_them_are_errors() {
    let whole = sample(Class::Bits64, Endianness::Little);
    // The third program header is the dynamic section; its size in the file is at 32.
    let size_at = 64 + 2 * 56 + 32;
    for size in [u64::MAX, 1 << 40, 1 << 17] {
        let mut damaged = whole.clone();
        damaged[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
        assert!(Elf::parse(&damaged[..]).is_err(), "{size}");
    }
    let mut damaged = whole;
    damaged[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(Elf::parse(&damaged[..]).unwrap_err().kind(), crate::ErrorKind::TooMuch);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Elf::parse(&bytes[..]);
        bytes.splice(0..0, *b"\x7fELF\x02\x01");
        let _ = Elf::parse(&bytes[..]);
    }

    #[test]
    fn any_damage_is_read_or_refused(
        variant in 0..4_usize,
        damage in proptest::collection::vec((0..400_usize, any::<u8>()), 1..8),
    ) {
        let (class, endianness) = VARIANTS[variant];
        let mut bytes = sample(class, endianness);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = Elf::parse(&bytes[..]);
    }
}
