//! What registries' answers mean: error documents, rate limits, statuses.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result, SHOWN_LEN_MAX, shown};
use crate::http::Response;
use crate::http::headers::{rate_limit, retry_after, spelled};
use crate::limits::ERROR_BODY_SIZE_MAX;

use super::Shared;
use super::site::Site;

/// The error document of the distribution spec ("Error Codes").
#[derive(Default, Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Default, Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Shared {
    /// Lets an answer through whose status is one of those wanted, and says otherwise what the
    /// registry did not do; `act` follows "cannot".
    pub(crate) fn expect(
        &self,
        response: Response,
        site: &Site,
        act: &str,
        wanted: &[u16],
    ) -> Result<Response> {
        if wanted.contains(&response.status) {
            return Ok(response);
        }
        Err(self.refusal(response, site, act))
    }

    /// Turns an answer into an error.
    pub(crate) fn refusal(&self, response: Response, site: &Site, act: &str) -> Error {
        let status = response.status;
        let now = self.options.clock.now();
        let wait = response.header("retry-after").and_then(|value| retry_after(value, now));
        let limit = limit_text(&response, wait);
        // Without a readable body the status has to do.
        let body = response.bytes("the error", ERROR_BODY_SIZE_MAX).unwrap_or_default();
        let document: ErrorDocument = serde_json::from_slice(&body).unwrap_or_default();
        let code = document.errors.first().map(|entry| entry.code.clone()).unwrap_or_default();
        let kind = kind_of(status, &code);
        let why = reason(status, &document);
        let message = match kind {
            ErrorKind::Unauthorized => format!("`{site}` wants credentials to {act} ({why})"),
            ErrorKind::Denied => format!("`{site}` does not allow to {act} ({why})"),
            ErrorKind::NotFound => format!("`{site}` cannot {act}: not found ({why})"),
            ErrorKind::RateLimited => format!("`{site}` limits requests, {limit} ({why})"),
            _ => format!("`{site}` cannot {act} ({why})"),
        };
        let error = Error::new(kind, message).with_status(status).with_retry_after(wait);
        match kind {
            ErrorKind::Unauthorized => {
                error.with_hint(format!("log in with `conex login {}`", site.registry))
            }
            ErrorKind::RateLimited => error.with_hint(format!(
                "log in with `conex login {}` for a higher limit, or use a mirror",
                site.registry
            )),
            _ => error,
        }
    }
}

fn kind_of(status: u16, code: &str) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        405 => ErrorKind::Unsupported,
        400 if code == "UNSUPPORTED" => ErrorKind::Unsupported,
        400 if code == "DIGEST_INVALID" || code == "SIZE_INVALID" => ErrorKind::Mismatch,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        408 | 499 | 500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}

/// `404 MANIFEST_UNKNOWN: manifest unknown`.
fn reason(status: u16, document: &ErrorDocument) -> String {
    let entries = document.errors.iter().take(3).map(|entry| match &entry.message {
        Some(message) if !message.is_empty() && !entry.code.is_empty() => {
            format!("{}: {message}", entry.code)
        }
        Some(message) if entry.code.is_empty() => message.clone(),
        _ => entry.code.clone(),
    });
    let texts: Vec<String> = entries.filter(|text| !text.is_empty()).collect();
    let text = shown(&texts.join("; "), SHOWN_LEN_MAX);
    if text.is_empty() { status.to_string() } else { format!("{status} {text}") }
}

/// Says what the limit is and when it lifts, as far as the registry told.
fn limit_text(response: &Response, wait: Option<Duration>) -> String {
    let limit = response.header("ratelimit-limit").and_then(rate_limit);
    let mut text = match limit {
        Some(limit) => match limit.window_seconds {
            Some(window) => {
                format!("{} in {}", limit.count, spelled(Duration::from_secs(window)))
            }
            None => format!("{} at a time", limit.count),
        },
        None => "how many it does not say".to_owned(),
    };
    let lifts = wait.or_else(|| reset(response));
    match (lifts, limit.and_then(|limit| limit.window_seconds)) {
        (Some(wait), _) => text.push_str(&format!(", lifts in {}", spelled(wait))),
        (None, Some(window)) => {
            let window = spelled(Duration::from_secs(window));
            text.push_str(&format!(", lifts within {window} of the first request"));
        }
        (None, None) => {}
    }
    text
}

fn reset(response: &Response) -> Option<Duration> {
    let value = response.header("ratelimit-reset")?;
    Some(Duration::from_secs(value.split(';').next()?.trim().parse().ok()?))
}
