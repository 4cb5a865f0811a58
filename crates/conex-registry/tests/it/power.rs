//! A registry whose machine loses power between any two things that it does.
//!
//! A real registry is watched by `strace` while clients push, move, delete and have collected. What
//! it did is done again in memory up to each moment, as a disk may have kept it: everything (the
//! process was killed), only what was waited for, or that and any part of the rest in any order,
//! torn. On each such disk a registry is started: whatever was acknowledged can be pulled, byte for
//! byte, and a check finds nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_oci::Digest;
use conex_registry::{Repair, check};

use crate::client::{Client, MANIFEST, with_query};
use crate::killed::{DATA, TIMES, mended, push};
use crate::server::{Registry, missing, now, program};
use crate::trace::{CALLS, Node, Step, Trace};

/// How many moments are tried where nobody asks for more: some seconds' worth.
const MOMENT_COUNT: usize = 60;

/// Set, all moments are tried, each with so many disks that kept some of what was not waited for.
const THOROUGH: &str = "CONEX_TEST_POWER_CUTS";

/// How small a part of a write a disk may keep.
const SECTOR_BYTES: usize = 512;

/// What a disk kept of what nobody waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// All: the process was killed, and the machine was not.
    All,
    Nothing,
    /// Some, as a number says.
    Some(u64),
}

/// A registry under `strace`.
struct Watched {
    strace: Child,
    client: Client,
}

impl Watched {
    fn start(data: &Path, log: &Path, times: &str) -> Self {
        let log = log.to_str().unwrap();
        let options = ["-qq", "-xx", "-s", "4194304", "-e", CALLS, "-e", "signal=none", "-o", log];
        Self::try_start(data, &options, times).expect("the server ended")
    }

    /// None if it ends at once.
    fn try_start(data: &Path, options: &[&str], times: &str) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.arg("-f").args(options).arg(std::env::current_exe().unwrap());
        strace.args(["--exact", "killed::served_by_another_process", "--nocapture"]);
        strace.env(DATA, data).env(TIMES, times).stdin(Stdio::piped());
        strace.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = strace.spawn().unwrap();
        let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines().map(Result::unwrap);
        let is_address = |line: String| line.strip_prefix("listening on ").map(str::to_owned);
        let Some(address) = lines.find_map(is_address) else {
            strace.wait().unwrap();
            return None;
        };
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { strace, client: Client::new(&address) })
    }

    /// Has it end as it should.
    fn end(self) {
        assert!(self.end_or_gone(), "it does not end well");
    }

    /// Has it end if it has not. Gives whether it ended well.
    fn end_or_gone(mut self) -> bool {
        drop(self.strace.stdin.take());
        self.strace.wait().unwrap().success()
    }
}

/// Does what clients do: pushes in all forms by several at once, moves of a tag, deletions. Gives
/// what the tag was on, one after the other.
fn work(client: &Client, round: usize) -> Vec<String> {
    let moved = |number: usize| {
        let bytes = client.push_parts("app", format!("moved to {round}.{number}").as_bytes());
        assert_eq!(client.push_manifest("app", "moving", MANIFEST, &bytes).status, 201);
        format!("/v2/app/manifests/{}", Digest::of(&bytes))
    };
    std::thread::scope(|scope| {
        let moves = scope.spawn(|| (0..3).map(moved).collect());
        scope.spawn(|| {
            let layer: Vec<u8> = (0..150_000_u32).map(|n| (n >> 4) as u8 ^ round as u8).collect();
            let path = client.ask("POST", "/v2/app/blobs/uploads/", &[], b"").location();
            for piece in layer.chunks(50_000) {
                assert_eq!(client.ask("PATCH", &path, &[], piece).status, 202);
            }
            let digest = format!("digest={}", Digest::of(&layer));
            assert_eq!(client.ask("PUT", &with_query(&path, &digest), &[], b"").status, 201);
            // One that is known already, and one that comes from elsewhere.
            client.push_image("app", &format!("large{round}"), &layer);
            let path = format!("/v2/other/blobs/uploads/?mount={}&from=app", Digest::of(&layer));
            assert_eq!(client.ask("POST", &path, &[], b"").status, 201);
            client.push_image("other", "mounted", &layer);
        });
        scope.spawn(|| {
            let digest = client.push_image("doomed", "1", format!("doomed {round}").as_bytes());
            let path = format!("/v2/doomed/manifests/{digest}");
            assert_eq!(client.delete(&path).status, 202);
            // Never finished.
            let path = client.ask("POST", "/v2/app/blobs/uploads/", &[], b"").location();
            client.ask("PATCH", &path, &[], b"half of");
        });
        moves.join().unwrap()
    })
}

