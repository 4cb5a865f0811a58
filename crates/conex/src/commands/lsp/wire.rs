//! Messages on the wire: headers, an empty line, JSON (LSP 3.17, Base Protocol).

use std::io::{self, BufRead, Read as _, Write};

use serde_json::Value;

/// Largest message taken: 64 MiB, sixteen Dockerfiles as large as there may be.
const MESSAGE_SIZE_MAX: usize = 64 << 20;

/// Longest header line taken; the protocol has two short ones.
const HEADER_SIZE_MAX: u64 = 4096;

/// Why no message was read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream broke, or holds no messages.
    Io(io::Error),
    /// A message is no JSON; the next one can be read.
    Json(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a message; `None` at the end.
pub(super) fn read(input: &mut impl BufRead) -> Result<Option<Value>, Fault> {
    let mut length = None;
    loop {
        let mut line = String::new();
        let read = (&mut *input).take(HEADER_SIZE_MAX).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let invalid = |text: &str| Fault::Io(io::Error::new(io::ErrorKind::InvalidData, text));
    let length = length.ok_or_else(|| invalid("a message without `Content-Length`"))?;
    if length > MESSAGE_SIZE_MAX {
        return Err(invalid("a message is larger than 64 MiB"));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    serde_json::from_slice(&body).map(Some).map_err(|error| Fault::Json(error.to_string()))
}

/// Writes a message.
pub(super) fn write(output: &mut impl Write, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::{Fault, read, write};
    use serde_json::json;

    #[test]
    fn messages_come_as_they_went() {
        let mut wire = Vec::new();
        write(&mut wire, &json!({ "a": "é" })).unwrap();
        write(&mut wire, &json!({ "b": 1 })).unwrap();
        let mut input = wire.as_slice();
        assert_eq!(read(&mut input).unwrap(), Some(json!({ "a": "é" })));
        assert_eq!(read(&mut input).unwrap(), Some(json!({ "b": 1 })));
        assert!(read(&mut input).unwrap().is_none());
        let mut input =
            &b"content-length: 2\r\nContent-Type: x\r\n\r\n{]Content-Length: 2\r\n\r\n{}"[..];
        assert!(matches!(read(&mut input), Err(Fault::Json(_))));
        assert_eq!(read(&mut input).unwrap(), Some(json!({})));
        for broken in
            ["X: 1\r\n\r\n", "Content-Length: 99999999999\r\n\r\n", "Content-Length: 9\r\n\r\n{}"]
        {
            assert!(matches!(read(&mut broken.as_bytes()), Err(Fault::Io(_))), "{broken:?}");
        }
    }
}
