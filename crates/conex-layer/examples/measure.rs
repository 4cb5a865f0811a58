//! Measures the parts of this crate on real input, one line a run:
//!
//! ```text
//! measure copy FROM TO THREADS
//! measure diff SNAPSHOT
//! measure apply TAR TO THREADS
//! measure compress gzip|zstd FILE THREADS [LEVEL]
//! measure decompress FILE
//! measure walk FOLDER THREADS
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use conex_layer::{
    ApplyOptions, CopyOptions, Decoder, Encoder, EncoderOptions, Form, Hashing, Stack, Target,
    WriteOptions, apply_layer, copy, diff_id_of,
};
use conex_oci::Compression;
use conex_sys::dir::Dir;
use conex_sys::walk::{Verdict, map_tree};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let start = Instant::now();
    let what = match args.as_slice() {
        ["copy", from, to, threads] => {
            let source = Stack::plain(Dir::open_ambient(Path::new(from))?);
            let mut target = new_target(to)?;
            let options =
                CopyOptions { owner: Some((0, 0)), ..CopyOptions::keep(threads.parse()?) };
            format!("{:?}", copy(&source, Path::new(""), &mut target, Path::new(""), &options)?)
        }
        ["diff", snapshot] => {
            let upper = Dir::open_ambient(Path::new(snapshot))?;
            let lower = Stack::empty(Form::ROOT);
            format!("{:?}", diff_id_of(&upper, &lower, &WriteOptions::new(Form::ROOT))?)
        }
        ["apply", tar, to, threads] => {
            let mut input = File::open(tar)?;
            let mut decoder = Decoder::new(&mut input)?;
            let mut target = new_target(to)?;
            let options = ApplyOptions::new(threads.parse()?);
            format!("{:?}", apply_layer(&mut decoder, &mut target, &options)?)
        }
        ["compress", kind, file, threads, level @ ..] => {
            let options = EncoderOptions {
                compression: if *kind == "zstd" { Compression::Zstd } else { Compression::Gzip },
                level: level.first().map(|level| level.parse()).transpose()?,
                thread_count: threads.parse()?,
                hash: Hashing::DiffId,
            };
            let mut encoder = Encoder::new(io::sink(), &options)?;
            io::copy(&mut File::open(file)?, &mut encoder)?;
            format!("{:?}", encoder.finish()?.1)
        }
        ["decompress", file] => {
            let mut input = File::open(file)?;
            format!("{:?}", io::copy(&mut Decoder::new(&mut input)?, &mut io::sink())?)
        }
        ["walk", folder, threads] => {
            let root = Dir::open_ambient(Path::new(folder))?;
            let found = map_tree(&root, threads.parse()?, &|visit| {
                Ok(Verdict::Take(visit.dir.stat(&visit.entry.name)?.size))
            })?;
            format!("{} names", found.len())
        }
        _ => return Err("see the first lines of the source for what to give".into()),
    };
    writeln!(io::stdout(), "{:.3} s {what}", start.elapsed().as_secs_f64())?;
    Ok(())
}

fn new_target(path: &str) -> Result<Target, Box<dyn Error>> {
    std::fs::create_dir(path)?;
    let upper = Dir::open_ambient(Path::new(path))?;
    Ok(Target::new(upper, Stack::empty(Form::ROOT), Form::ROOT)?)
}
