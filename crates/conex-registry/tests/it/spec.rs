//! What the distribution spec asks of a registry: version 1.1, and what has come to its main branch
//! since. Each check has a repository of its own.

use conex_oci::{Algorithm, Digest, Hasher};

use crate::client::{Client, INDEX, LAYER, MANIFEST, Reply, manifest, with_query};

/// A check: its name, and what fails where the registry does otherwise.
pub(crate) type Check = (&'static str, fn(&Client, &str) -> Result<(), String>);

macro_rules! want {
    ($condition:expr, $($said:tt)+) => {
        if !$condition { return Err(format!($($said)+)); }
    };
}

pub(crate) const CHECKS: &[Check] = &[
    ("ping", ping),
    ("missing blob", missing_blob),
    ("missing manifest", missing_manifest),
    ("post and put sha256", |c, r| post_put(c, r, Algorithm::Sha256)),
    ("post and put sha512", |c, r| post_put(c, r, Algorithm::Sha512)),
    ("single post sha256", |c, r| single_post(c, r, Algorithm::Sha256)),
    ("single post sha512", |c, r| single_post(c, r, Algorithm::Sha512)),
    ("chunked sha256", |c, r| chunked(c, r, Algorithm::Sha256)),
    ("chunked sha512", |c, r| chunked(c, r, Algorithm::Sha512)),
    ("chunk in the closing put", chunk_in_put),
    ("chunks out of order", out_of_order),
    ("streamed", streamed),
    ("upload status", status),
    ("upload cancelled", cancelled),
    ("unknown upload", unknown_upload),
    ("mount", mount),
    ("mount without from", anonymous_mount),
    ("mount of what is missing", mount_missing),
    ("empty blob", empty_blob),
    ("wrong digest in put", wrong_digest_put),
    ("wrong digest in post", wrong_digest_post),
    ("malformed digests", malformed_digests),
    ("blob ranges", ranges),
    ("unsatisfiable range", bad_range),
    ("blob deleted", delete_blob),
    ("manifest by tag and digest", manifest_round),
    ("manifest sha512", manifest_sha512),
    ("manifest digest is checked", manifest_wrong_digest),
    ("manifest that is no manifest", bad_manifest),
    ("manifest with missing blobs", manifest_missing_blob),
    ("docker manifest and list", docker_types),
    ("index and nested index", indexes),
    ("artifact", artifact),
    ("artifact index", artifact_index),
    ("custom fields", custom_fields),
    ("no layers", no_layers),
    ("non-distributable layers", non_distributable),
    ("subject", subject),
    ("missing subject", missing_subject),
    ("referrers of nothing", no_referrers),
    ("referrers filtered", referrers_filtered),
    ("referrers paged", referrers_paged),
    ("referrers of a fallback tag", referrers_fallback),
    ("tags by parameter", tag_parameters),
    ("tag list", tag_list),
    ("tag list paged", tag_pages),
    ("tag list of no entries", tag_none),
    ("tag deleted", delete_tag),
    ("manifest deleted with its tags", delete_manifest),
    ("large manifest", large_manifest),
    ("too large manifest", too_large_manifest),
    ("names", names),
    ("put again after 201", put_again),
    ("catalog", catalog),
];

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

fn begin(client: &Client, repository: &str, query: &str) -> Result<String, String> {
    let path = format!("/v2/{repository}/blobs/uploads/{query}");
    let reply = client.ask("POST", &path, &[], b"");
    want!(reply.status == 202, "POST: {reply:?}");
    want!(!reply.location().is_empty(), "no location: {reply:?}");
    Ok(reply.location())
}

fn has_blob(
    client: &Client,
    repository: &str,
    digest: &Digest,
    bytes: &[u8],
) -> Result<(), String> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let reply = client.get(&path);
    want!(reply.status == 200 && reply.body == bytes, "GET: {} {:?}", reply.status, reply.headers);
    want!(reply.header("docker-content-digest") == Some(digest.as_str()), "GET: no digest");
    let head = client.ask("HEAD", &path, &[], b"");
    want!(head.status == 200, "HEAD: {head:?}");
    let length = bytes.len().to_string();
    want!(head.header("content-length") == Some(&length), "HEAD: no length: {head:?}");
    want!(head.header("docker-content-digest") == Some(digest.as_str()), "HEAD: no digest");
    Ok(())
}

fn is_error(reply: &Reply, status: u16, code: &str) -> Result<(), String> {
    want!(reply.status == status, "wanted {status}: {reply:?}");
    want!(reply.code() == code, "wanted {code}: {reply:?}");
    Ok(())
}

fn ping(client: &Client, _: &str) -> Result<(), String> {
    let reply = client.get("/v2/");
    want!(reply.status == 200, "{reply:?}");
    let version = reply.header("docker-distribution-api-version");
    want!(version == Some("registry/2.0"), "{reply:?}");
    Ok(())
}

