//! `--volume`, `--mount`, `--tmpfs`, and the volumes that an image asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conex_exec::{Access, HostPath, Mount, MountSource};
use conex_layer::{CopyOptions, Form, LastLink, Stack, Target};
use conex_oci::Empty;
use conex_store::{Lease, NewVolume, VolumeUse};
use conex_sys::dir::Dir;
use conex_sys::stat::FileKind;

use crate::commands::build::parse;
use crate::error::{CliError, Doing as _, Result};
use crate::settings::absolute;

/// What must live as long as the container.
#[derive(Debug)]
pub struct Used {
    volumes: Vec<VolumeUse>,
    /// The names of those that nobody named.
    anonymous: Vec<String>,
    form: Form,
}

impl Used {
    /// Nothing yet; files of volumes are written in this form.
    pub fn new(form: Form) -> Self {
        Self { volumes: Vec::new(), anonymous: Vec::new(), form }
    }

    /// Removes the volumes that nobody named, as nobody can name them again. To be called when the
    /// container is gone.
    pub fn remove_anonymous(self, lease: &Lease) -> Result<()> {
        drop(self.volumes);
        for name in &self.anonymous {
            lease.store().remove_volume(name)?;
        }
        Ok(())
    }
}

/// What was asked for.
pub struct Wanted<'w> {
    pub volumes: &'w [String],
    pub mounts: &'w [String],
    pub tmpfs: &'w [String],
    pub of_image: &'w BTreeMap<String, Empty>,
}

/// Describes the mounts, and makes volumes that are missing.
pub fn mounts(
    lease: &Lease,
    stack: &Stack,
    wanted: &Wanted<'_>,
    used: &mut Used,
) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for text in wanted.volumes {
        mounts.push(volume_option(lease, stack, text, used)?);
    }
    for text in wanted.mounts {
        mounts.push(mount_option(lease, stack, text, used)?);
    }
    for text in wanted.tmpfs {
        mounts.push(tmpfs_option(text)?);
    }
    let taken: BTreeSet<String> = mounts.iter().map(|mount| mount.target.clone()).collect();
    for target in wanted.of_image.keys() {
        let clean = target.trim_end_matches('/');
        if !taken.contains(clean) && clean.starts_with('/') {
            mounts.push(anonymous(lease, stack, clean, used)?);
        }
    }
    Ok(mounts)
}

/// `-v SOURCE:TARGET[:OPTIONS]` or `-v TARGET`.
fn volume_option(lease: &Lease, stack: &Stack, text: &str, used: &mut Used) -> Result<Mount> {
    let wrong = |why: &str| CliError::usage(format!("`--volume {text}`: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => return anonymous(lease, stack, &checked(target, text)?, used),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(wrong("it has more than three parts")),
    };
    let mut access = Access::ReadWrite;
    let mut copies = true;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => access = Access::ReadOnly,
            "rw" => access = Access::ReadWrite,
            "nocopy" => copies = false,
            // What other container engines need for labels and propagation is always so here.
            "z" | "Z" | "rprivate" | "private" => {}
            other => return Err(wrong(&format!("the option `{other}` is not offered"))),
        }
    }
    let target = checked(target, text)?;
    if source.contains('/') || source == "." || source == ".." {
        let path = absolute(Path::new(source));
        // Docker makes a folder that is missing; a typing mistake would then go unseen.
        if !path.exists() {
            return Err(wrong(&format!("`{}` is not there", path.display()))
                .with_code(crate::error::RUN_FAILED)
                .with_hint(format!("make it first: `mkdir -p {}`", path.display())));
        }
        return Ok(Mount::bind(HostPath::from(path), target, access));
    }
    named(lease, stack, source, target, access, copies, used)
}

fn checked(target: &str, text: &str) -> Result<String> {
    if !target.starts_with('/') {
        let message = format!("`{text}`: the target `{target}` is not an absolute path");
        return Err(CliError::usage(message));
    }
    Ok(match target.trim_end_matches('/') {
        "" => "/".to_owned(),
        target => target.to_owned(),
    })
}

fn named(
    lease: &Lease,
    stack: &Stack,
    name: &str,
    target: String,
    access: Access,
    copies: bool,
    used: &mut Used,
) -> Result<Mount> {
    let volume = lease.store().use_volume(name)?;
    let path = volume.volume().path.clone();
    used.volumes.push(volume);
    if copies {
        fill(stack, &target, &path, used.form)?;
    }
    Ok(Mount::bind(HostPath::from(path), target, access))
}

