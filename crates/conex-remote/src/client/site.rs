//! Servers: which ones stand behind a registry's name, and how each is reached.

use std::sync::{Arc, Mutex, PoisonError};

use conex_oci::Reference;

use crate::config::{certs, hosts};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::network::is_loopback;
use crate::http::tls::{TlsSetup, Verify};
use crate::http::url::{Scheme, Url, split_port};
use crate::http::{Patience, Request, Response, TlsFor, speaks_no_tls};

use super::Shared;

/// What is to be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Find out what a tag means.
    Resolve,
    /// Read by digest.
    Pull,
    /// Write, delete, list.
    Push,
}

/// One server for a registry.
pub(crate) struct Site {
    /// The registry's name, under which its credentials are kept.
    pub(crate) registry: String,
    /// Host, and port where it is not the usual one.
    pub(crate) authority: String,
    prefix: String,
    /// The registry that a mirror is asked about (`ns=`), for mirrors of `hosts.toml`.
    namespace: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tls: Arc<TlsSetup>,
    insecure: bool,
    scheme: Mutex<Option<Scheme>>,
    /// What is found there must be what the registry itself would say, so a tag is not asked.
    pub(crate) resolve: bool,
    pub(crate) pull: bool,
    pub(crate) push: bool,
}

/// A repository on a server.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) site: Arc<Site>,
    pub(crate) repository: String,
}

impl Shared {
    /// The servers to ask for a reference, best first.
    pub(crate) fn targets(&self, reference: &Reference, purpose: Purpose) -> Result<Vec<Target>> {
        let places = self.options.registries.places(reference)?;
        let mut targets = Vec::new();
        for place in places {
            if place.mirror && purpose == Purpose::Push {
                continue;
            }
            for site in self.sites(&place.registry, place.insecure)? {
                let wanted = match purpose {
                    Purpose::Resolve => site.resolve,
                    Purpose::Pull => site.pull,
                    Purpose::Push => site.push,
                };
                if wanted {
                    targets.push(Target { site, repository: place.repository.clone() });
                }
            }
        }
        if targets.is_empty() {
            let registry = reference.registry();
            return Err(Error::config(format!(
                "no host is configured that may serve `{registry}`"
            )));
        }
        Ok(targets)
    }

