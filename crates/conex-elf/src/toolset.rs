//! Sets of programs and files that belong together, as data.
//!
//! A compiler or an interpreter is more than a program with libraries: it starts other programs
//! and reads folders that no file lists. What they are is written here, once, so that
//! `--toolset c` makes a base in which a C program can be built.

/// Programs and files that make one tool whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Toolset {
    /// The word that asks for it.
    pub name: &'static str,
    /// What it is good for, one line.
    pub summary: &'static str,
    /// Programs, found by name; all must be there.
    pub programs: &'static [&'static str],
    /// Programs that are taken if they are there.
    pub programs_optional: &'static [&'static str],
    /// Files and whole folders, with `*` and `?`; each pattern must match something.
    pub paths: &'static [&'static str],
    /// Files and whole folders that are taken if they are there.
    pub paths_optional: &'static [&'static str],
}

impl Toolset {
    /// Finds a set by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TOOLSETS.iter().find(|toolset| toolset.name == name)
    }
}

/// Every set that is known. The folders are those of Debian, Ubuntu, Fedora and Alpine.
pub const TOOLSETS: &[Toolset] = &[
    Toolset {
        name: "shell",
        summary: "a shell and the programs that Dockerfiles call most",
        programs: &[
            "sh",
            "env",
            "ls",
            "cat",
            "cp",
            "mv",
            "rm",
            "mkdir",
            "rmdir",
            "ln",
            "chmod",
            "chown",
            "touch",
            "true",
            "false",
            "echo",
            "printf",
            "test",
            "[",
            "pwd",
            "sleep",
            "date",
            "id",
            "uname",
            "head",
            "tail",
            "wc",
            "sort",
            "uniq",
            "cut",
            "tr",
            "tee",
            "sed",
            "grep",
            "find",
            "xargs",
            "tar",
            "gzip",
            "sha256sum",
            "basename",
            "dirname",
            "readlink",
        ],
        programs_optional: &["awk", "mktemp", "stat", "seq", "realpath", "install", "nproc"],
        paths: &[],
        paths_optional: &[],
    },
    Toolset {
        name: "c",
        summary: "a C compiler with linker, headers and static libraries",
        programs: &["gcc", "as", "ld"],
        programs_optional: &["cc", "ar", "make", "strip", "ranlib", "ld.bfd", "objcopy"],
        paths: &["/usr/lib/gcc/*/*", "/usr/include"],
        // `lib*` beside the compiler's own: start files, linker scripts, libc's archive.
        paths_optional: &[
            "/usr/libexec/gcc/*/*",
            "/usr/lib/*-linux-gnu*/*crt*.o",
            "/usr/lib/*-linux-gnu*/libc.a",
            "/usr/lib/*-linux-gnu*/libc.so",
            "/usr/lib/*-linux-gnu*/libc_nonshared.a",
            "/usr/lib/*-linux-gnu*/libm*.a",
            "/usr/lib/*-linux-gnu*/libm.so",
            "/usr/lib/*-linux-gnu*/libmvec.so*",
            "/usr/lib/*-linux-gnu*/libpthread.a",
            "/usr/lib/*-linux-gnu*/libdl.a",
            "/usr/lib/*-linux-gnu*/librt.a",
            "/usr/lib/*-linux-gnu*/libutil.a",
            "/usr/lib/*-linux-gnu*/libanl.a",
            "/usr/lib/*-linux-gnu*/libresolv.a",
            "/usr/lib/*-linux-gnu*/libresolv.so",
            "/usr/lib64/*crt*.o",
            "/usr/lib64/libc.so",
            "/usr/lib64/libc_nonshared.a",
            "/usr/lib64/libm.so",
            "/usr/lib/*crt*.o",
            "/usr/lib/libc.a",
            "/usr/lib/libc.so",
        ],
    },
    Toolset {
        name: "node",
        summary: "the machine's Node.js with npm",
        programs: &["node", "npm"],
        programs_optional: &["npx"],
        paths: &[],
        // Where NodeSource, Node's own archives, and Debian put npm; Debian's libraries.
        paths_optional: &[
            "/usr/lib/node_modules/npm",
            "/usr/local/lib/node_modules/npm",
            "/usr/share/nodejs",
        ],
    },
    Toolset {
        name: "python3",
        summary: "the machine's Python 3 with its standard library",
        programs: &["python3"],
        programs_optional: &[],
        paths: &["/usr/lib*/python3.*"],
        paths_optional: &["/usr/lib/python3"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for toolset in TOOLSETS {
            assert_eq!(Toolset::named(toolset.name), Some(toolset));
            assert!(!toolset.programs.is_empty() && !toolset.summary.is_empty());
        }
        assert_eq!(Toolset::named("cobol"), None);
    }
}
