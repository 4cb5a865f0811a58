//! Blobs: fetching, uploading in every form, mounting, deleting.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use conex_oci::{Algorithm, Digest};
use http::{Method, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use serde_json::json;

use crate::answer::{Answer, CONTENT_DIGEST, Code, Refusal, UPLOAD_ID, empty, set};
use crate::blobs::{Finished, UploadId};
use crate::body::{Body, FilePart, Pool};
use crate::core::{Call, Core};
use crate::error::{ErrorKind, Result};
use crate::meta::Change;
use crate::metrics::Running;
use crate::name::Name;
use crate::range::{self, Asked};
use crate::uploads::Lent;

/// How much of an upload is written at a time.
const STEP_BYTES: usize = 256 << 10;

/// Bodies up to this size are written by the thread that received them: handing them over takes
/// longer.
const SMALL_BYTES: usize = 64 << 10;

/// How much of a body must come in the time that it may stand still: whoever sends a byte now and
/// then must not keep the turns of others. The slowest line brings this in a few seconds.
const PROGRESS_BYTES: usize = 8 << 10;

/// How long a request waits for its turn to send a blob.
const TURN_WAIT: Duration = Duration::from_secs(20);

/// Answers a request about a blob.
pub(crate) async fn blob(core: &Core, call: Call, of: &Name, digest: &Digest) -> Answer {
    match call.method {
        Method::GET | Method::HEAD => fetch(core, &call, of, digest).await,
        Method::DELETE => match core.meta.delete_blob(of, digest, core.now()).await? {
            Change::Done => Ok(empty(StatusCode::ACCEPTED)),
            Change::Used => Err(Refusal::unsupported(
                "a manifest of this repository needs the blob: delete that first",
            )),
            _ => Err(unknown(digest)),
        },
        _ => Err(call.wrong_method("GET, HEAD, DELETE")),
    }
}

fn unknown(digest: &Digest) -> Refusal {
    Refusal::missing(Code::BlobUnknown, "the repository does not have this blob")
        .detail(json!({ "digest": digest.as_str() }))
}

async fn fetch(core: &Core, call: &Call, of: &Name, digest: &Digest) -> Answer {
    let row = core.meta.blob(of, digest).await?.ok_or_else(|| unknown(digest))?;
    if call.is_head() {
        // Whoever asks may be about to push a manifest that needs it.
        if core.is_short(row.lease) {
            core.meta.extend_blob(of, digest, core.now()).await?;
        }
        return Ok(described(digest, row.size));
    }
    if is_known(call, digest) {
        return Ok(not_modified(digest));
    }
    let Some(file) = core.blobs.open(&row.object, row.size)? else {
        // It may have been collected since; if not, its bytes are gone and are asked for anew.
        if core.meta.blob(of, digest).await?.is_some_and(|again| again.object == row.object) {
            core.meta.lose_blob(digest).await?;
            let mut refusal = unknown(digest);
            refusal.trouble = Some(format!("the file of the blob `{digest}` is gone or damaged"));
            return Err(refusal);
        }
        return Err(unknown(digest));
    };
    send(call, digest, file, row.size, &core.pool)
}

/// Sends a file that is a blob, or the part of it that is asked for.
pub(crate) fn send(
    call: &Call,
    digest: &Digest,
    file: std::fs::File,
    size: u64,
    pool: &Pool,
) -> Answer {
    let if_range = call.header(&header::IF_RANGE);
    let tag = format!("\"{digest}\"");
    // Blobs never change, so only a tag of another blob makes the range void.
    let wanted = call.header(&header::RANGE).filter(|_| if_range.is_none_or(|given| given == tag));
    let (from, to) = match range::asked(wanted, size) {
        Asked::Whole => {
            let mut response = described(digest, size);
            if size > 0 && !call.is_head() {
                *response.body_mut() = Body::File(FilePart::new(file, 0, size, pool));
            }
            return Ok(response);
        }
        Asked::Part(from, to) => (from, to),
        Asked::Unsatisfiable => {
            let refusal = Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                Code::SizeInvalid,
                format!("the blob has {size} bytes"),
            );
            return Err(refusal.with(header::CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let mut response = described(digest, to - from);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    set(&mut response, header::CONTENT_RANGE, &format!("bytes {from}-{}/{size}", to - 1));
    if !call.is_head() {
        *response.body_mut() = Body::File(FilePart::new(file, from, to, pool));
    }
    Ok(response)
}

/// The head of an answer with a blob.
pub(crate) fn described(digest: &Digest, length: u64) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    let fixed = http::HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, fixed("bytes"));
    headers.insert(header::CACHE_CONTROL, fixed("max-age=31536000"));
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    set(&mut response, header::ETAG, &format!("\"{digest}\""));
    response
}

/// Whether the client says that it has the content.
pub(crate) fn is_known(call: &Call, digest: &Digest) -> bool {
    let tags = call.header(&header::IF_NONE_MATCH).unwrap_or_default();
    tags.split(',').any(|tag| {
        let tag = tag.trim().trim_start_matches("W/").trim_matches('"');
        tag == "*" || tag == digest.as_str()
    })
}

/// Says that the client has what it asks for.
pub(crate) fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    set(&mut response, header::ETAG, &format!("\"{digest}\""));
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    response
}

/// Answers a request that begins an upload, or needs none.
pub(crate) async fn begin(core: &Arc<Core>, mut call: Call, of: &Name) -> Answer {
    if call.method != Method::POST {
        return Err(call.wrong_method("POST"));
    }
    if let Some(digest) = call.query.first("mount") {
        let digest = parse_digest(digest)?;
        // A name that is none cannot have the blob: the client uploads it.
        let from = call.query.first("from").map(Name::parse);
        let is_mounted = match &from {
            Some(None) => false,
            Some(Some(from)) => core.meta.mount(of, &digest, Some(from), core.now()).await?,
            None => core.meta.mount(of, &digest, None, core.now()).await?,
        };
        if is_mounted {
            return Ok(created(of, &digest));
        }
    }
    let named = call.query.first("digest").map(parse_digest).transpose()?;
    let algorithm = match (call.query.first("digest-algorithm"), &named) {
        (_, Some(digest)) => digest.algorithm(),
        (None | Some("sha256"), None) => Algorithm::Sha256,
        (Some("sha512"), None) => Algorithm::Sha512,
        (Some(other), None) => {
            let message = format!("digests of the algorithm `{other}` are not taken");
            return Err(Refusal::bad(Code::Unsupported, message));
        }
    };
    let id = core.uploads.begin(of, algorithm)?;
    let Some(digest) = named else { return Ok(accepted(of, &id, 0)) };
    let Some(lent) = core.uploads.lend(of, &id).await? else {
        return Err(Refusal::missing(Code::BlobUploadUnknown, "the upload is gone"));
    };
    let mut upload = Discarded { core, of, id: &id, is_done: false };
    let answer = complete(core, &mut call, of, lent, &digest).await;
    upload.is_done = answer.is_ok();
    if !upload.is_done {
        core.uploads.cancel(of, &id).await?;
        upload.is_done = true;
    }
    answer
}

/// Removes the upload of a request that sent everything at once and went away: nobody knows its
/// name.
struct Discarded<'c> {
    core: &'c Arc<Core>,
    of: &'c Name,
    id: &'c UploadId,
    is_done: bool,
}

