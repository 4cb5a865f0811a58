//! `conex mount` and what it shares with `conex umount`.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use conex_layer::{Flavor, Form};
use conex_oci::{Digest, Platform, Reference};
use conex_store::{Expected, Force, Lease};
use conex_sys::dir::Dir;
use conex_sys::mount::{self, Attributes, Depth, Filesystem};
use conex_sys::namespace::{self, Namespaces};
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Mount the files of an image, read-only
///
/// As root, the image is mounted at TARGET (a folder of the store without one), whose path is
/// written to standard output, until `conex umount TARGET`; meanwhile the image has one name more,
/// so that it stays. With a COMMAND, the image is mounted for as long as that runs: in its current
/// folder, which `CONEX_MOUNT` names too. That needs no root: nobody else sees the mount.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex mount app -- ls -l etc\n  \
    conex mount app /mnt && conex umount /mnt")]
pub struct Args {
    /// The image: a name, an ID, or the beginning of an ID
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The folder to mount at
    #[arg(value_name = "TARGET", conflicts_with = "command")]
    target: Option<PathBuf>,

    /// One platform of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// What to run in the mounted files
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    if args.command.is_empty() && !session.settings.is_root {
        return Err(CliError::usage("only root can make mounts that others see").with_hint(
            format!("mount it for one command: `conex mount {} -- COMMAND`", args.image),
        ));
    }
    if !args.command.is_empty() {
        // Before any thread is started: they would stay behind in the old namespace.
        session.privileges()?;
        let act = || "cannot make mounts of our own".to_owned();
        namespace::unshare(Namespaces::MOUNT).doing(act)?;
        mount::make_all_private().doing(act)?;
    }
    let store = session.store()?;
    let record = store.resolve(&args.image)?;
    if args.command.is_empty() && record.is_dangling() {
        let message = format!("the image `{}` has no name to come back to", record.id.short());
        return Err(CliError::new(message)
            .with_hint(format!("give it one: `conex tag {} NAME`", args.image)));
    }
    let image = super::history::single(store, &record, args.platform.as_ref())?;
    let lease = store.lease()?;
    lease.hold_image(&image.id)?;
    crate::transfer::unpack(session, &lease, &image.id)?;
    let chain = store.image_config(&image.id)?.chain_id();
    let snapshot = chain.map(|chain| lease.snapshot(&chain)).transpose()?.flatten();
    let snapshot = snapshot.ok_or_else(|| CliError::new("the image has no layers to mount"))?;
    let (layers, form) = (snapshot.stack(), snapshot.form());
    if !args.command.is_empty() {
        return with_command(&lease, &layers, form, &args.command);
    }
    let target = match args.target {
        Some(target) => std::fs::canonicalize(&target)
            .doing(|| format!("cannot find the folder `{}`", target.display()))?,
        None => {
            let folder = store.root().join("mounts").join(image.id.short());
            std::fs::create_dir_all(&folder)
                .doing(|| format!("cannot make the folder `{}`", folder.display()))?;
            folder
        }
    };
    let held = store.tagged(&holding_name(&target)?)?;
    if let Some(held) = held.filter(|_| is_mount_point(&target)) {
        return match held == record.id {
            // Who asks twice wants to know where it is.
            true => session.out(&format!("{}\n", target.display())),
            false => {
                let shown = target.display();
                let message = format!("another image is mounted at `{shown}`: `{}`", held.short());
                Err(CliError::new(message)
                    .with_hint(format!("unmount it first: `conex umount {shown}`")))
            }
        };
    }
    // Before the mount: whoever prunes meanwhile must not find the image unused.
    store.tag(&holding_name(&target)?, &record.id, &Expected::Anything)?;
    if let Err(error) = mount_at(&layers, form, &target) {
        // The first error is the one that matters.
        let _ = store.remove_image(&holding_name(&target)?.to_string(), Force::No);
        return Err(error);
    }
    session.out(&format!("{}\n", target.display()))
}

/// The name that keeps an image while it is mounted somewhere.
fn holding_name(target: &Path) -> Result<Reference> {
    let digest = Digest::of(target.as_os_str().as_bytes());
    Ok(format!("{}:{}", conex_store::MOUNTED, digest.short()).parse()?)
}

fn is_mount_point(target: &Path) -> bool {
    mount::points().is_ok_and(|points| points.iter().any(|point| point == target))
}