/// Deletes what the work has left behind, and sets tags while it is collected.
fn tidy_up(client: &Client) {
    let manifest = client.get("/v2/app/manifests/moving").body;
    let layer = Digest::of(b"doomed 0");
    assert_eq!(client.delete(&format!("/v2/doomed/blobs/{layer}")).status, 202);
    let removed = || {
        let text = String::from_utf8(client.get("/metrics").body).unwrap();
        text.contains("conex_registry_gc_objects_total 1\n")
    };
    for number in 0.. {
        let tag = format!("again{number}");
        assert_eq!(client.push_manifest("app", &tag, MANIFEST, &manifest).status, 201);
        if removed() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A registry that works, ends and works again, as `strace` saw it. None where there is no
/// `strace`, or where it may not watch.
fn watched(base: &Path) -> Option<(Trace, Vec<String>)> {
    if program("strace").is_none() {
        missing("strace");
        return None;
    }
    let (data, log) = (base.join("data"), base.join("log"));
    let (mut text, mut moves) = (String::new(), Vec::new());
    for round in 0..3 {
        // What is deleted goes soon in one of the rounds, in which nothing new needs a lease.
        let times = if round == 1 { "200 3600000" } else { "3600000 3600000" };
        let registry = Watched::start(&data, &log, times);
        match round {
            1 => tidy_up(&registry.client),
            _ => moves.extend(work(&registry.client, round)),
        }
        registry.end();
        text.push_str(&std::fs::read_to_string(&log).unwrap());
    }
    std::fs::remove_file(&log).unwrap();
    let trace = Trace::read(&text, base);
    assert_eq!(trace.unknown, Vec::<String>::new(), "calls that the model does not know");
    Some((trace, moves))
}

/// What is on a disk.
#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<Node, BTreeMap<String, Node>>,
    files: HashMap<Node, Vec<u8>>,
}

/// Numbers that look like chance and are always the same.
struct Chance(u64);

impl Chance {
    fn is_so(&mut self) -> bool {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

impl Disk {
    /// What is there after so many steps.
    fn after(trace: &Trace, moment: usize, kept: Kept) -> Self {
        let mut synced = vec![0; trace.folders.len()];
        for step in &trace.steps[..moment] {
            if let Step::Synced { node, before } = step {
                synced[*node] = (*before).max(synced[*node]);
            }
        }
        let mut chance = Chance(match kept {
            Kept::Some(seed) => seed,
            Kept::All | Kept::Nothing => 0,
        });
        let mut disk = Self::default();
        for (number, step) in trace.steps[..moment].iter().enumerate() {
            let mut is_kept = |node: Node| {
                number < synced[node]
                    || match kept {
                        Kept::All => true,
                        Kept::Nothing => false,
                        Kept::Some(_) => chance.is_so(),
                    }
            };
            match step {
                Step::Names { made, gone } => {
                    let is_made = made.as_ref().is_none_or(|(folder, ..)| is_kept(*folder));
                    if let Some((folder, name, node)) = made.as_ref().filter(|_| is_made) {
                        disk.names.entry(*folder).or_default().insert(name.clone(), *node);
                    }
                    // A rename may leave both names, not none.
                    if let Some((folder, name)) = gone.as_ref().filter(|_| is_made)
                        && is_kept(*folder)
                    {
                        disk.names.entry(*folder).or_default().remove(name);
                    }
                }
                Step::Write { file, at, bytes } => {
                    for (count, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if is_kept(*file) {
                            disk.write(*file, at + count * SECTOR_BYTES, sector);
                        }
                    }
                }
                Step::Length { file, length } => {
                    if is_kept(*file) {
                        disk.files.entry(*file).or_default().resize(*length, 0);
                    }
                }
                Step::Synced { .. } | Step::Kept(_) | Step::Delete(_) => {}
            }
        }
        disk
    }

    fn write(&mut self, file: Node, at: usize, bytes: &[u8]) {
        let content = self.files.entry(file).or_default();
        let end = at + bytes.len();
        content.resize(content.len().max(end), 0);
        content[at..end].copy_from_slice(bytes);
    }

    /// Writes it to a folder.
    fn lay_out(&self, trace: &Trace, node: Node, folder: &Path) {
        for (name, child) in self.names.get(&node).into_iter().flatten() {
            let path = folder.join(name);
            if trace.folders[*child] {
                std::fs::create_dir(&path).unwrap();
                self.lay_out(trace, *child, &path);
            } else {
                std::fs::write(&path, self.files.get(child).map_or(&[][..], Vec::as_slice))
                    .unwrap();
            }
        }
    }
}

/// What must be there after so many steps, by its place.
fn acknowledged(trace: &Trace, moment: usize) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for step in &trace.steps[..moment] {
        match step {
            Step::Kept(place) => {
                all.insert(place.as_str());
            }
            // From when it is asked for, all of that repository may be gone.
            Step::Delete(place) => {
                let repository = place.split('/').nth(2).unwrap_or_default().to_owned();
                all.retain(|place: &&str| place.split('/').nth(2) != Some(&repository));
            }
            _ => {}
        }
    }
    all
}

/// Starts a registry on a disk, and looks for all that was acknowledged.
fn is_whole(trace: &Trace, moves: &[String], moment: usize, kept: Kept) {
    let what = format!("after step {moment} of {} ({kept:?})", trace.steps.len());
    let folder = tempfile::tempdir().unwrap();
    Disk::after(trace, moment, kept).lay_out(trace, 0, folder.path());
    let data = folder.path().join("data");
    let registry = Registry::start(&data);
    let bytes = |place: &str| {
        let reply = registry.client.get(place);
        let digest = place.rsplit('/').next().unwrap();
        assert_eq!(reply.status, 200, "{what}: `{place}` is lost");
        assert_eq!(Digest::of(&reply.body).as_str(), digest, "{what}: `{place}` is not whole");
        reply
    };
    for place in acknowledged(trace, moment) {
        let reply = bytes(place);
        let Some((repository, _)) = place.split_once("/manifests/") else { continue };
        let manifest = reply.json();
        let layers = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
        for layer in layers {
            bytes(&format!("{repository}/blobs/{}", layer["digest"].as_str().unwrap()));
        }
        if let Some(at) = moves.iter().position(|to| to == place) {
            let tagged = registry.client.get("/v2/app/manifests/moving");
            let tagged = format!("/v2/app/manifests/{}", Digest::of(&tagged.body));
            assert!(moves[at..].contains(&tagged), "{what}: the tag went back behind {place}");
        }
    }
    drop(registry);
    mended(&data);
    let report = check(&data, Repair::No, now()).unwrap();
    assert!(report.damages.is_empty(), "{what}: {report:#?}");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let base = tempfile::tempdir().unwrap();
    let Some((trace, moves)) = watched(base.path()) else { return };
    let count = |wanted: fn(&Step) -> bool| trace.steps.iter().filter(|step| wanted(step)).count();
    assert!(count(|step| matches!(step, Step::Kept(_))) > 20, "little was acknowledged");
    assert!(count(|step| matches!(step, Step::Synced { .. })) > 20, "little was waited for");
    let thorough = std::env::var(THOROUGH).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = thorough.unwrap_or(1);
    let stride = match thorough {
        Some(_) => 1,
        None => trace.steps.len().div_ceil(MOMENT_COUNT),
    };
    let mut cases = Vec::new();
    for moment in (0..=trace.steps.len()).step_by(stride) {
        cases.extend([(moment, Kept::All), (moment, Kept::Nothing)]);
        cases.extend((0..seeds).map(|seed| (moment, Kept::Some(seed * 7919 + moment as u64))));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((moment, kept)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    is_whole(&trace, &moves, *moment, *kept);
                }
            });
        }
    });
}

