//! Lists: tags, repositories, referrers.

use conex_oci::{Descriptor, Digest, Index, MediaType};
use serde::Deserialize;
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::{Error, ErrorKind, Result};
use crate::http::headers::link_next;
use crate::http::url::Url;
use crate::http::{Request, Response};
use crate::limits::{DOCUMENT_SIZE_MAX, ENTRIES_MAX, PAGES_MAX};

use super::manifests::ManifestBytes;
use super::site::{Purpose, Target};
use super::{Client, Repository, Shared};

/// Entries asked for at once: ECR refuses more.
const PAGE_ENTRIES: &str = "1000";

#[derive(Default, Deserialize)]
struct TagPage {
    // Registries in Go write `null` for no tags.
    tags: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct CatalogPage {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Lists the repositories of a registry, as far as it tells.
    ///
    /// # Errors
    /// The registry has no catalog, or not for us.
    pub fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        let reference = format!("{registry}/catalog").parse().map_err(|source| {
            Error::config(format!("`{registry}` is not a registry")).with_source(source)
        })?;
        let repository = self.repository(&reference);
        let target = repository.own_target()?;
        let first = self.shared.api_url(&target.site, "_catalog")?.with_query("n", PAGE_ENTRIES);
        let mut names = Vec::new();
        self.shared.pages(
            &target,
            &Scopes::catalog(),
            "list its repositories",
            first,
            |bytes| {
                let page: CatalogPage = serde_json::from_slice(bytes)?;
                names.extend(page.repositories.unwrap_or_default());
                Ok(names.len())
            },
        )?;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Repository {
    /// Lists the tags.
    ///
    /// # Errors
    /// The repository is not there, or not for us.
    pub fn tags(&self) -> Result<Vec<String>> {
        let target = self.own_target()?;
        let scopes = Scopes::repository(&target.repository, &["pull"]);
        let first = self.shared.url(&target, "tags/list")?.with_query("n", PAGE_ENTRIES);
        let act = format!("list the tags of `{}`", target.repository);
        let mut tags = Vec::new();
        self.shared.pages(&target, &scopes, &act, first, |bytes| {
            let page: TagPage = serde_json::from_slice(bytes)?;
            tags.extend(page.tags.unwrap_or_default());
            Ok(tags.len())
        })?;
        // Not every registry sorts, though the specification says so.
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    /// Lists what refers to a manifest (signatures, bills of materials), of one artifact type or
    /// all. Asks the referrers API, or reads the fallback tag where there is none.
    ///
    /// # Errors
    /// The registry cannot be asked. That nothing refers to it is no error.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let by_digest = self.reference.with_digest(subject.clone());
        let targets = self.shared.targets(&by_digest, Purpose::Pull)?;
        let target = targets.last().expect("there is always one, or an error").clone();
        let scopes = Scopes::repository(&target.repository, &["pull"]);
        let mut first = self.shared.url(&target, &format!("referrers/{subject}"))?;
        if let Some(wanted) = artifact_type {
            first = first.with_query("artifactType", wanted);
        }
        let act = format!("list the referrers of `{subject}`");
        let mut found = Vec::new();
        let listed = self.shared.pages(&target, &scopes, &act, first, |bytes| {
            let page: Index = serde_json::from_slice(bytes)?;
            found.extend(page.manifests);
            Ok(found.len())
        });
        match listed {
            Ok(()) => {}
            // 404 is what the spec says; others stand for it in registries without the API.
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 501)) => {
                found =
                    self.fallback(subject)?.map(|(index, _)| index.manifests).unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
        // The filter is the registry's to apply or not; the same entry may stand on two pages.
        if let Some(wanted) = artifact_type {
            found.retain(|referrer| referrer.artifact_type.as_deref() == Some(wanted));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|referrer| seen.insert(referrer.digest.clone()));
        Ok(found)
    }

    /// Reads the index under a subject's fallback tag.
    fn fallback(&self, subject: &Digest) -> Result<Option<(Index, ManifestBytes)>> {
        let tagged = self.reference.with_tag(&fallback_tag(subject)).map_err(|source| {
            Error::protocol("the fallback tag is not valid").with_source(source)
        })?;
        let repository = Self { shared: self.shared.clone(), reference: tagged };
        match repository.manifest() {
            Ok(found) => {
                let index = Index::parse(&found.bytes).map_err(|source| {
                    let message = format!("the fallback tag of `{subject}` holds no index");
                    Error::protocol(message).with_source(source)
                })?;
                Ok(Some((index, found)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds an entry to the index under a subject's fallback tag. Two clients that do this at once
    /// may lose an entry, so it is looked for afterwards and added again.
    pub(crate) fn add_to_fallback(&self, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let mut index = match self.fallback(subject)? {
                Some((index, _)) => index,
                None => Index::new(Vec::new()),
            };
            if index.manifests.iter().any(|known| known.digest == referrer.digest) {
                return Ok(());
            }
            index.manifests.push(referrer.clone());
            let tag = fallback_tag(subject);
            self.put_manifest(&MediaType::OciIndex, &index.to_bytes(), &[&tag])?;
        }
        Ok(())
    }
}

/// `sha256-<hex>` (distribution spec, "Referrers Tag Schema"): the digits are cut at 64.
pub(crate) fn fallback_tag(subject: &Digest) -> String {
    let hex: String = subject.hex().chars().take(64).collect();
    format!("{}-{hex}", subject.algorithm().name())
}

impl Shared {
    /// Reads all pages of a list. `take` reads one page and says how many entries there are by
    /// now.
    fn pages(
        &self,
        target: &Target,
        scopes: &Scopes,
        act: &str,
        first: Url,
        mut take: impl FnMut(&[u8]) -> serde_json::Result<usize>,
    ) -> Result<()> {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(url) = next {
            count += 1;
            if count > PAGES_MAX {
                let message = format!("`{}` cannot {act}: it has no last page", target.site);
                return Err(Error::protocol(message));
            }
            let response = self.retry(|_| {
                let response = self.send(target, scopes, || {
                    let request = Request::new(Method::GET, url.clone());
                    Ok(request.header("accept", "application/json, */*;q=0.1"))
                })?;
                self.expect(response, &target.site, act, &[200])
            })?;
            next = next_page(&response, &url)?;
            let bytes = response.bytes("the list", DOCUMENT_SIZE_MAX)?;
            let entries = take(&bytes).map_err(|source| {
                Error::protocol(format!("`{}` cannot {act}: no list came", target.site))
                    .with_source(source)
            })?;
            if entries > ENTRIES_MAX {
                return Err(Error::too_large("the list (entries, not bytes)", ENTRIES_MAX as u64));
            }
        }
        Ok(())
    }
}

fn next_page(response: &Response, url: &Url) -> Result<Option<Url>> {
    let Some(target) = response.header("link").and_then(link_next) else { return Ok(None) };
    let next = url.join(target)?;
    // Credentials go along to the next page, and it comes from the same server in any case.
    if !next.same_origin(url) {
        let message = format!("the list of `{}` goes on at another host, refused", url.authority());
        return Err(Error::protocol(message));
    }
    Ok((next != *url).then_some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallback_tags_are_tags() {
        let long = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "a".repeat(64)));
        let reference: conex_oci::Reference = "r.io/a".parse().unwrap();
        assert!(reference.with_tag(&fallback_tag(&Digest::of(b""))).is_ok());
    }
}
