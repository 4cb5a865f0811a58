//! Registries under load: ours beside Debian's, and others that are given by path.
//!
//! Not whole processes but requests are measured here, by a small client of our own that sends the
//! same bytes to each. All hashing is done before; the registries take turns, each on an empty
//! folder on the same disk.

mod ceiling;
mod client;
mod garbage;
mod large;
mod scale;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::client::{Client, Work};
use crate::shell::Result;

/// What `--only` calls it.
pub(crate) const NAME: &str = "registry-load";

/// What it is.
pub(crate) const WHAT: &str = "registries under many clients: pushes, pulls, memory (by name only)";

/// What `--only` calls the long ones.
pub(crate) const SCALE_NAME: &str = "registry-scale";

/// What they are.
pub(crate) const SCALE_WHAT: &str =
    "our registry with a million of everything and uploads of gigabytes (by name only)";

/// How much is done; `--runs` multiplies the small pushes.
const SMALL_PUSHES: usize = 600;
const SMALL_CLIENTS: usize = 16;
const LARGE_PUSHES: usize = 48;
const LARGE_BYTES: usize = 10 << 20;
const LARGE_CLIENTS: usize = 8;
const PULLS: usize = 160;
const MANY_CLIENTS: usize = 64;

/// Rounds of large pushes: other work on the machine falls on some of them.
const LARGE_ROUNDS: usize = 5;

type Io<T> = std::io::Result<T>;

/// A registry that can be measured.
struct Contestant {
    name: String,
    start: Start,
}

/// Starts a registry on a folder and a port.
type Start = Box<dyn Fn(&Path, u16) -> Io<Child>>;

/// Measures registries beside each other, and what the machine can do at all.
pub(crate) fn run(conex: &Path, dir: &Path, runs: usize) -> Result<String> {
    let folder = empty_folder(dir)?;
    let contestants = contestants(conex, &folder);
    let work = Work::prepare(runs);
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for contestant in &contestants {
        eprintln!("== registry: {}", contestant.name);
        match measure(contestant, &folder, &work) {
            Ok(row) => rows.push((contestant.name.clone(), row)),
            Err(error) => eprintln!("   {}: {error}", contestant.name),
        }
        empty_folder(dir)?;
    }
    // After the contestants and before them would differ as much as two runs do.
    let ceilings = ceiling::measure(&folder, &work).map_err(|error| error.to_string())?;
    // What stays is removed by the next run.
    let _ = fs::remove_dir_all(&folder);
    Ok(format!("{}\n{ceilings}", table(&rows, &work)))
}

/// Measures ours with a million of everything, and with large uploads.
pub(crate) fn run_at_scale(conex: &Path, dir: &Path) -> Result<String> {
    let mut text = String::new();
    type Case = fn(&Path, &Path) -> Io<String>;
    let cases: [(&str, Case); 3] = [
        ("a million manifests", scale::measure),
        ("large uploads", large::measure),
        ("a million dead blobs", garbage::measure),
    ];
    for (what, case) in cases {
        eprintln!("== registry: {what}");
        let folder = empty_folder(dir)?;
        match case(conex, &folder) {
            Ok(lines) => text.push_str(&lines),
            Err(error) => text.push_str(&format!("{what}: not measured: {error}\n")),
        }
        // What stays is removed by the next run.
        let _ = fs::remove_dir_all(&folder);
    }
    Ok(text)
}