fn missing_blob(client: &Client, of: &str) -> Result<(), String> {
    let path = format!("/v2/{of}/blobs/{}", Digest::of(b"nothing"));
    is_error(&client.get(&path), 404, "BLOB_UNKNOWN")?;
    want!(client.ask("HEAD", &path, &[], b"").status == 404, "HEAD finds it");
    Ok(())
}

fn missing_manifest(client: &Client, of: &str) -> Result<(), String> {
    for reference in ["nothing".to_owned(), Digest::of(b"nothing").to_string()] {
        let path = format!("/v2/{of}/manifests/{reference}");
        is_error(&client.get(&path), 404, "MANIFEST_UNKNOWN")?;
        want!(client.ask("HEAD", &path, &[], b"").status == 404, "HEAD finds it");
    }
    let reply = client.get(&format!("/v2/{of}/manifests/.NOT-A-TAG"));
    want!(reply.status == 404, "{reply:?}");
    Ok(())
}

fn post_put(client: &Client, of: &str, algorithm: Algorithm) -> Result<(), String> {
    let bytes = b"posted, then put".repeat(1000);
    let digest = digest_of(algorithm, &bytes);
    // Without a word which algorithm it will be.
    let path = begin(client, of, "")?;
    let path = with_query(&path, &format!("digest={digest}"));
    let headers = [("Content-Type", "application/octet-stream")];
    let reply = client.ask("PUT", &path, &headers, &bytes);
    want!(reply.status == 201, "PUT: {reply:?}");
    want!(reply.location().ends_with(&format!("/v2/{of}/blobs/{digest}")), "{reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn single_post(client: &Client, of: &str, algorithm: Algorithm) -> Result<(), String> {
    let bytes = b"all at once".repeat(500);
    let digest = digest_of(algorithm, &bytes);
    let path = format!("/v2/{of}/blobs/uploads/?digest={digest}");
    let reply = client.ask("POST", &path, &[], &bytes);
    want!(reply.status == 201, "POST: {reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn patch(client: &Client, path: &str, from: usize, bytes: &[u8]) -> Reply {
    let range = format!("{from}-{}", from + bytes.len() - 1);
    let headers = [("Content-Range", range.as_str()), ("Content-Type", "application/octet-stream")];
    client.ask("PATCH", path, &headers, bytes)
}

fn chunked(client: &Client, of: &str, algorithm: Algorithm) -> Result<(), String> {
    let bytes: Vec<u8> =
        (0..300_000_u32).map(|number| number as u8 ^ (number >> 8) as u8).collect();
    let digest = digest_of(algorithm, &bytes);
    let query = if algorithm == Algorithm::Sha512 { "?digest-algorithm=sha512" } else { "" };
    let mut path = begin(client, of, query)?;
    let mut at = 0;
    for chunk in bytes.chunks(100_001) {
        let reply = patch(client, &path, at, chunk);
        at += chunk.len();
        want!(reply.status == 202, "PATCH: {reply:?}");
        let range = format!("0-{}", at - 1);
        want!(reply.header("range") == Some(&range), "PATCH: {reply:?}");
        path = reply.location();
    }
    let reply = client.ask("PUT", &with_query(&path, &format!("digest={digest}")), &[], b"");
    want!(reply.status == 201, "PUT: {reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn chunk_in_put(client: &Client, of: &str) -> Result<(), String> {
    let bytes = b"first, last".to_vec();
    let digest = Digest::of(&bytes);
    let path = begin(client, of, "")?;
    let reply = patch(client, &path, 0, &bytes[..6]);
    want!(reply.status == 202, "PATCH: {reply:?}");
    let path = with_query(&reply.location(), &format!("digest={digest}"));
    let reply = client.ask("PUT", &path, &[("Content-Range", "6-10")], &bytes[6..]);
    want!(reply.status == 201, "PUT: {reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn out_of_order(client: &Client, of: &str) -> Result<(), String> {
    let bytes = b"0123456789".to_vec();
    let path = begin(client, of, "")?;
    let reply = patch(client, &path, 5, &bytes[5..]);
    want!(reply.status == 416, "the second first: {reply:?}");
    let reply = patch(client, &path, 0, &bytes[..5]);
    want!(reply.status == 202, "the first: {reply:?}");
    let path = reply.location();
    let reply = patch(client, &path, 0, &bytes[..5]);
    want!(reply.status == 416, "the first again: {reply:?}");
    let digest = Digest::of(&bytes);
    let query = format!("digest={digest}");
    let reply =
        client.ask("PUT", &with_query(&path, &query), &[("Content-Range", "7-9")], &bytes[7..]);
    want!(reply.status == 416, "PUT with a hole: {reply:?}");
    let status = client.get(&path);
    want!(status.header("range") == Some("0-4"), "{status:?}");
    let reply = patch(client, &status.location(), 5, &bytes[5..]);
    let reply = client.ask("PUT", &with_query(&reply.location(), &query), &[], b"");
    want!(reply.status == 201, "PUT: {reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn streamed(client: &Client, of: &str) -> Result<(), String> {
    let bytes = b"no length, no range".repeat(20_000);
    let digest = Digest::of(&bytes);
    let path = begin(client, of, "")?;
    let reply = client.ask("PATCH", &path, &[("Transfer-Encoding", "chunked")], &bytes);
    want!(reply.status == 202, "PATCH: {reply:?}");
    let path = with_query(&reply.location(), &format!("digest={digest}"));
    let reply = client.ask("PUT", &path, &[], b"");
    want!(reply.status == 201, "PUT: {reply:?}");
    has_blob(client, of, &digest, &bytes)
}

fn status(client: &Client, of: &str) -> Result<(), String> {
    let path = begin(client, of, "")?;
    let reply = patch(client, &path, 0, b"12345");
    let reply = client.get(&reply.location());
    want!(reply.status == 204, "{reply:?}");
    want!(reply.header("range") == Some("0-4"), "{reply:?}");
    want!(!reply.location().is_empty(), "{reply:?}");
    Ok(())
}

fn cancelled(client: &Client, of: &str) -> Result<(), String> {
    let path = begin(client, of, "")?;
    want!(client.delete(&path).status == 204, "DELETE");
    is_error(&client.get(&path), 404, "BLOB_UPLOAD_UNKNOWN")?;
    is_error(&patch(client, &path, 0, b"x"), 404, "BLOB_UPLOAD_UNKNOWN")
}

fn unknown_upload(client: &Client, of: &str) -> Result<(), String> {
    let path = format!("/v2/{of}/blobs/uploads/01234567-89ab-4def-8123-456789abcdef");
    let reply = client.ask("PATCH", &path, &[], b"x");
    want!(reply.status == 404, "PATCH: {reply:?}");
    let other = begin(client, of, "")?;
    let other = other.replace(of, &format!("{of}/other"));
    want!(client.get(&other).status == 404, "an upload is found in another repository");
    Ok(())
}

fn mount(client: &Client, of: &str) -> Result<(), String> {
    let from = format!("{of}/from");
    let digest = client.push_blob(&from, b"mounted");
    let path = format!("/v2/{of}/blobs/uploads/?mount={digest}&from={from}");
    let reply = client.ask("POST", &path, &[], b"");
    want!(reply.status == 201, "{reply:?}");
    want!(reply.location().ends_with(&format!("/v2/{of}/blobs/{digest}")), "{reply:?}");
    has_blob(client, of, &digest, b"mounted")
}

fn anonymous_mount(client: &Client, of: &str) -> Result<(), String> {
    let digest = client.push_blob(&format!("{of}/from"), b"mounted from anywhere");
    let path = format!("/v2/{of}/blobs/uploads/?mount={digest}");
    let reply = client.ask("POST", &path, &[], b"");
    want!(reply.status == 201, "{reply:?}");
    has_blob(client, of, &digest, b"mounted from anywhere")
}

fn mount_missing(client: &Client, of: &str) -> Result<(), String> {
    let digest = Digest::of(b"nowhere");
    begin(client, of, &format!("?mount={digest}&from={of}/from"))?;
    begin(client, of, &format!("?mount={digest}")).map(|_| ())
}

fn empty_blob(client: &Client, of: &str) -> Result<(), String> {
    let digest = client.push_blob(of, b"");
    has_blob(client, of, &digest, b"")
}

fn wrong_digest_put(client: &Client, of: &str) -> Result<(), String> {
    let digest = Digest::of(b"promised");
    let path = with_query(&begin(client, of, "")?, &format!("digest={digest}"));
    is_error(&client.ask("PUT", &path, &[], b"sent"), 400, "DIGEST_INVALID")?;
    let path = begin(client, of, "")?;
    let path = patch(client, &path, 0, b"sent").location();
    let path = with_query(&path, &format!("digest={digest}"));
    is_error(&client.ask("PUT", &path, &[], b""), 400, "DIGEST_INVALID")?;
    missing_blob(client, of)
}

fn wrong_digest_post(client: &Client, of: &str) -> Result<(), String> {
    let path = format!("/v2/{of}/blobs/uploads/?digest={}", Digest::of(b"promised"));
    is_error(&client.ask("POST", &path, &[], b"sent"), 400, "DIGEST_INVALID")
}

fn malformed_digests(client: &Client, of: &str) -> Result<(), String> {
    for digest in ["sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../etc/passwd"] {
        let path = with_query(&begin(client, of, "")?, &format!("digest={digest}"));
        is_error(&client.ask("PUT", &path, &[], b"x"), 400, "DIGEST_INVALID")?;
        let reply = client.get(&format!("/v2/{of}/blobs/{digest}"));
        want!([400, 404].contains(&reply.status), "GET {digest}: {reply:?}");
    }
    let path = begin(client, of, "")?;
    is_error(&client.ask("PUT", &path, &[], b"x"), 400, "DIGEST_INVALID")
}

fn ranges(client: &Client, of: &str) -> Result<(), String> {
    let bytes = b"0123456789";
    let digest = client.push_blob(of, bytes);
    let path = format!("/v2/{of}/blobs/{digest}");
    for (range, content, wanted) in [
        ("bytes=0-3", "bytes 0-3/10", &bytes[..4]),
        ("bytes=4-", "bytes 4-9/10", &bytes[4..]),
        ("bytes=-2", "bytes 8-9/10", &bytes[8..]),
        ("bytes=9-9", "bytes 9-9/10", &bytes[9..]),
        ("bytes=5-500", "bytes 5-9/10", &bytes[5..]),
        ("bytes=0-9", "bytes 0-9/10", &bytes[..]),
    ] {
        let reply = client.ask("GET", &path, &[("Range", range)], b"");
        want!(reply.status == 206 && reply.body == wanted, "{range}: {reply:?}");
        want!(reply.header("content-range") == Some(content), "{range}: {reply:?}");
    }
    Ok(())
}

fn bad_range(client: &Client, of: &str) -> Result<(), String> {
    let digest = client.push_blob(of, b"0123456789");
    let path = format!("/v2/{of}/blobs/{digest}");
    let reply = client.ask("GET", &path, &[("Range", "bytes=10-20")], b"");
    want!(reply.status == 416, "{reply:?}");
    want!(reply.header("content-range") == Some("bytes */10"), "{reply:?}");
    Ok(())
}

fn delete_blob(client: &Client, of: &str) -> Result<(), String> {
    let digest = client.push_blob(of, b"to be deleted");
    let path = format!("/v2/{of}/blobs/{digest}");
    want!(client.delete(&path).status == 202, "DELETE");
    is_error(&client.get(&path), 404, "BLOB_UNKNOWN")?;
    is_error(&client.delete(&path), 404, "BLOB_UNKNOWN")
}

fn manifest_round(client: &Client, of: &str) -> Result<(), String> {
    let bytes = client.push_parts(of, b"layer");
    let digest = Digest::of(&bytes);
    let reply = client.push_manifest(of, "v1", MANIFEST, &bytes);
    want!(reply.status == 201, "{reply:?}");
    want!(reply.location().ends_with(&format!("/v2/{of}/manifests/{digest}")), "{reply:?}");
    let again = client.push_manifest(of, digest.as_str(), MANIFEST, &bytes);
    want!(again.status == 201, "by digest: {again:?}");
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/{of}/manifests/{reference}");
        for method in ["GET", "HEAD"] {
            let reply = client.ask(method, &path, &[("Accept", MANIFEST)], b"");
            want!(reply.status == 200, "{method}: {reply:?}");
            want!(reply.header("content-type") == Some(MANIFEST), "{method}: {reply:?}");
            let said = reply.header("docker-content-digest");
            want!(said == Some(digest.as_str()), "{method}: {reply:?}");
            let length = bytes.len().to_string();
            want!(reply.header("content-length") == Some(&length), "{method}: {reply:?}");
            want!(method == "HEAD" || reply.body == bytes, "other bytes");
        }
    }
    Ok(())
}

fn manifest_sha512(client: &Client, of: &str) -> Result<(), String> {
    let bytes = client.push_parts(of, b"layer of sha512");
    let digest = digest_of(Algorithm::Sha512, &bytes);
    let reply = client.push_manifest(of, digest.as_str(), MANIFEST, &bytes);
    want!(reply.status == 201, "{reply:?}");
    let reply = client.get(&format!("/v2/{of}/manifests/{digest}"));
    want!(reply.status == 200 && reply.body == bytes, "{reply:?}");
    want!(reply.header("docker-content-digest") == Some(digest.as_str()), "{reply:?}");
    Ok(())
}

fn manifest_wrong_digest(client: &Client, of: &str) -> Result<(), String> {
    let bytes = client.push_parts(of, b"layer");
    let other = Digest::of(b"other");
    let reply = client.push_manifest(of, other.as_str(), MANIFEST, &bytes);
    is_error(&reply, 400, "DIGEST_INVALID")
}

fn bad_manifest(client: &Client, of: &str) -> Result<(), String> {
    for bytes in ["", "{", "[]", "null", r#"{"schemaVersion":2}"#, "\u{0}"] {
        let reply = client.push_manifest(of, "bad", MANIFEST, bytes.as_bytes());
        is_error(&reply, 400, "MANIFEST_INVALID")?;
    }
    Ok(())
}

fn manifest_missing_blob(client: &Client, of: &str) -> Result<(), String> {
    let missing = Digest::of(b"never pushed");
    let config = client.push_blob(of, b"{}");
    let bytes = manifest(&config, 2, &[(&missing, 12)], "");
    let reply = client.push_manifest(of, "v1", MANIFEST, &bytes);
    want!([400, 404].contains(&reply.status), "{reply:?}");
    let code = reply.code();
    want!(["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].contains(&code.as_str()), "{reply:?}");
    want!(reply.json().to_string().contains(missing.as_str()), "does not say which: {reply:?}");
    Ok(())
}

fn docker_types(client: &Client, of: &str) -> Result<(), String> {
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let text = String::from_utf8(client.push_parts(of, b"layer")).unwrap();
    let text = text
        .replace(MANIFEST, docker)
        .replace(LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip")
        .replace(crate::client::CONFIG, "application/vnd.docker.container.image.v1+json");
    let reply = client.push_manifest(of, "v2", docker, text.as_bytes());
    want!(reply.status == 201, "{reply:?}");
    let digest = Digest::of(text.as_bytes());
    let platform = r#"{"architecture":"amd64","os":"linux"}"#;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{list}","manifests":[
        {{"mediaType":"{docker}","digest":"{digest}","size":{},"platform":{platform}}}]}}"#,
        text.len()
    );
    let reply = client.push_manifest(of, "list", list, text.as_bytes());
    want!(reply.status == 201, "{reply:?}");
    let reply = client.ask("GET", &format!("/v2/{of}/manifests/list"), &[("Accept", list)], b"");
    want!(reply.header("content-type") == Some(list), "{reply:?}");
    want!(reply.body == text.as_bytes(), "other bytes");
    Ok(())
}

fn index(children: &[(&str, &Digest, usize)], more: &str) -> Vec<u8> {
    let children: Vec<String> = children
        .iter()
        .map(|(kind, digest, size)| {
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]{more}}}"#,
        children.join(",")
    )
    .into_bytes()
}

fn accepted(
    client: &Client,
    of: &str,
    reference: &str,
    kind: &str,
    bytes: &[u8],
) -> Result<(), String> {
    let reply = client.push_manifest(of, reference, kind, bytes);
    want!(reply.status == 201, "PUT {reference}: {reply:?}");
    let reply =
        client.ask("GET", &format!("/v2/{of}/manifests/{reference}"), &[("Accept", kind)], b"");
    want!(reply.status == 200 && reply.body == bytes, "GET {reference}: {reply:?}");
    want!(reply.header("content-type") == Some(kind), "GET {reference}: {reply:?}");
    Ok(())
}

fn indexes(client: &Client, of: &str) -> Result<(), String> {
    let child = client.push_parts(of, b"layer");
    let digest = Digest::of(&child);
    let bytes = index(&[(MANIFEST, &digest, child.len())], "");
    let reply = client.push_manifest(of, "early", INDEX, &bytes);
    want!(reply.status == 400 || reply.status == 404, "without its child: {reply:?}");
    accepted(client, of, digest.as_str(), MANIFEST, &child)?;
    accepted(client, of, "index", INDEX, &bytes)?;
    let nested = index(&[(INDEX, &Digest::of(&bytes), bytes.len())], "");
    accepted(client, of, "nested", INDEX, &nested)
}

fn artifact_bytes(client: &Client, of: &str, kind: &str, more: &str) -> Vec<u8> {
    let config = client.push_blob(of, b"{}");
    let layer = client.push_blob(of, format!("of {kind}").as_bytes());
    let size = format!("of {kind}").len();
    let more = format!(r#","artifactType":"{kind}"{more}"#);
    manifest(&config, 2, &[(&layer, size)], &more)
}

fn artifact(client: &Client, of: &str) -> Result<(), String> {
    let bytes = artifact_bytes(client, of, "application/vnd.example", "");
    accepted(client, of, "artifact", MANIFEST, &bytes)
}

fn artifact_index(client: &Client, of: &str) -> Result<(), String> {
    let child = artifact_bytes(client, of, "application/vnd.example", "");
    let digest = Digest::of(&child);
    accepted(client, of, digest.as_str(), MANIFEST, &child)?;
    let more = r#","artifactType":"application/vnd.example.set","annotations":{"a":"b"}"#;
    accepted(client, of, "set", INDEX, &index(&[(MANIFEST, &digest, child.len())], more))
}

fn custom_fields(client: &Client, of: &str) -> Result<(), String> {
    let config = client.push_blob(of, b"{}");
    let bytes = manifest(&config, 2, &[], r#","org.example":{"a":[1,2]},"annotations":{"x":"y"}"#);
    accepted(client, of, "custom", MANIFEST, &bytes)
}

fn no_layers(client: &Client, of: &str) -> Result<(), String> {
    let config = client.push_blob(of, b"{}");
    accepted(client, of, "bare", MANIFEST, &manifest(&config, 2, &[], ""))
}

fn non_distributable(client: &Client, of: &str) -> Result<(), String> {
    let config = client.push_blob(of, b"{}");
    let foreign = Digest::of(b"only elsewhere");
    let text = String::from_utf8(manifest(&config, 2, &[(&foreign, 14)], "")).unwrap();
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip\",\
        \"urls\":[\"https://example.com/layer\"],\"x\":\"";
    accepted(client, of, "foreign", MANIFEST, text.replace(LAYER, foreign).as_bytes())
}

fn about(subject: &Digest, size: usize) -> String {
    format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":{size}}}"#)
}

fn referrers(client: &Client, of: &str, subject: &Digest, query: &str) -> Result<Reply, String> {
    let reply = client.get(&format!("/v2/{of}/referrers/{subject}{query}"));
    want!(reply.status == 200, "{reply:?}");
    want!(reply.header("content-type") == Some(INDEX), "{reply:?}");
    want!(reply.json()["schemaVersion"] == 2, "{reply:?}");
    Ok(reply)
}

fn digests(reply: &Reply) -> Vec<String> {
    let list = reply.json()["manifests"].as_array().cloned().unwrap_or_default();
    list.iter().map(|line| line["digest"].as_str().unwrap_or_default().to_owned()).collect()
}

fn subject(client: &Client, of: &str) -> Result<(), String> {
    let image = client.push_parts(of, b"layer");
    let image_digest = Digest::of(&image);
    accepted(client, of, "image", MANIFEST, &image)?;
    let more = format!(r#"{},"annotations":{{"a":"b"}}"#, about(&image_digest, image.len()));
    let bytes = artifact_bytes(client, of, "application/vnd.example.sig", &more);
    let digest = Digest::of(&bytes);
    let reply = client.push_manifest(of, digest.as_str(), MANIFEST, &bytes);
    want!(reply.status == 201, "{reply:?}");
    want!(reply.header("oci-subject") == Some(image_digest.as_str()), "{reply:?}");
    let reply = referrers(client, of, &image_digest, "")?;
    want!(digests(&reply) == [digest.as_str()], "{reply:?}");
    let line = &reply.json()["manifests"][0];
    want!(line["artifactType"] == "application/vnd.example.sig", "{line}");
    want!(line["mediaType"] == MANIFEST && line["size"] == bytes.len(), "{line}");
    want!(line["annotations"]["a"] == "b", "{line}");
    want!(client.delete(&format!("/v2/{of}/manifests/{digest}")).status == 202, "DELETE");
    want!(digests(&referrers(client, of, &image_digest, "")?).is_empty(), "listed when deleted");
    Ok(())
}

fn missing_subject(client: &Client, of: &str) -> Result<(), String> {
    let subject = Digest::of(b"not there yet");
    let bytes = artifact_bytes(client, of, "application/vnd.example", &about(&subject, 13));
    let reply = client.push_manifest(of, Digest::of(&bytes).as_str(), MANIFEST, &bytes);
    want!(reply.status == 201, "{reply:?}");
    want!(reply.header("oci-subject") == Some(subject.as_str()), "{reply:?}");
    want!(digests(&referrers(client, of, &subject, "")?).len() == 1, "not listed");
    Ok(())
}

fn no_referrers(client: &Client, of: &str) -> Result<(), String> {
    let reply = referrers(client, of, &Digest::of(b"nobody's"), "")?;
    want!(reply.json()["manifests"] == serde_json::json!([]), "{reply:?}");
    let reply = client.get(&format!("/v2/{of}/referrers/sha256:00"));
    want!(reply.status == 400, "{reply:?}");
    Ok(())
}

fn referrers_filtered(client: &Client, of: &str) -> Result<(), String> {
    let subject = Digest::of(b"subject");
    let mut pushed = Vec::new();
    for kind in ["application/vnd.a", "application/vnd.b"] {
        let bytes = artifact_bytes(client, of, kind, &about(&subject, 7));
        pushed.push(Digest::of(&bytes).to_string());
        accepted(client, of, &pushed[pushed.len() - 1], MANIFEST, &bytes)?;
    }
    // Without a type of its own, the config's counts.
    let config = client.push_blob(of, b"{}");
    let bytes = manifest(&config, 2, &[], &about(&subject, 7));
    accepted(client, of, "plain", MANIFEST, &bytes)?;
    want!(digests(&referrers(client, of, &subject, "")?).len() == 3, "not all listed");
    let reply = referrers(client, of, &subject, "?artifactType=application/vnd.a")?;
    want!(digests(&reply) == [pushed[0].as_str()], "{reply:?}");
    want!(reply.header("oci-filters-applied") == Some("artifactType"), "{reply:?}");
    let kind = format!("?artifactType={}", crate::client::CONFIG.replace('+', "%2B"));
    let reply = referrers(client, of, &subject, &kind)?;
    want!(digests(&reply) == [Digest::of(&bytes).to_string()], "{reply:?}");
    Ok(())
}

fn next(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| path.to_owned())
}

fn referrers_paged(client: &Client, of: &str) -> Result<(), String> {
    let subject = Digest::of(b"popular");
    for number in 0..5 {
        let kind = format!("application/vnd.n{number}");
        let bytes = artifact_bytes(client, of, &kind, &about(&subject, 7));
        accepted(client, of, &format!("t{number}"), MANIFEST, &bytes)?;
    }
    let mut reply = referrers(client, of, &subject, "?n=2")?;
    let mut all = digests(&reply);
    let mut pages = 1;
    while let Some(path) = next(&reply) {
        reply = client.get(&path);
        all.extend(digests(&reply));
        pages += 1;
        want!(pages < 10, "no end");
    }
    all.sort();
    all.dedup();
    want!((all.len(), pages) == (5, 3), "{all:?} on {pages} pages");
    Ok(())
}

fn referrers_fallback(client: &Client, of: &str) -> Result<(), String> {
    let subject = Digest::of(b"copied from elsewhere");
    // As old clients leave it: the artifact itself does not say what it is about.
    let bytes = artifact_bytes(client, of, "application/vnd.old", "");
    let digest = Digest::of(&bytes);
    accepted(client, of, digest.as_str(), MANIFEST, &bytes)?;
    let fallback = subject.as_str().replace(':', "-");
    accepted(client, of, &fallback, INDEX, &index(&[(MANIFEST, &digest, bytes.len())], ""))?;
    let reply = referrers(client, of, &subject, "")?;
    want!(digests(&reply) == [digest.as_str()], "{reply:?}");
    Ok(())
}

fn tag_parameters(client: &Client, of: &str) -> Result<(), String> {
    let bytes = client.push_parts(of, b"layer");
    let digest = Digest::of(&bytes);
    let tags: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let path = format!("/v2/{of}/manifests/{digest}?{}", query.join("&"));
    let reply = client.ask("PUT", &path, &[("Content-Type", MANIFEST)], &bytes);
    want!(reply.status == 201, "{reply:?}");
    want!(reply.all("oci-tag") == tags, "{reply:?}");
    for tag in tags {
        let reply = client.get(&format!("/v2/{of}/manifests/{tag}"));
        want!(reply.body == bytes, "{tag}: {reply:?}");
    }
    Ok(())
}

fn tagged(client: &Client, of: &str, tags: &[&str]) -> Result<(), String> {
    let bytes = client.push_parts(of, b"layer");
    for tag in tags {
        let reply = client.push_manifest(of, tag, MANIFEST, &bytes);
        want!(reply.status == 201, "{reply:?}");
    }
    Ok(())
}

fn tag_list(client: &Client, of: &str) -> Result<(), String> {
    tagged(client, of, &["b", "c", "a", "A", "1"])?;
    let reply = client.get(&format!("/v2/{of}/tags/list"));
    want!(reply.status == 200, "{reply:?}");
    let wanted = serde_json::json!({"name": of, "tags": ["1", "A", "a", "b", "c"]});
    want!(reply.json() == wanted, "{reply:?}");
    let reply = client.get(&format!("/v2/{of}/nothing/tags/list"));
    is_error(&reply, 404, "NAME_UNKNOWN")
}

fn tag_pages(client: &Client, of: &str) -> Result<(), String> {
    tagged(client, of, &["a", "b", "c", "d"])?;
    let reply = client.get(&format!("/v2/{of}/tags/list?n=2"));
    want!(reply.json()["tags"] == serde_json::json!(["a", "b"]), "{reply:?}");
    let path = next(&reply).ok_or_else(|| format!("no link: {reply:?}"))?;
    let reply = client.get(&path);
    want!(reply.json()["tags"] == serde_json::json!(["c", "d"]), "{reply:?}");
    want!(next(&reply).is_none(), "a link behind the last page: {reply:?}");
    let reply = client.get(&format!("/v2/{of}/tags/list?last=b"));
    want!(reply.json()["tags"] == serde_json::json!(["c", "d"]), "{reply:?}");
    let reply = client.get(&format!("/v2/{of}/tags/list?n=1&last=bb"));
    want!(reply.json()["tags"] == serde_json::json!(["c"]), "{reply:?}");
    Ok(())
}

fn tag_none(client: &Client, of: &str) -> Result<(), String> {
    tagged(client, of, &["a"])?;
    let reply = client.get(&format!("/v2/{of}/tags/list?n=0"));
    want!(reply.status == 200 && reply.json()["tags"] == serde_json::json!([]), "{reply:?}");
    want!(next(&reply).is_none(), "{reply:?}");
    Ok(())
}

fn delete_tag(client: &Client, of: &str) -> Result<(), String> {
    tagged(client, of, &["a", "b"])?;
    let reply = client.delete(&format!("/v2/{of}/manifests/a"));
    want!(reply.status == 202, "{reply:?}");
    is_error(&client.get(&format!("/v2/{of}/manifests/a")), 404, "MANIFEST_UNKNOWN")?;
    let reply = client.get(&format!("/v2/{of}/manifests/b"));
    want!(reply.status == 200, "the other tag went too: {reply:?}");
    is_error(&client.delete(&format!("/v2/{of}/manifests/a")), 404, "MANIFEST_UNKNOWN")
}

fn delete_manifest(client: &Client, of: &str) -> Result<(), String> {
    let digest = client.push_image(of, "a", b"layer");
    client.push_image(of, "b", b"layer");
    client.push_image(of, "other", b"another layer");
    let path = format!("/v2/{of}/manifests/{digest}");
    want!(client.delete(&path).status == 202, "DELETE");
    for reference in [digest.as_str(), "a", "b"] {
        let reply = client.get(&format!("/v2/{of}/manifests/{reference}"));
        is_error(&reply, 404, "MANIFEST_UNKNOWN")?;
    }
    let reply = client.get(&format!("/v2/{of}/tags/list"));
    want!(reply.json()["tags"] == serde_json::json!(["other"]), "{reply:?}");
    is_error(&client.delete(&path), 404, "MANIFEST_UNKNOWN")
}

fn padded(client: &Client, of: &str, size: usize) -> Vec<u8> {
    let config = client.push_blob(of, b"{}");
    let bare = manifest(&config, 2, &[], r#","annotations":{"x":""}"#).len();
    let more = format!(r#","annotations":{{"x":"{}"}}"#, "y".repeat(size - bare));
    manifest(&config, 2, &[], &more)
}

fn large_manifest(client: &Client, of: &str) -> Result<(), String> {
    let bytes = padded(client, of, 4 << 20);
    want!(bytes.len() == 4 << 20, "the test is wrong: {}", bytes.len());
    accepted(client, of, "large", MANIFEST, &bytes)
}

fn too_large_manifest(client: &Client, of: &str) -> Result<(), String> {
    let bytes = padded(client, of, (4 << 20) + 1);
    let reply = client
        .try_ask("PUT", &format!("/v2/{of}/manifests/x"), &[("Content-Type", MANIFEST)], &bytes)
        .map_err(|error| error.to_string())?;
    want!(reply.status == 413, "{} {:?}", reply.status, reply.headers);
    Ok(())
}

fn names(client: &Client, _: &str) -> Result<(), String> {
    let long = "a".repeat(256);
    for name in ["UPPER", "a..b", "-a", "a/../b", "%2e%2e/x", &long] {
        let reply = client.get(&format!("/v2/{name}/tags/list"));
        want!([400, 404].contains(&reply.status), "{name}: {reply:?}");
        let reply = client.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        want!([400, 404].contains(&reply.status), "{name}: {reply:?}");
    }
    is_error(&client.get("/v2/UPPER/tags/list"), 400, "NAME_INVALID")
}

fn put_again(client: &Client, of: &str) -> Result<(), String> {
    let bytes = b"the answer got lost";
    let path = with_query(&begin(client, of, "")?, &format!("digest={}", Digest::of(bytes)));
    for time in ["first", "second"] {
        let reply = client.ask("PUT", &path, &[], bytes);
        want!(reply.status == 201, "{time}: {reply:?}");
    }
    Ok(())
}

fn catalog(client: &Client, of: &str) -> Result<(), String> {
    client.push_image(&format!("{of}/x"), "1", b"layer");
    client.push_image(&format!("{of}/y"), "1", b"layer");
    let reply = client.get(&format!("/v2/_catalog?n=1&last={of}/a"));
    let wanted = serde_json::json!({"repositories": [format!("{of}/x")]});
    want!(reply.status == 200 && reply.json() == wanted, "{reply:?}");
    let path = next(&reply).ok_or_else(|| format!("no link: {reply:?}"))?;
    let reply = client.get(&path);
    want!(reply.json()["repositories"][0] == format!("{of}/y"), "{reply:?}");
    Ok(())
}
