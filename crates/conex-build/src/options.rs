//! What a build is given besides the Dockerfile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_exec::{ContainerSpec, ExecOptions, ExtraHost, Resources};
use conex_layer::Form;
use conex_report::Reporter;
use conex_store::Lease;

use crate::cancel::Cancel;
use crate::context::Context;
use crate::error::Error;
use crate::remote_cache::RemoteCache;

/// The time stamp that files and images get when nobody asks for another: 1980-01-01, the earliest
/// that every archive format can hold (zip, and so Python's wheels, know no earlier one).
pub const EPOCH_DEFAULT: i64 = 315_532_800;

/// The folders that a build may read.
#[derive(Debug, Default)]
pub struct Contexts {
    /// The main context; a Dockerfile from standard input may have none.
    pub main: Option<Arc<Context>>,
    /// Named ones.
    pub named: BTreeMap<String, Arc<Context>>,
}

impl Contexts {
    pub(crate) fn get(&self, name: Option<&str>) -> Result<&Arc<Context>, Error> {
        match name {
            None => self.main.as_ref().ok_or_else(|| {
                Error::new(crate::ErrorKind::NotFound, "the build has no context")
                    .with_hint("give a folder: `conex build .`")
            }),
            Some(name) => self.named.get(name).ok_or_else(|| {
                let message = format!("the build context `{name}` was not given");
                Error::new(crate::ErrorKind::NotFound, message)
            }),
        }
    }
}

/// A file fetched for ADD.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The content, in a file that the fetcher owns until the build ends.
    pub path: PathBuf,
    /// The file name that the server or the URL gives it.
    pub name: Option<String>,
}

/// A repository fetched for ADD.
#[derive(Debug, Clone)]
pub struct FetchedTree {
    /// A folder with the files.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
}

/// Gets what ADD names on other machines. The builder itself speaks no protocol.
pub trait Fetch: Sync {
    /// Says what a URL's content is now without getting it (an ETag), if the server tells.
    ///
    /// # Errors
    /// The server cannot be asked.
    fn http_version(&self, url: &str) -> Result<Option<String>, Error>;

    /// Gets a file into a new file below `folder`.
    ///
    /// # Errors
    /// It cannot be had.
    fn http(&self, url: &str, folder: &Path) -> Result<Fetched, Error>;

    /// Says which commit a git URL means now.
    ///
    /// # Errors
    /// The repository cannot be asked.
    fn git_commit(&self, url: &str) -> Result<String, Error>;

    /// Gets a repository into a new folder below `folder`.
    ///
    /// # Errors
    /// It cannot be had, or the commit does not begin with `checksum`.
    fn git(
        &self,
        url: &str,
        checksum: Option<&str>,
        keep_git_dir: Option<bool>,
        folder: &Path,
    ) -> Result<FetchedTree, Error>;
}

/// Where a secret's bytes come from.
#[derive(Clone)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Called with the container of a step that failed, its changes still there.
pub type OnFailure<'o> = &'o (dyn Fn(&ContainerSpec) + Sync);

/// How to run a plan.
pub struct BuildOptions<'o> {
    /// Keeps what the build uses from being removed, and names the store.
    pub lease: &'o Lease,
    /// Told what happens.
    pub reporter: &'o dyn Reporter,
    /// Stops the build.
    pub cancel: &'o Cancel,
    /// The folders to read.
    pub contexts: &'o Contexts,
    /// Gets what ADD names on other machines.
    pub fetch: &'o dyn Fetch,
    /// How snapshots are written here.
    pub form: Form,
    /// No file is newer than this, in seconds since 1970.
    pub epoch: i64,
    /// Secrets by ID.
    pub secrets: &'o BTreeMap<String, Secret>,
    /// Sockets of SSH agents by ID.
    pub ssh: &'o BTreeMap<String, PathBuf>,
    /// Who runs commands.
    pub exec: ExecOptions,
    /// Limits of commands.
    pub resources: Resources,
    /// Names that commands can reach.
    pub extra_hosts: Vec<ExtraHost>,
    /// The host's `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// Whether `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Whether to say why each step hit or missed the cache.
    pub explain: bool,
    /// How many steps run at once.
    pub parallel: usize,
    /// Results of builds elsewhere.
    pub cache_from: &'o [RemoteCache],
    /// Called when a step fails.
    pub on_failure: Option<OnFailure<'o>>,
    /// Asks whether this machine runs programs of an architecture that is not its own.
    pub can_run: &'o (dyn Fn(&conex_oci::Platform) -> Result<(), String> + Sync),
}
