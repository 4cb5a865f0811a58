//! Unpacks any bytes as a layer: no panic, nothing outside of the snapshot.
#![no_main]

use std::path::Path;

use conex_layer::{
    ApplyLimits, ApplyOptions, Flavor, Form, Ownership, Stack, Target, WriteOptions, apply_layer,
    write_layer,
};
use conex_sys::dir::Dir;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let form = Form { flavor: Flavor::User, ownership: Ownership::Recorded };
    // Memory where there is some: the disk is not what is tested.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let scratch = tempfile::tempdir_in(folder).expect("a scratch folder can be made");
    std::fs::create_dir(scratch.path().join("upper")).expect("it is empty");
    let upper = Dir::open_ambient(&scratch.path().join("upper")).expect("it was just made");
    let mut target =
        Target::new(upper.clone(), Stack::empty(form), form).expect("it is a directory");
    let limits = ApplyLimits { unpacked_size_max: 1 << 20, ..ApplyLimits::default() };
    let options = ApplyOptions { limits, ..ApplyOptions::new(1) };
    let mut input = bytes;
    let applied = apply_layer(&mut input, &mut target, &options);
    let beside = std::fs::read_dir(scratch.path()).expect("it is still there").count();
    assert_eq!(beside, 1, "something landed outside");
    if applied.is_ok() {
        // What was unpacked can be written. A sparse file may claim any size; that is not read.
        let mut room = Room(1 << 20);
        let lower = Stack::empty(form);
        let _ = write_layer(&upper, &lower, &WriteOptions::new(form), &mut room);
    }
});

/// Takes a few bytes and then no more.
struct Room(usize);

impl std::io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
