//! A walk and a single question agree on any patterns and any path. The input is the path up to the
//! first line end, then the ignore file.

#![no_main]

use conex_dockerfile::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, patterns) = data.split_at(end);
    let (ignore, _) = Ignore::parse(patterns);
    let clean = |part: &[u8]| part != b"" && part != b"." && part != b"..";
    if !path.split(|byte| *byte == b'/').all(clean) {
        ignore.is_ignored(path);
        return;
    }
    let mut state = ignore.root();
    let mut reachable = true;
    for (at, byte) in path.iter().enumerate() {
        if *byte == b'/' {
            state = ignore.enter(&state, &path[..at]);
            reachable &= ignore.may_descend(&state, &path[..at]);
        }
    }
    let walked = ignore.is_ignored_in(&state, path);
    assert_eq!(walked, ignore.is_ignored(path));
    assert!(reachable || walked, "a folder was left out that holds something kept");
});