/// Unmounts what `conex mount` mounted at a target, and lets the image go. What was unmounted by
/// others, or by a restart of the machine, is only let go.
pub fn release(session: &Session, target: &Path) -> Result<()> {
    let store = session.store()?;
    let (name, shown) = (holding_name(target)?, target.display());
    if store.tagged(&name)?.is_none() {
        let message = match is_mount_point(target) {
            true => format!("what is mounted at `{shown}` was not mounted by conex in this store"),
            false => format!("nothing is mounted at `{shown}`"),
        };
        return Err(CliError::new(message));
    }
    if is_mount_point(target) {
        unmount(target, UnmountFlags::empty()).map_err(|error| {
            let error = io::Error::from(error);
            CliError::because(format!("cannot unmount `{shown}`"), error)
        })?;
    }
    store.remove_image(&name.to_string(), Force::No)?;
    if target.starts_with(store.root()) {
        // One that is not empty is somebody else's now.
        let _ = std::fs::remove_dir(target);
    }
    Ok(())
}

/// Unmounts everything that `conex mount` mounted, the last first, and lets go the images of mounts
/// that are not there any more. Goes on where one fails, and gives the first error.
pub fn release_all(session: &Session) -> Result<()> {
    let store = session.store()?;
    let mut result = Ok(());
    let points = mount::points().doing(|| "cannot list the mounts".to_owned())?;
    let mut left = Vec::new();
    for point in points.iter().rev() {
        let name = holding_name(point)?;
        if store.tagged(&name)?.is_some()
            && let Err(error) = release(session, point)
        {
            left.push(name);
            result = result.and(Err(error));
        }
    }
    let repository: Reference = conex_store::MOUNTED.parse()?;
    for (name, _) in store.tags_of(&repository)? {
        if !left.contains(&name) {
            store.remove_image(&name.to_string(), Force::No)?;
        }
    }
    result
}

fn with_command(lease: &Lease, layers: &[PathBuf], form: Form, words: &[OsString]) -> Result<()> {
    let target = lease.temporary_path()?;
    std::fs::create_dir(&target).doing(|| "cannot make a folder to mount at".to_owned())?;
    mount_at(layers, form, &target)?;
    let [program, arguments @ ..] = words else { return Ok(()) };
    let status = Command::new(program)
        .args(arguments)
        .current_dir(&target)
        .env("CONEX_MOUNT", &target)
        .status()
        .doing(|| format!("cannot run `{}`", program.display()))?;
    // Others do not have the mount: it is gone before the folder is removed.
    let _ = unmount(&target, UnmountFlags::DETACH);
    let _ = std::fs::remove_dir(&target);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match u8::try_from(code).unwrap_or(1) {
        0 => Ok(()),
        code => Err(CliError::exit(code)),
    }
}

/// What a mount of somebody's files does not allow.
const SAFE: Attributes = Attributes::READ_ONLY.and(Attributes::NO_SUID).and(Attributes::NO_DEVICES);

fn mount_at(layers: &[PathBuf], form: Form, target: &Path) -> Result<()> {
    let act = || format!("cannot mount the image at `{}`", target.display());
    let folder = Dir::open_ambient(target).doing(act)?;
    // An overlay needs two folders; one layer is what it is.
    let made = if let [only] = layers {
        let made = mount::bind(rustix::fs::CWD, only, Depth::This).doing(act)?;
        mount::change(&made, SAFE, Attributes::NONE, Depth::This).doing(act)?;
        made
    } else {
        match overlay(layers, form).doing(act)? {
            Some(made) => made,
            None => return classic(layers, form, target).doing(act),
        }
    };
    mount::attach(made, &folder).doing(act)
}

fn options(form: Form) -> [&'static str; 2] {
    match form.flavor {
        Flavor::Trusted => ["redirect_dir=off", "metacopy=off"],
        Flavor::User => ["userxattr", ""],
    }
}

/// Makes the overlay; none if the kernel takes layers only the old way (before 6.7).
fn overlay(layers: &[PathBuf], form: Form) -> io::Result<Option<std::os::fd::OwnedFd>> {
    let filesystem = Filesystem::new("overlay")?;
    for layer in layers {
        match filesystem.set("lowerdir+", layer.as_os_str().as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
            set => set?,
        }
    }
    for option in options(form).into_iter().filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => filesystem.set(key, value)?,
            None => filesystem.set_flag(option)?,
        }
    }
    filesystem.mount(SAFE).map(Some)
}

/// Mounts the old way: all folders in one text, which has to fit a page.
fn classic(layers: &[PathBuf], form: Form, target: &Path) -> io::Result<()> {
    let folders: Vec<&[u8]> = layers.iter().map(|layer| layer.as_os_str().as_bytes()).collect();
    let mut text = b"lowerdir=".to_vec();
    text.extend(folders.join(&b':'));
    for option in options(form).into_iter().filter(|option| !option.is_empty()) {
        text.push(b',');
        text.extend(option.as_bytes());
    }
    mount::classic("overlay", target, &CString::new(text)?, SAFE)
}
