//! Any first bytes name an interpreter or none: `cargo +nightly fuzz run script`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(interpreter) = conex_elf::interpreter(bytes) {
        assert!(!interpreter.program.is_empty());
    }
});
