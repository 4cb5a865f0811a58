//! Which variables an instruction sees, and what they are worth.
//!
//! The rules: a global `ARG` (before the first `FROM`) is seen by `FROM` lines only, and imported
//! into a stage by naming it again; `--build-arg` beats a default; `ENV` beats `ARG`; an `ARG`
//! without value is unset, which is not empty.

use std::collections::BTreeMap;

use conex_oci::Platform;

use crate::graph::BuildArgs;

/// Where the build runs, what it builds for, and what was given from outside.
#[derive(Debug, Clone)]
pub(crate) struct Outside<'o> {
    pub(crate) build_args: &'o BuildArgs,
    pub(crate) platform_args: BTreeMap<&'static str, String>,
}

impl<'o> Outside<'o> {
    pub(crate) fn new(
        build_args: &'o BuildArgs,
        build: &Platform,
        target: &Platform,
        target_stage: &str,
    ) -> Self {
        let mut platform_args = BTreeMap::new();
        for (names, platform) in [
            (["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"], build),
            (["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"], target),
        ] {
            let values = [
                platform.to_string(),
                platform.os.clone(),
                platform.architecture.clone(),
                platform.variant.clone(),
            ];
            platform_args.extend(names.into_iter().zip(values));
        }
        platform_args.insert("TARGETSTAGE", target_stage.to_owned());
        Self { build_args, platform_args }
    }

    /// What a name is worth from outside: a `--build-arg`, else a platform argument.
    fn value(&self, name: &str) -> Option<&str> {
        let given = self.build_args.get(name).map(String::as_str);
        given.or_else(|| self.platform_args.get(name).map(String::as_str))
    }
}

/// The arguments before the first `FROM`.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlobalScope {
    args: BTreeMap<String, Option<String>>,
}

impl GlobalScope {
    /// Declares an argument. `default` is evaluated only if nothing was given from outside.
    pub(crate) fn declare<E>(
        &mut self,
        outside: &Outside<'_>,
        name: &str,
        default: impl FnOnce(&Self) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        let value = match outside.value(name) {
            Some(value) => Some(value.to_owned()),
            None => default(self)?,
        };
        self.args.insert(name.to_owned(), value);
        Ok(())
    }

    /// What a `FROM` line or a later global default sees.
    pub(crate) fn lookup(&self, outside: &Outside<'_>, name: &str) -> Option<String> {
        match self.args.get(name) {
            Some(value) => value.clone(),
            None => outside.platform_args.get(name).cloned(),
        }
    }

    /// The names declared, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.args.keys().map(String::as_str)
    }
}

/// The variables of a stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageScope {
    /// `NAME`, value: in order of declaration, each once.
    env: Vec<(String, String)>,
    args: Vec<(String, Option<String>)>,
}

impl StageScope {
    /// Starts with the environment of the base image.
    pub(crate) fn new(env: &[String]) -> Self {
        let mut scope = Self::default();
        for pair in env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            scope.set_env(name, value);
        }
        scope
    }

    /// `ENV`.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    /// `ARG`: from outside, else its default, else the global one of the same name.
    pub(crate) fn declare<E>(
        &mut self,
        outside: &Outside<'_>,
        globals: &GlobalScope,
        name: &str,
        default: impl FnOnce(&Self) -> Result<Option<String>, E>,
    ) -> Result<Option<String>, E> {
        let value = match outside.value(name) {
            Some(value) => Some(value.to_owned()),
            None => default(self)?.or_else(|| globals.args.get(name).cloned().flatten()),
        };
        match self.args.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(&value),
            None => self.args.push((name.to_owned(), value.clone())),
        }
        Ok(value)
    }

    /// What a word of an instruction sees.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        let env = self.env.iter().find(|(known, _)| known == name);
        if let Some((_, value)) = env {
            return Some(value.clone());
        }
        self.args.iter().find(|(known, _)| known == name)?.1.clone()
    }

    /// The environment of a command: `ENV` in order, then the arguments that have a value and are
    /// not hidden by it.
    pub(crate) fn run_env(&self) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        env.extend(self.run_args());
        env
    }

    /// The arguments that a command sees.
    pub(crate) fn run_args(&self) -> Vec<(String, String)> {
        let hidden = |name: &str| self.env.iter().any(|(known, _)| known == name);
        self.args
            .iter()
            .filter(|(name, _)| !hidden(name) && !is_proxy(name))
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }

    /// Takes over the arguments of the stage that this one starts from.
    #[must_use]
    pub(crate) fn with_args_of(mut self, base: &Self) -> Self {
        self.args.clone_from(&base.args);
        self
    }
}

/// Whether a name is one of the proxy variables, which every command sees when they are given by
/// `--build-arg`, and which count neither for the cache nor for history.
pub(crate) fn is_proxy(name: &str) -> bool {
    conex_dockerfile::PREDEFINED_ARGS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Never = std::convert::Infallible;

    fn outside(build_args: &BuildArgs) -> Outside<'_> {
        let platform = Platform::new("linux", "amd64", "");
        Outside::new(build_args, &platform, &platform, "default")
    }

    fn some(text: &str) -> Result<Option<String>, Never> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn build_arg_beats_default_and_env_beats_arg() {
        let build_args = BuildArgs::from([("A".into(), "given".into())]);
        let outside = outside(&build_args);
        let mut scope = StageScope::new(&["E=base".into()]);
        let globals = GlobalScope::default();
        scope.declare(&outside, &globals, "A", |_| some("default")).unwrap();
        scope.declare(&outside, &globals, "E", |_| some("arg")).unwrap();
        scope.declare(&outside, &globals, "U", |_| Ok::<_, Never>(None)).unwrap();
        assert_eq!(scope.lookup("A").as_deref(), Some("given"));
        assert_eq!(scope.lookup("E").as_deref(), Some("base"));
        assert_eq!(scope.lookup("U"), None);
        let names: Vec<String> = scope.run_env().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["E", "A"]);
    }

    #[test]
    fn a_default_is_not_evaluated_when_a_value_was_given() {
        let build_args = BuildArgs::from([("A".into(), "given".into())]);
        let mut globals = GlobalScope::default();
        globals.declare(&outside(&build_args), "A", |_| Err("evaluated")).unwrap();
        assert_eq!(globals.lookup(&outside(&build_args), "A").as_deref(), Some("given"));
    }

    #[test]
    fn a_global_is_seen_in_a_stage_only_when_named_again() {
        let build_args = BuildArgs::new();
        let outside = outside(&build_args);
        let mut globals = GlobalScope::default();
        globals.declare(&outside, "V", |_| some("1")).unwrap();
        let mut scope = StageScope::default();
        assert_eq!(scope.lookup("V"), None);
        scope.declare(&outside, &globals, "V", |_| Ok::<_, Never>(None)).unwrap();
        assert_eq!(scope.lookup("V").as_deref(), Some("1"));
        scope.declare(&outside, &globals, "V", |_| some("2")).unwrap();
        assert_eq!(scope.lookup("V").as_deref(), Some("2"));
        assert_eq!(globals.lookup(&outside, "TARGETARCH").as_deref(), Some("amd64"));
        assert_eq!(scope.lookup("TARGETARCH"), None);
    }
}
