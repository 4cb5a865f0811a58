//! Manifests and tags: fetching, pushing, deleting; lists; referrers; what tags were on.

use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use conex_oci::{Digest, Hasher, MANIFEST_SIZE_MAX};
use http::{Method, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::answer::{
    Answer, CONTENT_DIGEST, Code, OCI_FILTERS, OCI_SUBJECT, OCI_TAG, Refusal, document, empty, set,
};
use crate::blob::{is_known, not_modified};
use crate::body::Body;
use crate::core::{Call, Core};
use crate::document::{Document, listed};
use crate::meta::{Change, Expected, ManifestRow, NewManifest, ReferrerQuery, Rollback};
use crate::name::{Name, Tag};
use crate::route::{Reference, encoded};

/// Longest list that is given at once, however much is asked for.
const PAGE_COUNT_MAX: usize = 10_000;

/// Repositories that are given at once where the client does not say.
const CATALOG_COUNT: usize = 1_000;

/// Referrers that are given at once.
const REFERRER_COUNT_MAX: usize = 500;

/// Bytes of a list of referrers: an index has to be a manifest that clients take.
const REFERRERS_SIZE_MAX: usize = 3 << 20;

/// Tags that one push may set.
const TAG_COUNT_MAX: usize = 100;

/// Largest request to roll back.
const ROLLBACK_SIZE_MAX: u64 = 4 << 10;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Answers a request about a manifest.
pub(crate) async fn manifest(
    core: &Core,
    mut call: Call,
    of: &Name,
    reference: &Reference,
) -> Answer {
    match call.method {
        Method::GET | Method::HEAD => {
            let found = core.meta.manifest(of, reference).await?;
            let row = found.ok_or_else(|| unknown(reference))?;
            if row.orphan_lease.is_some_and(|lease| core.is_short(lease)) {
                // Whoever asks may be about to push an index that needs it.
                core.meta.extend_manifest(of, &row.digest, core.now()).await?;
            }
            Ok(shown(&call, &row.digest, &row.media_type, row.bytes.into()))
        }
        Method::PUT => put(core, &mut call, of, reference).await,
        Method::DELETE => match core.meta.delete_manifest(of, reference, core.by(&call)).await? {
            Change::Done => Ok(empty(StatusCode::ACCEPTED)),
            Change::Missing => Err(unknown(reference)),
            other => Err(refused(other)),
        },
        _ => Err(call.wrong_method("GET, HEAD, PUT, DELETE")),
    }
}

/// The answer to a question for a manifest.
pub(crate) fn shown(
    call: &Call,
    digest: &Digest,
    media_type: &str,
    bytes: Bytes,
) -> Response<Body> {
    if is_known(call, digest) {
        return not_modified(digest);
    }
    let mut response = document(StatusCode::OK, media_type, bytes);
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    set(&mut response, header::ETAG, &format!("\"{digest}\""));
    response
}

pub(crate) fn unknown(reference: &Reference) -> Refusal {
    let detail = match reference {
        Reference::Tag(tag) => json!({ "tag": tag.as_str() }),
        Reference::Digest(digest) => json!({ "digest": digest.as_str() }),
    };
    let message = "the repository does not have this manifest";
    Refusal::missing(Code::ManifestUnknown, message).detail(detail)
}

fn refused(change: Change) -> Refusal {
    let digests = |digests: Vec<Digest>| {
        digests.into_iter().map(|digest| json!({ "digest": digest.as_str() })).collect::<Vec<_>>()
    };
    match change {
        Change::NeedsBlobs(missing) => Refusal::each(
            Code::ManifestBlobUnknown,
            "the manifest needs a blob that the repository does not have",
            digests(missing).into_iter(),
        ),
        Change::NeedsManifests(missing) => Refusal::each(
            Code::ManifestBlobUnknown,
            "the index needs a manifest that the repository does not have",
            digests(missing).into_iter(),
        ),
        Change::WrongSize(digest, size) => {
            let message = format!("the manifest gives a blob another size than its {size} bytes");
            Refusal::bad(Code::SizeInvalid, message).detail(json!({ "digest": digest.as_str() }))
        }
        Change::Unexpected(found) => {
            let message = "the tag is on another manifest than the condition says";
            let refusal = Refusal::new(StatusCode::PRECONDITION_FAILED, Code::Denied, message);
            let Some(found) = found else { return refusal.detail(json!({ "found": null })) };
            refusal
                .detail(json!({ "found": found.as_str() }))
                .with(header::ETAG, &format!("\"{found}\""))
        }
        Change::Immutable(tag) => {
            let message = format!("the tag `{tag}` never moves in this registry");
            Refusal::new(StatusCode::FORBIDDEN, Code::Denied, message)
        }
        Change::Done | Change::Missing | Change::Used => {
            Refusal::missing(Code::ManifestUnknown, "there is no such manifest")
        }
    }
}

async fn put(core: &Core, call: &mut Call, of: &Name, reference: &Reference) -> Answer {
    let length = call.header(&header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > MANIFEST_SIZE_MAX) {
        return Err(too_large());
    }
    let expected = expected(call)?;
    let bytes = read(core, &mut call.body, MANIFEST_SIZE_MAX).await?.ok_or_else(too_large)?;
    let digest = match reference {
        Reference::Tag(_) => Digest::of(&bytes),
        Reference::Digest(wanted) => {
            let mut hasher = Hasher::new(wanted.algorithm());
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != *wanted {
                let refusal = Refusal::bad(Code::DigestInvalid, "the manifest has another digest");
                return Err(refusal.detail(json!({ "found": found.as_str() })));
            }
            found
        }
    };
    let document = Document::parse(&bytes, call.header(&header::CONTENT_TYPE))
        .map_err(|why| Refusal::bad(Code::ManifestInvalid, why))?;
    let tags = match reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(_) => tags_of(call)?,
    };
    let subject = document.subject.clone();
    let new = NewManifest {
        repository: of.clone(),
        digest: digest.clone(),
        document,
        bytes: bytes.to_vec(),
        tags: tags.clone(),
        expected,
    };
    match core.meta.put_manifest(new, core.by(call)).await? {
        Change::Done => {}
        other => return Err(refused(other)),
    }
    core.metrics.manifests_added.fetch_add(1, Relaxed);
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{of}/manifests/{digest}"));
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    set(&mut response, header::ETAG, &format!("\"{digest}\""));
    if let Some(subject) = subject {
        set(&mut response, OCI_SUBJECT, subject.as_str());
    }
    if let Reference::Digest(_) = reference {
        for tag in &tags {
            set(&mut response, OCI_TAG, tag.as_str());
        }
    }
    Ok(response)
}

