//! What an issuer may do, as configured, and what of it cannot stand.
//!
//! Owns: [`IssuerSettings`], the mirror of `[[issuer]]`, and the checks that need no network. A setting that would
//! weaken verification silently (an algorithm with a shared secret, plain http to another machine, no audience) is an
//! error, not a warning.

use std::path::PathBuf;

use openidconnect::url::{Host, Url};

use super::algorithm::{Algorithm, UnknownAlgorithm};
use super::claims::{BadClaimPath, ClaimPath};
use super::http::RootsError;
use super::limits::{CLOCK_SKEW_S, CLOCK_SKEW_S_MAX, KeyTiming, TOKEN_AGE_S_MAX};
use super::source::{KeySource, KeysError, Place, read_file};
use crate::config;

/// One `[[issuer]]`.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// Its name in the configuration, in policy and in the evidence.
    pub name: String,
    /// The issuer's URL; a token's `iss` equals it to the letter.
    pub issuer: String,
    /// A token must name one of these in `aud`.
    pub audiences: Vec<String>,
    /// Audiences a token may name beside them; any other makes it one of somebody else's.
    pub trusted_audiences: Vec<String>,
    /// Parties (`azp`) that tokens may have been issued to. Empty: `azp` is only looked at when a token has several
    /// audiences, and must then be one of `audiences`.
    pub authorized_parties: Vec<String>,
    /// Where its keys come from.
    pub jwks: KeySource,
    /// Root certificates for HTTPS, PEM; empty: the public ones.
    pub ca: Vec<PathBuf>,
    /// Signature algorithms it may use.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock and ours may differ, in seconds.
    pub clock_skew_s: u32,
    /// Seconds since `iat` after which a token opens no session, whatever its `exp`.
    pub token_age_s_max: u32,
    /// Values of the header's `typ` beside an absent one, lower case, without `application/`.
    pub types: Vec<String>,
    /// Where groups stand; `None`: its tokens have none.
    pub groups: Option<ClaimPath>,
    /// Who stands behind; `None`: nobody is said to.
    pub person: Option<ClaimPath>,
    /// Claims to copy into the evidence.
    pub keep: Vec<ClaimPath>,
    /// Plain http to loopback addresses, for development and tests.
    pub loopback_http: bool,
    /// When keys are fetched; `None`: the defaults for the kind of source.
    pub timing: Option<KeyTiming>,
}

