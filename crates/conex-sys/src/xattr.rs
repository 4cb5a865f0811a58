//! Extended attributes of open files and of names in a directory, symbolic links included.
//!
//! A name in a directory is reached through `/proc/self/fd/N/NAME` with the calls that do not
//! follow a link in the last part, so nothing is opened and a device is never touched. A process
//! without `/proc` gets the kernel's error.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Longest list of names and longest value that Linux allows (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`): 64 KiB.
const SIZE_MAX: usize = 64 << 10;

/// Most names and the usual value fit here, so that one call is enough.
const SIZE_USUAL: usize = 512;

/// Lists the names of an open file. A filesystem without extended attributes has none.
///
/// # Errors
/// The kernel's.
pub fn list(file: impl AsFd) -> io::Result<Vec<OsString>> {
    let file = file.as_fd();
    match sized(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Ok(names) => Ok(split(&names)),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Reads one attribute of an open file; none where there is no such attribute.
///
/// # Errors
/// The kernel's.
pub fn get(file: impl AsFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let file = file.as_fd();
    present(sized(|buffer| rustix::fs::fgetxattr(file, name, buffer)))
}

/// Sets one attribute of an open file.
///
/// # Errors
/// The kernel's.
pub fn set(file: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}

/// Removes one attribute of an open file; nothing to do where there is no such attribute.
///
/// # Errors
/// The kernel's.
pub fn remove(file: impl AsFd, name: &OsStr) -> io::Result<()> {
    gone(rustix::fs::fremovexattr(file, name))
}

/// As [`list`], for a name in a directory.
///
/// # Errors
/// The kernel's.
pub fn list_at(dir: impl AsFd, entry: &OsStr) -> io::Result<Vec<OsString>> {
    let path = proc_path(dir, entry);
    match sized(|buffer| rustix::fs::llistxattr(path.as_slice(), buffer)) {
        Ok(names) => Ok(split(&names)),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// As [`get`], for a name in a directory.
///
/// # Errors
/// The kernel's.
pub fn get_at(dir: impl AsFd, entry: &OsStr, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path(dir, entry);
    present(sized(|buffer| rustix::fs::lgetxattr(path.as_slice(), name, buffer)))
}

/// As [`set`], for a name in a directory.
///
/// # Errors
/// The kernel's.
pub fn set_at(dir: impl AsFd, entry: &OsStr, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let path = proc_path(dir, entry);
    Ok(rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())?)
}

/// As [`remove`], for a name in a directory.
///
/// # Errors
/// The kernel's.
pub fn remove_at(dir: impl AsFd, entry: &OsStr, name: &OsStr) -> io::Result<()> {
    let path = proc_path(dir, entry);
    gone(rustix::fs::lremovexattr(path.as_slice(), name))
}

fn proc_path(dir: impl AsFd, entry: &OsStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(entry.as_bytes());
    path
}

fn sized(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; SIZE_USUAL];
    match call(&mut small) {
        Ok(count) => return Ok(small.get(..count).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; SIZE_MAX];
    let count = call(&mut large)?;
    large.truncate(count);
    Ok(large)
}

fn present(result: Result<Vec<u8>, Errno>) -> io::Result<Option<Vec<u8>>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn gone(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn split(names: &[u8]) -> Vec<OsString> {
    names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_a_name_and_of_its_open_file_are_the_same() {
        let root = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(root.path()).unwrap();
        let file = std::fs::File::create(root.path().join("a\nb")).unwrap();
        let (entry, name) = (OsStr::new("a\nb"), OsStr::new("user.x"));
        if let Err(error) = set_at(&dir, entry, name, b"1") {
            eprintln!("skipped: the temporary directory has no user attributes: {error}");
            return;
        }
        assert_eq!(get(&file, name).unwrap().unwrap(), b"1");
        let long = vec![7; 2000];
        set(&file, name, &long).unwrap();
        assert_eq!(get_at(&dir, entry, name).unwrap().unwrap(), long);
        assert_eq!(list_at(&dir, entry).unwrap(), list(&file).unwrap());
        remove_at(&dir, entry, name).unwrap();
        remove(&file, name).unwrap();
        assert_eq!(get(&file, name).unwrap(), None);
    }
}
