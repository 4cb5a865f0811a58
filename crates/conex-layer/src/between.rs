//! Whether a snapshot that was written on top of some layers may be put on top of more of them.
//!
//! A copy can be written while the steps before it still run, on top of what is there so far. When
//! those steps are done, [`fits_above`] says whether the copy would have come out the same on top
//! of what they made. It looks only at names that both have, so it costs little.
//!
//! Invariant: a yes is certain; where it would take long to be certain, the answer is no.

use std::io;

use conex_sys::dir::Dir;
use conex_sys::stat::{FileKind, Stat};

use crate::error::{Error, Result};
use crate::form::Form;
use crate::stack::{MergedDir, Stack, View, dir_stat, file_xattrs, is_opaque};

/// Directories of deeper paths are not compared: the answer is no.
const DEPTH_MAX: usize = 64;

/// Whether `upper`, written on top of `below` without following a link of it, would be the same,
/// as a snapshot and as a layer, with the snapshots `between` in between. `mtime_max` is the
/// greatest time that a layer has, in seconds since 1970.
///
/// # Errors
/// A directory cannot be read.
pub fn fits_above(
    upper: &Dir,
    below: &Stack,
    between: &[Dir],
    form: Form,
    mtime_max: i64,
) -> Result<bool> {
    let check = Check { view: View { form: Some(form) }, mtime_max };
    let root = below.root();
    let fits = || -> io::Result<bool> {
        for layer in between {
            if !check.same_attributes(layer, root.parts.first().unwrap_or(upper), Times::Ignored)?
                || !check.names(upper, Some(&root), layer, 0)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    fits().map_err(|error| Error::at("cannot compare", std::path::Path::new("/"), error))
}

/// Whether the time of a directory counts: that of the root is in no layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Count,
    Ignored,
}

struct Check {
    view: View,
    mtime_max: i64,
}

impl Check {
    /// Compares the names that a directory of the snapshot and one of a layer have in common.
    fn names(
        &self,
        upper: &Dir,
        below: Option<&MergedDir>,
        layer: &Dir,
        depth: usize,
    ) -> io::Result<bool> {
        if depth > DEPTH_MAX {
            return Ok(false);
        }
        for entry in layer.entries()? {
            let Some(there) = upper.stat_if_there(&entry.name)? else { continue };
            if entry.kind != FileKind::Dir || there.kind != FileKind::Dir {
                return Ok(false);
            }
            let layer = layer.open_dir(&entry.name)?;
            let upper = upper.open_dir(&entry.name)?;
            if is_opaque(&layer, self.view)? || is_opaque(&upper, self.view)? {
                return Ok(false);
            }
            let below = match below {
                Some(below) => below.enter(&entry.name, self.view)?,
                None => None,
            };
            let same = match below.as_ref().and_then(|below| below.parts.first()) {
                Some(below) => self.same_attributes(&layer, below, Times::Count)?,
                // The copy made it, and would have found it. It is written into the layer in any
                // case if something in it is that is no directory.
                None => {
                    self.same_attributes(&layer, &upper, Times::Count)?
                        && upper.entries()?.iter().any(|entry| entry.kind != FileKind::Dir)
                }
            };
            if !same || !self.names(&upper, below.as_ref(), &layer, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_attributes(&self, one: &Dir, other: &Dir, times: Times) -> io::Result<bool> {
        let time = |stat: &Stat| match times {
            Times::Count => stat.mtime.seconds.min(self.mtime_max),
            Times::Ignored => 0,
        };
        let facts = |dir: &Dir| -> io::Result<_> {
            let stat = dir_stat(dir, self.view)?;
            Ok((stat.mode, stat.uid, stat.gid, time(&stat), file_xattrs(dir, self.view)?))
        };
        Ok(facts(one)? == facts(other)?)
    }
}
