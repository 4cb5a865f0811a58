//! The registry client: who we are to a registry ([`Credential`], [`CredentialSource`]), what is in
//! it ([`Client`], [`Repository`]), and images from anywhere to anywhere ([`copy`]).
//!
//! A blocking API; threads are started where a transfer gains by them, and joined before it ends.
//!
//! Invariant: every byte that is handed out was verified, or comes through a reader that verifies;
//! everything that comes from the other side is held to the limits in `limits`; a secret is never
//! shown, logged, or sent to anybody but the one it is for.
//!
//! Knows neither the local store nor the terminal, and looks at no environment: files, folders,
//! proxies, the clock and the resolver come in [`ClientOptions`].

#![forbid(unsafe_code)]

mod error;
mod limits;

mod client;
mod copy;
mod fetch;
mod partial;

mod auth;
mod config;
mod http;
mod options;

mod clock;
mod secret;

#[cfg(test)]
mod testing;

pub use auth::acr::{AZURE_LOGIN_SERVER, AZURE_METADATA_SERVER, Azure, AzureIdentity};
pub use auth::aws::{AWS_CONTAINER_SERVER, AWS_METADATA_SERVER, AwsIdentity, AwsKeys, AwsProfile};
pub use auth::challenge::{Challenge, parse_challenges};
pub use auth::docker::AuthFile;
pub use auth::ecr::Ecr;
pub use auth::gcr::{GOOGLE_METADATA_SERVER, Google};
pub use auth::helper::{HelperOutput, HelperRunner, ProcessHelpers};
pub use auth::login::{Kept, login, logout};
pub use auth::{
    Credential, CredentialSource, FixedCredential, Web, WebMethod, WebPlace, WebRequest,
    WebResponse,
};
pub use client::growing::{GrowingBlob, Grown};
pub use client::history::RemoteTagMove;
pub use client::manifests::ManifestBytes;
pub use client::upload::{OpenAt, Pushed};
pub use client::{Client, Repository};
pub use clock::{Clock, SystemClock};
pub use config::registries::{Place, RegistriesConf};
pub use copy::{
    Copied, CopyOptions, ImageFormat, ImageSink, ImageSource, Origin, Referrers, Survey, copy,
    copy_surveyed,
};
pub use error::{Error, ErrorKind, Result};
pub use fetch::{FetchHead, FetchOptions, Fetched};
pub use http::Timeouts;
pub use http::headers::{
    RateLimit, content_range, link_next, rate_limit, retry_after, upload_range,
};
pub use http::network::{Network, SystemNetwork, is_private_address};
pub use http::proxy::ProxyOptions;
pub use http::tls::{Roots, Verify};
pub use http::url::{Scheme, Url};
pub use options::{ClientOptions, Retry, Transfers};
pub use partial::{MemoryPartials, Partial, PartialStore, Verdict};
pub use secret::Secret;
