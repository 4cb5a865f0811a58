//! A proxy in front of `docker-registry` that breaks, stalls, truncates, corrupts and refuses.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use conex_remote::{Client, ClientOptions, ErrorKind, copy};
use conex_report::Discard;

use crate::docker_registry::Registry;
use crate::fake::request;
use crate::support::{MemoryImage, copy_options, options};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection is reset after some bytes of the answer.
    Reset,
    /// Nothing more comes after some bytes of the answer.
    Stall,
    /// The connection ends in the middle of the answer.
    Truncate,
    /// One byte of the answer's body is another.
    Corrupt,
    /// 429 instead of the answer.
    TooMany,
    /// 500 instead of the answer.
    Failure,
    /// The connection ends in the middle of the request's body.
    Upload,
}

/// Spoils one request in `every`; the rest pass.
struct Proxy {
    address: SocketAddr,
    faults: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: u16, fault: Fault, every: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&faults), Arc::clone(&stop));
        let requests = Arc::new(AtomicU64::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (count, requests) = (Arc::clone(&count), Arc::clone(&requests));
                // A connection that cannot go on just ends.
                std::thread::spawn(move || {
                    let _ = pass(&stream, to, fault, every, &requests, &count);
                });
            }
        });
        Self { address, faults, stop }
    }

    fn reference(&self, rest: &str) -> conex_oci::Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes requests on, one connection to the registry for each, and spoils some.
fn pass(
    client: &TcpStream,
    to: u16,
    fault: Fault,
    every: u64,
    requests: &AtomicU64,
    faults: &AtomicU64,
) -> Option<()> {
    let mut reader = BufReader::new(client);
    while let Some(asked) = request(&mut reader) {
        let mut client = client;
        let about_blobs = asked.path().contains("/blobs/");
        let uploads = matches!(asked.method.as_str(), "PATCH");
        let wanted = match fault {
            Fault::Upload => uploads,
            Fault::TooMany | Fault::Failure => asked.path() != "/v2/",
            _ => about_blobs && asked.method == "GET",
        };
        let spoil = wanted && requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(every);
        if spoil {
            faults.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            Fault::TooMany if spoil => {
                let text = "HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
                client.write_all(text.as_bytes()).ok()?;
                continue;
            }
            Fault::Failure if spoil => {
                client.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n").ok()?;
                continue;
            }
            _ => {}
        }
        let mut registry = TcpStream::connect(("127.0.0.1", to)).ok()?;
        let mut head = format!("{} {} HTTP/1.1\r\n", asked.method, asked.target);
        for (name, value) in &asked.headers {
            if !matches!(name.as_str(), "connection" | "expect") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str("connection: close\r\n\r\n");
        registry.write_all(head.as_bytes()).ok()?;
        let upload_ends = spoil && fault == Fault::Upload;
        let sent = if upload_ends { asked.body.len() / 2 } else { asked.body.len() };
        registry.write_all(&asked.body[..sent]).ok()?;
        if upload_ends {
            return None;
        }
        let mut answer = Vec::new();
        registry.read_to_end(&mut answer).ok()?;
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let half = body + (answer.len() - body) / 2;
        // Only answers that have a body to speak of can be spoilt in it.
        let spoil = spoil && half > body + 10;
        match fault {
            Fault::Corrupt if spoil => answer[half] ^= 1,
            Fault::Truncate | Fault::Reset | Fault::Stall if spoil => answer.truncate(half),
            _ => {}
        }
        client.write_all(&answer).ok()?;
        if spoil && fault == Fault::Stall {
            std::thread::sleep(Duration::from_secs(5));
        }
        if spoil && fault == Fault::Reset {
            // Closed without a linger, the connection is reset instead of ended.
            rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO)).unwrap();
            return None;
        }
        // The registry said `connection: close`, which the client obeys.
        return None;
    }
    None
}

/// Gives up on a silent peer soon, but not on a busy machine.
fn hasty() -> ClientOptions {
    let mut hasty = options();
    hasty.timeouts.idle = Duration::from_secs(2);
    hasty.retry.attempts = 10;
    hasty
}

#[test]
fn images_come_and_go_whatever_the_proxy_does() {
    let Some(registry) = Registry::plain() else { return };
    let image = MemoryImage::with_layers(&[1000, 5 << 20, 20 << 20], 1);
    let faults = [
        Fault::Reset,
        Fault::Stall,
        Fault::Truncate,
        Fault::TooMany,
        Fault::Failure,
        Fault::Upload,
    ];
    for fault in faults {
        // An upload is three requests: were each third refused, one could meet it time and again.
        let every = if matches!(fault, Fault::TooMany | Fault::Failure) { 5 } else { 3 };
        let proxy = Proxy::start(registry.port, fault, every);
        let name = format!("{fault:?}").to_lowercase();
        let client = Client::new(hasty());
        let repository = client.repository(&proxy.reference(&format!("{name}:1")));
        copy(&image, &repository, &copy_options("1"), &Discard)
            .unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        let back = MemoryImage::default();
        copy(&repository, &back, &copy_options("1"), &Discard)
            .unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        assert!(*back.blobs.lock().unwrap() == *image.blobs.lock().unwrap(), "{fault:?}");
        assert!(proxy.faults.load(Ordering::Relaxed) > 0, "{fault:?} never happened");
    }
}

#[test]
fn corruption_never_arrives() {
    let Some(registry) = Registry::plain() else { return };
    let image = MemoryImage::with_layers(&[5 << 20], 2);
    let direct = Client::new(hasty()).repository(&registry.reference("c:1"));
    copy(&image, &direct, &copy_options("1"), &Discard).unwrap();
    let proxy = Proxy::start(registry.port, Fault::Corrupt, 1);
    let repository = Client::new(hasty()).repository(&proxy.reference("c:1"));
    let back = MemoryImage::default();
    let error = copy(&repository, &back, &copy_options("1"), &Discard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error:?}");
    assert!(back.root.lock().unwrap().is_none());
    let blobs = back.blobs.lock().unwrap();
    assert!(blobs.iter().all(|(digest, bytes)| conex_oci::Digest::of(bytes) == *digest));
}
