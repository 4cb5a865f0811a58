//! The files that tell a container about the network: `/etc/hosts`, `/etc/resolv.conf`,
//! `/etc/hostname`. Pure functions from the host's bytes to the container's.
//!
//! Does not read files and does not resolve names: the caller passes bytes and addresses.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::spec::Network;

/// Most bytes of the host's `resolv.conf` that are looked at; the C library's own limits are lower.
pub const RESOLV_SIZE_MAX: usize = 1 << 20;

/// Where systemd-resolved keeps the servers behind its stub; read it for [`resolv_conf`].
pub const RESOLVED_PATH: &str = "/run/systemd/resolve/resolv.conf";

/// Servers used when the host names none that a container could reach, as Docker.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// A name for `/etc/hosts`, as `--add-host` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub address: IpAddr,
}

impl ExtraHost {
    /// Reads `NAME:ADDRESS` or `NAME=ADDRESS`, where the address may be in brackets, or
    /// `host-gateway` for the address under which the container reaches the host.
    pub fn parse(text: &str, gateway: IpAddr) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("extra host `{text}` {why}"))
                .with_hint("write it as `name=address`, for example `db=10.0.0.7`")
        };
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = split.ok_or_else(|| bad("has no address"))?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(bad("has no proper name"));
        }
        let unbracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match unbracketed.unwrap_or(address) {
            "host-gateway" => gateway,
            address => address.parse().map_err(|_| bad("has no proper address"))?,
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

/// The content of `/etc/hosts`.
pub fn hosts_file(hostname: &str, extra: &[ExtraHost]) -> String {
    let mut text = format!(
        "127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost \
                            ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
                            ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    );
    for ExtraHost { name, address } in extra {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// The content of `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// The content of `/etc/resolv.conf`.
///
/// `host` is the host's file and `resolved` that at [`RESOLVED_PATH`], where they exist. With the
/// host's network the host's file is right as it is. Otherwise servers on the host's loopback,
/// such as systemd-resolved's stub, cannot be reached: then the servers behind the stub are named,
/// or, without any, two public ones.
pub fn resolv_conf(host: Option<&[u8]>, resolved: Option<&[u8]>, network: Network) -> Vec<u8> {
    let host = limited(host);
    if network == Network::Host {
        return host.to_vec();
    }
    let is_stub = servers(host).all(|server| server == "127.0.0.53") && has_servers(host);
    let source = if is_stub { resolved.map_or(host, |file| limited(Some(file))) } else { host };
    let text = String::from_utf8_lossy(source);
    let mut kept = String::new();
    let mut server_count = 0_usize;
    for line in text.lines() {
        match server_of(line) {
            Some(server) if is_local(server) => continue,
            Some(_) => server_count += 1,
            None => {}
        }
        kept.push_str(line);
        kept.push('\n');
    }
    if server_count == 0 {
        for server in FALLBACK_SERVERS {
            // Writing to a string cannot fail.
            let _ = writeln!(kept, "nameserver {server}");
        }
    }
    kept.into_bytes()
}

fn limited(file: Option<&[u8]>) -> &[u8] {
    let file = file.unwrap_or_default();
    file.get(..RESOLV_SIZE_MAX).unwrap_or(file)
}

fn has_servers(file: &[u8]) -> bool {
    servers(file).next().is_some()
}

fn servers(file: &[u8]) -> impl Iterator<Item = String> {
    let lines: Vec<_> = file.split(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect();
    lines.into_iter().filter_map(|line| server_of(&line).map(str::to_owned))
}

fn server_of(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    words.next()
}

fn is_local(server: &str) -> bool {
    // A zone (`fe80::1%eth0`) names a device that the container does not have.
    server.contains('%') || server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn extra_hosts_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("db:10.0.0.7", "10.0.0.7 db"),
            ("db=10.0.0.7", "10.0.0.7 db"),
            ("six:::1", "::1 six"),
            ("six=[2001:db8::1]", "2001:db8::1 six"),
            ("me:host-gateway", "127.0.0.1 me"),
            ("db", "extra host `db` has no address"),
            ("=1.2.3.4", "extra host `=1.2.3.4` has no proper name"),
            ("a b=1.2.3.4", "extra host `a b=1.2.3.4` has no proper name"),
            ("db=300.1.1.1", "extra host `db=300.1.1.1` has no proper address"),
            ("db=1.1.1.1\nevil", "extra host `db=1.1.1.1\nevil` has no proper address"),
        ] {
            let shown = match ExtraHost::parse(text, GATEWAY) {
                Ok(host) => format!("{} {}", host.address, host.name),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn hosts_file_names_the_container_and_the_extras() {
        let extra = [ExtraHost::parse("db=10.0.0.7", GATEWAY).unwrap()];
        let text = hosts_file("box", &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost box\n"), "{text}");
        assert!(text.ends_with("10.0.0.7\tdb\n"), "{text}");
    }

    #[test]
    fn resolv_conf_names_servers_that_can_be_reached() {
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        let behind = "nameserver 192.168.1.1\nsearch lan\n";
        for (host, resolved, network, expected) in [
            (Some(stub), Some(behind), Network::Host, stub),
            (Some(stub), Some(behind), Network::None, behind),
            (Some(behind), None, Network::None, behind),
            (
                Some("nameserver 127.0.0.1\nnameserver 9.9.9.9\n"),
                Some(behind),
                Network::None,
                "nameserver 9.9.9.9\n",
            ),
            (
                Some("nameserver fe80::1%eth0\n"),
                None,
                Network::None,
                "nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
            ),
            (None, None, Network::Host, ""),
        ] {
            let found = resolv_conf(host.map(str::as_bytes), resolved.map(str::as_bytes), network);
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{host:?} {network:?}");
        }
    }
}
