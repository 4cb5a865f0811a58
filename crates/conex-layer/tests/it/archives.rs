//! Image archives, ours and others'.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::sync::Mutex;

use conex_layer::{
    ArchiveForm, ArchivedImage, Encoder, EncoderOptions, EntryHeader, ErrorKind, ExportedImage,
    Hashing, Layout, TarWriter, read_archive, write_archive,
};
use conex_oci::{
    BlobSink, BlobSource, Compression, Descriptor, DiffId, Digest, ImageConfig, Index, Manifest,
    MediaType, Platform, VerifyReader,
};
use conex_sys::root::{Links, RootDir};

use crate::support::*;

/// Blobs in memory.
#[derive(Default)]
struct Blobs(Mutex<BTreeMap<Digest, Vec<u8>>>);

impl BlobSink for Blobs {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().contains_key(&blob.digest))
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        VerifyReader::new(body, blob).read_to_end(&mut bytes)?;
        self.0.lock().unwrap().insert(blob.digest.clone(), bytes);
        Ok(())
    }
}

impl BlobSource for Blobs {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        match self.0.lock().unwrap().get(&blob.digest) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Puts an image of these layer tars into a sink; gives its manifest.
pub(crate) fn put_image(sink: &dyn BlobSink, layers: &[Vec<u8>]) -> Descriptor {
    let mut config = ImageConfig::scratch("linux/amd64".parse::<Platform>().unwrap());
    let mut descriptors = Vec::new();
    for tar in layers {
        config.rootfs.diff_ids.push(DiffId(Digest::of(tar)));
        let layer = Descriptor::of(MediaType::OciLayer(Compression::None), tar);
        sink.put(&layer, &mut tar.as_slice()).unwrap();
        descriptors.push(layer);
    }
    let config_bytes = config.to_bytes();
    let config = config.descriptor();
    sink.put(&config, &mut config_bytes.as_slice()).unwrap();
    let manifest = Manifest::new(config, descriptors).to_bytes();
    let root = Descriptor::of(MediaType::OciManifest, &manifest);
    sink.put(&root, &mut manifest.as_slice()).unwrap();
    root
}

/// A layer's tar with one file.
fn layer(name: &str) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    tar.append(&EntryHeader::file(name, 3), b"abc").unwrap();
    tar.finish().unwrap()
}

fn read(bytes: &[u8]) -> conex_layer::Result<(Vec<ArchivedImage>, Blobs)> {
    let blobs = Blobs::default();
    let mut input = bytes;
    let images = read_archive(&mut input, &blobs, &mut tempfile::tempfile)?;
    Ok((images, blobs))
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let hash = Hashing::None;
    let options = EncoderOptions { compression, level: None, thread_count: 1, hash };
    let mut encoder = Encoder::new(Vec::new(), &options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().0
}

fn written(images: &[ExportedImage], blobs: &Blobs, form: ArchiveForm) -> Vec<u8> {
    let mut tar = Vec::new();
    write_archive(images, blobs, form, &mut tar).unwrap();
    tar
}

#[test]
fn what_is_written_is_read_in_both_forms_however_it_is_compressed() {
    let blobs = Blobs::default();
    let one = put_image(&blobs, &[layer("a"), layer("b")]);
    let two = put_image(&blobs, &[layer("a"), layer("c")]);
    let names = ["alpine:3", "ghcr.io/acme/api:1", "acme/x"].map(|name| name.parse().unwrap());
    let images = [
        ExportedImage { names: names[..2].to_vec(), root: one.clone() },
        ExportedImage { names: names[2..].to_vec(), root: two.clone() },
    ];
    for (form, known_as) in [
        (ArchiveForm::Docker, [vec!["alpine:3", "ghcr.io/acme/api:1"], vec!["acme/x:latest"]]),
        (
            ArchiveForm::Oci,
            [
                vec!["docker.io/library/alpine:3", "ghcr.io/acme/api:1"],
                vec!["docker.io/acme/x:latest"],
            ],
        ),
    ] {
        let tar = written(&images, &blobs, form);
        assert!(tar == written(&images, &blobs, form));
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (read, sink) = read(&compressed(&tar, compression)).unwrap();
            assert_eq!([&read[0].root, &read[1].root], [&one, &two]);
            assert_eq!([&read[0].names, &read[1].names].map(Clone::clone), known_as);
            assert!(*sink.0.lock().unwrap() == *blobs.0.lock().unwrap());
        }
    }
}

