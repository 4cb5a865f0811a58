//! A [`ContainerSpec`] as the `config.json` of the OCI runtime specification.

use serde_json::{Value, json};

use super::super::finish;
use super::super::place::Place;
use super::{Bundle, is_root_read_only, shares_network};
use crate::error::Result;
use crate::seccomp;
use crate::spec::{
    Access, BindDepth, ContainerSpec, Mount, MountSource, Privileges, Resources, Seccomp, SwapLimit,
};

pub(super) fn config(spec: &ContainerSpec, place: Place, bundle: &Bundle) -> Result<Value> {
    let capabilities = finish::allowed(spec, place)?;
    let names: Vec<String> = capabilities.iter().map(|one| one.to_string()).collect();
    let mut linux = json!({
        "namespaces": namespaces(spec),
        "maskedPaths": spec.masked_paths,
        "readonlyPaths": spec.readonly_paths,
        "resources": resources(&spec.resources),
    });
    if let (Seccomp::Default, Some(linux)) = (spec.seccomp, linux.as_object_mut())
        && let Some(profile) = seccomp::as_oci(capabilities)
    {
        linux.insert("seccomp".to_owned(), profile);
    }
    if let (Some(parent), Some(linux)) = (&spec.resources.cgroup_parent, linux.as_object_mut()) {
        let path = format!("/{}/conex", parent.trim_matches('/'));
        linux.insert("cgroupsPath".to_owned(), Value::String(path));
    }
    // A user's process starts with nothing usable, as with our own way.
    let usable: &[String] = if spec.user.uid == 0 { &names } else { &[] };
    let mut process = json!({
        "terminal": spec.terminal.is_some(),
        "user": {
            "uid": spec.user.uid,
            "gid": spec.user.gid,
            "additionalGids": spec.user.groups,
            "umask": spec.umask,
        },
        "args": spec.args,
        "env": finish::environment(spec),
        "cwd": spec.cwd,
        "capabilities": {
            "bounding": names,
            "effective": usable,
            "permitted": usable,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": spec.privileges == Privileges::NeverGrow,
        "rlimits": rlimits(&spec.resources),
    });
    if let (Some(score), Some(process)) = (spec.resources.oom_score_adj, process.as_object_mut()) {
        process.insert("oomScoreAdj".to_owned(), json!(score));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": bundle.path.join(super::ROOT_NAME), "readonly": is_root_read_only(spec) },
        "hostname": spec.hostname,
        "mounts": mounts(spec, place, bundle),
        "linux": linux,
    }))
}

fn namespaces(spec: &ContainerSpec) -> Vec<Value> {
    let mut kinds = vec!["pid", "mount", "ipc", "uts", "cgroup"];
    if !shares_network(spec) {
        kinds.push("network");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn mounts(spec: &ContainerSpec, place: Place, bundle: &Bundle) -> Vec<Value> {
    fn system(kind: &str, target: &str, options: &[&str]) -> Value {
        json!({ "type": kind, "source": kind, "destination": target, "options": options })
    }
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&safe[..], more].concat();
    let shm = format!("size={}", spec.resources.shm_size);
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !place.in_user_namespace {
        pts.push("gid=5");
    }
    let mut mounts = vec![
        system("proc", "/proc", &safe),
        system("tmpfs", "/dev", &["nosuid", "mode=755", "size=65536k"]),
        system("devpts", "/dev/pts", &pts),
        json!({
            "type": "tmpfs",
            "source": "shm",
            "destination": "/dev/shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", shm],
        }),
        system("mqueue", "/dev/mqueue", &safe),
    ];
    if place.in_user_namespace && shares_network(spec) {
        mounts.push(json!({
            "type": "none",
            "source": "/sys",
            "destination": "/sys",
            "options": with(&["rbind", "ro"]),
        }));
    } else {
        mounts.push(system("sysfs", "/sys", &with(&["ro"])));
        mounts.push(system("cgroup", "/sys/fs/cgroup", &with(&["ro"])));
    }
    let mut wanted: Vec<_> = spec.mounts.iter().zip(&bundle.sources).collect();
    wanted
        .sort_by_key(|(mount, _)| mount.target.split('/').filter(|name| !name.is_empty()).count());
    for (mount, source) in wanted {
        mounts.push(one_mount(mount, source.name.as_deref(), bundle));
    }
    mounts
}

fn one_mount(mount: &Mount, name: Option<&str>, bundle: &Bundle) -> Value {
    let access = if mount.access == Access::ReadOnly { "ro" } else { "rw" };
    match (&mount.source, name) {
        (MountSource::Tmpfs { size, mode, uid, gid }, _) => {
            let mut options = vec![
                access.to_owned(),
                "nosuid".to_owned(),
                "nodev".to_owned(),
                format!("mode={mode:o}"),
                format!("uid={uid}"),
                format!("gid={gid}"),
            ];
            options.extend(size.map(|size| format!("size={size}")));
            json!({
                "type": "tmpfs", "source": "tmpfs", "destination": mount.target,
                "options": options,
            })
        }
        (MountSource::Bind { path, depth }, _) => {
            let bind = if *depth == BindDepth::Recursive { "rbind" } else { "bind" };
            json!({
                "type": "none", "source": path.to_string_lossy(), "destination": mount.target,
                "options": [bind, access, "rprivate"],
            })
        }
        (MountSource::File { .. } | MountSource::Overlay { .. }, name) => json!({
            "type": "none",
            "source": bundle.path.join(name.unwrap_or_default()),
            "destination": mount.target,
            "options": ["bind", access, "rprivate"],
        }),
    }
}

fn resources(resources: &Resources) -> Value {
    let mut device_rules = vec![json!({ "allow": false, "access": "rwm" })];
    for kind in ["c", "b"] {
        device_rules.push(json!({ "allow": true, "type": kind, "access": "m" }));
    }
    let mut value = json!({ "devices": device_rules });
    let Some(map) = value.as_object_mut() else { return value };
    if let Some(memory) = resources.memory {
        let swap = match resources.memory_swap {
            Some(SwapLimit::Unlimited) => json!(-1),
            Some(SwapLimit::Total(total)) => json!(total),
            None => json!(memory.saturating_mul(2)),
        };
        map.insert("memory".to_owned(), json!({ "limit": memory, "swap": swap }));
    }
    if let Some(pids) = resources.pids {
        map.insert("pids".to_owned(), json!({ "limit": pids }));
    }
    let mut processors = serde_json::Map::new();
    if let Some((quota, period)) = resources.cpu_quota() {
        processors.insert("quota".to_owned(), json!(quota));
        processors.insert("period".to_owned(), json!(period));
    }
    processors.extend(resources.cpu_shares.map(|shares| ("shares".to_owned(), json!(shares))));
    processors.extend(resources.cpuset_cpus.as_ref().map(|cpus| ("cpus".to_owned(), json!(cpus))));
    processors.extend(resources.cpuset_mems.as_ref().map(|mems| ("mems".to_owned(), json!(mems))));
    if !processors.is_empty() {
        map.insert("cpu".to_owned(), Value::Object(processors));
    }
    value
}

fn rlimits(resources: &Resources) -> Vec<Value> {
    let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let rlimit = |ulimit: &crate::spec::Ulimit| {
        json!({
            "type": format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
            "soft": limit(ulimit.soft),
            "hard": limit(ulimit.hard),
        })
    };
    resources.ulimits.iter().map(rlimit).collect()
}
