//! Image archives, ours and others'.

use conex_layer::Layout;
use conex_oci::{
    BlobSink, Compression, Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Platform,
};

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

#[allow(dead_code)]
fn unused(_: Layout) {}
