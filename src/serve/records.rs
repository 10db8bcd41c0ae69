//! The gateway's evidence at its start: the keys that it needs, and the second place.
//!
//! Owns: from the configuration to an opened log. May not: go on without a key. Fails by [`ServeError`], before any
//! listener accepts.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use pgturnstile_rules::mask::style::TokenKey;
use secrecy::ExposeSecret;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::backend::credentials;
use crate::config::{self, load_or_create_digest_key, load_or_create_key};
use crate::evidence::describe::hex;
use crate::evidence::note::SigningKey;
use crate::evidence::originals::AuditorKey;
use crate::evidence::{Evidence, Lane, Run, Settings, Signing, open};

use super::ServeError;
use super::gateway::Loaded;
use super::mapping;

/// Name of a signing key that the gateway makes itself.
pub(crate) const OWN_KEY_NAME: &str = "pgturnstile";
/// The longest that a signing key is waited for, whatever its source.
const KEY_PATIENCE: Duration = Duration::from_secs(60);

/// Opens the evidence, or says why the gateway cannot start.
pub(super) fn open_evidence(
    loaded: &Loaded,
    lanes: usize,
    control: &Runtime,
) -> Result<(Evidence, Vec<Lane>, TokenKey), ServeError> {
    let wanted = &loaded.config.evidence;
    let signing = signing(wanted, control).map_err(ServeError::Machine)?;
    tracing::info!(key = %signing.key.verifier(), "checkpoints of the evidence are signed by this key; keep it with the auditor");
    if signing.head.is_none() {
        tracing::warn!(
            "evidence.head names no second place for the checkpoints: whoever owns the evidence's disk could cut its end off unseen"
        );
    }
    let sealing = sealing_key(wanted).map_err(ServeError::Machine)?;
    if let Some(key) = &sealing {
        tracing::info!(key = %key, id = hex(key.id()), "originals of masked values are sealed to this auditor's key");
    }
    let settings =
        Settings { signing: Some(signing), sealing: sealing.map(Arc::new), ..Settings::of(wanted) };
    let run = Run {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_hash: loaded.config.hash,
        policy_hash: loaded.policy.hash(),
    };
    let key = load_or_create_digest_key(&wanted.digest_key)
        .map_err(|error| ServeError::Machine(error.to_string()))?;
    let (evidence, lanes) = open(&settings, &run, key.expose_secret(), lanes)?;
    Ok((evidence, lanes, TokenKey::derive(key.expose_secret())))
}

/// The auditor's key that originals are sealed to, where the configuration names one.
///
/// # Errors
/// It cannot be read, or nothing can be sealed to it; in words.
pub(crate) fn sealing_key(wanted: &config::Evidence) -> Result<Option<AuditorKey>, String> {
    let Some(path) = &wanted.sealing_key else { return Ok(None) };
    let said = |error: &dyn std::fmt::Display| format!("evidence.sealing_key {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| said(&error))?;
    AuditorKey::parse(&text).map(Some).map_err(|error| said(&error))
}

/// The key of the checkpoints, its certificate, and what else the configuration says of them.
fn signing(wanted: &config::Evidence, control: &Runtime) -> Result<Signing, String> {
    let text = match &wanted.signing_key {
        config::PasswordSource::File(path) => load_or_create_key("signing key", path, |seed| {
            // A name without blanks cannot be refused.
            SigningKey::new(OWN_KEY_NAME, seed).map(|key| key.spelled()).unwrap_or_default()
        })
        .map_err(|error| error.to_string())?,
        source @ (config::PasswordSource::Environment(_) | config::PasswordSource::Command { .. }) => control
            .block_on(credentials::read_text(&mapping::source(source), Instant::now() + KEY_PATIENCE))
            .map_err(|what| format!("signing key: {what}"))?,
    };
    let key =
        SigningKey::parse(&text).map_err(|error| format!("signing key, {}: {error}", wanted.signing_key))?;
    let certificate = wanted.signing_certificate.as_ref().map(|path| {
        fs::read_to_string(path)
            .map_err(|error| format!("the signing key's certificate {}: {error}", path.display()))
    });
    Ok(Signing {
        key,
        rotation: certificate.transpose()?,
        head: wanted.head.clone(),
        every_s: wanted.checkpoint_every_s,
        every_records: wanted.checkpoint_every_records,
    })
}
