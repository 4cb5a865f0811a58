use super::*;

/// `etc/passwd` and links that try to get out, below a directory that holds a `secret`.
fn fixture() -> (tempfile::TempDir, RootDir) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    let top = outside.path().join("root");
    std::fs::create_dir_all(top.join("etc/deep")).unwrap();
    std::fs::write(top.join("etc/passwd"), "inside").unwrap();
    std::fs::write(top.join("secret"), "inside").unwrap();
    for (name, target) in [
        ("absolute", "/etc/passwd"),
        ("up", "../../../../secret"),
        ("etc/deep/up", "../../../secret"),
        ("dir", "/etc"),
        ("loop", "loop"),
        ("chain", "dir/deep/../../absolute"),
        ("dangling", "/nothing"),
    ] {
        std::os::unix::fs::symlink(target, top.join(name)).unwrap();
    }
    let root = RootDir::open(&top, Links::Follow).unwrap();
    (outside, root)
}

fn read(opened: io::Result<impl Into<File>>) -> String {
    match opened.map(|file| io::read_to_string(file.into())) {
        Ok(text) => text.unwrap(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn paths_stay_inside_by_kernel_and_by_hand() {
    let (_outside, root) = fixture();
    let refusing = root.with_links(Links::Refuse);
    for (path, followed, refused) in [
        ("etc/passwd", "inside", "inside"),
        ("/etc/passwd", "inside", "inside"),
        ("absolute", "inside", "FilesystemLoop"),
        ("up", "inside", "FilesystemLoop"),
        ("etc/deep/up", "inside", "FilesystemLoop"),
        ("dir/passwd", "inside", "FilesystemLoop"),
        ("chain", "inside", "FilesystemLoop"),
        ("loop", "FilesystemLoop", "FilesystemLoop"),
        ("dangling", "NotFound", "FilesystemLoop"),
        ("../secret", "inside", "CrossesDevices"),
        ("etc/../../secret", "inside", ""),
        ("etc/passwd/x", "NotADirectory", "NotADirectory"),
        ("nothing", "NotFound", "NotFound"),
    ] {
        let (wanted, flags) = (Path::new(path), OFlags::RDONLY);
        assert_eq!(read(root.open_file(wanted)), followed, "{path}");
        assert_eq!(read(root.resolve_by_hand(wanted, flags)), followed, "{path} by hand");
        if !refused.is_empty() {
            assert_eq!(read(refusing.open_file(wanted)), refused, "{path} without links");
            let by_hand = refusing.resolve_by_hand(wanted, flags);
            assert_eq!(read(by_hand), refused, "{path} without links by hand");
        }
    }
}

#[test]
fn the_last_component_is_never_followed_where_something_is_made_or_removed() {
    let (outside, root) = fixture();
    root.remove_file(Path::new("up")).unwrap();
    assert!(outside.path().join("secret").exists());
    assert!(root.set_mode(Path::new("absolute"), 0o777).is_err());
    assert_eq!(root.stat(Path::new("absolute")).unwrap().kind, FileKind::Symlink);
    assert_eq!(root.stat(Path::new("dir/passwd")).unwrap().kind, FileKind::File);
    assert!(root.create_file(Path::new("dangling"), 0o644).is_err());
    root.create_file(Path::new("dir/new"), 0o644).unwrap();
    assert!(outside.path().join("root/etc/new").exists());
    assert!(root.create_dir(Path::new(".."), 0o755).is_err());
    assert!(root.as_dir().create_dir(OsStr::new("a/b"), 0o755).is_err());
}

#[test]
fn trees_of_ten_thousand_levels_are_made_reached_and_removed() {
    let top = tempfile::tempdir().unwrap();
    let root = RootDir::open(top.path(), Links::Refuse).unwrap();
    let mut dir = root.as_dir().clone();
    let mut path = PathBuf::new();
    for _ in 0..10_000 {
        dir.create_dir(OsStr::new("d"), 0o755).unwrap();
        dir.create_file(OsStr::new("f"), 0o644).unwrap();
        dir = dir.open_dir(OsStr::new("d")).unwrap();
        path.push("d");
    }
    assert!(root.dir(&path).unwrap().stat_self().unwrap().same_inode(&dir.stat_self().unwrap()));
    assert!(root.with_links(Links::Follow).dir(&path).is_ok());
    root.remove_tree(Path::new("d")).unwrap();
    root.remove_tree(Path::new("f")).unwrap();
    assert!(root.read_dir(Path::new("")).unwrap().is_empty());
}
