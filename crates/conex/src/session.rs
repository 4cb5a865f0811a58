//! What a command works with: the settings, the store (opened when first asked for), and where its
//! words go.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use conex_layer::{Flavor, Ownership};
use conex_store::{Store, StoreOptions, Timestamp};
use conex_sys::userns;
use conex_term::Palette;

use crate::error::{CliError, Doing as _, Result};
use crate::settings::{Settings, variable};

/// One run of the program.
pub struct Session {
    /// What the person and the machine set.
    pub settings: Settings,
    store: OnceLock<Store>,
    privileges: OnceLock<Privileges>,
}

/// By what right this process changes owners and mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Privileges {
    /// Root of the machine (or of a container that may mount).
    Root,
    /// Root of a user namespace, as [`userns::enter`] made it.
    UserNamespace(userns::Mode),
}

impl Privileges {
    /// Where overlays keep their marks.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::Root => Flavor::Trusted,
            Self::UserNamespace(_) => Flavor::User,
        }
    }

    /// Whether files can be given to other users.
    pub fn ownership(&self) -> Ownership {
        match self {
            Self::UserNamespace(userns::Mode::Single { .. }) => Ownership::Recorded,
            _ => Ownership::Real,
        }
    }
}

impl Session {
    /// Starts with settings; nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, store: OnceLock::new(), privileges: OnceLock::new() }
    }

    /// Becomes root of a user namespace, if this is not root already. Must come before any thread.
    ///
    /// # Errors
    /// The machine allows no user namespaces.
    pub fn privileges(&self) -> Result<&Privileges> {
        if let Some(privileges) = self.privileges.get() {
            return Ok(privileges);
        }
        let privileges = if self.settings.is_root {
            Privileges::Root
        } else {
            let mode = userns::enter(&user_namespace_plan()).map_err(|error| {
                CliError::because("cannot enter a user namespace", error).with_hint(
                    "`conex info` says what this machine allows; root needs no user namespace",
                )
            })?;
            Privileges::UserNamespace(mode)
        };
        Ok(self.privileges.get_or_init(|| privileges))
    }

    /// The store.
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        self.privileges()?;
        let store = Store::open(&self.settings.root, self.store_options())?;
        Ok(self.store.get_or_init(|| store))
    }

    /// How a store is opened here.
    pub fn store_options(&self) -> StoreOptions {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        StoreOptions {
            clock: Arc::new(|| Timestamp::from_system(SystemTime::now())),
            // Without it every boot looks alike, and nothing is checked again.
            boot_id: boot_id.unwrap_or_default().trim().to_owned(),
            actor: actor(),
            tree_remover: None,
        }
    }

    /// The time now.
    pub fn now(&self) -> conex_term::Timestamp {
        let now = Timestamp::from_system(SystemTime::now());
        conex_term::Timestamp::from_unix_nanos(now.0.into())
    }

    /// Colours for results.
    pub fn out_palette(&self) -> Palette {
        self.palette(conex_term::is_terminal(std::io::stdout()))
    }

    /// Colours for everything else.
    pub fn err_palette(&self) -> Palette {
        self.palette(conex_term::is_terminal(std::io::stderr()))
    }

    fn palette(&self, is_terminal: bool) -> Palette {
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        self.settings.color.palette(
            is_terminal,
            text("NO_COLOR").as_deref(),
            text("TERM").as_deref(),
        )
    }

    /// Writes a result.
    ///
    /// # Errors
    /// Standard output cannot be written to. A reader that went away (`conex images | head`) is
    /// none: the command ends quietly.
    pub fn out(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::exit(0)),
            result => result.doing(|| "cannot write to standard output".to_owned()),
        }
    }

    /// Writes a line that is no result.
    pub fn err(&self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// How many threads are worth starting.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// How the user's ids can be mapped on this machine.
pub fn user_namespace_plan() -> userns::Plan {
    let identity = userns::Identity::of_process(user_name());
    let read = |path: &str| std::fs::read(path).unwrap_or_default();
    userns::Plan::new(
        identity,
        &read("/etc/subuid"),
        &read("/etc/subgid"),
        find_program("newuidmap"),
        find_program("newgidmap"),
    )
}

/// Finds a program in `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The user's name in the machine's user database.
fn user_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

fn actor() -> String {
    user_name().unwrap_or_else(|| format!("uid {}", rustix::process::geteuid().as_raw()))
}
