//! `EXPOSE`: one port or a range, with a protocol.

use std::fmt;
use std::net::IpAddr;

use crate::error::Error;

/// What one word of EXPOSE says, once expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// The first port.
    pub first: u16,
    /// The last port; the first again if it is no range.
    pub last: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Whether the protocol was written in lower case, or not at all.
    pub lower_case: bool,
    /// Whether an address or a host port stood before the port. Accepted for compatibility and
    /// without any effect.
    pub mapped: bool,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl PortSpec {
    /// Reads `80`, `80/udp`, `8000-8010`, and the deprecated `[ip:][host:]80`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::value(format!("`{text}` is no port to expose: {why}"));
        let (container, mapping) = match text.rsplit_once(':') {
            Some((before, container)) => (container, Some(before)),
            None => (text, None),
        };
        let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
        let lower_case = !protocol.contains(|c: char| c.is_ascii_uppercase());
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(refused("the protocol is not `tcp`, `udp` or `sctp`")),
        };
        let (first, last) = range(ports).map_err(refused)?;
        let mapped = match mapping {
            Some(mapping) => check_mapping(mapping, last - first).map_err(refused)?,
            None => false,
        };
        Ok(Self { first, last, protocol, lower_case, mapped })
    }

    /// The ports as an image config lists them: `80/tcp`.
    pub fn entries(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u16>().ok() } else { None };
        number.ok_or("a port is a number from 0 to 65535")
    };
    let Some((first, last)) = text.split_once('-') else {
        let port = port(text)?;
        return Ok((port, port));
    };
    let (first, last) = (port(first)?, port(last)?);
    if last < first { Err("the range ends before it begins") } else { Ok((first, last)) }
}

/// Checks `[ip:]host`; true if there was anything.
fn check_mapping(mapping: &str, width: u16) -> Result<bool, &'static str> {
    let (address, host) = mapping.rsplit_once(':').unwrap_or(("", mapping));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !address.is_empty() && bare.unwrap_or(address).parse::<IpAddr>().is_err() {
        return Err("the part before the ports is no IP address");
    }
    if host.is_empty() {
        return Ok(!address.is_empty());
    }
    let (first, last) = range(host)?;
    if width > 0 && last - first != width {
        return Err("the host's range is not as long as the container's");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::PortSpec;

    #[test]
    fn ports_ranges_and_protocols() {
        for (text, entries, lower_case, mapped) in [
            ("80", vec!["80/tcp"], true, false),
            ("80/", vec!["80/tcp"], true, false),
            ("53/UDP", vec!["53/udp"], false, false),
            ("8000-8002/sctp", vec!["8000/sctp", "8001/sctp", "8002/sctp"], true, false),
            ("7-7", vec!["7/tcp"], true, false),
            ("8080:80", vec!["80/tcp"], true, true),
            (":80", vec!["80/tcp"], true, false),
            ("127.0.0.1:8080:80", vec!["80/tcp"], true, true),
            ("127.0.0.1::80", vec!["80/tcp"], true, true),
            ("[::1]:8080:80", vec!["80/tcp"], true, true),
            ("::1:8080:80", vec!["80/tcp"], true, true),
            ("8000-8001:80-81", vec!["80/tcp", "81/tcp"], true, true),
            ("8000-8005:80", vec!["80/tcp"], true, true),
        ] {
            let spec = PortSpec::parse(text).unwrap();
            assert_eq!(spec.entries().collect::<Vec<_>>(), entries, "{text}");
            assert_eq!(spec.lower_case, lower_case, "{text}");
            assert_eq!(spec.mapped, mapped, "{text}");
        }
        for text in [
            "",
            "/tcp",
            "x",
            "80/icmp",
            "65536",
            "-1",
            "9-1",
            "1-",
            "a:80",
            "x:1:80",
            "1-2:80-99",
            "80:",
            "+80",
        ] {
            assert!(PortSpec::parse(text).is_err(), "{text}");
        }
    }
}
