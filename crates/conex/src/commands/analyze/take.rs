//! Takes files out of an image, wherever it is.
//!
//! What is where is known from the reports; only the layers that hold the wanted contents are read,
//! each once, and no further than to the last of them. A layer that is unpacked in the store is not
//! even streamed.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use conex_inventory::Tree;
use conex_layer::{Decoder, EntryKind, Stack, TarLimits, TarReader};
use conex_sys::dir::Dir;

use super::Subject;
use super::source::Origin;
use crate::error::{CliError, Doing as _, Result};

/// `IMAGE:PATH`, as `docker cp` writes it: the colon before the first slash that begins a path.
pub fn split(text: &str) -> Result<(&str, &str)> {
    // A tag has no slash, so the last colon that a slash, a dot or nothing follows is the one; a
    // relative path needs one too, and means one from the root.
    let absolute = text.rfind(":/");
    let at = match absolute {
        // `oci:/dir` and the like are transports, not images.
        Some(at) if !is_transport(&text[..at]) => Some(at),
        _ => text.rfind(':').filter(|at| !is_transport(&text[..*at])),
    };
    match at {
        Some(at) if at > 0 => Ok((&text[..at], &text[at + 1..])),
        _ => Err(CliError::usage(format!("`{text}` is not `IMAGE:PATH`"))
            .with_hint(format!("the root folder is `{text}:/`"))),
    }
}

fn is_transport(text: &str) -> bool {
    matches!(
        text,
        "oci"
            | "oci-archive"
            | "docker-archive"
            | "docker-daemon"
            | "containers-storage"
            | "podman"
            | "registry"
            | "docker"
    )
}

/// Finds a path in an image, or says that it is not there.
pub fn find(tree: &Tree, path: &str, follow_last: bool) -> Result<u32> {
    tree.resolve(path.as_bytes(), follow_last)
        .ok_or_else(|| CliError::new(format!("the image has no `{path}`")))
}

/// Gives the content of each of these files to `sink`, in the order in which it comes. Files that
/// are names of one content come each by themselves.
pub fn contents(
    subject: &Subject,
    tree: &Tree,
    wanted: &[u32],
    sink: &mut dyn FnMut(u32, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut by_layer: HashMap<usize, HashMap<Vec<u8>, Vec<u32>>> = HashMap::new();
    for id in wanted {
        let (layer, path) = tree.content_place(*id).ok_or_else(|| {
            CliError::new(format!("the content of `{}` is unknown", tree.path_text(*id)))
        })?;
        by_layer.entry(layer).or_default().entry(path).or_default().push(*id);
    }
    let mut layers: Vec<_> = by_layer.into_iter().collect();
    layers.sort_unstable_by_key(|(layer, _)| *layer);
    for (layer, paths) in layers {
        let layer = &subject.layers[layer];
        match &layer.origin {
            Origin::Snapshot(snapshot) => from_snapshot(snapshot, paths, sink)?,
            _ => from_tar(layer.open()?.as_mut(), paths, sink)?,
        }
    }
    Ok(())
}

fn from_snapshot(
    snapshot: &conex_store::Snapshot,
    paths: HashMap<Vec<u8>, Vec<u32>>,
    sink: &mut dyn FnMut(u32, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = Dir::open_ambient(snapshot.path())
        .doing(|| format!("cannot open the layer `{}`", snapshot.diff_id()))?;
    let stack = Stack::new(vec![dir], snapshot.form());
    for (path, ids) in paths {
        for id in ids {
            let mut file = stack.open(Path::new(std::ffi::OsStr::from_bytes(&path)))?;
            sink(id, &mut file)?;
        }
    }
    Ok(())
}

fn from_tar(
    input: &mut (dyn Read + Send),
    mut paths: HashMap<Vec<u8>, Vec<u32>>,
    sink: &mut dyn FnMut(u32, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let decoder = Decoder::new(input)?;
    let input = io::BufReader::with_capacity(256 << 10, decoder);
    let mut tar = TarReader::new(input, TarLimits::default());
    while let Some(entry) = tar.next_entry()? {
        if entry.kind != EntryKind::File {
            continue;
        }
        let Some(ids) = paths.remove(&clean(&entry.path)) else { continue };
        if let [id] = ids.as_slice() {
            sink(*id, &mut tar)?;
        } else {
            // Names of one file: the first gets the stream, the others what was kept of it.
            let mut kept = tempfile()?;
            io::copy(&mut tar, &mut kept).doing(|| "cannot keep a file".to_owned())?;
            for id in ids {
                io::Seek::rewind(&mut kept).doing(|| "cannot keep a file".to_owned())?;
                sink(id, &mut kept)?;
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
    }
    match paths.keys().next() {
        None => Ok(()),
        Some(path) => {
            let path = String::from_utf8_lossy(path);
            Err(CliError::new(format!("the layer holds no `{path}` any more")))
        }
    }
}

fn tempfile() -> Result<std::fs::File> {
    super::stream::unnamed_file().doing(|| "cannot make a temporary file".to_owned())
}

fn clean(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn images_and_paths_are_told_apart() {
        for (text, expected) in [
            ("app:/etc/passwd", Some(("app", "/etc/passwd"))),
            ("app:1.0:/etc", Some(("app:1.0", "/etc"))),
            ("localhost:5000/app:1:/", Some(("localhost:5000/app:1", "/"))),
            ("app:etc/passwd", Some(("app", "etc/passwd"))),
            ("oci:/dir:tag:/etc", Some(("oci:/dir:tag", "/etc"))),
            ("./app.tar:/etc", Some(("./app.tar", "/etc"))),
            ("docker-daemon:app:/", Some(("docker-daemon:app", "/"))),
            ("app", None),
            ("oci:/dir", None),
            (":/etc", None),
        ] {
            assert_eq!(split(text).ok(), expected, "{text}");
        }
    }
}
