//! `check=skip=A,B;error=true;experimental=C`, at the top of a file or above an instruction.

use conex_dockerfile::Comment;

use crate::Rule;

/// Which rules are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    skip: Names,
    experimental: Names,
    /// A finding fails the build.
    pub is_error: bool,
}

/// Some rules, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self { all: true, names: Vec::new() },
            list => Self {
                all: false,
                names: list.split(',').map(|name| name.trim().to_owned()).collect(),
            },
        }
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|known| known == name)
    }

    fn merged(&self, other: &Self) -> Self {
        let names = self.names.iter().chain(&other.names).cloned().collect();
        Self { all: self.all || other.all, names }
    }
}

impl Config {
    /// Reads options; the message says what is wrong with them.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Only the first word counts; what follows is a remark.
        let text = text.trim().split(' ').next().unwrap_or("");
        let mut config = Self::default();
        for option in text.split(';').filter(|_| !text.is_empty()) {
            let Some((key, value)) = option.split_once('=') else {
                return Err(format!("check option `{option}` has no value"));
            };
            match key.trim() {
                "skip" => config.skip = Names::parse(value),
                "experimental" => config.experimental = Names::parse(value),
                "error" => config.is_error = boolean(value.trim())?,
                other => return Err(format!("`{other}` is no check option")),
            }
        }
        Ok(config)
    }

    /// Skips nothing and tries everything.
    pub(crate) fn everything() -> Self {
        Self { experimental: Names { all: true, names: Vec::new() }, ..Self::default() }
    }

    pub(crate) fn enables(&self, rule: &Rule) -> bool {
        let named =
            |names: &Names| names.has(rule.name) || rule.codes.iter().any(|code| names.has(code));
        if rule.experimental { named(&self.experimental) } else { !named(&self.skip) }
    }

    pub(crate) fn merged(&self, other: &Self) -> Self {
        Self {
            skip: self.skip.merged(&other.skip),
            experimental: self.experimental.merged(&other.experimental),
            is_error: self.is_error,
        }
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("check option `error` is `true` or `false`, not `{text}`")),
    }
}

/// The options in the comments above an instruction. Those that cannot be read are a remark.
pub(crate) fn of_comments(comments: &[Comment]) -> Option<Config> {
    comments.iter().find_map(|comment| {
        let (key, value) = comment.text.split_once('=')?;
        let found = key.trim().eq_ignore_ascii_case("check");
        found.then(|| Config::parse(value).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::rule;

    #[test]
    fn options_name_rules_to_skip_and_to_try() {
        for (text, casing, experimental, error) in [
            ("", true, false, false),
            ("skip=StageNameCasing", false, false, false),
            ("skip=all", false, false, false),
            ("skip=A,StageNameCasing;error=true", false, false, true),
            ("error=1", true, false, true),
            ("experimental=all", true, true, false),
            ("experimental=InvalidDefinitionDescription", true, true, false),
            ("skip=A a remark", true, false, false),
        ] {
            let config = Config::parse(text).unwrap();
            let enables = |name| config.enables(rule(name).unwrap());
            assert_eq!(enables("StageNameCasing"), casing, "{text}");
            assert_eq!(enables("InvalidDefinitionDescription"), experimental, "{text}");
            assert_eq!(config.is_error, error, "{text}");
        }
        for text in ["skip", "foo=bar", "error=maybe", "skip=all;"] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
