//! Manifests and indexes: find, read, write, delete.

use conex_oci::{Descriptor, Digest, Hasher, MANIFEST_SIZE_MAX, MediaType};
use serde::Deserialize;
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Body, Request, Response};

use super::Repository;
use super::site::{Purpose, Target};

/// What this client understands, in the order in which it likes it. `*/*` at the end lets
/// artifacts of unknown kinds through.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// A manifest or index, as the registry holds it: the bytes have the descriptor's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBytes {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// The parts of any manifest that say what it belongs to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Belongs {
    media_type: Option<MediaType>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Repository {
    /// Finds out what the reference means, without fetching it: media type, digest and size. A
    /// digest in the reference wins over its tag.
    ///
    /// # Errors
    /// The registry does not have it, or not for us.
    pub fn resolve(&self) -> Result<Descriptor> {
        let version = self.version()?;
        let targets = self.shared.targets(&self.reference, self.reading())?;
        self.shared.first_of(&targets, |target| self.shared.retry(|_| self.head(target, &version)))
    }

    /// Fetches what the reference means.
    ///
    /// # Errors
    /// The registry does not have it, not for us, or something else under that name.
    pub fn manifest(&self) -> Result<ManifestBytes> {
        let version = self.version()?;
        let targets = self.shared.targets(&self.reference, self.reading())?;
        self.fetch(&targets, &version, self.reference.digest())
    }

    /// Fetches a manifest of this repository by its descriptor.
    ///
    /// # Errors
    /// The registry does not have it, or other bytes under that digest.
    pub fn manifest_of(&self, descriptor: &Descriptor) -> Result<ManifestBytes> {
        let by_digest = self.reference.with_digest(descriptor.digest.clone());
        let targets = self.shared.targets(&by_digest, Purpose::Pull)?;
        let version = descriptor.digest.as_str();
        let found = self.fetch(&targets, version, Some(&descriptor.digest))?;
        if found.descriptor.size != descriptor.size {
            let what = format!("manifest `{version}`");
            let (wanted, got) = (descriptor.size, found.descriptor.size);
            return Err(Error::size_mismatch(&what, wanted, got));
        }
        Ok(found)
    }

    /// Writes a manifest or index under its digest, and under tags. Where it has a subject and the
    /// registry does not keep track of referrers, the subject's fallback tag is kept up to date
    /// (distribution spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn put_manifest(
        &self,
        media_type: &MediaType,
        bytes: &[u8],
        tags: &[&str],
    ) -> Result<Descriptor> {
        if bytes.len() as u64 > MANIFEST_SIZE_MAX {
            return Err(Error::too_large("the manifest", MANIFEST_SIZE_MAX));
        }
        let descriptor = Descriptor::of(media_type.clone(), bytes);
        let target = self.own_target()?;
        let digest_text = descriptor.digest.as_str();
        let versions = if tags.is_empty() { &[digest_text][..] } else { tags };
        let mut knows_subject = false;
        for version in versions {
            let response = self.put(&target, version, media_type, bytes)?;
            if let Some(got) = response.header("docker-content-digest")
                && got != digest_text
            {
                let what = format!("the manifest that `{}` took", target.site);
                return Err(Error::digest_mismatch(&what, &descriptor.digest, got));
            }
            knows_subject = response.header("oci-subject").is_some();
            response.drain();
        }
        // What cannot be read as JSON has no subject that could be looked after.
        if !knows_subject
            && let Ok(belongs) = serde_json::from_slice::<Belongs>(bytes)
            && let Some(subject) = belongs.subject.as_ref().map(|subject| subject.digest.clone())
        {
            self.add_to_fallback(&subject, &belongs.referrer(&descriptor))?;
        }
        Ok(descriptor)
    }

    /// Whether a manifest is there.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let target = self.own_target()?;
        let act = reading(&target, digest.as_str());
        self.shared.retry(|_| {
            // The rights of a push, so that the token serves what may follow.
            let scopes = Scopes::repository(&target.repository, &["pull", "push"]);
            let response = self.ask_with(&target, &Method::HEAD, digest.as_str(), &scopes)?;
            if response.status == 404 {
                return Ok(false);
            }
            self.shared.expect(response, &target.site, &act, &[200]).map(Response::drain)?;
            Ok(true)
        })
    }

    /// Deletes a manifest, and with it every tag that means it.
    ///
    /// # Errors
    /// It is not there, or the registry does not delete.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.delete(digest.as_str(), &format!("delete manifest `{digest}`"))
    }

    /// Deletes a tag and nothing else.
    ///
    /// # Errors
    /// It is not there, or the registry cannot delete tags (many can delete by digest only).
    pub fn delete_tag(&self, tag: &str) -> Result<()> {
        let tagged = self.reference.with_tag(tag).map_err(|source| {
            Error::new(ErrorKind::Config, "cannot delete the tag").with_source(source)
        })?;
        let tag = tagged.tag().unwrap_or_default();
        self.delete(tag, &format!("delete tag `{tag}`")).map_err(|error| {
            if error.kind() == ErrorKind::Unsupported {
                return error.with_hint("delete by digest; that removes all tags of the image");
            }
            error
        })
    }

    fn delete(&self, version: &str, act: &str) -> Result<()> {
        let target = self.own_target()?;
        let scopes = Scopes::repository(&target.repository, &["delete", "pull", "push"]);
        let act = format!("{act} of `{}`", target.repository);
        self.shared.retry(|attempt| {
            let response = self.shared.send(&target, &scopes, || {
                let url = self.shared.url(&target, &format!("manifests/{version}"))?;
                Ok(Request::new(Method::DELETE, url))
            })?;
            // A second attempt may find that the first did its work before the answer was lost.
            let wanted: &[u16] =
                if attempt == 0 { &[200, 202, 204] } else { &[200, 202, 204, 404] };
            if response.status == 400 {
                let error = self.shared.refusal(response, &target.site, &act);
                return Err(Error::new(ErrorKind::Unsupported, error.to_string()).with_status(400));
            }
            self.shared.expect(response, &target.site, &act, wanted).map(Response::drain)
        })
    }

    /// The tag or digest that requests name.
    fn version(&self) -> Result<String> {
        let digest = self.reference.digest().map(|digest| digest.as_str().to_owned());
        digest.or_else(|| self.reference.tag().map(str::to_owned)).ok_or_else(|| {
            Error::config(format!("`{}` has neither a tag nor a digest", self.reference))
        })
    }

    fn reading(&self) -> Purpose {
        if self.reference.digest().is_some() { Purpose::Pull } else { Purpose::Resolve }
    }

    /// The registry itself, for everything that is not reading.
    pub(crate) fn own_target(&self) -> Result<Target> {
        let mut targets = self.shared.targets(&self.reference, Purpose::Push)?;
        Ok(targets.swap_remove(0))
    }

    fn head(&self, target: &Target, version: &str) -> Result<Descriptor> {
        let response = self.ask(target, &Method::HEAD, version)?;
        let missing = response.status == 405 || response.status == 501;
        let told = told_descriptor(&response);
        let told = told.filter(|_| response.status == 200);
        match told {
            Some(descriptor) => {
                if let Some(wanted) = self.reference.digest()
                    && *wanted != descriptor.digest
                {
                    let what = format!("the manifest that `{}` offers", target.site);
                    return Err(Error::digest_mismatch(&what, wanted, descriptor.digest.as_str()));
                }
                Ok(descriptor)
            }
            // A registry that does not tell the digest, or has no HEAD, must show the bytes.
            None if missing || response.status == 200 => {
                response.drain();
                let found = self.get(target, version, self.reference.digest())?;
                Ok(found.descriptor)
            }
            None => Err(self.shared.refusal(response, &target.site, &reading(target, version))),
        }
    }

    fn fetch(
        &self,
        targets: &[Target],
        version: &str,
        wanted: Option<&Digest>,
    ) -> Result<ManifestBytes> {
        self.shared
            .first_of(targets, |target| self.shared.retry(|_| self.get(target, version, wanted)))
    }

    fn get(
        &self,
        target: &Target,
        version: &str,
        wanted: Option<&Digest>,
    ) -> Result<ManifestBytes> {
        let response = self.ask(target, &Method::GET, version)?;
        let act = reading(target, version);
        let response = self.shared.expect(response, &target.site, &act, &[200])?;
        let told = response.header("docker-content-digest").map(str::to_owned);
        let told: Option<Digest> = told.and_then(|text| text.parse().ok());
        let told_type = response.header("content-type").map(MediaType::from);
        let length = response.content_length();
        let bytes = response.bytes(&format!("manifest `{version}`"), MANIFEST_SIZE_MAX)?;
        if let Some(length) = length.filter(|length| *length != bytes.len() as u64) {
            let what = format!("manifest `{version}`");
            return Err(Error::size_mismatch(&what, length, bytes.len() as u64));
        }
        let what = format!("manifest `{version}` from `{}`", target.site);
        // The digest that was asked for decides; what the header claims must fit as well.
        for claimed in [wanted, told.as_ref()].into_iter().flatten() {
            let mut hasher = Hasher::new(claimed.algorithm());
            hasher.update(&bytes);
            let got = hasher.finish();
            if got != *claimed {
                return Err(Error::digest_mismatch(&what, claimed, got.as_str()));
            }
        }
        let media_type = media_type(&bytes, told_type, &what)?;
        let mut descriptor = Descriptor::of(media_type, &bytes);
        if let Some(wanted) = wanted {
            descriptor.digest = wanted.clone();
        }
        Ok(ManifestBytes { descriptor, bytes })
    }

    fn ask(&self, target: &Target, method: &Method, version: &str) -> Result<Response> {
        let scopes = Scopes::repository(&target.repository, &["pull"]);
        self.ask_with(target, method, version, &scopes)
    }

    fn ask_with(
        &self,
        target: &Target,
        method: &Method,
        version: &str,
        scopes: &Scopes,
    ) -> Result<Response> {
        self.shared.send(target, scopes, || {
            let url = self.shared.url(target, &format!("manifests/{version}"))?;
            Ok(Request::new(method.clone(), url).header("accept", ACCEPT))
        })
    }

    fn put(
        &self,
        target: &Target,
        version: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Response> {
        let scopes = Scopes::repository(&target.repository, &["pull", "push"]);
        let act = format!("write manifest `{version}` of `{}`", target.repository);
        self.shared.retry(|_| {
            let response = self.shared.send(target, &scopes, || {
                let url = self.shared.url(target, &format!("manifests/{version}"))?;
                let request = Request::new(Method::PUT, url);
                Ok(request.header("content-type", media_type.as_str()).body(Body::Bytes(bytes)))
            })?;
            self.shared.expect(response, &target.site, &act, &[200, 201, 202])
        })
    }
}