impl IssuerSettings {
    /// Settings with every default: discovery, RS256 and ES256, `groups`.
    #[must_use]
    pub fn new(name: &str, issuer: &str, audiences: &[&str]) -> IssuerSettings {
        IssuerSettings {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            trusted_audiences: Vec::new(),
            authorized_parties: Vec::new(),
            jwks: KeySource::Discover,
            ca: Vec::new(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            clock_skew_s: CLOCK_SKEW_S,
            token_age_s_max: TOKEN_AGE_S_MAX,
            types: vec!["jwt".to_owned()],
            groups: "groups".parse().ok(),
            person: None,
            keep: Vec::new(),
            loopback_http: false,
            timing: None,
        }
    }

    /// The same, accepting RFC 9068 access tokens (`typ: at+jwt`) too.
    #[must_use]
    pub fn with_access_tokens(mut self) -> IssuerSettings {
        self.types.push("at+jwt".to_owned());
        self
    }

    /// What is wrong with the key file that these settings name, if they name one: a gateway that starts with it could let
    /// nobody in. A file that cannot be opened is for the configuration to report, which knows its line.
    pub fn key_file_problem(&self) -> Option<SettingsError> {
        let KeySource::File(path) = &self.jwks else { return None };
        match read_file(path, None) {
            Err(fault @ KeysError::KeySet(..)) => {
                Some(SettingsError { issuer: self.name.clone(), key: "jwks", what: fault.to_string() })
            }
            Err(_) | Ok(_) => None,
        }
    }

    /// An `[[issuer]]` as the configuration read it. Plain http is on exactly where the operator wrote `http://`, which
    /// the configuration accepts for loopback only and warns of.
    ///
    /// # Errors
    /// Algorithms, claim paths or seconds that cannot stand, all of them.
    pub fn from_config(issuer: &config::Issuer) -> Result<IssuerSettings, Vec<SettingsError>> {
        let mut problems = Vec::new();
        let mut problem = |key: &'static str, what: String| {
            problems.push(SettingsError { issuer: issuer.name.clone(), key, what });
        };
        let mut settings = IssuerSettings::new(&issuer.name, &issuer.issuer, &[]);
        settings.audiences.clone_from(&issuer.audiences);
        settings.trusted_audiences.clone_from(&issuer.trusted_audiences);
        settings.authorized_parties.clone_from(&issuer.authorized_parties);
        settings.ca.clone_from(&issuer.ca);
        settings.types.clone_from(&issuer.types);
        settings.jwks = match &issuer.jwks {
            config::Jwks::Discover => KeySource::Discover,
            config::Jwks::Url(url) => KeySource::Url(url.clone()),
            config::Jwks::File(path) => KeySource::File(path.clone()),
        };
        settings.loopback_http = match &issuer.jwks {
            config::Jwks::Discover => issuer.issuer.starts_with("http://"),
            config::Jwks::Url(url) => url.starts_with("http://"),
            config::Jwks::File(_) => false,
        };
        let mut path = |key: &'static str, text: &str| {
            text.parse::<ClaimPath>().map_err(|error: BadClaimPath| problem(key, error.to_string())).ok()
        };
        settings.groups = issuer.groups.as_deref().and_then(|text| path("groups", text));
        settings.person = issuer.person.as_deref().and_then(|text| path("person", text));
        settings.keep = issuer.keep.iter().filter_map(|text| path("keep", text)).collect();
        settings.algorithms = issuer
            .algorithms
            .iter()
            .filter_map(|name| {
                name.parse().map_err(|error: UnknownAlgorithm| problem("algorithms", error.to_string())).ok()
            })
            .collect();
        settings.clock_skew_s = u32::try_from(issuer.clock_skew_s).unwrap_or(u32::MAX);
        settings.token_age_s_max = u32::try_from(issuer.token_age_s_max).unwrap_or(u32::MAX);
        problems.extend(settings.problems());
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Everything in these settings that cannot stand, all of it in one run. Touches neither network nor files.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsError> {
        let mut problems = Vec::new();
        let mut problem = |key: &'static str, what: String| {
            problems.push(SettingsError { issuer: self.name.clone(), key, what });
        };
        if let Err(what) = self.place() {
            problem(what.key, what.what);
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            problem("audiences", "is empty; name what tokens for this gateway carry in aud".to_owned());
        }
        if self.algorithms.is_empty() {
            problem("algorithms", "is empty; name what the issuer signs with, e.g. [\"RS256\"]".to_owned());
        }
        if self.clock_skew_s > CLOCK_SKEW_S_MAX {
            problem(
                "clock_skew_s",
                format!(
                    "is {}; at most {CLOCK_SKEW_S_MAX} are accepted: set the clocks instead",
                    self.clock_skew_s
                ),
            );
        }
        if self.token_age_s_max == 0 {
            problem("token_age_s_max", "is 0; no token would ever be accepted".to_owned());
        }
        for typ in &self.types {
            if typ.is_empty() || typ.starts_with("application/") || *typ != typ.to_ascii_lowercase() {
                problem(
                    "types",
                    format!("{typ:?} must be lower case and without application/, e.g. \"at+jwt\""),
                );
            }
        }
        if let Some(timing) = self.timing
            && (timing.floor_ms == 0 || timing.refresh_ms > timing.stale_ms_max)
        {
            problem("jwks", "must be refreshed before it is too old, with a floor above zero".to_owned());
        }
        problems
    }

    /// Where the keys are, resolved.
    pub(super) fn place(&self) -> Result<Place, SettingsError> {
        let error = |key: &'static str, what: String| SettingsError { issuer: self.name.clone(), key, what };
        let issuer = Url::parse(&self.issuer)
            .map_err(|why| error("issuer", format!("{:?} is no URL: {why}", self.issuer)))?;
        match &self.jwks {
            KeySource::File(path) => Ok(Place::File(path.clone())),
            KeySource::Url(text) => {
                let url =
                    Url::parse(text).map_err(|why| error("jwks", format!("{text:?} is no URL: {why}")))?;
                self.reachable(&url).map_err(|what| error("jwks", what))?;
                Ok(Place::Url(url))
            }
            KeySource::Discover => {
                self.reachable(&issuer).map_err(|what| error("issuer", what))?;
                if issuer.query().is_some() || issuer.fragment().is_some() {
                    let what =
                        "has a query or a fragment; an issuer's URL has neither (Discovery 1.0, section 3)";
                    return Err(error("issuer", what.to_owned()));
                }
                let text = super::bearer::discovery_url(&self.issuer);
                let document =
                    Url::parse(&text).map_err(|why| error("issuer", format!("{text:?} is no URL: {why}")))?;
                Ok(Place::Discover { issuer: self.issuer.clone(), document })
            }
        }
    }

    fn reachable(&self, url: &Url) -> Result<(), String> {
        let loopback = match url.host() {
            Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(format!("{url} names no host")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or a password; the issuer's keys are public".to_owned());
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if loopback && self.loopback_http => Ok(()),
            "http" if loopback => {
                Err(format!("{url} is plain http; for development switch loopback_http on, else use https"))
            }
            "http" => Err(format!(
                "{url} is plain http to another machine: whoever stands between could sign tokens; use https"
            )),
            scheme => Err(format!("{url} has the scheme {scheme}; use https")),
        }
    }

    pub(super) fn timing(&self) -> KeyTiming {
        self.timing.unwrap_or(match self.jwks {
            KeySource::Discover | KeySource::Url(_) => KeyTiming::HTTP,
            KeySource::File(_) => KeyTiming::FILE,
        })
    }
}

