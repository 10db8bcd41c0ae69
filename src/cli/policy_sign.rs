//! `pgturnstile policy sign`: vouches for a policy by its hash.
//!
//! Owns: the note beside the policy's file. May not: sign a policy that does not load. A signature of somebody else for the same
//! policy and serial stays; any other note is replaced.

use std::fs;
use std::io;
use std::path::PathBuf;

use pgturnstile_rules::policy::Policy;

use super::reading::Fault;
use super::{Exit, Out};
use crate::config::load_key;
use crate::evidence::note::{Note, SigningKey};
use crate::serve::bundle::{Bundle, note_path, read_note};

/// Arguments of `policy`.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PolicyCommand {
    /// Sign a policy, so that a gateway takes it and its evidence says who vouches for it.
    Sign(Sign),
}

/// Arguments of `policy sign`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Sign a policy: its file, everything that it includes, and the shipped packs, by their hash.

The signature goes into a note beside the file (policy.toml.note), with a serial that grows: a gateway that was at a higher \
one refuses it. Signatures of several people for the same policy stand in one note. A gateway whose [gateway] names \
policy_signers takes no policy without enough of them; who signed stands in its evidence with every load.

Keys are made by `pgturnstile evidence new-key FILE --name kim@example.com`; the printed line goes into policy_signers.",
    after_help = "\
Examples:
  pgturnstile policy sign policy.toml --key kim.ed25519
  pgturnstile policy sign policy.toml --key kim.ed25519 --serial 12

Exit codes:
  0  it was signed
  1  the policy does not load
  2  the file holds no key
  3  the note cannot be written"
)]
struct Sign {
    /// The policy.
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    /// File of the private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The serial; without it that of the note for the same policy, or the next one, or 1.
    #[arg(long, value_name = "NUMBER")]
    serial: Option<u64>,
}

/// Runs `policy`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &PolicyArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    let PolicyCommand::Sign(args) = &args.command;
    match signed(args) {
        Ok(said) => out.line(said).map(|()| Exit::Yes),
        Err(fault) => Ok(fault.said(out)),
    }
}

fn signed(args: &Sign) -> Result<String, Fault> {
    let text = load_key("signing key", &args.key).map_err(|error| Fault(Exit::Usage, error.to_string()))?;
    let key = SigningKey::parse(&text)
        .map_err(|error| Fault(Exit::Usage, format!("{}: {error}", args.key.display())))?;
    let policy = Policy::load(&args.policy).map_err(|findings| {
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Fault(Exit::No, format!("the policy does not load, so it is not signed:\n{}", said.join("\n")))
    })?;
    let path = note_path(&args.policy);
    let before = read_note(&path).unwrap_or_default();
    let note = Note::parse(&before).ok();
    let known = note.as_ref().and_then(|note| Bundle::parse(note.text()));
    let serial = args.serial.unwrap_or(match known {
        Some(known) if known.hash == policy.hash() => known.serial,
        Some(known) => known.serial.saturating_add(1),
        None => 1,
    });
    let bundle = Bundle { hash: policy.hash(), serial };
    let made = key.sign(&bundle.text());
    let whole = match (&note, known) {
        // What was signed is the same: the others' signatures stand.
        (Some(note), Some(known)) if known == bundle && !note.is_signed_by(key.verifier()) => {
            format!("{before}{}", made.strip_prefix(&format!("{}\n", bundle.text())).unwrap_or_default())
        }
        (Some(_), Some(known)) if known == bundle => before.clone(),
        (_, _) => made,
    };
    fs::write(&path, whole)
        .map_err(|error| Fault(Exit::Trouble, format!("{} cannot be written: {error}", path.display())))?;
    Ok(format!("{} signed by {}, serial {serial}", path.display(), key.verifier().name()))
}

#[cfg(test)]
mod tests;
