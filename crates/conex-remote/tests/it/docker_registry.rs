//! Debian's `docker-registry` (distribution 2.8), as people run it: plain, with passwords, with a
//! token server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conex_oci::{Algorithm, BlobSink as _, Descriptor, Digest, Manifest, MediaType};
use conex_remote::{Client, ClientOptions, Credential, ErrorKind, FixedCredential, Pushed, copy};
use conex_report::Discard;

use crate::support::{MemoryImage, blob_of, client, copy_options, noise, options, read_all, skip};

pub(crate) struct Registry {
    process: Child,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry, or says why not. `extra` is put into its configuration.
    pub(crate) fn start(extra: impl Fn(&Path) -> String) -> Option<Self> {
        if Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_err()
        {
            skip("docker-registry is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // The port may be taken between the two steps, so a few are tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  \
                 filesystem:\n    rootdirectory: {0}/data\n  delete:\n    enabled: true\nhttp:\n  \
                 addr: 127.0.0.1:{port}\n{1}",
                folder.path().display(),
                extra(folder.path())
            );
            let path = folder.path().join("config.yml");
            std::fs::write(&path, config).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(&path)
                .env_clear()
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while Instant::now() < until {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(Self { process, port, folder });
                }
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // It did not come up; it may be gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("docker-registry does not start in {}", folder.path().display());
    }

    pub(crate) fn plain() -> Option<Self> {
        Self::start(|_| String::new())
    }

    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(crate) fn reference(&self, rest: &str) -> conex_oci::Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = &self.folder;
    }
}

#[test]
fn an_image_goes_there_and_back() {
    let Some(registry) = Registry::plain() else { return };
    let client = client();
    let image = MemoryImage::with_layers(&[100, 5 << 20, 40 << 20], 1);
    let repository = client.repository(&registry.reference("a/b:1"));
    let copied = copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    assert_eq!((copied.sent, copied.existed, copied.mounted), (4, 0, 0));

    // Again: everything is there.
    let again = copy(&image, &repository, &copy_options("2"), &Discard).unwrap();
    assert_eq!((again.sent, again.bytes), (0, 0));

    // To a neighbour: everything is mounted, no byte is moved.
    let neighbour = client.repository(&registry.reference("c/d:1"));
    let moved = copy(&repository, &neighbour, &copy_options("1"), &Discard).unwrap();
    assert_eq!((moved.sent, moved.mounted, moved.bytes), (0, 4, 0));

    let back = MemoryImage::default();
    let fetched = copy(&neighbour, &back, &copy_options("x"), &Discard).unwrap();
    assert_eq!(fetched.root, image.root_descriptor());
    assert_eq!(*back.blobs.lock().unwrap(), *image.blobs.lock().unwrap());
    assert_eq!(repository.resolve().unwrap(), image.root_descriptor());
    let mut tags = repository.tags().unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(client.catalog(&registry.host()).unwrap(), ["a/b", "c/d"]);
}

#[test]
fn a_stream_of_unknown_length_goes_up_in_chunks() {
    let Some(registry) = Registry::plain() else { return };
    let repository = client().repository(&registry.reference("stream"));
    for size in [0, 10, 8 << 20, (20 << 20) + 1] {
        let bytes = noise(size, 7);
        let (digest, sent) =
            repository.push_stream(&mut bytes.as_slice(), Algorithm::Sha256).unwrap();
        assert_eq!((digest, sent), (Digest::of(&bytes), size as u64));
        let blob = blob_of(&bytes);
        assert!(repository.has_blob(&blob).unwrap());
        assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);
    }
    let bytes = noise(9 << 20, 8);
    repository.put(&blob_of(&bytes), &mut bytes.as_slice()).unwrap();
    let wrong = repository.put(&blob_of(b"other"), &mut &b"bytes"[..]).unwrap_err();
    assert_eq!(conex_remote::Error::from(wrong).kind(), ErrorKind::Mismatch);
}