/// A setting that cannot stand. At fault: the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer {issuer:?}: {key} {what}")]
pub struct SettingsError {
    /// The issuer's name.
    pub issuer: String,
    /// The key of `[[issuer]]`.
    pub key: &'static str,
    /// What is wrong with it and what next.
    pub what: String,
}

/// Why a verifier cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Settings that cannot stand.
    #[error("{}", .0.iter().map(SettingsError::to_string).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<SettingsError>),
    /// Root certificates that cannot be read.
    #[error("issuer {issuer:?}: ca {source}")]
    Roots {
        /// The issuer's name.
        issuer: String,
        /// What failed.
        source: RootsError,
    },
}

#[cfg(test)]
mod tests {
    use pgturnstile_rules::document::{Diagnostics, Document};

    use super::*;

    fn configured() -> config::Issuer {
        let document = Document::from_text("pgturnstile.toml", "version = 1");
        let diagnostics = Diagnostics::new();
        let place = document.root(&diagnostics).expect("a table").place();
        config::Issuer {
            name: "corp".to_owned(),
            issuer: "https://id.example.com".to_owned(),
            preset: None,
            audiences: vec!["pgturnstile".to_owned()],
            trusted_audiences: vec!["api".to_owned()],
            authorized_parties: vec!["ci".to_owned()],
            jwks: config::Jwks::Discover,
            ca: vec!["ca.pem".into()],
            algorithms: vec!["EdDSA".to_owned()],
            types: vec!["jwt".to_owned(), "at+jwt".to_owned()],
            clock_skew_s: 10,
            token_age_s_max: 600,
            groups: None,
            person: Some("email".to_owned()),
            keep: vec!["act.sub".to_owned()],
            place,
        }
    }

    #[test]
    fn the_configuration_is_taken_over_whole() {
        let settings = IssuerSettings::from_config(&configured()).expect("settings");
        assert_eq!((settings.name.as_str(), settings.issuer.as_str()), ("corp", "https://id.example.com"));
        assert_eq!(settings.audiences, ["pgturnstile"]);
        assert_eq!(settings.trusted_audiences, ["api"]);
        assert_eq!(settings.authorized_parties, ["ci"]);
        assert_eq!((settings.jwks, settings.loopback_http), (KeySource::Discover, false));
        assert_eq!(settings.ca, [PathBuf::from("ca.pem")]);
        assert_eq!(settings.algorithms, [Algorithm::EdDsa]);
        assert_eq!(settings.types, ["jwt", "at+jwt"]);
        assert_eq!((settings.clock_skew_s, settings.token_age_s_max), (10, 600));
        assert_eq!(settings.groups, None);
        assert_eq!(settings.person.map(|path| path.to_string()).as_deref(), Some("email"));
        assert_eq!(settings.keep.len(), 1);
    }

    #[test]
    fn what_presets_name_can_be_read() {
        for preset in &config::preset::PRESETS {
            for path in preset.keep.iter().chain(&preset.person).chain(&preset.groups) {
                assert!(path.parse::<ClaimPath>().is_ok(), "{path}");
            }
        }
    }

