//! Uploads of gigabytes: how long the answer takes after the last byte, and how much memory many of
//! them at once need.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use super::client::{Client, Layer};
use super::{Io, each, memory, ms, percentile, serve};

/// Sizes, and how many of each are pushed.
const SIZES: [(&str, usize, usize); 3] =
    [("10 MB", 10 << 20, 100), ("100 MB", 100 << 20, 20), ("1 GB", 1 << 30, 3)];

/// Clients that push them.
const CLIENTS: [usize; 2] = [1, 4];

/// Uploads at once, and how large each says that it is.
const UPLOAD_COUNT: usize = 64;
const UPLOAD_BYTES: usize = 1 << 30;

/// How much of the free disk may be taken for a moment.
const DISK_SHARE: usize = 4;

pub(super) fn measure(conex: &Path, folder: &Path) -> Io<String> {
    let mut text = String::new();
    for clients in CLIENTS {
        for (name, size, count) in SIZES {
            let data = folder.join("large");
            let (running, address, _) = serve(conex, &data, &[])?;
            let layers = Layer::several(count, size);
            let waits = Mutex::new(Vec::new());
            let took = each(&address, clients, count, |client, number| {
                let took = client.push_layer("large", &layers[number])?;
                waits.lock().expect("nobody panics with it").push(took);
                Ok(())
            })?;
            let mut waits = waits.into_inner().unwrap_or_default();
            waits.sort();
            text.push_str(&format!(
                "{count} layers of {name}, {clients} at once: last byte to 201 {:.1} ms (median), \
                 {:.1} ms (99 %), {:.2} GB/s\n",
                ms(percentile(&waits, 50)),
                ms(percentile(&waits, 99)),
                super::gigabytes_a_second(count * size, took),
            ));
            drop(running);
            fs::remove_dir_all(&data)?;
        }
    }
    text.push_str(&at_once(conex, folder)?);
    Ok(text)
}

/// As many uploads as are wanted, all of them under way until the last one has sent its share.
/// They are cancelled then: all of them whole would not fit on most disks.
fn at_once(conex: &Path, folder: &Path) -> Io<String> {
    let data = folder.join("many");
    let (running, address, _) = serve(conex, &data, &[])?;
    let share = free_bytes(folder)? / DISK_SHARE / UPLOAD_COUNT;
    let bytes = share.min(UPLOAD_BYTES);
    let layers = Layer::several(1, UPLOAD_BYTES);
    let layer = &layers[0];
    let all_sent = Barrier::new(UPLOAD_COUNT);
    let began = Instant::now();
    let took = std::thread::scope(|scope| {
        let act = || -> Io<Duration> {
            let path = Client::connect(&address).and_then(|mut client| {
                let path = client.begin("many", layer.digest())?;
                let (upload, _) = path.split_once('?').unwrap_or((&path, ""));
                client.send("PATCH", upload, layer, bytes)?;
                Ok((client, upload.to_owned()))
            });
            let took = began.elapsed();
            all_sent.wait();
            // The connection ends here, in the middle of the body.
            let (_, path) = path?;
            Client::connect(&address)?.expect("DELETE", &path, &[], b"", 204)?;
            Ok(took)
        };
        let threads: Vec<_> = (0..UPLOAD_COUNT).map(|_| scope.spawn(act)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")))
            })
            .try_fold(Duration::ZERO, |most, took| took.map(|took| most.max(took)))
    })?;
    let left = fs::read_dir(data.join("uploads"))?.count();
    Ok(format!(
        "{UPLOAD_COUNT} uploads of 1 GB at once, cancelled after {} MB each: memory at most \
         {:.1} MB, {:.2} GB/s, {left} files left\n",
        bytes / 1_000_000,
        memory(running.0.id(), "VmHWM:") as f64 / 1e6,
        super::gigabytes_a_second(UPLOAD_COUNT * bytes, took),
    ))
}

fn free_bytes(folder: &Path) -> Io<usize> {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let free = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    free.ok_or_else(|| std::io::Error::other("df does not say how much is free"))
}