/// Calls that change what is kept, and at which of them, counted by thread, the process is killed.
const KILLED_AT: [(&str, &[usize]); 7] = [
    ("mkdir", &[1, 2, 3, 4]),
    ("openat", &[40, 50, 60, 70]),
    ("rename", &[1, 2]),
    ("fdatasync", &[1, 2, 3, 5, 7]),
    ("fsync", &[1, 2, 3, 5]),
    ("pwrite64", &[1, 4, 9, 16, 25, 36, 49]),
    ("unlink", &[1]),
];

#[test]
fn what_was_acknowledged_survives_a_kill_at_a_call() {
    if program("strace").is_none() {
        return missing("strace");
    }
    let cases: Vec<(&str, usize)> = KILLED_AT
        .iter()
        .flat_map(|(call, numbers)| numbers.iter().map(move |number| (*call, *number)))
        .collect();
    let (next, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((call, number)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    killed.fetch_add(usize::from(is_killed_at(call, *number)), Ordering::Relaxed);
                }
            });
        }
    });
    // The last of each may be one too many: which thread does what is not said.
    let killed = killed.into_inner();
    assert!(killed >= cases.len() * 2 / 3, "only {killed} of {} were killed", cases.len());
}

/// Pushes to a registry that is killed at a call, and looks for what it acknowledged. Gives whether
/// it was killed at all.
fn is_killed_at(call: &str, number: usize) -> bool {
    let what = format!("`{call}` {number}");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let inject = format!("inject={call}:signal=KILL:when={number}");
    let options = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
    let mut acknowledged = Vec::new();
    let mut is_killed = true;
    if let Some(registry) = Watched::try_start(&data, &options, "3600000 3600000") {
        let mut pushes = (0..6).map(|number: usize| {
            let layer = format!("layer {number} ").repeat(1 << (2 * number));
            push(&registry.client, &format!("t{number}"), layer.as_bytes())
                .map(|manifest| acknowledged.push((manifest.unwrap(), layer)))
        });
        is_killed = pushes.any(|pushed| pushed.is_err());
        drop(pushes);
        registry.end_or_gone();
    }
    let registry = Registry::start(&data);
    for (manifest, layer) in acknowledged {
        let digest = Digest::of(&manifest);
        let reply = registry.client.get(&format!("/v2/app/manifests/{digest}"));
        assert!(reply.body == manifest, "{what}: a manifest is lost: {reply:?}");
        let layer = layer.as_bytes();
        let reply = registry.client.get(&format!("/v2/app/blobs/{}", Digest::of(layer)));
        assert!(reply.body == layer, "{what}: a layer is lost: {}", reply.status);
    }
    drop(registry);
    mended(&data);
    let report = check(&data, Repair::No, now()).unwrap();
    assert!(report.damages.is_empty(), "{what}: {report:#?}");
    is_killed
}