    /// The servers of one registry: those of its `hosts.toml`, then its own.
    fn sites(&self, registry: &str, insecure: bool) -> Result<Vec<Arc<Site>>> {
        let key = (registry.to_owned(), insecure);
        let mut known = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sites) = known.get(&key) {
            return Ok(sites.clone());
        }
        let sites = match hosts::load(&self.options.hosts_dirs, registry)? {
            Some(entries) => entries
                .into_iter()
                .map(|entry| self.host_site(registry, entry, insecure))
                .collect::<Result<Vec<_>>>()?,
            None => vec![self.own_site(registry, insecure)?],
        };
        known.insert(key, sites.clone());
        Ok(sites)
    }

    fn own_site(&self, registry: &str, insecure: bool) -> Result<Arc<Site>> {
        let authority = hosts::server_authority(registry).to_ascii_lowercase();
        let insecure = insecure || self.options.verify == Verify::Skip;
        let verify = if insecure { Verify::Skip } else { Verify::Strict };
        let tls = Arc::new(certs::load(&self.options.certs_dirs, &authority, verify)?);
        let host = split_port(&authority).map_or(authority.as_str(), |(host, _)| host);
        let may_be_plain = insecure || is_loopback(host);
        Ok(Arc::new(Site {
            registry: registry.to_owned(),
            prefix: "/v2".to_owned(),
            namespace: None,
            headers: Vec::new(),
            tls,
            insecure: may_be_plain,
            scheme: Mutex::new((!may_be_plain).then_some(Scheme::Https)),
            resolve: true,
            pull: true,
            push: true,
            authority,
        }))
    }

    fn host_site(
        &self,
        registry: &str,
        entry: hosts::HostEntry,
        insecure: bool,
    ) -> Result<Arc<Site>> {
        let skip = entry.skip_verify || insecure || self.options.verify == Verify::Skip;
        let verify = if skip { Verify::Skip } else { Verify::Strict };
        let mut tls = certs::load(&self.options.certs_dirs, &entry.authority, verify)?;
        tls.authorities.extend(entry.authorities);
        tls.client = entry.client.or(tls.client);
        let own = entry.authority == hosts::server_authority(registry);
        Ok(Arc::new(Site {
            // Credentials for the registry are not for whoever mirrors it.
            registry: if own { registry.to_owned() } else { entry.authority.clone() },
            authority: entry.authority,
            prefix: entry.prefix,
            namespace: (!own).then(|| registry.to_owned()),
            headers: entry.headers,
            tls: Arc::new(tls),
            insecure: entry.scheme == Scheme::Http,
            scheme: Mutex::new(Some(entry.scheme)),
            resolve: entry.resolve,
            pull: entry.pull,
            push: entry.push,
        }))
    }

    /// The URL of something in a repository of a server (`manifests/latest`).
    pub(crate) fn url(&self, target: &Target, rest: &str) -> Result<Url> {
        let path = format!("{}/{}/{rest}", target.site.prefix, target.repository);
        self.site_url(&target.site, &path)
    }

    /// The URL of the API's root on a server, or of a path below it (`_catalog`).
    pub(crate) fn api_url(&self, site: &Site, rest: &str) -> Result<Url> {
        self.site_url(site, &format!("{}/{rest}", site.prefix))
    }

    fn site_url(&self, site: &Site, path: &str) -> Result<Url> {
        let url = Url::on_host(self.scheme(site)?, &site.authority, path)?;
        Ok(match &site.namespace {
            Some(namespace) => url.with_query("ns", namespace),
            None => url,
        })
    }

    /// The server's own URL, which says whom credentials and tokens are for.
    pub(crate) fn base(&self, site: &Site) -> Result<Url> {
        Url::on_host(self.scheme(site)?, &site.authority, "/")
    }

    /// Finds out once how a server that may be plain is reached: with TLS if it can, else without.
    fn scheme(&self, site: &Site) -> Result<Scheme> {
        let mut scheme = site.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *scheme {
            return Ok(known);
        }
        let found = self.probe(site)?;
        *scheme = Some(found);
        Ok(found)
    }

    fn probe(&self, site: &Site) -> Result<Scheme> {
        let path = format!("{}/", site.prefix);
        let ask = |scheme| -> Result<()> {
            let url = Url::on_host(scheme, &site.authority, &path)?;
            let mut request = Request::new(ureq::http::Method::GET, url);
            request.patience = Patience::Probe;
            self.http.send(request, &site.tls, self).map(Response::drain)
        };
        let Err(over_tls) = ask(Scheme::Https) else { return Ok(Scheme::Https) };
        // A certificate that does not convince is a reason to stop, not to go on without one.
        let may_go_on = match over_tls.kind() {
            ErrorKind::Tls => speaks_no_tls(&over_tls),
            ErrorKind::Network | ErrorKind::Protocol => true,
            _ => false,
        };
        if !may_go_on || !site.insecure {
            return Err(over_tls);
        }
        match ask(Scheme::Http) {
            Ok(()) => Ok(Scheme::Http),
            Err(error) if speaks_no_tls(&over_tls) => Err(error),
            Err(_) => Err(over_tls),
        }
    }
}

impl TlsFor for Shared {
    fn tls_for(&self, url: &Url) -> Result<Arc<TlsSetup>> {
        let authority = url.authority();
        let mut known = self.other_tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(setup) = known.get(&authority) {
            return Ok(Arc::clone(setup));
        }
        let verify = self.options.verify;
        let setup = Arc::new(certs::load(&self.options.certs_dirs, &authority, verify)?);
        known.insert(authority, Arc::clone(&setup));
        Ok(setup)
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if hosts::server_authority(&self.registry) == self.authority {
            formatter.write_str(&self.registry)
        } else {
            formatter.write_str(&shown(&self.authority, 255))
        }
    }
}
