//! Cache keys: flat, content-addressed, made of everything that can influence a step's result and
//! nothing that cannot.
//!
//! A key is the digest of named components. The components themselves are kept with the record, so
//! that a miss can be explained by the one that differs.

use conex_oci::{Digest, Hasher};

/// Changes when the meaning of keys or the form of layers changes, so that a newer program never
/// takes an older one's result for its own.
const FORMAT: &str = "conex step 1";

/// What a step's result depends on, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Components(Vec<(String, String)>);

impl Components {
    pub(crate) fn new(kind: &str) -> Self {
        Self(vec![("kind".to_owned(), kind.to_owned())])
    }

    /// Adds a component. Long or secret texts come as digests.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// The key.
    pub(crate) fn key(&self) -> Digest {
        let mut hasher = Hasher::sha256();
        hasher.update(FORMAT.as_bytes());
        for (name, value) in &self.0 {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        hasher.finish()
    }

    /// Writes the components for [`Components::from_value`].
    pub(crate) fn to_value(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }

    /// Reads what [`Components::to_value`] wrote; what is not readable explains nothing.
    pub(crate) fn from_value(value: &serde_json::Value) -> Self {
        Self(serde_json::from_value(value.clone()).unwrap_or_default())
    }

    /// Says what differs from an earlier run of the same step, one line each.
    pub(crate) fn differences(&self, earlier: &Self) -> Vec<String> {
        let value = |list: &Self, name: &str| {
            list.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut lines = Vec::new();
        for (name, now) in &self.0 {
            match value(earlier, name) {
                Some(before) if before == *now => {}
                Some(before) => {
                    lines.push(format!("{name} changed: {} → {}", shown(&before), shown(now)));
                }
                None => lines.push(format!("{name} is new: {}", shown(now))),
            }
        }
        for (name, before) in &earlier.0 {
            if value(self, name).is_none() {
                lines.push(format!("{name} is gone: {}", shown(before)));
            }
        }
        lines
    }
}

/// Shortens digests and long texts for a person.
fn shown(value: &str) -> String {
    const SHOWN_MAX: usize = 60;
    if let Ok(digest) = value.parse::<Digest>() {
        return format!("{}…", digest.short());
    }
    let one_line = value.replace('\n', "⏎");
    if one_line.chars().count() <= SHOWN_MAX {
        return format!("`{one_line}`");
    }
    let start: String = one_line.chars().take(SHOWN_MAX).collect();
    format!("`{start}…`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(pairs: &[(&str, &str)]) -> Components {
        let mut components = Components::new("run");
        for (name, value) in pairs {
            components.add(*name, *value);
        }
        components
    }

    #[test]
    fn no_two_lists_of_components_run_into_one_key() {
        let a = components(&[("a", "bc")]);
        let b = components(&[("ab", "c")]);
        let c = components(&[("a", ""), ("bc", "")]);
        assert_ne!(a.key(), b.key());
        assert_ne!(a.key(), c.key());
        assert_eq!(a.key(), components(&[("a", "bc")]).key());
    }

    #[test]
    fn a_miss_is_explained_by_what_differs() {
        let before = components(&[("command", "make"), ("env A", "1"), ("user", "root")]);
        let now = components(&[("command", "make -j2"), ("user", "root"), ("env B", "2")]);
        assert_eq!(
            now.differences(&Components::from_value(&before.to_value())),
            ["command changed: `make` → `make -j2`", "env B is new: `2`", "env A is gone: `1`"]
        );
        assert!(Components::from_value(&"nonsense".into()).0.is_empty());
    }
}
