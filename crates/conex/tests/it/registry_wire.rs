//! A wire between conex and a registry: bytes are counted on it, and it breaks when it should.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the registry.
    Down,
    /// To the registry.
    Up,
}

#[derive(Debug, Default)]
struct State {
    down: AtomicU64,
    up: AtomicU64,
    /// Breaks that are left.
    breaks: AtomicI64,
    /// Bytes that a connection carries before it breaks.
    break_after: AtomicU64,
    breaks_up: AtomicBool,
    /// What happens instead of a reset.
    ends_politely: AtomicBool,
    /// The byte of a connection that arrives as another one, once; 0 for none.
    spoilt: AtomicU64,
    spoils_up: AtomicBool,
    /// Nothing passes downwards while it is set.
    stalled: AtomicBool,
    ended: AtomicBool,
}

/// Passes connections on to a registry.
pub(crate) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

impl Wire {
    pub(crate) fn to(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (shared, registry) = (Arc::clone(&state), registry.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                // What waits to be sent is lost when the wire breaks: it should not be much.
                rustix::net::sockopt::set_socket_send_buffer_size(&client, 64 << 10).unwrap();
                // Without a registry behind it, the wire is dead.
                let Ok(server) = TcpStream::connect(&registry) else { continue };
                let (client, server) = (Arc::new(client), Arc::new(server));
                for way in [Way::Down, Way::Up] {
                    let (client, server) = (Arc::clone(&client), Arc::clone(&server));
                    let state = Arc::clone(&shared);
                    std::thread::spawn(move || pass(&client, &server, way, &state));
                }
            }
        });
        Self { address, state }
    }

    /// The name of something in the registry, seen through the wire.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// From now on, breaks so many connections, each after so many bytes in one direction.
    pub(crate) fn break_after(&self, way: Way, bytes: u64, count: i64) {
        self.state.breaks_up.store(way == Way::Up, Ordering::SeqCst);
        self.state.break_after.store(bytes, Ordering::SeqCst);
        self.state.breaks.store(count, Ordering::SeqCst);
    }

    /// The same, but a connection ends as if all had been said.
    pub(crate) fn end_after(&self, way: Way, bytes: u64, count: i64) {
        self.state.ends_politely.store(true, Ordering::SeqCst);
        self.break_after(way, bytes, count);
    }

    /// Changes one byte of the next connection that carries so many in one direction.
    pub(crate) fn spoil_at(&self, way: Way, bytes: u64) {
        self.state.spoils_up.store(way == Way::Up, Ordering::SeqCst);
        self.state.spoilt.store(bytes, Ordering::SeqCst);
    }

    /// Breaks that have not happened.
    pub(crate) fn breaks_left(&self) -> i64 {
        self.state.breaks.load(Ordering::SeqCst).max(0)
    }

    /// Lets nothing come down, or lets it come again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Bytes that went one way since this was last asked.
    pub(crate) fn take_count(&self, way: Way) -> u64 {
        let count = if way == Way::Down { &self.state.down } else { &self.state.up };
        count.swap(0, Ordering::SeqCst)
    }

    /// Bytes that went one way.
    pub(crate) fn count(&self, way: Way) -> u64 {
        let count = if way == Way::Down { &self.state.down } else { &self.state.up };
        count.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

fn pass(client: &TcpStream, server: &TcpStream, way: Way, state: &State) {
    let (mut from, mut to) = if way == Way::Down { (server, client) } else { (client, server) };
    let count = if way == Way::Down { &state.down } else { &state.up };
    let mut passed = 0_u64;
    let mut buffer = vec![0; 32 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        while way == Way::Down && state.stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let spoilt = state.spoilt.load(Ordering::SeqCst);
        let is_due = spoilt > 0
            && passed + read as u64 > spoilt
            && state.spoils_up.load(Ordering::SeqCst) == (way == Way::Up);
        if is_due && state.spoilt.swap(0, Ordering::SeqCst) > 0 {
            // Not the last one, which may be where a chunk ends: then the connection breaks.
            buffer[read / 2] ^= 1;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        count.fetch_add(read as u64, Ordering::SeqCst);
        passed += read as u64;
        let is_due = passed >= state.break_after.load(Ordering::SeqCst)
            && state.breaks_up.load(Ordering::SeqCst) == (way == Way::Up);
        if is_due && state.breaks.fetch_sub(1, Ordering::SeqCst) > 0 {
            if !state.ends_politely.load(Ordering::SeqCst) {
                // Closed without a linger, a connection is reset instead of ended.
                let _ = rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO));
            }
            drop(server.shutdown(Shutdown::Both));
            drop(client.shutdown(Shutdown::Both));
            return;
        }
    }
    // The other direction may still have something to say.
    drop(to.shutdown(Shutdown::Write));
}
