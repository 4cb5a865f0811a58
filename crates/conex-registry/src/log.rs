//! The access log: a line of JSON for each request, written when its answer has been sent.
//!
//! Holds no secret: no header but the name of the client's program, and of the URL only the path.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use serde_json::json;

use crate::metrics::Metrics;
use crate::time::{Clock, Moment};

/// Lines that may wait to be written. What comes on top is dropped: a log that is slow
/// must not make the registry slow.
const WAITING_MAX: usize = 8_192;

/// Longest name of a client's program that is written.
const AGENT_LEN_MAX: usize = 200;

/// Longest path that is written.
const PATH_LEN_MAX: usize = 1_000;

/// Where lines go.
#[derive(Clone)]
pub(crate) struct Log {
    queue: Option<SyncSender<String>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
}

impl Log {
    /// Writes to a place from now on, or nowhere.
    pub(crate) fn start(
        out: Option<Box<dyn Write + Send>>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let queue = out.map(|out| {
            let (queue, lines) = sync_channel(WAITING_MAX);
            // Ends when the last sender is gone.
            std::thread::spawn(move || write_lines(out, &lines));
            queue
        });
        Self { queue, metrics, clock }
    }
}

fn write_lines(mut out: Box<dyn Write + Send>, lines: &Receiver<String>) {
    while let Ok(first) = lines.recv() {
        let mut text = first;
        for line in lines.try_iter().take(256) {
            text.push_str(&line);
        }
        // A log that cannot be written to (a closed pipe) must not stop the registry.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A request that is being answered; written down when dropped.
pub(crate) struct Record {
    log: Log,
    began: Moment,
    began_at: Instant,
    client: IpAddr,
    method: String,
    path: String,
    agent: String,
    user: Option<String>,
    status: u16,
    sent: u64,
}

impl Record {
    pub(crate) fn begin<B>(log: &Log, client: IpAddr, request: &http::Request<B>) -> Self {
        let agent = request.headers().get(http::header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let cut = |text: &str, most: usize| text.chars().take(most).collect();
        Self {
            began: (log.clock)(),
            began_at: Instant::now(),
            client,
            method: cut(request.method().as_str(), 20),
            path: cut(request.uri().path(), PATH_LEN_MAX),
            agent: cut(agent, AGENT_LEN_MAX),
            user: None,
            status: 0,
            sent: 0,
            log: log.clone(),
        }
    }

    /// Notes who asked.
    pub(crate) fn set_user(&mut self, user: &str) {
        self.user = Some(user.to_owned());
    }

    /// Notes what was answered.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
        self.log.metrics.count(&self.method, status, self.began_at.elapsed());
    }

    /// Counts what was sent.
    pub(crate) fn add_sent(&mut self, count: u64) {
        self.sent += count;
        self.log.metrics.sent_bytes.fetch_add(count, Relaxed);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(queue) = &self.log.queue else { return };
        let took = self.began_at.elapsed();
        let line = json!({
            "time": self.began.rfc3339(),
            "client": self.client.to_string(),
            "user": self.user,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "bytes": self.sent,
            "duration_ms": u64::try_from(took.as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0,
            "agent": self.agent,
        });
        match queue.try_send(format!("{line}\n")) {
            Ok(()) | Err(TrySendError::Disconnected(_) | TrySendError::Full(_)) => {}
        }
    }
}
