//! Certificates: read from files, or made once for those who have none.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::blobs::random;
use crate::error::{Error, Result};
use crate::options::Tls;
use crate::time::{Clock, Moment};

/// How long a certificate that is made here is good for.
const VALID_FOR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What connections are encrypted with.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, as people compare it.
    pub(crate) fingerprint: String,
    /// Where the certificate is.
    pub(crate) cert: PathBuf,
}

impl Identity {
    /// Reads the certificate, or makes one where there is none.
    pub(crate) fn of(tls: &Tls, clock: &Clock) -> Result<Self> {
        let (cert, key) = match tls {
            Tls::Files { cert, key } => (cert.clone(), key.clone()),
            Tls::SelfSigned { folder, names } => {
                let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
                if !cert.exists() || !key.exists() {
                    make(folder, &cert, &key, names, clock())?;
                }
                (cert, key)
            }
        };
        let wrong = |path: &Path, error: rustls::pki_types::pem::Error| {
            Error::tls(format!("`{}` holds no certificate or key in PEM", path.display()), error)
        };
        let chain = CertificateDer::pem_file_iter(&cert)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| wrong(&cert, error))?;
        let first = chain.first().ok_or_else(|| {
            Error::invalid(format!("`{}` holds no certificate in PEM", cert.display()))
        })?;
        let fingerprint = fingerprint(first);
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(chain.clone(), secret)
            })
            .map_err(|error| {
                let message = format!("the certificate `{}` cannot be used", cert.display());
                Error::tls(message, error)
            })?;
        Ok(Self { config: Arc::new(config), fingerprint, cert })
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn make(folder: &Path, cert: &Path, key: &Path, names: &[String], now: Moment) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
    let failed = |what: &str| Error::invalid(format!("cannot make {what}"));
    let rng = SystemRandom::new();
    let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let secret = EcdsaKeyPair::generate_pkcs8(kind, &rng).map_err(|_| failed("a key"))?;
    let pair =
        EcdsaKeyPair::from_pkcs8(kind, secret.as_ref(), &rng).map_err(|_| failed("a key"))?;
    let body = der::to_be_signed(pair.public_key().as_ref(), names, random::<16>()?, now);
    let signature = pair.sign(&rng, &body).map_err(|_| failed("a signature"))?;
    let certificate = der::certificate(&body, signature.as_ref());
    // The key first: a certificate says that both are there.
    write(key, "PRIVATE KEY", secret.as_ref(), 0o600)?;
    write(cert, "CERTIFICATE", &certificate, 0o644)
}

fn write(path: &Path, label: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| Error::io("write", path, source))
}

/// As much of X.509 (RFC 5280) as a certificate that signs itself needs.
mod der {
    use super::{Duration, IpAddr, Moment, VALID_FOR};

    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OCTET_STRING: u8 = 0x04;
    const UTF8_STRING: u8 = 0x0c;
    const UTC_TIME: u8 = 0x17;
    const BOOLEAN: u8 = 0x01;