/// What `docker save` wrote for ten years: layers by an ID that is no digest, some of them links.
fn old_docker_archive(manifest_first: bool, diff_id: &Digest) -> Vec<u8> {
    let tar_a = layer("a");
    let mut config = ImageConfig::scratch("linux/amd64".parse::<Platform>().unwrap());
    config.rootfs.diff_ids = vec![DiffId(diff_id.clone()), DiffId(Digest::of(&tar_a))];
    let config = config.to_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = format!(
        r#"[{{"Config":"{name}","RepoTags":["old:1"],"Layers":["aaa/layer.tar","bbb/layer.tar"]}}]"#
    );
    let mut tar = TarWriter::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        tar.append(&EntryHeader::file(path, bytes.len() as u64), bytes).unwrap();
    };
    if manifest_first {
        add("manifest.json", manifest.as_bytes());
    }
    add("aaa/VERSION", b"1.0");
    add("aaa/layer.tar", &tar_a);
    add(&name, &config);
    if !manifest_first {
        add("./manifest.json", manifest.as_bytes());
    }
    add("repositories", b"{}");
    let link = b"../aaa/layer.tar".to_vec();
    tar.start(&EntryHeader { kind: b'2', link, ..EntryHeader::file("bbb/layer.tar", 0) }).unwrap();
    tar.finish().unwrap()
}

#[test]
fn old_docker_archives_get_a_manifest_and_their_layers_are_checked() {
    let diff_id = Digest::of(&layer("a"));
    let mut roots = Vec::new();
    for manifest_first in [true, false] {
        let (images, blobs) = read(&old_docker_archive(manifest_first, &diff_id)).unwrap();
        assert_eq!(images[0].names, ["old:1"]);
        let manifest = Manifest::parse(&images[0].document).unwrap();
        assert_eq!(manifest.layers.len(), 2);
        for blob in manifest.layers.iter().chain([&manifest.config, &images[0].root]) {
            assert!(blobs.has(blob).unwrap());
        }
        roots.push(images[0].root.clone());
    }
    assert_eq!(roots[0], roots[1]);
    let wrong = read(&old_docker_archive(true, &Digest::of(b"other")));
    assert_eq!(wrong.err().unwrap().kind(), ErrorKind::DigestMismatch);
}

fn tar_of_files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, bytes) in files {
        tar.append(&EntryHeader::file(*path, bytes.len() as u64), bytes).unwrap();
    }
    tar.finish().unwrap()
}

#[test]
fn archives_that_lie_are_refused() {
    let digest = Digest::of(b"x");
    let wrong_blob = format!("blobs/sha256/{}", digest.hex());
    let missing = Index::new(vec![Descriptor::new(MediaType::OciManifest, digest, 1)]).to_bytes();
    let huge = vec![b' '; 9 << 20];
    let docker = br#"[{"Config":"../../etc/passwd","Layers":[]}]"#;
    let no_config = br#"[{"Config":"c.json","Layers":[]}]"#;
    for (files, kind, text) in [
        (vec![], ErrorKind::Malformed, "no image"),
        (vec![("x", &b"1"[..])], ErrorKind::Malformed, "no image"),
        (vec![(wrong_blob.as_str(), &b"not x"[..])], ErrorKind::DigestMismatch, "cannot take"),
        (vec![(wrong_blob.as_str(), &b"{not x"[..])], ErrorKind::DigestMismatch, "cannot take"),
        (vec![("index.json", &missing)], ErrorKind::Malformed, "not there"),
        (vec![("index.json", b"[]")], ErrorKind::Malformed, "index.json"),
        (vec![("index.json", &huge)], ErrorKind::Limit, "8 MiB"),
        (vec![("manifest.json", b"{}")], ErrorKind::Malformed, "manifest.json"),
        (vec![("manifest.json", docker)], ErrorKind::Malformed, "leads out"),
        (vec![("manifest.json", no_config)], ErrorKind::Malformed, "does not hold"),
        (vec![("../evil", b"1")], ErrorKind::Malformed, "leads out"),
        (vec![("/etc/evil", b"1")], ErrorKind::Malformed, "leads out"),
    ] {
        let error = read(&tar_of_files(&files)).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error} has no {text}");
    }
    for (kind, link) in [(b'2', "/etc/passwd"), (b'2', "../../x"), (b'1', "../x"), (b'3', "")] {
        let mut tar = TarWriter::new(Vec::new());
        let link = link.as_bytes().to_vec();
        let header = EntryHeader { kind, link, device: (1, 3), ..EntryHeader::file("a/b", 0) };
        tar.start(&header).unwrap();
        assert_eq!(read(&tar.finish().unwrap()).err().unwrap().kind(), ErrorKind::Malformed);
    }
    let blobs = Blobs::default();
    let root = put_image(&blobs, &[layer("a")]);
    let whole = written(&[ExportedImage { names: vec![], root }], &blobs, ArchiveForm::Docker);
    for len in [600, 3000, whole.len() / 2, whole.len() - 1600] {
        assert!(read(&whole[..len]).is_err(), "cut at {len}");
    }
    assert!(read(b"no tar at all").is_err());
}