impl Drop for Discarded<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let (core, of, id) = (self.core.clone(), self.of.clone(), self.id.clone());
        tokio::spawn(async move {
            // One that stays expires.
            let _ = core.uploads.cancel(&of, &id).await;
        });
    }
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| {
        Refusal::bad(Code::DigestInvalid, "the digest is not one of SHA-256 or SHA-512")
            .detail(json!({ "digest": text.chars().take(200).collect::<String>() }))
    })
}

fn created(of: &Name, digest: &Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, &format!("/v2/{of}/blobs/{digest}"));
    set(&mut response, CONTENT_DIGEST, digest.as_str());
    response
}

fn location(of: &Name, id: &UploadId) -> String {
    format!("/v2/{of}/blobs/uploads/{}", id.as_str())
}

/// How far an upload is. An empty one cannot be said in this form; everybody writes `0-0`.
fn progress(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn accepted(of: &Name, id: &UploadId, size: u64) -> Response<Body> {
    let mut response = empty(StatusCode::ACCEPTED);
    set(&mut response, header::LOCATION, &location(of, id));
    set(&mut response, header::RANGE, &progress(size));
    set(&mut response, UPLOAD_ID, id.as_str());
    response
}

/// Answers a request about an upload.
pub(crate) async fn upload(core: &Arc<Core>, mut call: Call, of: &Name, id: &str) -> Answer {
    let gone = || Refusal::missing(Code::BlobUploadUnknown, "there is no such upload");
    let id = UploadId::parse(id).ok_or_else(gone)?;
    match call.method {
        Method::GET | Method::HEAD => {
            let size = core.uploads.size(of, &id)?.ok_or_else(gone)?;
            let mut response = accepted(of, &id, size);
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().remove(header::CONTENT_LENGTH);
            Ok(response)
        }
        Method::PATCH => {
            let mut lent = core.uploads.lend(of, &id).await?.ok_or_else(gone)?;
            check_chunk(&call, of, &id, lent.size())?;
            receive(core, &mut call, &mut lent).await?;
            Ok(accepted(of, &id, lent.size()))
        }
        Method::PUT => {
            let digest = call.query.first("digest").ok_or_else(|| {
                Refusal::bad(Code::DigestInvalid, "the parameter `digest` is missing")
            })?;
            let digest = parse_digest(digest)?;
            match core.uploads.lend(of, &id).await? {
                Some(lent) => {
                    check_chunk(&call, of, &id, lent.size())?;
                    complete(core, &mut call, of, lent, &digest).await
                }
                // The answer to an earlier one got lost.
                None if core.meta.blob(of, &digest).await?.is_some() => Ok(created(of, &digest)),
                None => Err(gone()),
            }
        }
        Method::DELETE => {
            let is_gone = core.uploads.cancel(of, &id).await?;
            if is_gone { Ok(empty(StatusCode::NO_CONTENT)) } else { Err(gone()) }
        }
        _ => Err(call.wrong_method("GET, HEAD, PATCH, PUT, DELETE")),
    }
}

/// Checks that a chunk begins where the upload ends, and has the length that it says.
fn check_chunk(call: &Call, of: &Name, id: &UploadId, size: u64) -> Result<(), Refusal> {
    let Some(text) = call.header(&header::CONTENT_RANGE) else { return Ok(()) };
    let Some((first, end)) = range::of_chunk(text) else {
        let message = "`Content-Range` is not of the form `FIRST-LAST`";
        return Err(Refusal::bad(Code::BlobUploadInvalid, message));
    };
    if first != size {
        let refusal = Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            Code::BlobUploadInvalid,
            format!("the upload has {size} bytes, the chunk begins at {first}"),
        );
        return Err(refusal
            .with(header::LOCATION, &location(of, id))
            .with(header::RANGE, &progress(size))
            .with(UPLOAD_ID, id.as_str()));
    }
    let length = call.header(&header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length != end - first) {
        let message = "`Content-Range` and `Content-Length` contradict each other";
        return Err(Refusal::bad(Code::SizeInvalid, message));
    }
    Ok(())
}