fn reading(target: &Target, version: &str) -> String {
    format!("read manifest `{version}` of `{}`", target.repository)
}

fn told_descriptor(response: &Response) -> Option<Descriptor> {
    let digest = response.header("docker-content-digest")?.trim().parse().ok()?;
    let media_type = MediaType::from(response.header("content-type")?);
    let known = media_type.is_manifest() || media_type.is_index();
    // Some proxies answer `HEAD` with a made-up type; only one that makes sense is believed.
    known.then_some(())?;
    Some(Descriptor::new(media_type, digest, response.content_length()?))
}

/// The document's own media type counts, if it has one. A header that calls a manifest an index,
/// or the other way round, is how clients are made to disagree (GHSA-mc8v-mgrf-8f4m): refused.
fn media_type(bytes: &[u8], told: Option<MediaType>, what: &str) -> Result<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes)
        .map_err(|source| Error::protocol(format!("{what} is not JSON")).with_source(source))?;
    let known = |kind: &MediaType| kind.is_manifest() || kind.is_index();
    let told = told.filter(known);
    if let (Some(own), Some(told)) = (&shape.media_type, &told)
        && known(own)
        && own.is_index() != told.is_index()
    {
        return Err(Error::protocol(format!("{what} is `{own}`, but was sent as `{told}`")));
    }
    if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(Error::protocol(format!("{what} is two kinds of document at once")));
    }
    Ok(shape.media_type.or(told).unwrap_or(if shape.manifests.is_some() {
        MediaType::OciIndex
    } else {
        MediaType::OciManifest
    }))
}