#[test]
fn what_is_deleted_is_gone() {
    let Some(registry) = Registry::plain() else { return };
    let client = client();
    let image = MemoryImage::with_layers(&[10], 3);
    let repository = client.repository(&registry.reference("gone:1"));
    let copied = copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    assert_eq!(repository.delete_tag("1").unwrap_err().kind(), ErrorKind::Unsupported);
    repository.delete_manifest(&copied.root.digest).unwrap();
    assert_eq!(repository.resolve().unwrap_err().kind(), ErrorKind::NotFound);
    let layer = blob_of(&noise(10, 4));
    repository.delete_blob(&layer.digest).unwrap();
    assert!(!repository.has_blob(&layer).unwrap());
}

#[test]
fn referrers_are_kept_under_the_fallback_tag() {
    let Some(registry) = Registry::plain() else { return };
    let repository = client().repository(&registry.reference("signed:1"));
    let image = MemoryImage::with_layers(&[10], 5);
    let copied = copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    let empty = Descriptor::of(MediaType::Empty, b"{}");
    repository.push_blob(&empty, None, &|_| Ok(Box::new(&b"{}"[..]))).unwrap();
    for kind in ["example/sig", "example/sbom"] {
        let mut manifest = Manifest::new(empty.clone(), vec![empty.clone()]);
        manifest.artifact_type = Some(kind.into());
        manifest.subject = Some(copied.root.clone());
        let bytes = manifest.to_bytes();
        repository.put_manifest(&MediaType::OciManifest, &bytes, &[]).unwrap();
        repository.put_manifest(&MediaType::OciManifest, &bytes, &[]).unwrap();
    }
    let all = repository.referrers(&copied.root.digest, None).unwrap();
    assert_eq!(all.len(), 2);
    let one = repository.referrers(&copied.root.digest, Some("example/sbom")).unwrap();
    assert_eq!(one[0].artifact_type.as_deref(), Some("example/sbom"));
    assert!(repository.referrers(&Digest::of(b"nobody"), None).unwrap().is_empty());

    // They go along when asked for.
    let target = MemoryImage::default();
    let mut with = copy_options("1");
    with.referrers = conex_remote::Referrers::Take;
    let taken = copy(&repository, &target, &with, &Discard).unwrap();
    assert_eq!(taken.manifests, 3);
}

#[test]
fn passwords_are_asked_for_and_checked() {
    // `conex` / `secret`, by bcrypt.
    const LINE: &str = "conex:$2b$04$7wNBC8K3s31jyNmKTNLgb.2O31o5NRg9n9FxVSpH3f6AqdctY6vVS\n";
    let started = Registry::start(|folder| {
        let path = folder.join("htpasswd");
        std::fs::write(&path, LINE).unwrap();
        format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display())
    });
    let Some(registry) = started else { return };
    let with = |password: &str| {
        let credential = Credential::password("conex", password);
        let fixed = FixedCredential { registry: Some(registry.host()), credential };
        Client::new(ClientOptions { credentials: vec![std::sync::Arc::new(fixed)], ..options() })
    };
    let image = MemoryImage::with_layers(&[6 << 20], 9);
    for (client, wanted) in [(client(), false), (with("wrong"), false), (with("secret"), true)] {
        let repository = client.repository(&registry.reference("private:1"));
        let copied = copy(&image, &repository, &copy_options("1"), &Discard);
        match copied {
            Ok(_) => assert!(wanted),
            Err(error) => {
                assert!(!wanted, "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
                let hint = format!("log in with `conex login {}`", registry.host());
                assert_eq!(error.hint(), Some(hint.as_str()));
                assert!(!format!("{error:?}").contains("secret"));
            }
        }
    }
    let check = |password| {
        client().check_credential(&registry.host(), &Credential::password("conex", password))
    };
    check("secret").unwrap();
    assert_eq!(check("wrong").unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(with("secret").ping(&registry.host()).map_err(|e| e.kind()), Ok(()));
    let pushed = with("secret").repository(&registry.reference("other:1")).push_blob(
        &blob_of(&noise(6 << 20, 10)),
        Some("private"),
        &|_| unreachable!("it is mounted"),
    );
    assert_eq!(pushed.unwrap(), Pushed::Mounted);
}