fn too_large() -> Refusal {
    let message = "the manifest has more than 4 MiB";
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
}

/// The tags that a push by digest sets too.
fn tags_of(call: &Call) -> Result<Vec<Tag>, Refusal> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in call.query.all("tag") {
        let tag = Tag::parse(text)
            .ok_or_else(|| Refusal::bad(Code::ManifestInvalid, "the parameter `tag` is no tag"))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > TAG_COUNT_MAX {
            let message = format!("one push sets at most {TAG_COUNT_MAX} tags");
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::SizeInvalid, message));
        }
    }
    Ok(tags)
}

/// What `If-Match` and `If-None-Match` say of the tag.
fn expected(call: &Call) -> Result<Expected, Refusal> {
    let wrong = || Refusal::bad(Code::DigestInvalid, "the condition is no list of digests");
    match (call.header(&header::IF_MATCH), call.header(&header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expected::Anything),
        (None, Some("*")) => Ok(Expected::Absent),
        (Some("*"), None) => Ok(Expected::Present),
        (Some(tags), None) => {
            let digest = |tag: &str| tag.trim().trim_matches('"').parse().map_err(|_| wrong());
            Ok(Expected::OneOf(tags.split(',').map(digest).collect::<Result<_, _>>()?))
        }
        _ => Err(wrong()),
    }
}

/// Reads a body whole; none if it has more than it may.
async fn read(core: &Core, body: &mut Incoming, most: u64) -> Result<Option<Bytes>, Refusal> {
    let broken = || {
        Refusal::bad(Code::ManifestInvalid, "the connection ended before the body, or stood still")
    };
    let mut bytes = BytesMut::new();
    loop {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        let frame =
            tokio::time::timeout(core.limits.stall_wait, frame).await.map_err(|_| broken())?;
        let Some(frame) = frame else { return Ok(Some(bytes.freeze())) };
        if let Ok(piece) = frame.map_err(|_| broken())?.into_data() {
            if (bytes.len() + piece.len()) as u64 > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
    }
}

/// How many things are asked for, and behind which.
pub(crate) struct Page<'c> {
    pub(crate) count: usize,
    pub(crate) last: &'c str,
}

