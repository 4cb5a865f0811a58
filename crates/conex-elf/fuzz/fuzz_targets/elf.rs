//! Any bytes are read as ELF or refused: `cargo +nightly fuzz run elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(elf) = conex_elf::Elf::parse(bytes) {
        assert!(elf.needed.iter().all(|name| name.len() <= bytes.len()));
    }
    if let Ok(sections) = conex_elf::Sections::parse(bytes) {
        sections.find(".text");
        sections.data_segment();
    }
});