/// Receives what is left of a blob, and keeps it.
async fn complete(
    core: &Arc<Core>,
    call: &mut Call,
    of: &Name,
    mut lent: Lent,
    digest: &Digest,
) -> Answer {
    receive(core, call, &mut lent).await?;
    let (core, of, digest) = (core.clone(), of.clone(), digest.clone());
    // All is there: it is kept even if the client goes away now, and never half.
    let kept = tokio::spawn(async move { keep(&core, &of, lent, &digest).await });
    kept.await.unwrap_or_else(|error| {
        let error = std::io::Error::other(error);
        Err(crate::error::Error::system("keep a blob", error).into())
    })
}

async fn keep(core: &Core, of: &Name, lent: Lent, digest: &Digest) -> Answer {
    let (object, size) = match lent.finish(digest).await? {
        Some(Finished::Object(object, size)) => (object, size),
        Some(Finished::Mismatch(found)) => {
            let refusal = Refusal::bad(Code::DigestInvalid, "the bytes have another digest");
            let detail = json!({ "digest": digest.as_str(), "found": found.as_str() });
            return Err(refusal.detail(detail));
        }
        None => return Err(Refusal::missing(Code::BlobUploadUnknown, "the upload is gone")),
    };
    let kept = core.meta.add_blob(of, digest, object.clone(), size, core.now()).await;
    // One call that no disk is waited for. A file that stays is removed as one that no row names.
    let _ = match &kept {
        Ok(None) => Ok(()),
        Ok(Some(spare)) => core.blobs.remove(spare),
        Err(error) if error.kind() == ErrorKind::NoSpace => core.blobs.remove(&object),
        // A row whose commit failed may be there after a power cut, and needs its bytes then.
        Err(_) => Ok(()),
    };
    core.blobs.settle(&object);
    kept?;
    core.metrics.blobs_added.fetch_add(1, Relaxed);
    Ok(created(of, digest))
}

