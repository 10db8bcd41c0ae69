//! Reads `[[issuer]]` and `[[person]]`.
//!
//! Owns what an issuer may be called and where its keys may come from: https, or http on loopback for development, or a
//! file. It fetches nothing.

use std::net::IpAddr;

use pgturnstile_rules::document::{Unique, nearest, unknown_word};

use super::keys::Reader;
use super::model::{ALGORITHMS, Issuer, Jwks, Person};
use super::preset::{self, Preset};
use super::reference;

pub(super) fn issuers(root: &Reader<'_>) -> Vec<Issuer> {
    let mut issuers = Vec::new();
    let (mut names, mut urls) = (Unique::new(), Unique::new());
    for section in root.sections("issuer", &reference::ISSUER) {
        let name = section.name("name");
        if let Some(name) = &name {
            names.claim(name, &section.table.place_of("name"), section.table.diagnostics());
        }
        let known = preset_of(&section);
        let issuer =
            issuer_url(&section).or_else(|| known.and_then(|preset| preset.issuer).map(str::to_owned));
        if let Some(issuer) = &issuer {
            urls.claim(issuer, &section.table.place_of("issuer"), section.table.diagnostics());
        }
        let audiences = section.strings("audiences");
        match known {
            Some(preset) => preset.check_section(&section, issuer.as_deref(), &audiences),
            None if issuer.is_none() && !section.table.has("issuer") => section.table.error(
                "issuer",
                "must be there: the `iss` claim of its tokens (or a `preset` that has one, such as \"github-actions\")",
            ),
            None => {}
        }
        let or_of = |key: &str, of: Option<&'static str>| {
            section.text(key).or_else(|| of.filter(|_| !section.table.has(key)).map(str::to_owned))
        };
        let read = Issuer {
            name: name.unwrap_or_default(),
            issuer: issuer.unwrap_or_default(),
            preset: known,
            audiences,
            trusted_audiences: section.strings("trusted_audiences"),
            authorized_parties: section.strings("authorized_parties"),
            jwks: jwks(&section),
            ca: section.paths("ca"),
            algorithms: algorithms(&section, known),
            types: types(&section),
            clock_skew_s: section.integer("clock_skew_s"),
            token_age_s_max: section.integer("token_age_s_max"),
            groups: or_of("groups", known.and_then(|preset| preset.groups)),
            person: or_of("person", known.and_then(|preset| preset.person)),
            keep: list(&section, "keep", known.map(|preset| preset.keep)),
            place: section.place(),
        };
        if !read.trusted_audiences.is_empty() && read.authorized_parties.is_empty() {
            section.table.error(
                "trusted_audiences",
                "needs authorized_parties: a token with several audiences is accepted by its `azp` only",
            );
        }
        issuers.push(read);
        section.done();
    }
    issuers
}

pub(super) fn persons(root: &Reader<'_>, issuers: &[Issuer]) -> Vec<Person> {
    let mut known: Vec<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    known.push("email");
    let mut persons = Vec::new();
    for section in root.sections("person", &reference::PERSON) {
        let mut identities = Vec::new();
        for key in section.table.rest() {
            let value = section.table.string(&key);
            if !known.contains(&key.as_str()) {
                let hint =
                    nearest(&key, &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                section.table.error(&key, format!("is neither `email` nor the name of an [[issuer]]{hint}"));
            }
            identities.extend(value.map(|value| (key, value)));
        }
        if identities.len() < 2 {
            section.table.error_here("needs at least two identities: it says that they are the same human");
        }
        persons.push(Person { identities });
        section.done();
    }
    persons
}

fn issuer_url(section: &Reader<'_>) -> Option<String> {
    let url = section.text("issuer")?;
    match url_fault(&url) {
        Some(fault) => section.table.error("issuer", fault),
        None if url.starts_with("http://") => {
            section.table.warn("issuer", "is reached without TLS: for development on this machine only");
        }
        None => {}
    }
    Some(url)
}

fn jwks(section: &Reader<'_>) -> Jwks {
    let Some(text) = section.text("jwks") else { return Jwks::Discover };
    if text == "discover" {
        return Jwks::Discover;
    }
    if !text.contains("://") {
        return Jwks::File(section.resolve(&text));
    }
    if let Some(fault) = url_fault(&text) {
        section.table.error("jwks", fault);
    }
    Jwks::Url(text)
}

fn preset_of(section: &Reader<'_>) -> Option<&'static Preset> {
    let places: Vec<usize> = (0..preset::WORDS.len()).collect();
    section.word("preset", &places).and_then(Preset::of)
}

/// A list of the section, or the preset's where it has none.
fn list(section: &Reader<'_>, key: &str, of: Option<&'static [&'static str]>) -> Vec<String> {
    let written = section.strings(key);
    match of {
        Some(of) if !section.table.has(key) => of.iter().map(|item| (*item).to_owned()).collect(),
        Some(_) | None => written,
    }
}

fn algorithms(section: &Reader<'_>, known: Option<&'static Preset>) -> Vec<String> {
    let algorithms = list(section, "algorithms", known.map(|preset| preset.algorithms));
    if algorithms.is_empty() {
        section.table.error("algorithms", "must name at least one signature algorithm");
    }
    for algorithm in &algorithms {
        if ALGORITHMS.contains(&algorithm.as_str()) {
            continue;
        }
        let fault = if algorithm.eq_ignore_ascii_case("none") {
            "\"none\" would accept unsigned tokens; it cannot be configured".to_owned()
        } else if algorithm.starts_with("HS") {
            format!(
                "\"{algorithm}\" needs a secret shared with the issuer; only asymmetric algorithms are accepted"
            )
        } else {
            unknown_word(algorithm, &ALGORITHMS)
        };
        section.table.error("algorithms", fault);
    }
    algorithms
}

fn types(section: &Reader<'_>) -> Vec<String> {
    let types = section.strings("types");
    for typ in &types {
        if typ.is_empty() || typ.starts_with("application/") || *typ != typ.to_ascii_lowercase() {
            let fault = format!("\"{typ}\" must be lower case and without application/, as in \"at+jwt\"");
            section.table.error("types", fault);
        }
    }
    types
}

/// What keeps an URL from being fetched safely, if anything: https, or http to this machine.
fn url_fault(url: &str) -> Option<String> {
    let (plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => {
            return Some("must begin with https:// (http:// on loopback for development)".to_owned());
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') || url.contains(char::is_whitespace) {
        return Some("must be https://HOST[:PORT][/PATH], without user name or spaces".to_owned());
    }
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (plain && !loopback)
        .then(|| "http is accepted on loopback only (127.0.0.1, ::1, localhost); use https".to_owned())
}