#[test]
fn an_image_without_one_of_its_layers_is_not_given() {
    let blobs = Blobs::default();
    let root = put_image(&blobs, &[layer("a"), layer("b")]);
    blobs.0.lock().unwrap().remove(&Digest::of(&layer("b")));
    let mut out = Vec::new();
    let images = [ExportedImage { names: vec![], root }];
    let error = write_archive(&images, &blobs, ArchiveForm::Oci, &mut out).unwrap_err();
    assert!(error.to_string().contains("cannot write the blob"), "{error}");
}

#[test]
fn an_index_of_platforms_keeps_those_that_are_there() {
    let blobs = Blobs::default();
    let here = put_image(&blobs, &[layer("a")]);
    let elsewhere = Descriptor::new(MediaType::OciManifest, Digest::of(b"arm"), 3);
    let index = Index::new(vec![elsewhere, here]).to_bytes();
    let root = Descriptor::of(MediaType::OciIndex, &index);
    blobs.put(&root, &mut index.as_slice()).unwrap();
    let names = vec!["x:1".parse().unwrap()];
    let images = [ExportedImage { names, root: root.clone() }];
    for form in [ArchiveForm::Oci, ArchiveForm::Docker] {
        let (read, _) = read(&written(&images, &blobs, form)).unwrap();
        assert_eq!(read[0].root, root);
    }
}

fn layout(scratch: &Scratch, name: &str) -> RootDir {
    RootDir::from_dir(scratch.dir(name), Links::Refuse)
}

#[test]
fn a_layout_folder_keeps_images_and_names() {
    let scratch = Scratch::new();
    let root = layout(&scratch, "layout");
    assert_eq!(Layout::open(&root).err().unwrap().kind(), ErrorKind::Malformed);
    let made = Layout::create(&root).unwrap();
    let one = put_image(&made, &[layer("a")]);
    let two = put_image(&made, &[layer("b")]);
    made.add_image(&one, &["x:1".to_owned(), "x:2".to_owned()]).unwrap();
    made.add_image(&two, &["x:2".to_owned()]).unwrap();
    made.add_image(&two, &[]).unwrap();
    let again = Layout::create(&root).unwrap();
    let images = again.images().unwrap();
    assert_eq!([&images[0].root, &images[1].root], [&one, &two]);
    assert_eq!(
        [&images[0].names, &images[1].names],
        [&vec!["x:1".to_owned()], &vec!["x:2".to_owned()]]
    );
    let wrong = Descriptor::new(MediaType::Empty, Digest::of(b"wanted"), 3);
    assert!(made.put(&wrong, &mut &b"got"[..]).is_err());
    assert!(!made.has(&wrong).unwrap());
    let blobs = scratch.path("layout/blobs/sha256");
    let whole = std::fs::read_dir(&blobs)
        .unwrap()
        .all(|entry| entry.unwrap().file_name().to_str().unwrap().len() == 64);
    assert!(whole, "a temporary file was left");
    std::fs::remove_file(blobs.join(Digest::of(&layer("b")).hex())).unwrap();
    assert!(again.images().unwrap_err().to_string().contains("not there"));
}

#[test]
fn skopeo_reads_our_archives_and_we_read_skopeos() {
    let scratch = Scratch::new();
    let blobs = Blobs::default();
    let root = put_image(&blobs, &[layer("a"), layer("b")]);
    let manifest = Manifest::parse(&blobs.0.lock().unwrap()[&root.digest]).unwrap();
    let images = [ExportedImage { names: vec!["acme/x:1".parse().unwrap()], root }];
    let path = |name: &str| scratch.path(name).display().to_string();
    for (form, from) in [
        (ArchiveForm::Docker, format!("docker-archive:{}:acme/x:1", path("ours.tar"))),
        (ArchiveForm::Oci, format!("oci-archive:{}:1", path("ours.tar"))),
    ] {
        std::fs::write(scratch.path("ours.tar"), written(&images, &blobs, form)).unwrap();
        for (number, to) in ["docker-archive", "oci-archive"].into_iter().enumerate() {
            let file = format!("theirs{number}{form:?}.tar");
            let to = format!("{to}:{}:acme/x:1", path(&file));
            let args = ["--insecure-policy", "copy", "--quiet", &from, &to].map(OsStr::new);
            let Some(output) = run("skopeo", &args) else { return };
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{from} {to}: {errors}");
            let (read, theirs) = read(&std::fs::read(scratch.path(&file)).unwrap()).unwrap();
            assert!(read[0].names[0].ends_with("x:1"), "{:?}", read[0].names);
            let read = Manifest::parse(&read[0].document).unwrap();
            assert_eq!(read.config.digest, manifest.config.digest);
            for (theirs_layer, ours) in read.layers.iter().zip(&manifest.layers) {
                let mut bytes = Vec::new();
                let mut body = theirs.open(theirs_layer).unwrap();
                let mut decoder = conex_layer::Decoder::new(&mut *body).unwrap();
                decoder.read_to_end(&mut bytes).unwrap();
                assert_eq!(Digest::of(&bytes), ours.digest);
            }
        }
    }
}
