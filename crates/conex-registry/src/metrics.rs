//! What `/metrics` tells, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the classes of durations, in milliseconds.
const BOUNDS_MS: [u64; 8] = [1, 5, 10, 50, 100, 500, 1_000, 10_000];

/// Methods that are counted apart.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "other"];

/// Counters of one process.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; 5]; METHODS.len()],
    durations: [AtomicU64; BOUNDS_MS.len() + 1],
    duration_us: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) blobs_added: AtomicU64,
    pub(crate) manifests_added: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) collected_blobs: AtomicU64,
    pub(crate) collected_manifests: AtomicU64,
    pub(crate) removed_objects: AtomicU64,
    pub(crate) expired_uploads: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn count(&self, method: &str, status: u16, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method);
        let method = method.unwrap_or(METHODS.len() - 1);
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[method][class].fetch_add(1, Relaxed);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let at = BOUNDS_MS.iter().position(|bound| ms < *bound).unwrap_or(BOUNDS_MS.len());
        self.durations[at].fetch_add(1, Relaxed);
        self.duration_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(0), Relaxed);
    }

    /// Everything as text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.requests_text(&mut out);
        let (up, level) = ("counter", "gauge");
        for (name, kind, help, value) in [
            ("requests_running", level, "Requests that are being answered.", &self.running),
            ("connections", level, "Open connections.", &self.connections),
            ("connections_total", up, "Connections taken.", &self.connections_total),
            ("received_bytes_total", up, "Bytes of blobs received.", &self.received_bytes),
            ("sent_bytes_total", up, "Bytes of bodies sent.", &self.sent_bytes),
            ("uploads_running", level, "Bodies of blobs being received.", &self.uploads),
            ("blobs_added_total", up, "Blobs uploaded.", &self.blobs_added),
            ("manifests_added_total", up, "Manifests pushed.", &self.manifests_added),
            ("denied_total", up, "Requests without or with wrong credentials.", &self.denied),
            ("gc_blobs_total", up, "Blobs collected from a repository.", &self.collected_blobs),
            ("gc_manifests_total", up, "Manifests collected.", &self.collected_manifests),
            ("gc_objects_total", up, "Files of blobs removed.", &self.removed_objects),
            ("uploads_expired_total", up, "Unfinished uploads removed.", &self.expired_uploads),
            ("failures_total", up, "Requests that failed on this side.", &self.failures),
        ] {
            let name = format!("conex_registry_{name}");
            let value = value.load(Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        out
    }

    fn requests_text(&self, out: &mut String) {
        let name = "conex_registry_requests_total";
        let _ = writeln!(out, "# HELP {name} Requests answered.\n# TYPE {name} counter");
        for (method, classes) in METHODS.iter().zip(&self.requests) {
            for (class, count) in (1..).zip(classes) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let _ =
                        writeln!(out, "{name}{{method=\"{method}\",status=\"{class}xx\"}} {count}");
                }
            }
        }
        let name = "conex_registry_request_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} Time from a request's head to its answer's.\n# TYPE {name} histogram"
        );
        let mut sum = 0;
        for (bound, count) in BOUNDS_MS.iter().zip(&self.durations) {
            sum += count.load(Relaxed);
            let (seconds, millis) = (bound / 1000, bound % 1000);
            let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}.{millis:03}\"}} {sum}");
        }
        sum += self.durations[BOUNDS_MS.len()].load(Relaxed);
        let us = self.duration_us.load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {sum}");
        let _ = writeln!(out, "{name}_sum {}.{:06}", us / 1_000_000, us % 1_000_000);
        let _ = writeln!(out, "{name}_count {sum}");
    }
}

/// Counts up, and down when dropped.
pub(crate) struct Running<'m>(&'m AtomicU64);

impl<'m> Running<'m> {
    pub(crate) fn begin(gauge: &'m AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.count("GET", 200, Duration::from_millis(3));
        metrics.count("PROPFIND", 405, Duration::from_secs(60));
        let text = metrics.text();
        for line in [
            "conex_registry_requests_total{method=\"GET\",status=\"2xx\"} 1",
            "conex_registry_requests_total{method=\"other\",status=\"4xx\"} 1",
            "conex_registry_request_seconds_bucket{le=\"0.005\"} 1",
            "conex_registry_request_seconds_bucket{le=\"+Inf\"} 2",
            "conex_registry_request_seconds_sum 60.003000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