impl Belongs {
    /// How a manifest is listed among the referrers of its subject (distribution spec, "Listing
    /// Referrers").
    fn referrer(self, descriptor: &Descriptor) -> Descriptor {
        let mut listed = descriptor.clone();
        let is_index = self.media_type.as_ref().is_some_and(MediaType::is_index);
        let from_config = self.config.map(|config| config.media_type.as_str().to_owned());
        listed.artifact_type = self.artifact_type.or(if is_index { None } else { from_config });
        listed.annotations = self.annotations;
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(document: &str, told: Option<&str>) -> String {
        match media_type(document.as_bytes(), told.map(MediaType::from), "it") {
            Ok(kind) => kind.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_document_and_its_header_must_agree() {
        const INDEX: &str = "application/vnd.oci.image.index.v1+json";
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let own = |kind: &str| format!(r#"{{"mediaType":"{kind}"}}"#);
        assert_eq!(typed(&own(INDEX), Some(INDEX)), INDEX);
        assert_eq!(typed(&own(INDEX), Some("text/plain")), INDEX);
        assert_eq!(typed(r#"{"manifests":[]}"#, None), INDEX);
        assert_eq!(typed(r#"{"layers":[]}"#, None), MANIFEST);
        assert!(typed(&own(INDEX), Some(MANIFEST)).starts_with("error"));
        assert!(typed(r#"{"manifests":[],"layers":[]}"#, None).starts_with("error"));
        assert!(typed("no", None).starts_with("error"));
    }
}