    #[test]
    fn plain_http_is_on_only_where_the_configuration_wrote_it() {
        for (issuer, jwks, plain) in [
            ("https://id.example.com", config::Jwks::Discover, Ok(false)),
            ("http://127.0.0.1:1", config::Jwks::Discover, Ok(true)),
            ("http://127.0.0.1:1", config::Jwks::File("jwks.json".into()), Ok(false)),
            ("https://id.example.com", config::Jwks::Url("http://127.0.0.1:1/k".to_owned()), Ok(true)),
            ("http://127.0.0.1:1", config::Jwks::Url("https://id.example.com/k".to_owned()), Ok(false)),
            ("http://id.example.com", config::Jwks::Discover, Err("issuer")),
            ("https://id.example.com", config::Jwks::Url("http://10.0.0.1/k".to_owned()), Err("jwks")),
        ] {
            let issuer = config::Issuer { issuer: issuer.to_owned(), jwks, ..configured() };
            let outcome = IssuerSettings::from_config(&issuer);
            let outcome = outcome.map(|it| it.loopback_http).map_err(|errors| errors[0].key);
            assert_eq!(outcome, plain, "{issuer:?}");
        }
    }

    #[test]
    fn every_error_of_the_configuration_is_named_in_one_run() {
        let issuer = config::Issuer {
            algorithms: vec!["none".to_owned(), "HS256".to_owned()],
            groups: Some(String::new()),
            keep: vec!["/a//b".to_owned()],
            ..configured()
        };
        let errors = IssuerSettings::from_config(&issuer).expect_err("errors");
        let keys: Vec<&str> = errors.iter().map(|error| error.key).collect();
        assert_eq!(keys, ["groups", "keep", "algorithms", "algorithms", "algorithms"]);
    }

    fn settings(change: impl FnOnce(&mut IssuerSettings)) -> Vec<&'static str> {
        let mut settings = IssuerSettings::new("corp", "https://id.example.com", &["pgturnstile"]);
        change(&mut settings);
        settings.problems().iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn settings_that_would_weaken_verification_are_errors() {
        assert_eq!(settings(|_| {}), [""; 0]);
        assert_eq!(settings(|it| it.audiences.clear()), ["audiences"]);
        assert_eq!(settings(|it| it.audiences = vec![String::new()]), ["audiences"]);
        assert_eq!(settings(|it| it.algorithms.clear()), ["algorithms"]);
        assert_eq!(settings(|it| it.clock_skew_s = 301), ["clock_skew_s"]);
        assert_eq!(settings(|it| it.token_age_s_max = 0), ["token_age_s_max"]);
        assert_eq!(settings(|it| it.types = vec!["JWT".into()]), ["types"]);
        assert_eq!(settings(|it| it.issuer = "id.example.com".into()), ["issuer"]);
        assert_eq!(settings(|it| it.issuer = "ftp://id.example.com".into()), ["issuer"]);
        assert_eq!(settings(|it| it.issuer = "https://u:p@id.example.com".into()), ["issuer"]);
        assert_eq!(settings(|it| it.issuer = "https://id.example.com?x".into()), ["issuer"]);
        assert_eq!(settings(|it| it.jwks = KeySource::Url("keys.json".into())), ["jwks"]);
        assert_eq!(
            settings(|it| {
                it.audiences.clear();
                it.algorithms.clear();
            }),
            ["audiences", "algorithms"],
            "all errors in one run"
        );
    }

    #[test]
    fn plain_http_is_for_loopback_and_only_when_switched_on() {
        for (issuer, switched, fine) in [
            ("http://127.0.0.1:5556", true, true),
            ("http://[::1]:5556", true, true),
            ("http://localhost:5556", true, true),
            ("http://127.0.0.1:5556", false, false),
            ("http://id.example.com", true, false),
            ("http://10.0.0.1", true, false),
            ("http://127.0.0.1.example.com", true, false),
        ] {
            let problems = settings(|it| {
                it.issuer = issuer.into();
                it.loopback_http = switched;
            });
            assert_eq!(problems.is_empty(), fine, "{issuer} {switched}");
        }
    }

    #[test]
    fn shared_secrets_cannot_be_configured() {
        for name in ["HS256", "HS384", "hs512", "none", "None", "ES512", "rs256", ""] {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn the_discovery_document_stands_below_the_issuer() {
        for (issuer, document) in [
            ("https://a.example", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
            ("https://a.example/t/1", "https://a.example/t/1/.well-known/openid-configuration"),
        ] {
            let settings = IssuerSettings::new("corp", issuer, &["a"]);
            let Ok(Place::Discover { document: found, issuer: kept }) = settings.place() else {
                panic!("{issuer}")
            };
            assert_eq!((found.as_str(), kept.as_str()), (document, issuer));
        }
    }
}
