//! Any path, query and range leads somewhere valid or nowhere: `cargo +nightly fuzz run requests`.
#![no_main]

use conex_registry::{Asked, Query, Route, asked, of_chunk};

libfuzzer_sys::fuzz_target!(|input: (&str, &str, &str, u64)| {
    let (path, query, range, size) = input;
    if let Ok(Route::Blob(name, _) | Route::Tags(name)) = Route::parse(path) {
        assert!(name.as_str().split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
        assert!(name.as_str().len() <= 255);
    }
    let query = Query::parse(query);
    let _ = (query.first("n"), query.all("tag").count());
    if let Asked::Part(from, to) = asked(Some(range), size) {
        assert!(from < to && to <= size);
    }
    if let Some((from, to)) = of_chunk(range) {
        assert!(from < to);
    }
});
