//! Images that are elsewhere, served to be fetched: what a registry with its own data does, as far
//! as it only reads.

use std::fs::File;
use std::sync::Arc;

use conex_oci::Digest;
use http::{Method, StatusCode};
use serde_json::json;

use crate::answer::{Answer, Code, Refusal, document};
use crate::blob::{described, is_known, not_modified, send};
use crate::body::Pool;
use crate::core::Call;
use crate::manifest::{OCI_INDEX, Page, no_repository, only_get, shown, unknown};
use crate::name::Name;
use crate::route::{Reference, Route};

/// A failure of whoever has the images.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A manifest that is served.
#[derive(Debug, Clone)]
pub struct ServedManifest {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Images that are elsewhere. The methods may wait for a disk.
pub trait ReadOnlyImages: Send + Sync {
    /// All repositories, sorted by their bytes.
    ///
    /// # Errors
    /// They cannot be read.
    fn repositories(&self) -> Result<Vec<String>, Failure>;

    /// All tags of a repository, sorted by their bytes; none if there is no such repository.
    ///
    /// # Errors
    /// They cannot be read.
    fn tags(&self, of: &Name) -> Result<Vec<String>, Failure>;

    /// A manifest.
    ///
    /// # Errors
    /// It cannot be read or made.
    fn manifest(&self, of: &Name, reference: &Reference)
    -> Result<Option<ServedManifest>, Failure>;

    /// A blob of one of the repository's images. Its bytes have the digest, and do not change.
    ///
    /// # Errors
    /// It cannot be read or made.
    fn blob(&self, of: &Name, digest: &Digest) -> Result<Option<File>, Failure>;
}

/// Answers a request about images that are elsewhere.
pub(crate) async fn answer(
    images: &Arc<dyn ReadOnlyImages>,
    pool: &Pool,
    call: Call,
    route: Route,
) -> Answer {
    if call.method != Method::GET && call.method != Method::HEAD {
        return Err(Refusal::unsupported(
            "this registry only shows a store: nothing is pushed here",
        )
        .with(http::header::ALLOW, "GET, HEAD"));
    }
    only_get(&call)?;
    match route {
        Route::Catalog => {
            let page = Page::of(&call, 1_000)?;
            let all = ask(images, |images| images.repositories()).await?;
            Ok(page.answer(
                "/v2/_catalog",
                behind(all, &page),
                |names| json!({ "repositories": names }),
            ))
        }
        Route::Tags(of) => {
            let page = Page::of(&call, 10_000)?;
            let name = of.clone();
            let all = ask(images, move |images| images.tags(&name)).await?;
            if all.is_empty() {
                return Err(no_repository(&of));
            }
            Ok(page.answer(
                &format!("/v2/{of}/tags/list"),
                behind(all, &page),
                |tags| json!({ "name": of.as_str(), "tags": tags }),
            ))
        }
        Route::Manifest(of, reference) => {
            let wanted = reference.clone();
            let found = ask(images, move |images| images.manifest(&of, &wanted)).await?;
            let found = found.ok_or_else(|| unknown(&reference))?;
            let digest = match reference {
                Reference::Digest(digest) => digest,
                Reference::Tag(_) => Digest::of(&found.bytes),
            };
            Ok(shown(&call, &digest, &found.media_type, found.bytes.into()))
        }
        Route::Blob(of, digest) => blob(images, pool, &call, of, digest).await,
        Route::Referrers(..) => {
            let text = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
            Ok(document(StatusCode::OK, OCI_INDEX, text.to_string().into()))
        }
        _ => {
            Err(Refusal::missing(Code::Unsupported, "a store that is only shown has no such place"))
        }
    }
}

async fn blob(
    images: &Arc<dyn ReadOnlyImages>,
    pool: &Pool,
    call: &Call,
    of: Name,
    digest: Digest,
) -> Answer {
    let wanted = digest.clone();
    let found = ask(images, move |images| images.blob(&of, &wanted)).await?;
    let file = found.ok_or_else(|| {
        Refusal::missing(Code::BlobUnknown, "the repository does not have this blob")
            .detail(json!({ "digest": digest.as_str() }))
    })?;
    let size = file.metadata().map_err(failed)?.len();
    if call.is_head() {
        return Ok(described(&digest, size));
    }
    if is_known(call, &digest) {
        return Ok(not_modified(&digest));
    }
    send(call, &digest, file, size, pool)
}

fn behind(all: Vec<String>, page: &Page<'_>) -> Vec<String> {
    let rest = all.into_iter().filter(|name| name.as_str() > page.last);
    rest.take(page.count + 1).collect()
}

async fn ask<T: Send + 'static>(
    images: &Arc<dyn ReadOnlyImages>,
    question: impl FnOnce(&dyn ReadOnlyImages) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Refusal> {
    let images = images.clone();
    match tokio::task::spawn_blocking(move || question(&*images)).await {
        Ok(answer) => answer.map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: impl Into<Failure>) -> Refusal {
    let error = error.into();
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    let mut refusal = Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unknown,
        "the store cannot be read; the registry's log says why",
    );
    refusal.trouble = Some(line);
    refusal
}
