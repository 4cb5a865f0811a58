//! The few files without which programs in an otherwise empty root behave strangely.
//!
//! `sh` runs without any of them, but `id` prints no names, programs that look up a user or a host
//! fail oddly, and nothing can write to `/tmp`. Nothing here describes the machine: the same
//! options give the same files anywhere. `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` are
//! not here: whoever starts a container writes those.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Where programs on Debian, Alpine and Go's and Rust's libraries look for trusted certificates.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Which extras are wanted.
#[derive(Debug, Clone, Default)]
pub struct ExtrasOptions {
    /// The machine's bundle of trusted certificates, to be copied into the root.
    pub ca_certificates: Option<PathBuf>,
    /// An ordinary user: name and number (also of its group), with a home folder.
    pub user: Option<(String, u32)>,
}

/// A file or folder to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Where, from the root.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group: the same number.
    pub owner: u32,
    /// What it is.
    pub content: ExtraContent,
}

/// What an extra is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtraContent {
    /// A folder.
    Dir,
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes of this file of the machine.
    CopyOf(PathBuf),
}

/// Lists what a useful root has besides programs, parents before children.
pub fn extras(options: &ExtrasOptions) -> Vec<Extra> {
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/sh\n");
    let mut group = String::from("root:x:0:\n");
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n");
    group.push_str("nogroup:x:65534:\n");
    let mut list = vec![
        dir("/dev", 0o755),
        dir("/etc", 0o755),
        dir("/proc", 0o555),
        dir("/root", 0o700),
        dir("/run", 0o755),
        dir("/sys", 0o555),
        dir("/tmp", 0o1777),
        dir("/usr", 0o755),
        dir("/var", 0o755),
        dir("/var/tmp", 0o1777),
    ];
    if let Some((name, number)) = &options.user {
        // Writing to a String cannot fail.
        let _ = writeln!(passwd, "{name}:x:{number}:{number}:{name}:/home/{name}:/bin/sh");
        let _ = writeln!(group, "{name}:x:{number}:");
        list.push(dir("/home", 0o755));
        let home = PathBuf::from(format!("/home/{name}"));
        list.push(Extra { owner: *number, ..dir(home, 0o755) });
    }
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
                    networks: files\nprotocols: files\nservices: files\n";
    list.push(file("/etc/group", group.into_bytes()));
    list.push(file("/etc/nsswitch.conf", nsswitch.into()));
    list.push(file("/etc/passwd", passwd.into_bytes()));
    if let Some(bundle) = &options.ca_certificates {
        list.push(dir("/etc/ssl", 0o755));
        list.push(dir("/etc/ssl/certs", 0o755));
        let content = ExtraContent::CopyOf(bundle.clone());
        list.push(Extra { path: CERTIFICATES.into(), mode: 0o644, owner: 0, content });
    }
    list
}

fn dir(path: impl Into<PathBuf>, mode: u32) -> Extra {
    Extra { path: path.into(), mode, owner: 0, content: ExtraContent::Dir }
}

fn file(path: &str, bytes: Vec<u8>) -> Extra {
    Extra { path: path.into(), mode: 0o644, owner: 0, content: ExtraContent::Bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(list: &[Extra], path: &str) -> String {
        let extra = list.iter().find(|extra| extra.path.as_os_str() == path).unwrap();
        match &extra.content {
            ExtraContent::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn every_file_has_its_folder_before_it() {
        let options = ExtrasOptions {
            ca_certificates: Some("/bundle".into()),
            user: Some(("app".to_owned(), 1000)),
        };
        let list = extras(&options);
        for (index, extra) in list.iter().enumerate() {
            let parent = extra.path.parent().unwrap();
            let known = list.iter().take(index).any(|earlier| earlier.path == parent);
            assert!(known || parent.as_os_str() == "/", "{}", extra.path.display());
        }
    }

    #[test]
    fn tmp_is_open_to_all_and_sticky() {
        let list = extras(&ExtrasOptions::default());
        let tmp = list.iter().find(|extra| extra.path.as_os_str() == "/tmp").unwrap();
        assert_eq!(tmp.mode, 0o1777);
    }

    #[test]
    fn user_is_in_passwd_and_group_and_owns_a_home() {
        let user = Some(("app".to_owned(), 1000));
        let list = extras(&ExtrasOptions { user, ..ExtrasOptions::default() });
        assert!(content(&list, "/etc/passwd").contains("app:x:1000:1000:app:/home/app:/bin/sh\n"));
        assert!(content(&list, "/etc/group").contains("app:x:1000:\n"));
        let home = list.iter().find(|extra| extra.path.as_os_str() == "/home/app").unwrap();
        assert_eq!((home.owner, home.mode), (1000, 0o755));
    }
}
