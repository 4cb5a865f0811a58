//! How the other side proves who it is, and how this side does.

use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result};

/// Whether certificates are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verify {
    /// As everywhere.
    Strict,
    /// Not at all (`--tls-verify=false`, `insecure = true`).
    Skip,
}

/// What is special about TLS to one host: its own authorities, and who this side is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TlsSetup {
    pub(crate) verify: Verify,
    /// PEM of authorities trusted besides the usual ones.
    pub(crate) authorities: Vec<Vec<u8>>,
    /// PEM of the client's certificate chain and of its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsSetup {
    pub(crate) fn plain(verify: Verify) -> Self {
        Self { verify, authorities: Vec::new(), client: None }
    }
}

/// The authorities that everybody is checked against.
#[derive(Clone, Default)]
pub enum Roots {
    /// Mozilla's, as compiled into the program.
    #[default]
    Bundled,
    /// The system's bundle, in PEM (`/etc/ssl/certs/ca-certificates.crt`).
    Pem(Arc<Vec<u8>>),
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bundled => "Bundled",
            Self::Pem(_) => "Pem(…)",
        })
    }
}

/// Builds the HTTP library's TLS settings.
pub(crate) fn config(setup: &TlsSetup, roots: &Roots) -> Result<TlsConfig> {
    let mut builder = TlsConfig::builder();
    if setup.verify == Verify::Skip {
        builder = builder.disable_verification(true);
    }
    let mut trusted = Vec::new();
    if let Roots::Pem(pem) = roots {
        trusted.extend(certificates(pem, "the system's certificate bundle")?);
    }
    for pem in &setup.authorities {
        trusted.extend(certificates(pem, "a registry's own certificate authority")?);
    }
    // Without a system bundle, a host with its own authority is checked against that one alone:
    // the compiled-in roots cannot be mixed with others, and being stricter is safe.
    if !trusted.is_empty() {
        builder = builder.root_certs(RootCerts::Specific(Arc::new(trusted)));
    }
    if let Some((chain, key)) = &setup.client {
        let chain = certificates(chain, "the client certificate")?;
        if chain.is_empty() {
            return Err(Error::config("the client certificate file holds no certificate"));
        }
        check_client(&chain, key)?;
        let key = PrivateKey::from_pem(key).map_err(|source| {
            Error::config("cannot read the client certificate's key").with_source(source)
        })?;
        builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(builder.build())
}

/// The HTTP library panics over a key that it cannot use, so that is found out here.
fn check_client(chain: &[Certificate<'static>], key: &[u8]) -> Result<()> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

    let misfit = |source: Box<dyn std::error::Error + Send + Sync>| {
        Error::config("the client certificate and its key do not fit").with_source(source)
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| misfit(source.into()))?;
    let chain = chain.iter().map(|certificate| certificate.der().to_vec().into()).collect();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let roots = rustls::RootCertStore::empty();
            builder.with_root_certificates(roots).with_client_auth_cert(chain, key)
        })
        .map(drop)
        .map_err(|source| misfit(source.into()))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(source) => {
                return Err(Error::config(format!("cannot read {what}")).with_source(source));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_key_is_an_error_and_no_panic() {
        let client = Some((b"nothing here".to_vec(), b"nor here".to_vec()));
        let setup = TlsSetup { client, ..TlsSetup::plain(Verify::Strict) };
        let error = config(&setup, &Roots::Bundled).unwrap_err();
        assert!(error.to_string().contains("holds no certificate"), "{error}");
    }
}