/// A volume that nobody named, in place of what the image has there.
fn anonymous(lease: &Lease, stack: &Stack, target: &str, used: &mut Used) -> Result<Mount> {
    let volume = lease.store().create_volume(&NewVolume::default())?;
    used.anonymous.push(volume.name.clone());
    named(lease, stack, &volume.name, target.to_owned(), Access::ReadWrite, true, used)
}

/// An empty volume starts with what the image has at its target.
fn fill(stack: &Stack, target: &str, path: &Path, form: Form) -> Result<()> {
    let act = || format!("cannot fill the volume for `{target}`");
    let is_empty = std::fs::read_dir(path).doing(act)?.next().is_none();
    let found = stack.find(Path::new(target), LastLink::Follow)?;
    let Some(found) = found.filter(|found| is_empty && found.stat.kind == FileKind::Dir) else {
        return Ok(());
    };
    let upper = Dir::open_ambient(path).doing(act)?;
    let mut volume = Target::new(upper, Stack::empty(form), form)?;
    conex_layer::copy(stack, &found.path, &mut volume, Path::new("/"), &CopyOptions::keep(2))?;
    let attributes = conex_layer::Attributes::of_stat(&found.stat);
    volume.put_dir(Path::new("/"), &attributes, conex_layer::Replace::SameKind)?;
    Ok(())
}

/// `--mount type=…`.
fn mount_option(lease: &Lease, stack: &Stack, text: &str, used: &mut Used) -> Result<Mount> {
    let known = [
        "type",
        "source",
        "src",
        "target",
        "dst",
        "destination",
        "readonly",
        "ro",
        "tmpfs-size",
        "tmpfs-mode",
        "volume-nocopy",
    ];
    // `readonly` may stand alone.
    let spelled: Vec<String> = text
        .split(',')
        .map(|part| match part {
            "readonly" | "ro" | "volume-nocopy" => format!("{part}=true"),
            part => part.to_owned(),
        })
        .collect();
    let fields = parse::fields("--mount", &spelled.join(","), &known)?;
    let wrong = |why: &str| CliError::usage(format!("`--mount {text}`: {why}"));
    let get = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)).map(String::as_str);
    let yes = |names: &[&str]| matches!(get(names), Some("true" | "1"));
    let target = get(&["target", "dst", "destination"]).ok_or_else(|| wrong("it has no target"))?;
    let target = checked(target, text)?;
    let access = if yes(&["readonly", "ro"]) { Access::ReadOnly } else { Access::ReadWrite };
    let source = get(&["source", "src"]);
    match get(&["type"]).unwrap_or("volume") {
        "bind" => {
            let source = source.ok_or_else(|| wrong("a bind mount needs a source"))?;
            let path = absolute(Path::new(source));
            if !path.exists() {
                return Err(
                    wrong(&format!("`{source}` is not there")).with_code(crate::error::RUN_FAILED)
                );
            }
            Ok(Mount::bind(HostPath::from(path), target, access))
        }
        "volume" => match source {
            Some(name) => {
                let copies = !yes(&["volume-nocopy"]);
                named(lease, stack, name, target, access, copies, used)
            }
            None => anonymous(lease, stack, &target, used),
        },
        "tmpfs" => {
            let size = get(&["tmpfs-size"]).map(parse::bytes).transpose()?;
            let mode = get(&["tmpfs-mode"]).map_or(Ok(0o1777), |text| octal(text, &wrong))?;
            Ok(tmpfs(target, size, mode, access))
        }
        other => Err(wrong(&format!("the type `{other}` is not offered"))
            .with_hint("`bind`, `volume` and `tmpfs` are")),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`.
fn tmpfs_option(text: &str) -> Result<Mount> {
    let wrong = |why: &str| CliError::usage(format!("`--tmpfs {text}`: {why}"));
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut access) = (None, 0o1777, Access::ReadWrite);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = Some(parse::bytes(value)?),
            ("mode", value) => mode = octal(value, &wrong)?,
            ("ro", "") => access = Access::ReadOnly,
            // Always so: nothing in it gets power.
            ("rw" | "nosuid" | "nodev", "") => {}
            _ => return Err(wrong(&format!("the option `{option}` is not offered"))),
        }
    }
    Ok(tmpfs(checked(target, text)?, size, mode, access))
}

fn octal(text: &str, wrong: &dyn Fn(&str) -> CliError) -> Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| wrong(&format!("`{text}` is no mode")))
}

fn tmpfs(target: String, size: Option<u64>, mode: u32, access: Access) -> Mount {
    Mount { target, source: MountSource::Tmpfs { size, mode, uid: 0, gid: 0 }, access }
}
