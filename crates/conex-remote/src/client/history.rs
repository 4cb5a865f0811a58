//! What a tag was on, and the way back: an extension of registries that are served by conex.

use conex_oci::Digest;
use serde::Deserialize;
use ureq::http::Method;

use super::Repository;
use crate::auth::scope::Scopes;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Body, Request};
use crate::limits::DOCUMENT_SIZE_MAX;

/// A move of a tag in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RemoteTagMove {
    /// When, as RFC 3339 has it.
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// What the tag was on, if it was there.
    pub from: Option<Digest>,
    /// What it is on since then, if it was not removed.
    pub to: Option<Digest>,
}

#[derive(Deserialize)]
struct History {
    history: Vec<RemoteTagMove>,
}

#[derive(Deserialize)]
struct RolledBack {
    digest: Digest,
}

impl Repository {
    /// The moves of the reference's tag, the latest first.
    ///
    /// # Errors
    /// The registry does not know the tag, or does not keep its history.
    pub fn tag_history(&self) -> Result<Vec<RemoteTagMove>> {
        let bytes = self.of_tag(&Method::GET, "history", "show the history of", &[])?;
        let history: History = serde_json::from_slice(&bytes).map_err(not_ours)?;
        Ok(history.history)
    }

    /// Moves the reference's tag back to what it was on before, or to a digest that it once was
    /// on. Gives what it is on now.
    ///
    /// # Errors
    /// The registry has nothing to go back to, or does not keep the history of tags.
    pub fn rollback_tag(&self, to: Option<&Digest>) -> Result<Digest> {
        let body = to.map(|to| format!(r#"{{"digest":"{to}"}}"#)).unwrap_or_default();
        let bytes = self.of_tag(&Method::POST, "rollback", "roll back", body.as_bytes())?;
        let done: RolledBack = serde_json::from_slice(&bytes).map_err(not_ours)?;
        Ok(done.digest)
    }

    fn of_tag(&self, method: &Method, what: &str, act: &str, body: &[u8]) -> Result<Vec<u8>> {
        let tag = self
            .reference
            .tag()
            .ok_or_else(|| Error::config(format!("`{}` has no tag", self.reference)))?;
        let target = self.own_target()?;
        let scopes = Scopes::repository(&target.repository, &["pull", "push"]);
        let act = format!("{act} tag `{tag}` of `{}`", target.repository);
        // A move that is asked for twice would be taken back: it is sent once.
        let response = self.shared.send(&target, &scopes, || {
            let url = self.shared.url(&target, &format!("_conex/tags/{tag}/{what}"))?;
            Ok(Request::new(method.clone(), url).body(Body::Bytes(body)))
        })?;
        let is_foreign = response.status == 404
            && response
                .header("content-type")
                .is_none_or(|kind| !kind.starts_with("application/json"));
        if is_foreign || response.status == 405 {
            let error = self.shared.refusal(response, &target.site, &act);
            return Err(Error::new(ErrorKind::Unsupported, error.to_string())
                .with_hint("only registries served by `conex registry serve` keep the history"));
        }
        self.shared
            .expect(response, &target.site, &act, &[200])?
            .bytes("the history of a tag", DOCUMENT_SIZE_MAX)
    }
}

fn not_ours(source: serde_json::Error) -> Error {
    Error::protocol("the registry's answer about a tag is not valid").with_source(source)
}
