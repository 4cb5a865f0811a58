//! What package managers and compilers leave behind that no program of the image needs.

use serde::Serialize;

/// A kind of left-overs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheKind {
    /// Its name in documents.
    pub name: &'static str,
    /// What it is, in words.
    pub what: &'static str,
    /// How the instruction that leaves it behind leaves it behind no more.
    pub advice: &'static str,
    /// The paths that are such a folder: whole, or with `*/` before them, at the end of any path.
    #[serde(skip)]
    folders: &'static [&'static str],
}

const APT_LISTS: &str = "end the same `RUN` with `rm -rf /var/lib/apt/lists/*`, or keep it out \
    of the image with `--mount=type=cache,target=/var/lib/apt`";

/// All kinds, in the order in which a path is tried.
pub const CACHE_KINDS: &[CacheKind] = &[
    CacheKind {
        name: "apt",
        what: "package lists and archives of apt",
        advice: APT_LISTS,
        folders: &["var/lib/apt/lists", "var/cache/apt"],
    },
    CacheKind {
        name: "apk",
        what: "index and archives of apk",
        advice: "use `apk add --no-cache`",
        folders: &["var/cache/apk", "etc/apk/cache"],
    },
    CacheKind {
        name: "dnf",
        what: "metadata and archives of yum, dnf and zypper",
        advice: "end the same `RUN` with `dnf clean all` (`yum clean all`, `zypper clean`)",
        folders: &["var/cache/yum", "var/cache/dnf", "var/cache/libdnf5", "var/cache/zypp"],
    },
    CacheKind {
        name: "pip",
        what: "downloads of pip, uv and poetry",
        advice: "use `pip install --no-cache-dir`, or `--mount=type=cache,target=/root/.cache`",
        folders: &["*/.cache/pip", "*/.cache/uv", "*/.cache/pypoetry", "*/.cache/pipenv"],
    },
    CacheKind {
        name: "npm",
        what: "downloads of npm, yarn and pnpm",
        advice: "use `npm cache clean --force` in the same `RUN`, or a cache mount",
        folders: &[
            "*/.npm/_cacache",
            "*/.npm/_logs",
            "*/.cache/yarn",
            "*/.yarn/cache",
            "*/.pnpm-store",
            "*/.local/share/pnpm/store",
            "*/node_modules/.cache",
        ],
    },
    CacheKind {
        name: "cargo",
        what: "sources that cargo fetched",
        advice: "build in a stage of its own, or use `--mount=type=cache` for the registry",
        folders: &[
            "*/.cargo/registry",
            "*/.cargo/git",
            "usr/local/cargo/registry",
            "usr/local/cargo/git",
        ],
    },
    CacheKind {
        name: "go",
        what: "modules and build results that go keeps",
        advice: "build in a stage of its own, or use cache mounts",
        folders: &["*/go/pkg/mod", "*/.cache/go-build"],
    },
    CacheKind {
        name: "jvm",
        what: "downloads of Maven, Gradle and Ivy",
        advice: "build in a stage of its own, or use cache mounts",
        folders: &["*/.m2/repository", "*/.gradle/caches", "*/.ivy2/cache"],
    },
    CacheKind {
        name: "pycache",
        what: "compiled Python, which Python makes again",
        advice: "set `PYTHONDONTWRITEBYTECODE=1` while installing",
        folders: &["*/__pycache__"],
    },
    CacheKind {
        name: "docs",
        what: "documentation and manual pages",
        advice: "use `--no-install-recommends` and dpkg's `path-exclude`, or `--nodocs`",
        folders: &["usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/gtk-doc"],
    },
    CacheKind {
        name: "locales",
        what: "translations",
        advice: "exclude them with dpkg's `path-exclude=/usr/share/locale/*`",
        folders: &["usr/share/locale", "usr/share/i18n"],
    },
    CacheKind {
        name: "temporary",
        what: "temporary files and logs",
        advice: "remove them in the `RUN` that makes them",
        folders: &["tmp", "var/tmp", "var/log"],
    },
    CacheKind {
        name: "git",
        what: "the history of a git checkout",
        advice: "add `.git` to `.dockerignore`, or clone with `--depth 1` and remove it",
        folders: &["*/.git"],
    },
];

/// The kind of a folder, if it is one of these.
pub(crate) fn kind_of(path: &[u8]) -> Option<usize> {
    let fits = |pattern: &&str| match pattern.strip_prefix("*/") {
        Some(end) => {
            let end = end.as_bytes();
            path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
        }
        None => path == pattern.as_bytes(),
    };
    CACHE_KINDS.iter().position(|kind| kind.folders.iter().any(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_caches_are_known() {
        for (path, expected) in [
            ("var/lib/apt/lists", Some("apt")),
            ("srv/var/lib/apt/lists", None),
            ("root/.cache/pip", Some("pip")),
            (".cache/pip", Some("pip")),
            ("root/x.cache/pip", None),
            ("usr/lib/python3/__pycache__", Some("pycache")),
            ("usr/share/doc", Some("docs")),
            ("usr/share/docs", None),
            ("home/app/.git", Some("git")),
            ("go/pkg/mod", Some("go")),
            ("var/tmp", Some("temporary")),
        ] {
            let found = kind_of(path.as_bytes()).map(|kind| CACHE_KINDS[kind].name);
            assert_eq!(found, expected, "{path}");
        }
    }
}