impl<'c> Page<'c> {
    pub(crate) fn of(call: &'c Call, usual: usize) -> Result<Self, Refusal> {
        let count = match call.query.first("n") {
            None => usual,
            Some(text) => text.parse().map_err(|_| {
                Refusal::bad(Code::Unsupported, "the parameter `n` is not a number from 0 up")
            })?,
        };
        let last = call.query.first("last").unwrap_or_default();
        Ok(Self { count: count.min(PAGE_COUNT_MAX), last })
    }

    /// Cuts a list that was asked for with one more; and says where the rest is.
    pub(crate) fn answer(
        &self,
        path: &str,
        mut list: Vec<String>,
        body: impl FnOnce(&[String]) -> Value,
    ) -> Response<Body> {
        let has_more = list.len() > self.count;
        list.truncate(self.count);
        let text = body(&list).to_string();
        let mut response = document(StatusCode::OK, "application/json", text.into());
        if let Some(last) = list.last().filter(|_| has_more) {
            let link = format!("<{path}?n={}&last={}>; rel=\"next\"", self.count, encoded(last));
            set(&mut response, header::LINK, &link);
        }
        response
    }
}

/// Answers a request for the tags of a repository.
pub(crate) async fn tags(core: &Core, call: &Call, of: &Name) -> Answer {
    only_get(call)?;
    let page = Page::of(call, PAGE_COUNT_MAX)?;
    let found = core.meta.tags(of, page.last, page.count + 1).await?;
    let list = found.ok_or_else(|| no_repository(of))?;
    Ok(page.answer(
        &format!("/v2/{of}/tags/list"),
        list,
        |tags| json!({ "name": of.as_str(), "tags": tags }),
    ))
}

pub(crate) fn no_repository(of: &Name) -> Refusal {
    Refusal::missing(Code::NameUnknown, "there is no such repository")
        .detail(json!({ "name": of.as_str() }))
}

pub(crate) fn only_get(call: &Call) -> Result<(), Refusal> {
    match call.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(call.wrong_method("GET, HEAD")),
    }
}

/// Answers a request for the repositories.
pub(crate) async fn catalog(core: &Core, call: &Call) -> Answer {
    only_get(call)?;
    let page = Page::of(call, CATALOG_COUNT)?;
    let list = core.meta.repositories(page.last, page.count + 1).await?;
    Ok(page.answer("/v2/_catalog", list, |names| json!({ "repositories": names })))
}

/// Answers a request for the manifests about a manifest.
pub(crate) async fn referrers(core: &Core, call: &Call, of: &Name, subject: &Digest) -> Answer {
    only_get(call)?;
    let kind = call.query.first("artifactType").filter(|kind| !kind.is_empty());
    let last = call.query.first("last").and_then(|text| text.parse::<Digest>().ok());
    let asked = Page::of(call, REFERRER_COUNT_MAX)?.count.clamp(1, REFERRER_COUNT_MAX);
    let query = ReferrerQuery {
        subject: subject.clone(),
        artifact_type: kind.map(str::to_owned),
        last: last.clone(),
        limit: asked + 1,
    };
    let rows = core.meta.referrers(of, &query).await?;
    let mut has_more = rows.len() > asked;
    let (mut list, mut size, mut end) = (Vec::new(), 0, None);
    for row in rows.into_iter().take(asked) {
        let mut line = json!({
            "mediaType": row.media_type, "digest": row.digest.as_str(), "size": row.size,
        });
        if let Some(kind) = row.artifact_type {
            line["artifactType"] = kind.into();
        }
        if !row.annotations.is_empty() {
            line["annotations"] = json!(row.annotations);
        }
        size += line.to_string().len() + 1;
        if size > REFERRERS_SIZE_MAX && end.is_some() {
            has_more = true;
            break;
        }
        end = Some(row.digest);
        list.push(line);
    }
    if last.is_none() {
        list.extend(of_fallback_tag(core, of, subject, kind).await?);
    }
    let text = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list });
    let mut response = document(StatusCode::OK, OCI_INDEX, text.to_string().into());
    if kind.is_some() {
        set(&mut response, OCI_FILTERS, "artifactType");
    }
    if let Some(end) = end.filter(|_| has_more) {
        let kind = kind.map(|kind| format!("&artifactType={}", encoded(kind)));
        let kind = kind.unwrap_or_default();
        let path = format!("/v2/{of}/referrers/{subject}");
        let link = format!("<{path}?n={asked}&last={end}{kind}>; rel=\"next\"");
        set(&mut response, header::LINK, &link);
    }
    Ok(response)
}