/// What came of waiting for more of a body.
enum More {
    Pieces,
    End,
}

/// Writes a body to an upload. What came before a failure stays, so that the client can go on.
async fn receive(core: &Core, call: &mut Call, lent: &mut Lent) -> Result<(), Refusal> {
    if call.body.is_end_stream() {
        return Ok(());
    }
    let turn = tokio::time::timeout(TURN_WAIT, core.receiving.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(Refusal::busy("too many uploads at once"));
    };
    let _running = Running::begin(&core.metrics.uploads);
    loop {
        let mut pieces = Vec::new();
        let more = gather(core, &mut call.body, lent, &mut pieces).await;
        lent.written().await?;
        let size: usize = pieces.iter().map(Bytes::len).sum();
        core.metrics.received_bytes.fetch_add(size as u64, Relaxed);
        if size > SMALL_BYTES {
            // Received while the last step is hashed and written.
            lent.write_beside(pieces);
        } else if size > 0 {
            lent.write(&pieces)?;
        }
        match more {
            Ok(More::Pieces) => {}
            Ok(More::End) => return Ok(lent.written().await?),
            Err(refusal) => {
                lent.written().await?;
                return Err(refusal);
            }
        }
    }
}

/// Waits until there is enough of a body to be worth writing.
async fn gather(
    core: &Core,
    body: &mut Incoming,
    lent: &Lent,
    pieces: &mut Vec<Bytes>,
) -> Result<More, Refusal> {
    let mut size = 0;
    let mut counted = 0;
    let mut deadline = tokio::time::Instant::now() + core.limits.stall_wait;
    while size < STEP_BYTES {
        if size - counted >= PROGRESS_BYTES {
            counted = size;
            deadline = tokio::time::Instant::now() + core.limits.stall_wait;
        }
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        let frame = tokio::select! {
            frame = tokio::time::timeout_at(deadline, frame) => frame,
            () = lent.turn.wanted.notified() => {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    Code::BlobUploadInvalid,
                    "another request took over this upload",
                ));
            }
        };
        match frame {
            Ok(None) => return Ok(More::End),
            Ok(Some(Ok(frame))) => {
                // Trailers say nothing here.
                if let Ok(piece) = frame.into_data()
                    && !piece.is_empty()
                {
                    size += piece.len();
                    pieces.push(piece);
                }
            }
            Ok(Some(Err(_))) => {
                let message = "the connection ended before the body";
                return Err(Refusal::bad(Code::BlobUploadInvalid, message));
            }
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    Code::BlobUploadInvalid,
                    "the body stood nearly still for too long",
                ));
            }
        }
    }
    Ok(More::Pieces)
}
