//! What a file is given besides its content, and how that is done as root and as an ordinary user.
//!
//! Invariant: owner first, then attributes, then mode, then time, because Linux drops file
//! capabilities and set-id bits when the owner changes, and everything touches the time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;

use conex_sys::dir::{self, Dir, Node};
use conex_sys::stat::{FileKind, Stat, Time};

use crate::form::{
    Form, HELD_PREFIX, LINK_OWNERS_NAME, LinkOwners, Ownership, RECORD_NAME, Record, is_refused,
};

/// What a file is given besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-id and sticky bits. Means nothing for a symbolic link.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time; none leaves the time of writing.
    pub mtime: Option<Time>,
    /// Extended attributes. Those that belong into no layer are left out.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Mode and nothing else: owned by root, no attributes, the time of writing.
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: None, xattrs: Vec::new() }
    }

    /// The same with an owner.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// Those that a stat tells.
    pub fn of_stat(stat: &Stat) -> Self {
        Self {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            mtime: Some(stat.mtime),
            xattrs: Vec::new(),
        }
    }
}

/// Who this process is, so that owners that are right already cost no call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) form: Form,
    /// Owner of what the process makes; none where the directory may choose another.
    pub(crate) makes: Option<(u32, u32)>,
}

impl Maker {
    /// The same, for files made in this directory: one with the set-group bit gives them its own
    /// group.
    pub(crate) fn in_dir(&self, dir: &Dir) -> io::Result<Self> {
        let sets_group = dir.stat_self()?.mode & 0o2000 != 0;
        Ok(Self { makes: self.makes.filter(|_| !sets_group), ..*self })
    }

    /// Gives an open regular file or directory its attributes.
    pub(crate) fn settle(
        &self,
        file: impl AsFd + Copy,
        kind: FileKind,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
        match self.form.ownership {
            Ownership::Real => {
                if self.makes != Some((*uid, *gid)) {
                    dir::set_file_owner(file, *uid, *gid)?;
                }
                self.set_xattrs(file, xattrs)?;
                dir::set_file_mode(file, *mode)?;
            }
            Ownership::Recorded => {
                let on_disk = Record::mode_on_disk(kind, *mode);
                self.set_xattrs(file, xattrs)?;
                if (*uid, *gid) != (0, 0) || on_disk != *mode {
                    let record = Record { uid: *uid, gid: *gid, mode: *mode, device: None };
                    let text = record.to_text();
                    conex_sys::xattr::set(file, OsStr::new(RECORD_NAME), text.as_bytes())?;
                } else if kind == FileKind::Dir {
                    // A directory may have been there with another owner.
                    conex_sys::xattr::remove(file, OsStr::new(RECORD_NAME))?;
                }
                dir::set_file_mode(file, on_disk)?;
            }
        }
        match mtime {
            Some(mtime) => dir::set_file_mtime(file, *mtime),
            None => Ok(()),
        }
    }

    fn set_xattrs(&self, file: impl AsFd + Copy, xattrs: &[(OsString, Vec<u8>)]) -> io::Result<()> {
        for (name, value) in xattrs.iter().filter(|(name, _)| crate::form::belongs_in_layer(name)) {
            match conex_sys::xattr::set(file, name, value) {
                Err(error) if is_refused(&error) => self.hold_xattr(file, name, value, error)?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Keeps an attribute that we may not set under a name that we may.
    fn hold_xattr(
        &self,
        file: impl AsFd + Copy,
        name: &OsStr,
        value: &[u8],
        refused: io::Error,
    ) -> io::Result<()> {
        if self.form.ownership == Ownership::Real {
            return Err(refused);
        }
        let mut held = OsString::from(HELD_PREFIX);
        held.push(name);
        conex_sys::xattr::set(file, &held, value)
    }

    /// Makes a symbolic link with its attributes.
    pub(crate) fn make_symlink(
        &self,
        parent: &Dir,
        name: &OsStr,
        target: &OsStr,
        attributes: &Attributes,
    ) -> io::Result<()> {
        parent.create_symlink(name, target)?;
        self.settle_name(parent, name, attributes)
    }

    /// Makes a device, pipe or socket with its attributes. A device that we may not make becomes
    /// an empty file that records it, as the tools of ordinary users do.
    pub(crate) fn make_node(
        &self,
        parent: &Dir,
        name: &OsStr,
        node: Node,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let device = match node {
            Node::CharDevice(major, minor) => Some((FileKind::CharDevice, major, minor)),
            Node::BlockDevice(major, minor) => Some((FileKind::BlockDevice, major, minor)),
            Node::Fifo | Node::Socket => None,
        };
        let recorded = self.form.ownership == Ownership::Recorded;
        let Some(device) = device else {
            parent.create_node(name, node, 0o600)?;
            self.settle_name(parent, name, attributes)?;
            return self.settle_node_mode(parent, name, attributes);
        };
        if !recorded {
            match parent.create_node(name, node, 0o600) {
                Ok(()) => {
                    self.settle_name(parent, name, attributes)?;
                    return self.settle_node_mode(parent, name, attributes);
                }
                Err(error) if is_refused(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let Attributes { mode, uid, gid, mtime, .. } = *attributes;
        let file = parent.create_file(name, 0o600)?;
        if !recorded {
            dir::set_file_owner(&file, uid, gid)?;
        }
        let record = Record { uid, gid, mode, device: Some(device) };
        conex_sys::xattr::set(&file, OsStr::new(RECORD_NAME), record.to_text().as_bytes())?;
        match mtime {
            Some(mtime) => dir::set_file_mtime(&file, mtime),
            None => Ok(()),
        }
    }

    fn settle_node_mode(
        &self,
        parent: &Dir,
        name: &OsStr,
        attributes: &Attributes,
    ) -> io::Result<()> {
        parent.set_mode(name, attributes.mode)?;
        match attributes.mtime {
            Some(mtime) => parent.set_mtime(name, mtime),
            None => Ok(()),
        }
    }

    /// Owner, attributes and time of what is not opened.
    fn settle_name(&self, parent: &Dir, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
        let Attributes { uid, gid, mtime, xattrs, .. } = attributes;
        match self.form.ownership {
            Ownership::Real => {
                if self.makes != Some((*uid, *gid)) {
                    parent.set_owner(name, *uid, *gid)?;
                }
                let belong = |(name, _): &&(OsString, Vec<u8>)| crate::form::belongs_in_layer(name);
                for (attribute, value) in xattrs.iter().filter(belong) {
                    parent.set_xattr(name, attribute, value)?;
                }
            }
            Ownership::Recorded => record_link_owner(parent, name, (*uid, *gid))?,
        }
        match mtime {
            Some(mtime) => parent.set_mtime(name, *mtime),
            None => Ok(()),
        }
    }
}

/// Records who owns a name that can have no attribute of an ordinary user.
pub(crate) fn record_link_owner(parent: &Dir, name: &OsStr, owner: (u32, u32)) -> io::Result<()> {
    let attribute = OsStr::new(LINK_OWNERS_NAME);
    let known = conex_sys::xattr::get(parent, attribute)?;
    if known.is_none() && owner == (0, 0) {
        return Ok(());
    }
    let mut owners = LinkOwners::parse(&known.unwrap_or_default());
    owners.set(name, owner);
    conex_sys::xattr::set(parent, attribute, &owners.to_text())
}
