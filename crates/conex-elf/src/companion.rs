//! Libraries that the C library loads while a program runs, and that no file lists.

/// A library that is loaded when a program uses one of some functions.
#[derive(Debug, Clone, Copy)]
pub struct Companion {
    /// The functions.
    pub symbols: &'static [&'static str],
    /// The libraries then loaded.
    pub libraries: &'static [&'static str],
    /// A symbol version of the C library from which on it has this built in.
    pub built_in_since: Option<&'static str>,
}

/// What glibc loads by itself. musl loads nothing.
///
/// gconv modules (character sets beyond ASCII and UTF-8) are left out: 250 files that hardly any
/// program in a container needs.
pub const COMPANIONS: &[Companion] = &[
    // glibc's stack unwinder, for thread cancellation and `backtrace`; without it the program is
    // aborted with "libgcc_s.so.1 must be installed for pthread_cancel to work".
    Companion {
        symbols: &["pthread_cancel", "pthread_exit", "backtrace"],
        libraries: &["libgcc_s.so.1"],
        built_in_since: None,
    },
    // Name service: glibc 2.34 took `files` and `dns` in.
    Companion {
        symbols: &[
            "getpwnam",
            "getpwnam_r",
            "getpwuid",
            "getpwuid_r",
            "getgrnam",
            "getgrnam_r",
            "getgrgid",
            "getgrgid_r",
            "getgrouplist",
            "initgroups",
            "getservbyname",
            "getprotobyname",
        ],
        libraries: &["libnss_files.so.2"],
        built_in_since: Some("GLIBC_2.34"),
    },
    Companion {
        symbols: &["getaddrinfo", "gethostbyname", "gethostbyname_r", "gethostbyname2_r"],
        libraries: &["libnss_files.so.2", "libnss_dns.so.2"],
        built_in_since: Some("GLIBC_2.34"),
    },
];
