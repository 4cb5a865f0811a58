//! Answers: what is sent back, and refusals in the form that the distribution spec gives them.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::error::{Error, ErrorKind};

/// An answer.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// The codes of the distribution spec ("Error Codes"), and one for what it has no code for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    errors: Vec<(Code, String, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What only the person who runs the registry should know.
    pub(crate) trouble: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![(code, message.into(), Value::Null)],
            headers: Vec::new(),
            trouble: None,
        }
    }

    pub(crate) fn bad(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn missing(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// What is asked for is not done here, or not in this way.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
    }

    /// The server is busy; the client may come again.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message)
            .with(header::RETRY_AFTER, "5")
    }

    /// Several errors of one kind, each with its own detail.
    pub(crate) fn each(code: Code, message: &str, details: impl Iterator<Item = Value>) -> Self {
        let mut refusal = Self::bad(code, message);
        refusal.errors = details.map(|detail| (code, message.to_owned(), detail)).collect();
        refusal
    }

    pub(crate) fn detail(mut self, detail: Value) -> Self {
        if let Some(error) = self.errors.last_mut() {
            error.2 = detail;
        }
        self
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        // What cannot be a header is not worth a failure.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn respond(self) -> Response<Body> {
        let errors: Vec<Value> = self
            .errors
            .into_iter()
            .map(|(code, message, detail)| {
                json!({ "code": code.as_str(), "message": message, "detail": detail })
            })
            .collect();
        let text = json!({ "errors": errors }).to_string();
        let mut response = document(self.status, "application/json", text.into());
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let mut refusal = match error.kind() {
            ErrorKind::NoSpace => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                Code::Unknown,
                "the registry's disk is full",
            ),
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the registry failed; its log says why",
            ),
        };
        refusal.trouble = Some(error.line());
        refusal
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// An answer with a document.
pub(crate) fn document(status: StatusCode, media_type: &str, bytes: Bytes) -> Response<Body> {
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    set(&mut response, header::CONTENT_TYPE, media_type);
    response
}

/// Adds a header to an answer.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // Values are digests, names and paths that were checked; others are left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const API_VERSION: HeaderName =
    HeaderName::from_static("docker-distribution-api-version");
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(crate) const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