fn empty_folder(dir: &Path) -> Result<PathBuf> {
    let folder = dir.join("registry");
    // A run that was stopped may have left it.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// Starts ours on a folder; gives its address and how long it took to answer.
fn serve(conex: &Path, data: &Path, more: &[&str]) -> Io<(Running, String, Duration)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(conex);
    command.args(["registry", "serve", "--access-log", "none", "--data"]).arg(data);
    command.args(["--listen", &address]).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let running = Running(command.spawn()?);
    while TcpStream::connect(&address).is_err() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err(std::io::Error::other("it does not answer"));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Client::connect(&address)?.expect("GET", "/healthz", &[], b"", 200)?;
    Ok((running, address, began.elapsed()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value that so many of a hundred sorted ones do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

/// The best and the median of some rates.
fn best_and_median(mut rates: Vec<f64>) -> String {
    rates.sort_by(f64::total_cmp);
    let best = rates.last().copied().unwrap_or_default();
    let median = rates.get(rates.len() / 2).copied().unwrap_or_default();
    format!("{median:.2} GB/s, best {best:.2}")
}

fn table(rows: &[(String, Vec<String>)], work: &Work) -> String {
    let mut text = format!(
        "registry: {} small images with {SMALL_CLIENTS} clients, 7 requests each; {LARGE_ROUNDS} \
         times {LARGE_PUSHES} layers of 10 MiB with {LARGE_CLIENTS} clients (median and best); \
         {PULLS} pulls of them\n\n\
         | registry | small pushes/s | small PUT to 201, 99 % | large push \
         | last byte to 201, 99 % | large pull | idle memory \
         | most, {MANY_CLIENTS} uploads at once |\n|---|---|---|---|---|---|---|---|\n",
        work.small.len()
    );
    for (name, cells) in rows {
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

fn contestants(conex: &Path, folder: &Path) -> Vec<Contestant> {
    let serve = |name: &str, more: &'static [&'static str]| {
        let conex = conex.to_owned();
        Contestant {
            name: name.to_owned(),
            start: Box::new(move |data, port| {
                let mut command = Command::new(&conex);
                command.args(["registry", "serve", "--access-log", "none", "--data"]).arg(data);
                command.args(["--listen", &format!("127.0.0.1:{port}")]).args(more);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        }
    };
    let mut list = vec![serve("conex", &[]), serve("conex --no-sync", &["--no-sync"])];
    let config = folder.with_extension("yml");
    let given = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let debian = Some(PathBuf::from("/usr/bin/docker-registry")).filter(|path| path.exists());
    for (name, program) in
        [("docker-registry", debian), ("distribution", given("CONEX_BENCH_DISTRIBUTION"))]
    {
        let Some(program) = program else {
            eprintln!("   {name}: not installed");
            continue;
        };
        let config = config.clone();
        list.push(Contestant {
            name: name.to_owned(),
            start: Box::new(move |data, port| {
                let text = format!(
                    "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                     http: {{addr: \"127.0.0.1:{port}\"}}\n\
                     log: {{level: error, accesslog: {{disabled: true}}}}\n",
                    data.display()
                );
                fs::write(&config, text)?;
                let mut command = Command::new(&program);
                command.arg("serve").arg(&config);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        });
    }
    if let Some(zot) = given("CONEX_BENCH_ZOT") {
        let config = folder.with_extension("json");
        list.push(Contestant {
            name: "zot".to_owned(),
            start: Box::new(move |data, port| {
                let text = serde_json::json!({
                    "storage": { "rootDirectory": data },
                    "http": { "address": "127.0.0.1", "port": port.to_string() },
                    "log": { "level": "error" },
                });
                fs::write(&config, text.to_string())?;
                let mut command = Command::new(&zot);
                command.arg("serve").arg(&config);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        });
    }
    list
}

/// A process that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(contestant: &Contestant, folder: &Path, work: &Work) -> Io<Vec<String>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let data = folder.join("data");
    let running = Running((contestant.start)(&data, port)?);
    let address = format!("127.0.0.1:{port}");
    let began = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err(std::io::Error::other("it does not answer"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Client::connect(&address)?.expect("GET", "/v2/", &[], b"", 200)?;
    std::thread::sleep(Duration::from_millis(300));
    let idle = memory(running.0.id(), "VmRSS:");
    let waits = Mutex::new(Vec::new());
    let small = each(&address, SMALL_CLIENTS, work.small.len(), |client, number| {
        let took = work.small[number].push(client, &format!("small/n{}", number % 50))?;
        waits.lock().expect("nobody panics with it").extend(took);
        Ok(())
    })?;
    let mut waits = waits.into_inner().unwrap_or_default();
    waits.sort();
    let mut large = Vec::new();
    let mut tails = Vec::new();
    for round in 0..LARGE_ROUNDS {
        let waits = Mutex::new(&mut tails);
        let took = each(&address, LARGE_CLIENTS, LARGE_PUSHES, |client, number| {
            // Each is new: what is known already would not be stored.
            let took = client.push_layer("large", &work.large[round * LARGE_PUSHES + number])?;
            waits.lock().expect("nobody panics with it").push(took);
            Ok(())
        })?;
        large.push(gigabytes_a_second(LARGE_PUSHES * LARGE_BYTES, took));
    }
    tails.sort();
    let pull = each(&address, LARGE_CLIENTS, PULLS, |client, number| {
        let blob = &work.large[number % LARGE_PUSHES];
        let path = format!("/v2/large/blobs/{}", blob.digest());
        let size = client.drain(&path)?;
        if size == blob.size() { Ok(()) } else { Err(std::io::Error::other("a short blob")) }
    })?;
    each(&address, MANY_CLIENTS, MANY_CLIENTS, |client, number| {
        let new = LARGE_ROUNDS * LARGE_PUSHES + number;
        client.push_layer("many", &work.large[new]).map(|_| ())
    })?;
    Ok(vec![
        format!("{:.0}", work.small.len() as f64 / small.as_secs_f64()),
        format!("{:.1} ms", ms(percentile(&waits, 99))),
        best_and_median(large),
        format!("{:.1} ms", ms(percentile(&tails, 99))),
        format!("{:.2} GB/s", gigabytes_a_second(PULLS * LARGE_BYTES, pull)),
        format!("{:.1} MB", idle as f64 / 1e6),
        format!("{:.1} MB", memory(running.0.id(), "VmHWM:") as f64 / 1e6),
    ])
}

fn gigabytes_a_second(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e9
}

/// Resident memory of a process, now (`VmRSS:`) or at most (`VmHWM:`), in bytes.
fn memory(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Does something so many times by so many clients at once; gives how long that took.
fn each(
    address: &str,
    clients: usize,
    count: usize,
    act: impl Fn(&mut Client, usize) -> Io<()> + Sync,
) -> Io<Duration> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = || {
            let mut client = Client::connect(address)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                act(&mut client, number)?;
            }
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")))
        })
    })?;
    Ok(began.elapsed())
}
