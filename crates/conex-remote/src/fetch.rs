//! Plain downloads (`ADD https://…`): not a registry, but the same rules about redirects, private
//! addresses, credentials and limits.

use std::io::{self, Read};

use ureq::http::Method;

use crate::client::{Client, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::http::headers::content_range;
use crate::http::url::Url;
use crate::http::{Request, Response, TlsFor as _};
use crate::secret::Secret;
use std::sync::Arc;

/// What is fetched, and how much of it at most.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The value of the `Authorization` header, for the URL's own host only.
    pub authorization: Option<Secret>,
    /// An entity tag: what still has it is not sent again.
    pub if_none_match: Option<String>,
    /// Most bytes accepted.
    pub size_max: u64,
}

/// What the server said about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchHead {
    /// Where it came from, after redirects.
    pub url: Url,
    /// Its size, if the server told.
    pub size: Option<u64>,
    /// Its entity tag, as it stands in the header.
    pub etag: Option<String>,
    /// When it was changed, in seconds since 1970.
    pub last_modified: Option<u64>,
    /// The file name that the server proposes; never with a path in it.
    pub file_name: Option<String>,
}

/// The answer to a fetch.
pub enum Fetched {
    /// What the caller has is what there is.
    NotModified,
    /// The file. Its reader takes a broken connection up again where the server allows, and ends
    /// with an error when there is more than was allowed or less than was promised.
    File(FetchHead, Box<dyn Read + Send>),
}

impl Client {
    /// Fetches a URL.
    ///
    /// # Errors
    /// There is no such file, no such server, or it misbehaves.
    pub fn fetch(&self, url: &str, options: &FetchOptions) -> Result<Fetched> {
        let url = Url::parse(url)?;
        let response = self.shared.retry(|_| {
            let extra = options.if_none_match.iter();
            let extra = extra.map(|tag| ("if-none-match".to_owned(), tag.clone())).collect();
            let response = self.shared.plain(Method::GET, &url, options, extra)?;
            refuse(response, &url, &[200, 304])
        })?;
        if response.status == 304 {
            return Ok(Fetched::NotModified);
        }
        let head = head(&response);
        let too_large = || Error::too_large(&format!("`{url}`"), options.size_max);
        if head.size.is_some_and(|size| size > options.size_max) {
            return Err(too_large());
        }
        let ranges = response.header("accept-ranges") == Some("bytes");
        // Only a strong tag proves that the rest of a file belongs to its beginning.
        let tag = head.etag.clone().filter(|tag| ranges && tag.starts_with('"'));
        let body = FetchBody {
            shared: Arc::clone(&self.shared),
            url,
            options: options.clone(),
            tag,
            size: head.size,
            offset: 0,
            attempt: 0,
            body: response.into_reader(),
        };
        Ok(Fetched::File(head, Box::new(body)))
    }

    /// Asks what the server knows about a URL, without fetching it.
    ///
    /// # Errors
    /// As [`Self::fetch`]; many servers do not answer such a question.
    pub fn fetch_head(&self, url: &str, options: &FetchOptions) -> Result<FetchHead> {
        let url = Url::parse(url)?;
        self.shared.retry(|_| {
            let response = self.shared.plain(Method::HEAD, &url, options, Vec::new())?;
            let response = refuse(response, &url, &[200])?;
            let head = head(&response);
            response.drain();
            Ok(head)
        })
    }
}

impl Shared {
    fn plain(
        &self,
        method: Method,
        url: &Url,
        options: &FetchOptions,
        headers: Vec<(String, String)>,
    ) -> Result<Response> {
        let mut request = Request::new(method, url.clone());
        request.headers = headers;
        if let Some(value) = &options.authorization {
            request.headers.push(("authorization".to_owned(), value.expose().to_owned()));
        }
        let tls = self.tls_for(url)?;
        self.http.send(request, &tls, self)
    }
}

fn refuse(response: Response, url: &Url, wanted: &[u16]) -> Result<Response> {
    let status = response.status;
    if wanted.contains(&status) {
        return Ok(response);
    }
    let kind = match status {
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        429 => ErrorKind::RateLimited,
        408 | 499 | 500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    response.drain();
    Err(Error::new(kind, format!("cannot fetch `{url}` ({status})")).with_status(status))
}

fn head(response: &Response) -> FetchHead {
    let text = |name: &str| response.header(name).map(str::to_owned);
    FetchHead {
        url: response.url.clone(),
        size: response.content_length(),
        etag: text("etag"),
        last_modified: response.header("last-modified").and_then(crate::http::headers::http_date),
        file_name: response.header("content-disposition").and_then(file_name),
    }
}

/// The `filename` of a `Content-Disposition`, if it is a plain name.
fn file_name(value: &str) -> Option<String> {
    let parameter = value.split(';').map(str::trim).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("filename").then_some(value.trim())
    })?;
    let name = parameter.trim_matches('"');
    let plain = !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\\', '\0'])
        && !name.chars().any(char::is_control);
    plain.then(|| name.to_owned())
}

struct FetchBody {
    shared: Arc<Shared>,
    url: Url,
    options: FetchOptions,
    tag: Option<String>,
    size: Option<u64>,
    offset: u64,
    attempt: u32,
    body: Box<dyn Read + Send>,
}

impl FetchBody {
    /// Goes on after a broken connection, if the file can be proven to be the same.
    fn resume(&mut self, error: Error) -> Result<()> {
        let Some(tag) = self.tag.clone() else { return Err(error) };
        self.attempt += 1;
        self.shared.wait_after(self.attempt, error)?;
        let headers = vec![
            ("range".to_owned(), format!("bytes={}-", self.offset)),
            ("if-range".to_owned(), tag),
        ];
        let response = self.shared.plain(Method::GET, &self.url, &self.options, headers)?;
        let response = refuse(response, &self.url, &[200, 206])?;
        let range = response.header("content-range").and_then(content_range);
        let fits = range.is_some_and(|(first, ..)| first == self.offset);
        if response.status != 206 || !fits {
            let message = format!("`{}` changed while it was fetched", self.url);
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        self.body = response.into_reader();
        Ok(())
    }
}

impl Read for FetchBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.body.read(buffer).map_err(Error::from) {
                Ok(0) if self.size.is_none_or(|size| size == self.offset) => return Ok(0),
                Ok(0) => {
                    let message = format!("the file `{}` broke off", self.url);
                    self.resume(Error::network(message))?;
                }
                Ok(count) => {
                    self.offset += count as u64;
                    if self.offset > self.options.size_max {
                        let what = format!("`{}`", self.url);
                        return Err(Error::too_large(&what, self.options.size_max).into());
                    }
                    return Ok(count);
                }
                Err(error) => self.resume(error)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_names_have_no_path() {
        for (value, wanted) in [
            ("attachment; filename=\"a.tar.gz\"", Some("a.tar.gz")),
            ("attachment; filename=b", Some("b")),
            ("attachment; filename=\"../../etc/passwd\"", None),
            ("attachment; filename=\"..\"", None),
            ("inline", None),
        ] {
            assert_eq!(file_name(value).as_deref(), wanted, "{value}");
        }
    }
}
