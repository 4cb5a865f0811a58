//! What a token allows: `repository:acme/api:pull,push` (distribution's token specification).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most scopes kept from a challenge, and longest one: a token request must fit into a URL.
const SCOPES_MAX: usize = 16;
const SCOPE_LEN_MAX: usize = 512;

/// A set of rights, normalised: one entry a resource, in a fixed order, so that equal rights have
/// equal texts and share a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<(String, String), BTreeSet<String>>);

impl Scopes {
    pub(crate) fn repository(name: &str, actions: &[&str]) -> Self {
        Self::default().and("repository", name, actions)
    }

    pub(crate) fn catalog() -> Self {
        Self::default().and("registry", "catalog", &["*"])
    }

    pub(crate) fn and(mut self, kind: &str, name: &str, actions: &[&str]) -> Self {
        let entry = self.0.entry((kind.to_owned(), name.to_owned())).or_default();
        entry.extend(actions.iter().map(|action| (*action).to_owned()));
        self
    }

    /// Adds the scopes of a challenge, as far as they make sense. The name may hold `host:port`,
    /// so it is what stands between the first and the last colon.
    pub(crate) fn widen(&mut self, challenge: &str) {
        for scope in challenge.split_ascii_whitespace().take(SCOPES_MAX) {
            let Some((kind, rest)) = scope.split_once(':') else { continue };
            let Some((name, actions)) = rest.rsplit_once(':') else { continue };
            if scope.len() > SCOPE_LEN_MAX || kind.is_empty() || name.is_empty() {
                continue;
            }
            // `repository(plugin)` is how a class was written once; it no longer matters.
            let kind = kind.split('(').next().unwrap_or(kind);
            let key = (kind.to_owned(), name.to_owned());
            if self.0.len() >= SCOPES_MAX && !self.0.contains_key(&key) {
                continue;
            }
            let actions = actions.split(',').filter(|action| !action.is_empty()).take(8);
            self.0.entry(key).or_default().extend(actions.map(str::to_owned));
        }
    }

    /// Whether a token for `self` also serves `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(key, actions)| {
            self.0.get(key).is_some_and(|own| own.contains("*") || actions.is_subset(own))
        })
    }

    /// One text a resource.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |((kind, name), actions): (&(String, String), &BTreeSet<String>)| {
            let mut actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            // `pull,push` is the order that everybody writes; token servers may compare texts.
            actions.sort_unstable();
            format!("{kind}:{name}:{}", actions.join(","))
        };
        self.0.iter().map(text).collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.texts().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_widen_what_is_asked() {
        let mut scopes = Scopes::repository("a/b", &["pull"]);
        scopes.widen(
            "repository:a/b:push,pull repository:host:5000/c:pull registry:catalog:* bad :x:",
        );
        assert_eq!(
            scopes.to_string(),
            "registry:catalog:* repository:a/b:pull,push repository:host:5000/c:pull"
        );
        assert!(scopes.covers(&Scopes::repository("a/b", &["push"])));
        assert!(scopes.covers(&Scopes::catalog()));
        assert!(!scopes.covers(&Scopes::repository("a/b", &["delete"])));
        assert!(!scopes.covers(&Scopes::repository("other", &["pull"])));
    }

    #[test]
    fn a_challenge_cannot_widen_without_end() {
        let mut scopes = Scopes::default();
        let many: Vec<String> = (0..1000).map(|n| format!("repository:r{n}:pull")).collect();
        scopes.widen(&many.join(" "));
        scopes.widen(&many[500..].join(" "));
        assert_eq!(scopes.texts().len(), SCOPES_MAX);
    }
}
