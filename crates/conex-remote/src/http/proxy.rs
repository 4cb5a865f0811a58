//! Which proxy a request goes through. The values come from the caller, who knows the environment.
//!
//! Proxies are used with `CONNECT`, for plain HTTP too: the proxy then sees host and port only.

use std::net::IpAddr;

use crate::http::network::is_loopback;
use crate::http::url::{Scheme, Url, split_port};

/// Proxies, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them.
#[derive(Clone, Default)]
pub struct ProxyOptions {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly: `*`, `host`, `.domain`, `*.domain`, an address, a network
    /// (`10.0.0.0/8`), each with an optional `:port`; separated by commas or blanks.
    pub no_proxy: String,
}

impl std::fmt::Debug for ProxyOptions {
    /// Leaves out the proxies: their URLs may hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProxyOptions").field("no_proxy", &self.no_proxy).finish()
    }
}

impl ProxyOptions {
    /// The proxy for a URL; none for this machine itself and for what `no_proxy` names.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<&str> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_deref(),
            Scheme::Https => self.https.as_deref(),
        };
        let proxy = proxy.filter(|text| !text.is_empty())?;
        let direct = is_loopback(url.host()) || self.excludes(url.host(), url.port());
        (!direct).then_some(proxy)
    }

    fn excludes(&self, host: &str, port: u16) -> bool {
        self.no_proxy
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|entry| !entry.is_empty())
            .any(|entry| matches_entry(&entry.to_ascii_lowercase(), host, port))
    }
}

fn matches_entry(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        let (Some(address), Ok(network), Ok(bits)) = (address, network.parse(), bits.parse())
        else {
            return false;
        };
        return in_network(address, network, bits);
    }
    if let (Some(address), Ok(wanted)) = (address, entry.parse::<IpAddr>()) {
        return address == wanted;
    }
    let bare = entry.trim_start_matches("*.").trim_start_matches('.');
    let (name, wanted_port) = match split_port(bare) {
        Some((name, port)) => (name, port),
        None => return false,
    };
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    let only_below = bare.len() != entry.len();
    below && address.is_none() || (host == name && !only_below)
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_through(no_proxy: &str, url: &str) -> bool {
        let options = ProxyOptions {
            http: Some("http://proxy:3128".into()),
            https: Some("http://proxy:3128".into()),
            no_proxy: no_proxy.into(),
        };
        options.proxy_for(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_honoured() {
        for (no_proxy, url, wanted) in [
            ("", "https://ghcr.io/", true),
            ("", "http://localhost:5000/", false),
            ("", "http://127.0.0.9/", false),
            ("*", "https://ghcr.io/", false),
            ("ghcr.io", "https://ghcr.io/", false),
            ("ghcr.io", "https://pkg.ghcr.io/", false),
            ("ghcr.io", "https://notghcr.io/", true),
            (".ghcr.io", "https://ghcr.io/", true),
            ("*.ghcr.io", "https://a.ghcr.io/", false),
            ("a, ghcr.io:443", "https://ghcr.io/", false),
            ("ghcr.io:80", "https://ghcr.io/", true),
            ("10.0.0.0/8", "https://10.2.3.4/", false),
            ("10.0.0.0/8", "https://11.2.3.4/", true),
            ("0.0.0.0/0", "https://11.2.3.4/", false),
            ("fd00::/8", "https://[fd00::1]/", false),
            ("10.0.0.0/99", "https://10.2.3.4/", true),
            ("192.168.1.1", "https://192.168.1.1/", false),
        ] {
            assert_eq!(goes_through(no_proxy, url), wanted, "{no_proxy} {url}");
        }
    }
}
