//! Any bytes parse, within the source's bounds, and instructions read again say the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (file, diagnostics) = conex_dockerfile::parse(data);
    for stage in &file.stages {
        for instruction in std::iter::once(&stage.from).chain(&stage.instructions) {
            assert!(data.get(instruction.source.clone()).is_some());
            instruction.expandable();
            instruction.script();
        }
    }
    assert!(diagnostics.iter().all(|found| found.span.is_some()));
    if let Ok(text) = std::str::from_utf8(data) {
        // Both outcomes are fine; a panic is not.
        drop(conex_dockerfile::parse_onbuild(text));
        drop(conex_dockerfile::Mount::parse(text));
    }
});
