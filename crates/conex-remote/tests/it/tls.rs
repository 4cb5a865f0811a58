//! TLS: own authorities, client certificates, and what happens when they are missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_remote::{Client, ClientOptions, ErrorKind, Roots, Verify, copy};
use conex_report::Discard;

use crate::docker_registry::Registry;
use crate::support::{MemoryImage, copy_options, options};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name)
}

fn started(with_clients: bool) -> Option<Registry> {
    Registry::start(|_| {
        let (certificate, key) = (fixture("server.crt"), fixture("server.key"));
        let mut text = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        );
        if with_clients {
            text.push_str(&format!("    clientcas:\n      - {}\n", fixture("ca.crt").display()));
        }
        text
    })
}

/// A `certs.d` for a host.
fn certs_dir(host: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(host);
    std::fs::create_dir(&own).unwrap();
    for (from, to) in files {
        std::fs::copy(fixture(from), own.join(to)).unwrap();
    }
    folder
}

fn trusting(folder: &tempfile::TempDir) -> Client {
    let certs_dirs = vec![folder.path().to_owned()];
    Client::new(ClientOptions { certs_dirs, ..options() })
}

#[test]
fn an_unknown_authority_is_refused_until_it_is_known() {
    let Some(registry) = started(false) else { return };
    let image = MemoryImage::with_layers(&[100, 5 << 20], 1);
    let pushed = |client: &Client| {
        let repository = client.repository(&registry.reference("a:1"));
        copy(&image, &repository, &copy_options("1"), &Discard).map(|copied| copied.manifests)
    };
    let error = pushed(&Client::new(options())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    let place = format!("certs.d/{}/ca.crt", registry.host());
    assert!(error.hint().unwrap().contains(&place), "{:?}", error.hint());

    let folder = certs_dir(&registry.host(), &[("ca.crt", "ca.crt")]);
    assert_eq!(pushed(&trusting(&folder)).unwrap(), 1);
    let blind = Client::new(ClientOptions { verify: Verify::Skip, ..options() });
    assert_eq!(pushed(&blind).unwrap(), 1);
    let pem = Arc::new(std::fs::read(fixture("ca.crt")).unwrap());
    let by_system = Client::new(ClientOptions { roots: Roots::Pem(pem), ..options() });
    assert_eq!(pushed(&by_system).unwrap(), 1);
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    let Some(registry) = started(true) else { return };
    let pinged = |files: &[(&str, &str)]| {
        let folder = certs_dir(&registry.host(), files);
        trusting(&folder).ping(&registry.host())
    };
    let all = [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")];
    pinged(&all).unwrap();
    pinged(&all[..1]).unwrap_err();
    let error = pinged(&all[..2]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("has no key beside it"), "{error:?}");
    let other = [("ca.crt", "ca.crt"), ("client.crt", "c.cert"), ("server.key", "c.key")];
    let error = pinged(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}

#[test]
fn hosts_toml_brings_its_own_certificates() {
    let Some(registry) = started(true) else { return };
    let folder = certs_dir("mirrored.example", &[]);
    let own = folder.path().join("mirrored.example");
    let text = format!(
        "server = \"https://{}\"\nca = \"{}\"\nclient = [[\"{}\", \"{}\"]]\n",
        registry.host(),
        fixture("ca.crt").display(),
        fixture("client.crt").display(),
        fixture("client.key").display()
    );
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    let hosts_dirs = vec![folder.path().to_owned()];
    let client = Client::new(ClientOptions { hosts_dirs, ..options() });
    client.ping("mirrored.example").unwrap();
}
