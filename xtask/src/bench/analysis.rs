//! Layer analysis beside dive: an image of the usual size, and one of a million files.
//!
//! The images are archives written here, so that no tool needs another to make them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::command;
use super::measure::Contestant;
use super::peers::Lab;
use crate::shell::{Result, has_program, quietly};

/// An uncompressed archive of 288 MB: 9,000 files of 32 kB in three layers.
pub(crate) fn usual(lab: &Lab) -> Result<Vec<Contestant>> {
    contest(lab, "usual", &[3000, 3000, 3000], 32_000)
}

/// A million files of a hundred bytes in one layer.
pub(crate) fn million(lab: &Lab) -> Result<Vec<Contestant>> {
    contest(lab, "million", &[1_000_000], 100)
}

fn contest(lab: &Lab, name: &str, layers: &[usize], size: usize) -> Result<Vec<Contestant>> {
    let archive = lab.dir.join(format!("analyze-{name}.tar"));
    if !archive.is_file() {
        write_archive(&archive, layers, size).map_err(|error| error.to_string())?;
    }
    let conex = |more: &[&str]| {
        let mut words = lab.tool("conex");
        words.push("analyze".to_owned());
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.push(archive.display().to_string());
        words
    };
    let (read, kept) = (conex(&["--no-cache"]), conex(&[]));
    // So that the reports are there.
    quietly(&mut command(&kept))?;
    let mut all = vec![
        Contestant::new("conex", move || command(&read)),
        Contestant::new("conex, layers known", move || command(&kept)),
    ];
    let dive = PathBuf::from("dive");
    if !has_program("dive") {
        all.push(Contestant::absent("dive", "not installed"));
        return Ok(all);
    }
    let out = lab.dir.join("dive.json");
    all.push(Contestant::new("dive", move || {
        let mut run = command([dive.as_os_str()]);
        run.args(["--source", "docker-archive", "--json"]).arg(&out).arg(&archive);
        run
    }));
    Ok(all)
}

/// Writes what `docker save` writes.
fn write_archive(path: &Path, layers: &[usize], size: usize) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&new)?);
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut names = Vec::new();
    for (number, count) in layers.iter().enumerate() {
        let padded = (512 + size.next_multiple_of(512)) * count + 1024;
        let name = format!("layer{number}/layer.tar");
        header(&mut out, &name, padded as u64)?;
        let mut content = vec![0; size];
        for file in 0..*count {
            for byte in content.chunks_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let len = byte.len();
                byte.copy_from_slice(&state.to_le_bytes()[..len]);
            }
            let path = format!("usr/share/d{number}/{:03}/f{file:06}", file % 1000);
            header(&mut out, &path, size as u64)?;
            out.write_all(&content)?;
            pad(&mut out, size)?;
        }
        out.write_all(&[0; 1024])?;
        pad(&mut out, padded)?;
        names.push(format!("\"{name}\""));
    }
    out.flush()?;
    drop(out);
    finish(&new, &names)?;
    fs::rename(&new, path)
}

/// Adds config and manifest; the diff IDs are those that `tar` and `sha256sum` find.
fn finish(path: &Path, names: &[String]) -> std::io::Result<()> {
    let mut ids = Vec::new();
    for name in names {
        let script = "tar xOf \"$1\" \"$2\" | sha256sum";
        let name = name.trim_matches('"');
        let mut hash = command(["sh", "-c", script, "sh"]);
        let output = hash.arg(path).arg(name).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = text.split(' ').next().unwrap_or_default().to_owned();
        ids.push(format!("\"sha256:{id}\""));
    }
    let step = "{\"created_by\":\"COPY files /\"}";
    let history = vec![step; names.len()].join(",");
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"history\":[{history}],\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
        ids.join(",")
    );
    let manifest = format!(
        "[{{\"Config\":\"config.json\",\"RepoTags\":[\"bench:1\"],\"Layers\":[{}]}}]",
        names.join(",")
    );
    let mut out = BufWriter::new(File::options().append(true).open(path)?);
    for (name, text) in [("config.json", config), ("manifest.json", manifest)] {
        header(&mut out, name, text.len() as u64)?;
        out.write_all(text.as_bytes())?;
        pad(&mut out, text.len())?;
    }
    out.write_all(&[0; 1024])?;
    out.flush()
}

/// Writes the header of a file (POSIX ustar).
fn header(out: &mut impl Write, name: &str, size: u64) -> std::io::Result<()> {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "14500000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&block)
}

fn pad(out: &mut impl Write, size: usize) -> std::io::Result<()> {
    let over = size % 512;
    if over == 0 { Ok(()) } else { out.write_all(&vec![0; 512 - over]) }
}
