//! What the machine can do at all, with as many writers as clients: what a registry that waits for
//! the disk can at most be as fast as.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sha2::Digest as _;

use super::client::{Layer, Work};
use super::{
    Io, LARGE_BYTES, LARGE_CLIENTS, LARGE_PUSHES, LARGE_ROUNDS, best_and_median, gigabytes_a_second,
};

/// What is done with each layer.
#[derive(Clone, Copy)]
struct Does {
    digests: bool,
    writes: bool,
}

/// Measures the disk, the digest, and both at once.
pub(super) fn measure(folder: &Path, work: &Work) -> Io<String> {
    let mut text = format!(
        "ceilings, {LARGE_CLIENTS} threads, {LARGE_PUSHES} files of 10 MiB in one folder, \
         median and best of {LARGE_ROUNDS}:\n"
    );
    let cases = [
        ("written, each with fdatasync", Does { digests: false, writes: true }),
        ("SHA-256", Does { digests: true, writes: false }),
        ("both, without a network", Does { digests: true, writes: true }),
    ];
    for (what, does) in cases {
        let rates: Io<Vec<f64>> =
            (0..LARGE_ROUNDS).map(|_| rate(folder, &work.large, does)).collect();
        text.push_str(&format!("- {what}: {}\n", best_and_median(rates?)));
    }
    Ok(text)
}

fn rate(folder: &Path, layers: &[Layer], does: Does) -> Io<f64> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let act = || -> Io<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = layers.get(number).filter(|_| number < LARGE_PUSHES) else {
                    return Ok(());
                };
                let mut file = does.writes.then(|| create(folder, number)).transpose()?;
                let mut digest = sha2::Sha256::new();
                for piece in layer.pieces() {
                    if let Some(file) = &mut file {
                        file.write_all(piece)?;
                    }
                    if does.digests {
                        digest.update(piece);
                    }
                }
                if let Some(file) = file {
                    file.sync_data()?;
                }
                std::hint::black_box(digest.finalize());
            }
        };
        let threads: Vec<_> = (0..LARGE_CLIENTS).map(|_| scope.spawn(act)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a writer panicked")))
        })
    })?;
    let took = began.elapsed();
    for number in 0..if does.writes { LARGE_PUSHES } else { 0 } {
        std::fs::remove_file(folder.join(format!("ceiling-{number}")))?;
    }
    Ok(gigabytes_a_second(LARGE_PUSHES * LARGE_BYTES, took))
}

fn create(folder: &Path, number: usize) -> Io<File> {
    File::create_new(folder.join(format!("ceiling-{number}")))
}