    /// ecdsa-with-SHA256 (RFC 5758).
    const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    /// id-ecPublicKey and secp256r1 (RFC 5480).
    const EC_P256: &[u8] = &[
        0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
    ];
    const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 4, 3];
    const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 17];
    const KEY_USAGE: &[u8] = &[0x06, 3, 0x55, 0x1d, 15];
    const EXTENDED_KEY_USAGE: &[u8] = &[0x06, 3, 0x55, 0x1d, 37];
    /// id-kp-serverAuth.
    const SERVER_AUTH: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match content.len() {
            short @ 0..=127 => out.push(short as u8),
            long => {
                let bytes = long.to_be_bytes();
                let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
                out.push(0x80 | digits.len() as u8);
                out.extend(digits);
            }
        }
        out.extend(content);
        out
    }

    fn name(text: &str) -> Vec<u8> {
        let value = element(UTF8_STRING, &[text.as_bytes()]);
        let pair = element(SEQUENCE, &[COMMON_NAME, &value]);
        element(SEQUENCE, &[&element(SET, &[&pair])])
    }

    /// `YYMMDDHHMMSSZ`, good until 2049.
    fn time(moment: Moment) -> Vec<u8> {
        let text: String =
            moment.rfc3339().chars().filter(char::is_ascii_digit).skip(2).take(12).collect();
        element(UTC_TIME, &[text.as_bytes(), b"Z"])
    }

    fn extension(id: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
        let critical = element(BOOLEAN, &[&[0xff]]);
        let critical = if is_critical { critical.as_slice() } else { &[] };
        element(SEQUENCE, &[id, critical, &element(OCTET_STRING, &[value])])
    }

    fn alternative_names(names: &[String]) -> Vec<u8> {
        let one = |name: &String| match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => element(0x87, &[&address.octets()]),
            Ok(IpAddr::V6(address)) => element(0x87, &[&address.octets()]),
            Err(_) => element(0x82, &[name.as_bytes()]),
        };
        let names: Vec<Vec<u8>> = names.iter().map(one).collect();
        element(SEQUENCE, &[&names.concat()])
    }

    /// What the signature is over.
    pub(super) fn to_be_signed(
        public_key: &[u8],
        names: &[String],
        mut serial: [u8; 16],
        now: Moment,
    ) -> Vec<u8> {
        // Positive, and written in as few bytes as it needs.
        serial[0] = serial[0] & 0x7f | 0x40;
        let algorithm = element(SEQUENCE, &[ECDSA_SHA256]);
        let who = name("conex registry");
        let validity = element(
            SEQUENCE,
            &[&time(now.before(Duration::from_secs(86_400))), &time(now.after(VALID_FOR))],
        );
        let key = element(
            SEQUENCE,
            &[&element(SEQUENCE, &[EC_P256]), &element(BIT_STRING, &[&[0], public_key])],
        );
        let extensions = element(
            SEQUENCE,
            &[
                &extension(SUBJECT_ALT_NAME, false, &alternative_names(names)),
                // digitalSignature
                &extension(KEY_USAGE, true, &element(BIT_STRING, &[&[7, 0x80]])),
                &extension(EXTENDED_KEY_USAGE, false, &element(SEQUENCE, &[SERVER_AUTH])),
            ],
        );
        element(
            SEQUENCE,
            &[
                &element(0xa0, &[&element(INTEGER, &[&[2]])]),
                &element(INTEGER, &[&serial]),
                &algorithm,
                &who,
                &validity,
                &who,
                &key,
                &element(0xa3, &[&extensions]),
            ],
        )
    }

    /// A whole certificate.
    pub(super) fn certificate(body: &[u8], signature: &[u8]) -> Vec<u8> {
        let algorithm = element(SEQUENCE, &[ECDSA_SHA256]);
        element(SEQUENCE, &[body, &algorithm, &element(BIT_STRING, &[&[0], signature])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_a_client_trusts_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let tls = Tls::SelfSigned { folder: folder.path().join("tls"), names };
        let clock: Clock = Arc::new(|| Moment(1_795_269_600_000));
        let identity = Identity::of(&tls, &clock).unwrap();
        assert_eq!(Identity::of(&tls, &clock).unwrap().fingerprint, identity.fingerprint);
        assert_eq!(identity.fingerprint.len(), 95);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&identity.cert).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
        let certificate = CertificateDer::from_pem_file(&identity.cert).unwrap();
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_795_269_600));
        for (name, is_good) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("other", false)]
        {
            use rustls::client::danger::ServerCertVerifier as _;
            let host = name.try_into().unwrap();
            let result = verifier.verify_server_cert(&certificate, &[], &host, &[], now);
            assert_eq!(result.is_ok(), is_good, "{name}: {result:?}");
        }
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(folder.path().join("tls/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
