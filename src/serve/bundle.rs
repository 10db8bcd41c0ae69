//! Signed policies: who vouches for the one that comes into force (README decision 10).
//!
//! Owns: the note beside the policy's file, whose signatures count, and that no older policy comes back. May not: read a policy,
//! or take a signature for one that the configuration does not name. Fails closed: where `gateway.policy_signers` names anybody,
//! a policy without enough signatures, with another hash, or with a serial that is behind is no policy; the old one stays.
//!
//! ```text
//!   policy.toml, its includes, shipped packs ─► hash ─┐
//!   policy.toml.note: hash, serial, signatures ───────┴─► enough signers? serial not behind? ─► in force, "by" its signers
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pgturnstile_rules::document::{Diagnostic, Severity};
use pgturnstile_rules::policy::Policy;

use super::mapping::hex;
use crate::config::{Config, Gateway};
use crate::evidence::checkpoint::unhex;
use crate::evidence::note::{NOTE_BYTES_MAX, Note, VerifierKey};

/// Who changed a file, where nothing proves it.
pub(crate) const UNATTRIBUTED: &str = "unattributed";
/// What a note begins with.
const FIRST_LINE: &str = "pgturnstile.policy.v1";
/// What the state folder remembers it in.
const SERIAL_FILE: &str = "policy.serial";

/// What the note of a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// Of the policy, as the evidence records it.
    pub(crate) hash: [u8; 32],
    /// Grows with every policy that is signed.
    pub(crate) serial: u64,
}

impl Bundle {
    /// The text that is signed.
    pub(crate) fn text(&self) -> String {
        format!("{FIRST_LINE}\npolicy {}\nserial {}\n", hex(&self.hash), self.serial)
    }

    /// Reads [`Self::text`]; no other spelling is one.
    pub(crate) fn parse(text: &str) -> Option<Bundle> {
        let mut lines = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?.lines();
        let hash = unhex(lines.next()?.strip_prefix("policy ")?)?;
        let serial = lines.next()?.strip_prefix("serial ")?.parse().ok()?;
        Some(Bundle { hash, serial }).filter(|bundle| bundle.text() == text)
    }
}

/// Who vouches for a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// The names of their keys, or that nobody does: for the evidence.
    pub by: String,
    /// What they signed; `None` where nobody has to.
    pub(crate) bundle: Option<Bundle>,
}

/// The note that belongs to a policy file.
pub(crate) fn note_path(policy: &Path) -> PathBuf {
    let mut name = policy.as_os_str().to_owned();
    name.push(".note");
    PathBuf::from(name)
}

/// The keys whose signatures count.
fn signers(gateway: &Gateway) -> Result<Vec<VerifierKey>, String> {
    let mut keys: Vec<VerifierKey> = Vec::new();
    for spelled in &gateway.policy_signers {
        let key = VerifierKey::parse(spelled)
            .map_err(|error| format!("gateway.policy_signers: {spelled}: {error}"))?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if (keys.len() as u64) < gateway.policy_signatures_min && !keys.is_empty() {
        return Err(format!(
            "gateway.policy_signatures_min is {}, and policy_signers names {} key(s): no policy could ever come into force",
            gateway.policy_signatures_min,
            keys.len()
        ));
    }
    Ok(keys)
}

/// Who vouches for `policy`.
///
/// # Errors
/// Somebody has to, and not enough do; in words, with what to do next.
pub(crate) fn attributed(config: &Config, policy: &Policy) -> Result<Attribution, String> {
    let gateway = &config.gateway;
    let keys = signers(gateway)?;
    if keys.is_empty() {
        return Ok(Attribution { by: UNATTRIBUTED.to_owned(), bundle: None });
    }
    let path = note_path(&gateway.policy);
    let shown = path.display();
    let next = format!("Next: `pgturnstile policy sign {} --key FILE`", gateway.policy.display());
    let text = read_note(&path).map_err(|error| {
        format!("the policy must be signed, and its note {shown} cannot be read: {error}. {next}")
    })?;
    let note = Note::parse(&text).map_err(|error| format!("{shown}: {error}. {next}"))?;
    let Some(bundle) = Bundle::parse(note.text()) else {
        return Err(format!("{shown} is signed, and is no note of a policy. {next}"));
    };
    if bundle.hash != policy.hash() {
        return Err(format!(
            "{shown} was signed for another policy than the one in {} with its includes (signed {}, here {}): one of them was \
             changed since. {next}",
            gateway.policy.display(),
            hex(&bundle.hash),
            hex(&policy.hash())
        ));
    }
    let by: Vec<&str> = keys.iter().filter(|key| note.is_signed_by(key)).map(VerifierKey::name).collect();
    if (by.len() as u64) < gateway.policy_signatures_min {
        return Err(format!(
            "{shown} bears {} signature(s) of gateway.policy_signers, and policy_signatures_min is {}. {next}",
            by.len(),
            gateway.policy_signatures_min
        ));
    }
    Ok(Attribution { by: by.join(", "), bundle: Some(bundle) })
}

pub(crate) fn read_note(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(File::open(path)?, NOTE_BYTES_MAX as u64 + 1), &mut text)?;
    Ok(text)
}

/// Refuses a signed policy that is behind the last one that was in force here, or shares its serial.
///
/// # Errors
/// It is, or what is remembered cannot be read; in words.
pub(crate) fn not_behind(config: &Config, attribution: &Attribution) -> Result<(), String> {
    let Some(bundle) = attribution.bundle else { return Ok(()) };
    let path = config.gateway.state_directory.join(SERIAL_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let Some(before) = Bundle::parse(&text) else {
        return Err(format!(
            "{} does not hold the serial of the last policy: restore it, or delete it if you know that the policy is no older one",
            path.display()
        ));
    };
    if bundle == before || bundle.serial > before.serial {
        return Ok(());
    }
    Err(format!(
        "the policy is signed with serial {}, and serial {} was in force: an older policy does not come back by its old \
         signature. Next: sign it anew, `pgturnstile policy sign {} --key FILE --serial {}`",
        bundle.serial,
        before.serial,
        config.gateway.policy.display(),
        before.serial.saturating_add(1)
    ))
}

/// Remembers the policy that comes into force: whole or not at all, on disk when this returns.
///
/// # Errors
/// It cannot be written: the policy must not come into force.
pub(crate) fn remember(config: &Config, attribution: &Attribution) -> Result<(), String> {
    let Some(bundle) = attribution.bundle else { return Ok(()) };
    let folder = &config.gateway.state_directory;
    let path = folder.join(SERIAL_FILE);
    replace(folder, &path, &bundle.text()).map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

/// What is wrong, at the place where the policy is named.
pub(crate) fn finding(config: &Config, what: String) -> Diagnostic {
    config.gateway.policy_place.diagnostic(Severity::Error, what)
}