/// Referrers that only a fallback tag names (distribution spec, "Enabling the Referrers API"): a
/// client that copied from a registry without this API brought them.
async fn of_fallback_tag(
    core: &Core,
    of: &Name,
    subject: &Digest,
    kind: Option<&str>,
) -> Result<Vec<Value>, Refusal> {
    let hex: String = subject.hex().chars().take(64).collect();
    let Some(tag) = Tag::parse(&format!("{}-{hex}", subject.algorithm().name())) else {
        return Ok(Vec::new());
    };
    let Some(index) = core.meta.manifest(of, &Reference::Tag(tag)).await? else {
        return Ok(Vec::new());
    };
    let mut list = Vec::new();
    for line in listed(&index.bytes).into_iter().take(REFERRER_COUNT_MAX) {
        let reference = Reference::Digest(line.digest);
        let Some(row) = core.meta.manifest(of, &reference).await? else { continue };
        let is_kind =
            |kind| line.descriptor.get("artifactType").and_then(Value::as_str) == Some(kind);
        if !names(&row, subject) && kind.is_none_or(is_kind) {
            list.push(line.descriptor);
        }
    }
    Ok(list)
}

/// Whether a manifest itself says that it is about a subject, and so is listed anyway.
fn names(row: &ManifestRow, subject: &Digest) -> bool {
    Document::parse(&row.bytes, Some(&row.media_type))
        .is_ok_and(|document| document.subject.as_ref() == Some(subject))
}

/// Answers a request for the moves of a tag.
pub(crate) async fn history(core: &Core, call: &Call, of: &Name, tag: &Tag) -> Answer {
    only_get(call)?;
    let page = Page::of(call, 100)?;
    let rows = core.meta.history(of, tag, page.count.max(1)).await?;
    if rows.is_empty() {
        return Err(unknown(&Reference::Tag(tag.clone())));
    }
    let moves: Vec<Value> = rows
        .into_iter()
        .map(|row| {
            json!({
                "at": row.at.rfc3339(),
                "actor": row.actor,
                "from": row.old.as_ref().map(Digest::as_str),
                "to": row.new.as_ref().map(Digest::as_str),
                "fromKeptUntil": row.keep.map(crate::time::Moment::rfc3339),
            })
        })
        .collect();
    let text = json!({ "name": of.as_str(), "tag": tag.as_str(), "history": moves }).to_string();
    Ok(document(StatusCode::OK, "application/json", text.into()))
}

/// Answers a request to move a tag back.
pub(crate) async fn rollback(core: &Core, mut call: Call, of: &Name, tag: &Tag) -> Answer {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        digest: Option<Digest>,
    }
    if call.method != Method::POST {
        return Err(call.wrong_method("POST"));
    }
    let wrong = |why: &str| Refusal::bad(Code::Unsupported, format!("the request {why}"));
    let bytes = read(core, &mut call.body, ROLLBACK_SIZE_MAX).await?;
    let bytes = bytes.ok_or_else(|| wrong("is too long"))?;
    let to = if bytes.iter().all(u8::is_ascii_whitespace) {
        None
    } else {
        let wanted: Wanted = serde_json::from_slice(&bytes)
            .map_err(|_| wrong("is not of the form `{\"digest\": \"…\"}`"))?;
        wanted.digest
    };
    let expected = expected(&call)?;
    let digest = match core.meta.rollback(of, tag, to, expected, core.by(&call)).await? {
        Rollback::Done(digest) => digest,
        Rollback::Not(Change::Missing) => {
            let message = "the tag was on no other manifest that is still here";
            return Err(Refusal::missing(Code::ManifestUnknown, message));
        }
        Rollback::Not(other) => return Err(refused(other)),
    };
    let text = json!({ "name": of.as_str(), "tag": tag.as_str(), "digest": digest.as_str() });
    let mut response = document(StatusCode::OK, "application/json", text.to_string().into());
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    Ok(response)
}

/// Answers a request for what is beyond the distribution spec.
pub(crate) fn extensions(call: &Call) -> Answer {
    only_get(call)?;
    let text = json!({ "extensions": [{
        "name": "_conex",
        "description": "what tags were on, and the way back",
        "endpoints": ["_conex/tags/<tag>/history", "_conex/tags/<tag>/rollback"],
    }] });
    Ok(document(StatusCode::OK, "application/json", text.to_string().into()))
}
