//! Turns challenges and credentials into `Authorization` headers, and remembers what still holds.
//!
//! Invariant: a password or refresh token goes to the token server that the registry names, over
//! TLS unless the registry itself has none, and nowhere else; an access token goes to its registry
//! only (the caller attaches it to requests of that origin alone).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::auth::challenge::{Challenge, parse_challenges};
use crate::auth::scope::Scopes;
use crate::auth::{
    Credential, CredentialSource, Web, WebMethod, WebPlace, WebRequest, WebResponse,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::url::{Scheme, Url, form};
use crate::limits::{TOKEN_LIFE_MAX_SECONDS, TOKEN_LIFE_MIN_SECONDS};
use crate::secret::Secret;

/// How this client names itself to token servers.
const CLIENT_ID: &str = "conex";

/// A token is not used in the last seconds of its life, in which a request that has just been sent
/// would see it expire.
const TOKEN_SLACK: Duration = Duration::from_secs(10);

/// How long a credential that was found is used before its source is asked again.
const CREDENTIAL_LIFE: Duration = Duration::from_secs(600);

/// Most tokens kept for one registry.
const TOKENS_MAX: usize = 256;

/// Knows who we are to each registry.
pub(crate) struct Authorizer {
    sources: Vec<Arc<dyn CredentialSource>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held while a token is fetched: parallel transfers need the same one.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct State {
    ways: HashMap<String, Way>,
    tokens: HashMap<String, Vec<Token>>,
    refresh: HashMap<(String, Option<String>), Secret>,
    credentials: HashMap<(String, String), (Option<Credential>, SystemTime)>,
}

/// What a registry wants, as its last challenge said.
#[derive(Clone, PartialEq, Eq)]
enum Way {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Clone)]
struct Token {
    scopes: Scopes,
    value: Secret,
    expires_at: SystemTime,
}

/// Whom a request is for.
pub(crate) struct Audience<'a> {
    /// The registry's own URL.
    pub(crate) base: &'a Url,
    /// The registry by the name that credentials are kept under.
    pub(crate) registry: &'a str,
    /// The repository, or nothing.
    pub(crate) repository: &'a str,
    /// What the request needs.
    pub(crate) scopes: &'a Scopes,
}

impl Audience<'_> {
    fn key(&self) -> String {
        self.base.authority()
    }
}

/// Makes requests: those of credential sources, and those to a token server named by a registry.
pub(crate) trait AuthWeb: Web {
    /// Sends a request to a server that `registry` named.
    fn exchange_for(&self, registry: &Url, request: WebRequest) -> Result<WebResponse>;
}

impl Authorizer {
    pub(crate) fn new(sources: Vec<Arc<dyn CredentialSource>>, clock: Arc<dyn Clock>) -> Self {
        Self { sources, clock, state: Mutex::default(), fetching: Mutex::new(()) }
    }

    /// The header for a request, as far as is known before the registry was asked.
    pub(crate) fn header(&self, to: &Audience<'_>, web: &dyn AuthWeb) -> Result<Option<Secret>> {
        let way = self.state().ways.get(&to.key()).cloned();
        match way {
            None => Ok(None),
            Some(Way::Basic) => self.basic(to, web),
            Some(Way::Bearer { realm, service }) => {
                let token = self.token(to, to.scopes, &realm, service.as_deref(), web)?;
                Ok(Some(bearer(&token)))
            }
        }
    }

