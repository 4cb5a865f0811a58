//! Takes files out of an image, wherever it is.
//!
//! What is where is known from the reports; only the layers that hold what is wanted are read, each
//! once, and where only contents are wanted no further than to the last of them. A layer that is
//! unpacked in the store is not even streamed. Contents are held against the reports while they are
//! read.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use conex_inventory::{Place, Tree};
use conex_layer::{Decoder, EntryKind, LastLink, Stack, TarLimits, TarReader};
use conex_store::Snapshot;
use conex_sys::dir::Dir;

use super::Subject;
use super::source::{Layer, Origin};
use crate::error::{CliError, Doing as _, Result};

/// `IMAGE:PATH`, as `docker cp` writes it: the colon before the first slash that begins a path.
pub fn split(text: &str) -> Result<(&str, &str)> {
    // `-:/etc` is of standard input; everything else that begins so was meant for an option.
    if text.starts_with('-') && !text.starts_with("-:") {
        return Err(CliError::usage(format!("`{text}` is no option of this command")));
    }
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

/// What was found of a path: the content of a file, and what else the reports do not have.
pub struct Taken<'r> {
    /// Of a file; empty for anything else.
    pub content: &'r mut dyn Read,
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

type Sink<'s> = &'s mut dyn FnMut(u32, Taken<'_>) -> Result<()>;

/// What is wanted of a layer: the paths of the image that something of it is for.
#[derive(Default)]
struct Wanted {
    files: HashMap<Place, Vec<u32>>,
    others: HashMap<Vec<u8>, Vec<u32>>,
}

/// Gives each of these paths to `sink`, in the order in which the layers have them. Files that are
/// names of one content come each by themselves.
pub fn contents(subject: &Subject, tree: &Tree, wanted: &[u32], sink: Sink<'_>) -> Result<()> {
    let mut by_layer: BTreeMap<usize, Wanted> = BTreeMap::new();
    for id in wanted {
        let place = tree.place(*id).ok_or_else(|| {
            CliError::new(format!("the content of `{}` is unknown", tree.path_text(*id)))
        })?;
        let layer = by_layer.entry(place.layer).or_default();
        match place.entry {
            Some(_) => layer.files.entry(place).or_default().push(*id),
            None => layer.others.entry(place.path).or_default().push(*id),
        }
    }
    for (layer, wanted) in by_layer {
        let layer = &subject.layers[layer];
        match &layer.origin {
            Origin::Snapshot(snapshot) => from_snapshot(snapshot, wanted, sink)?,
            _ => from_tar(layer, wanted, sink)?,
        }
    }
    Ok(())
}

fn from_snapshot(snapshot: &Snapshot, wanted: Wanted, sink: Sink<'_>) -> Result<()> {
    let dir = Dir::open_ambient(snapshot.path())
        .doing(|| format!("cannot open the layer `{}`", snapshot.diff_id()))?;
    let stack = Stack::new(vec![dir], snapshot.form());
    for (place, ids) in wanted.files {
        let path = Path::new(OsStr::from_bytes(&place.path));
        for id in ids {
            let mut file = stack.open(path)?;
            let xattrs = stack.xattrs(path)?;
            let content = &mut place.verified(&mut file);
            sink(id, Taken { content, xattrs, device: (0, 0) })?;
        }
    }
    for (path, ids) in wanted.others {
        let path = Path::new(OsStr::from_bytes(&path));
        let found = stack.find(path, LastLink::Keep)?;
        let device = found.map_or((0, 0), |found| found.stat.node);
        for id in ids {
            let xattrs = stack.xattrs(path)?;
            sink(id, Taken { content: &mut io::empty(), xattrs, device })?;
        }
    }
    Ok(())
}

/// What there is of a path that is no file.
type Other = (Vec<(OsString, Vec<u8>)>, (u32, u32));

fn from_tar(layer: &Layer, wanted: Wanted, sink: Sink<'_>) -> Result<()> {
    let mut input = layer.open()?;
    let decoder = Decoder::new(input.as_mut())?;
    let input = io::BufReader::with_capacity(256 << 10, decoder);
    let mut tar = TarReader::new(input, TarLimits::default());
    // Only the layer's own tar has its entries in the order in which they were counted.
    let key = |place: &Place| match place.entry {
        Some(number) if layer.is_exact() => Key::Number(number),
        _ => Key::Path(place.path.clone()),
    };
    let mut files: HashMap<Key, (Place, Vec<u32>)> =
        wanted.files.into_iter().map(|(place, ids)| (key(&place), (place, ids))).collect();
    let mut others: HashMap<Vec<u8>, Other> = HashMap::new();
    let mut number = 0;
    while !files.is_empty() || !wanted.others.is_empty() {
        let Some(entry) = tar.next_entry()? else { break };
        let path = clean(&entry.path);
        let key = if layer.is_exact() { Key::Number(number) } else { Key::Path(path.clone()) };
        number += 1;
        if entry.kind == EntryKind::File {
            if let Some((place, ids)) = files.remove(&key) {
                let mut content = entry.with_holes(&mut tar);
                file_of_tar(&mut content, &place, &ids, &entry.xattrs, sink)?;
            }
        } else if wanted.others.contains_key(&path) {
            // The last one of a path is the one that is there.
            others.insert(path, (entry.xattrs, entry.device));
        }
    }
    if let Some((place, _)) = files.values().next() {
        let path = String::from_utf8_lossy(&place.path);
        return Err(CliError::new(format!("the layer holds no `{path}` any more")));
    }
    for (path, ids) in wanted.others {
        let (xattrs, device) = others.remove(&path).unwrap_or_default();
        for id in ids {
            sink(id, Taken { content: &mut io::empty(), xattrs: xattrs.clone(), device })?;
        }
    }
    Ok(())
}

/// How an entry of a tar is known.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Number(u32),
    Path(Vec<u8>),
}

fn file_of_tar(
    content: &mut dyn Read,
    place: &Place,
    ids: &[u32],
    xattrs: &[(OsString, Vec<u8>)],
    sink: Sink<'_>,
) -> Result<()> {
    let mut give = |id: u32, content: &mut dyn Read| {
        sink(id, Taken { content, xattrs: xattrs.to_vec(), device: (0, 0) })
    };
    let mut content = place.verified(content);
    if let [id] = ids {
        return give(*id, &mut content);
    }
    // Names of one file: each gets what was kept of it.
    let mut kept = tempfile()?;
    io::copy(&mut content, &mut kept).doing(|| "cannot keep a file".to_owned())?;
    for id in ids {
        io::Seek::rewind(&mut kept).doing(|| "cannot keep a file".to_owned())?;
        give(*id, &mut kept)?;
    }
    Ok(())
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
            ("-:/etc", Some(("-", "/etc"))),
            ("--etc:/", None),
            ("app", None),
            ("oci:/dir", None),
            (":/etc", None),
        ] {
            assert_eq!(split(text).ok(), expected, "{text}");
        }
    }
}
