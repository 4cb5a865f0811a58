//! What answers share: the request, as far as they need it, and what the registry works with.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use crate::answer::Refusal;
use crate::blobs::Blobs;
use crate::body::Pool;
use crate::meta::{By, Meta};
use crate::metrics::Metrics;
use crate::options::{Limits, Times};
use crate::route::Query;
use crate::time::{Clock, Moment};
use crate::uploads::Uploads;

/// A request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) user: Option<String>,
}

impl Call {
    /// The text of a header.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// A refusal of the method.
    pub(crate) fn wrong_method(&self, allowed: &str) -> Refusal {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            crate::answer::Code::Unsupported,
            format!("`{}` is not done here", self.method),
        )
        .with(http::header::ALLOW, allowed)
    }
}

/// What a registry with its own data works with.
pub(crate) struct Core {
    pub(crate) meta: Box<dyn Meta>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) times: Times,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) metrics: Arc<Metrics>,
    /// Turns to receive a blob.
    pub(crate) receiving: Semaphore,
}

impl Core {
    pub(crate) fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Who does something now.
    pub(crate) fn by(&self, call: &Call) -> By {
        let actor = call.user.clone().unwrap_or_else(|| "anonymous".to_owned());
        By { actor, now: self.now() }
    }

    /// Whether a lease has so little left that it is renewed: at most four times a lease, so that
    /// questions do not become writes.
    pub(crate) fn is_short(&self, lease: Moment) -> bool {
        lease < self.now().after(self.times.lease * 3 / 4)
    }
}