    /// The header after the registry refused a request with 401; none when there is nothing that
    /// was not tried. `sent` is what the refused request carried.
    pub(crate) fn after_challenge<'h>(
        &self,
        to: &Audience<'_>,
        headers: impl Iterator<Item = &'h str>,
        sent: Option<&Secret>,
        web: &dyn AuthWeb,
    ) -> Result<Option<Secret>> {
        let challenges: Vec<Challenge> = headers.take(8).flat_map(parse_challenges).collect();
        let bearer_first = challenges.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
        match bearer_first.or(challenges.first()) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                self.state().ways.insert(to.key(), Way::Basic);
                let header = self.basic(to, web)?;
                Ok(header.filter(|header| sent != Some(header)))
            }
            Some(Challenge::Bearer { realm, service, scope, .. }) => {
                let mut scopes = to.scopes.clone();
                scopes.widen(scope.as_deref().unwrap_or_default());
                let way = Way::Bearer { realm: realm.clone(), service: service.clone() };
                {
                    let mut state = self.state();
                    state.ways.insert(to.key(), way);
                    let tokens = state.tokens.entry(to.key()).or_default();
                    tokens.retain(|token| sent != Some(&bearer(&token.value)));
                }
                let token = self.token(to, &scopes, realm, service.as_deref(), web)?;
                let header = bearer(&token);
                Ok((sent != Some(&header)).then_some(header))
            }
        }
    }

    /// The credential for a registry, from the first source that has one.
    pub(crate) fn credential(
        &self,
        registry: &str,
        repository: &str,
        web: &dyn Web,
    ) -> Result<Option<Credential>> {
        let key = (registry.to_owned(), repository.to_owned());
        let now = self.clock.now();
        if let Some((found, until)) = self.state().credentials.get(&key)
            && *until > now
        {
            return Ok(found.clone());
        }
        let mut found = None;
        for source in &self.sources {
            found = source.credential(registry, repository, web)?;
            if found.is_some() {
                break;
            }
        }
        self.state().credentials.insert(key, (found.clone(), now + CREDENTIAL_LIFE));
        Ok(found)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn basic(&self, to: &Audience<'_>, web: &dyn AuthWeb) -> Result<Option<Secret>> {
        Ok(match self.credential(to.registry, to.repository, web)? {
            Some(Credential::Password { username, password }) => {
                Some(Credential::basic(&username, &password))
            }
            Some(Credential::RegistryToken(token)) => Some(bearer(&token)),
            Some(Credential::IdentityToken(_)) | None => None,
        })
    }

    fn token(
        &self,
        to: &Audience<'_>,
        scopes: &Scopes,
        realm: &str,
        service: Option<&str>,
        web: &dyn AuthWeb,
    ) -> Result<Secret> {
        if let Some(token) = self.kept(to, scopes) {
            return Ok(token);
        }
        let _one_at_a_time = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = self.kept(to, scopes) {
            return Ok(token);
        }
        let request = TokenRequest { to, scopes, realm, service };
        let (value, life) = self.fetch(&request, web)?;
        let expires_at = self.clock.now() + life.saturating_sub(TOKEN_SLACK);
        let mut state = self.state();
        let tokens = state.tokens.entry(to.key()).or_default();
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.push(Token { scopes: scopes.clone(), value: value.clone(), expires_at });
        Ok(value)
    }

    fn kept(&self, to: &Audience<'_>, scopes: &Scopes) -> Option<Secret> {
        let now = self.clock.now();
        let mut state = self.state();
        let tokens = state.tokens.get_mut(&to.key())?;
        tokens.retain(|token| token.expires_at > now);
        tokens.iter().rev().find(|t| t.scopes.covers(scopes)).map(|t| t.value.clone())
    }

    fn fetch(&self, request: &TokenRequest<'_>, web: &dyn AuthWeb) -> Result<(Secret, Duration)> {
        let realm = request.realm_url()?;
        let credential = self.credential(request.to.registry, request.to.repository, web)?;
        if let Some(Credential::RegistryToken(token)) = credential {
            return Ok((token, Duration::from_secs(TOKEN_LIFE_MAX_SECONDS)));
        }
        let key = (request.realm.to_owned(), request.service.map(str::to_owned));
        let kept = self.state().refresh.get(&key).cloned();
        let refresh = match &credential {
            Some(Credential::IdentityToken(token)) => kept.or(Some(token.clone())),
            Some(Credential::Password { .. }) => kept,
            _ => None,
        };
        if let Some(refresh) = refresh {
            let answer = web.exchange_for(request.to.base, request.oauth(&realm, &refresh))?;
            let password = match &credential {
                Some(Credential::Password { .. }) => credential.as_ref(),
                _ => None,
            };
            // Token servers need not know the newer way; with a password there is the older one.
            if answer.status < 400 || password.is_none() {
                return self.accept(request, &realm, &answer, credential.is_some());
            }
            self.state().refresh.remove(&key);
        }
        let given = credential.is_some();
        let answer = web.exchange_for(request.to.base, request.get(&realm, credential.as_ref()))?;
        self.accept(request, &realm, &answer, given)
    }

    fn accept(
        &self,
        request: &TokenRequest<'_>,
        realm: &Url,
        answer: &WebResponse,
        credential_given: bool,
    ) -> Result<(Secret, Duration)> {
        if answer.status != 200 {
            return Err(request.refused(realm, answer, credential_given));
        }
        let wrong = |why: &str| Error::protocol(format!("the token server `{realm}` {why}"));
        let answer: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| wrong("did not answer with a token"))?;
        let token =
            [answer.access_token, answer.token].into_iter().flatten().find(|t| !t.is_empty());
        let token = token.ok_or_else(|| wrong("answered without a token"))?;
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("answered with a token that no header can hold"));
        }
        if let Some(refresh) = answer.refresh_token.filter(|token| !token.is_empty()) {
            let key = (request.realm.to_owned(), request.service.map(str::to_owned));
            self.state().refresh.insert(key, refresh);
        }
        let life = answer.expires_in.unwrap_or(0.0);
        // A float that is out of range becomes the nearest number; the clamp makes it sound.
        let seconds = (life as u64).clamp(TOKEN_LIFE_MIN_SECONDS, TOKEN_LIFE_MAX_SECONDS);
        Ok((token, Duration::from_secs(seconds)))
    }
}

fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.expose()))
}

/// What token servers answer. Some write the life as a number with a fraction.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    expires_in: Option<f64>,
}

struct TokenRequest<'a> {
    to: &'a Audience<'a>,
    scopes: &'a Scopes,
    realm: &'a str,
    service: Option<&'a str>,
}

impl TokenRequest<'_> {
    fn realm_url(&self) -> Result<Url> {
        let realm = Url::parse(self.realm).map_err(|source| {
            let message = format!("`{}` names no usable token server", self.to.registry);
            Error::protocol(message).with_source(source)
        })?;
        if self.to.base.scheme() == Scheme::Https && realm.scheme() == Scheme::Http {
            return Err(Error::protocol(format!(
                "`{}` asks to send credentials unprotected to `{realm}`, refused",
                self.to.registry
            )));
        }
        Ok(realm)
    }

    /// The older way (token.md): `GET` with the password in a header.
    fn get(&self, realm: &Url, credential: Option<&Credential>) -> WebRequest {
        let mut url = realm.clone();
        if let Some(service) = self.service {
            url = url.with_query("service", service);
        }
        for scope in self.scopes.texts() {
            url = url.with_query("scope", &scope);
        }
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if let Some(Credential::Password { username, password }) = credential {
            url = url.with_query("account", username).with_query("client_id", CLIENT_ID);
            let value = Credential::basic(username, password);
            headers.push(("authorization".to_owned(), value.expose().to_owned()));
        }
        WebRequest {
            method: WebMethod::Get,
            url: url.full(),
            headers,
            body: Vec::new(),
            place: WebPlace::World,
        }
    }

    /// The newer way (oauth.md): `POST` with a refresh token.
    fn oauth(&self, realm: &Url, refresh: &Secret) -> WebRequest {
        let scope = self.scopes.to_string();
        let mut pairs = vec![
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", refresh.expose()),
        ];
        if let Some(service) = self.service {
            pairs.push(("service", service));
        }
        if !scope.is_empty() {
            pairs.push(("scope", &scope));
        }
        let headers =
            [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
        WebRequest {
            method: WebMethod::Post,
            url: realm.full(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: form(&pairs).into_bytes(),
            place: WebPlace::World,
        }
    }

    fn refused(&self, realm: &Url, answer: &WebResponse, credential_given: bool) -> Error {
        let registry = self.to.registry;
        let kind = match answer.status {
            400 | 401 | 403 => ErrorKind::Unauthorized,
            404 => ErrorKind::Protocol,
            429 => ErrorKind::RateLimited,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Protocol,
        };
        let why = shown(&String::from_utf8_lossy(&answer.body), 200);
        let why =
            if why.is_empty() || why.starts_with('<') { String::new() } else { format!(": {why}") };
        let what = if credential_given { "refused the credentials" } else { "gave no token" };
        let error = Error::new(
            kind,
            format!("the token server `{realm}` of `{registry}` {what} ({}{why})", answer.status),
        );
        let error = error.with_status(answer.status);
        if kind == ErrorKind::Unauthorized {
            return error.with_hint(format!("log in with `conex login {registry}`"));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(base: &str, realm: &str) -> String {
        let base = Url::parse(base).unwrap();
        let scopes = Scopes::default();
        let to = Audience { base: &base, registry: "r.io", repository: "a", scopes: &scopes };
        let request = TokenRequest { to: &to, scopes: &scopes, realm, service: None };
        match request.realm_url() {
            Ok(url) => url.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn credentials_do_not_leave_without_tls_unless_the_registry_has_none() {
        assert_eq!(realm("https://r.io/", "https://t.io/token"), "https://t.io/token");
        assert_eq!(realm("http://localhost:5000/", "http://t.io/token"), "http://t.io/token");
        assert_eq!(
            realm("https://r.io/", "http://t.io/token"),
            "error: `r.io` asks to send credentials unprotected to `http://t.io/token`, refused"
        );
        assert!(realm("https://r.io/", "/token").starts_with("error"));
    }
}
