//! `pgturnstile evidence new-key`, `rotate-key` and `checkpoint`: the keys of the checkpoints, and the last of these.
//!
//! Owns: making a key, passing the signing on to another, copying the last checkpoint out of a log that verifies. May not:
//! sign anything about a log: the gateway alone does. A private key goes into a file of mode 0600 and never to a terminal.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::{create_key, load_key, next_step};
use crate::evidence::checkpoint::{Checkpoint, LAST_NAME, rotation_text};
use crate::evidence::describe::hex;
use crate::evidence::format::RecordView;
use crate::evidence::note::SigningKey;
use crate::evidence::read::Position;
use crate::evidence::record::{self, Payload};
use crate::evidence::verify::{Trust, verify_with};

use super::reading::outside;
use super::{Exit, Out};

/// What errors call the file.
const KEY: &str = "signing key";

/// Arguments of `evidence new-key`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Make an Ed25519 key for checkpoints: the private half into a new file of mode 0600, the public half to standard output.

Give the file to the gateway as [evidence] signing_key, and the printed line to the auditor, who hands it to \
`pgturnstile verify --key`. Keys are spelled as in C2SP signed notes.",
    after_help = "\
Examples:
  pgturnstile evidence new-key secrets/checkpoint.ed25519 --name gateway-1.example.com

Exit codes:
  0  it was made
  2  the name cannot be used
  3  the file exists, or cannot be written"
)]
pub struct NewKey {
    /// The file to make; it must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The name in the lines of its signatures.
    #[arg(long, default_value = "pgturnstile")]
    name: String,
}

/// Arguments of `evidence rotate-key`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Pass the signing of checkpoints on to a new key: the old key signs a note that names the new one.

The note is printed, or written to a file; name it as [evidence] signing_key.certificate beside the new key, and start the \
gateway anew. Its first start with the new key records the note in the log; then the old key can be destroyed.",
    after_help = "\
Examples:
  pgturnstile evidence rotate-key --old secrets/checkpoint.ed25519 --new secrets/next.ed25519 --out secrets/next.note

Exit codes:
  0  the note was made
  2  a file holds no key
  3  a file cannot be read or written"
)]
pub struct RotateKey {
    /// File of the key that signs now.
    #[arg(long, value_name = "FILE")]
    old: PathBuf,
    /// File of the key that shall sign.
    #[arg(long, value_name = "FILE")]
    new: PathBuf,
    /// Where to write the note; it must not exist. Standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `evidence checkpoint`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Verify a directory of evidence and print its last checkpoint, or put it into a file: the second place of a gateway that \
lost it, or the file that an auditor keeps.

Nothing is signed anew: the checkpoint is the last one that the gateway signed, out of the log or beside it.",
    after_help = "\
Examples:
  pgturnstile evidence checkpoint evidence
  pgturnstile evidence checkpoint evidence --to /mnt/witness/last

Exit codes:
  0  it was printed or written
  1  something is wrong with the evidence, or it holds no checkpoint
  2  the directory cannot be read, or holds no evidence
  3  the file exists, or cannot be written"
)]
pub struct LastCheckpoint {
    /// The directory of the evidence.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where to write it; the file must not exist.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

fn refused(out: &mut Out<'_>, exit: Exit, what: impl fmt::Display) -> Exit {
    out.complain(format_args!("error: {what}"));
    exit
}

/// Prints a note, or writes it into a file that must not exist.
fn hand_over(note: &str, to: Option<&Path>, out: &mut Out<'_>) -> io::Result<Exit> {
    let Some(path) = to else { return out.write(note).map(|()| Exit::Yes) };
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| {
        file.write_all(note.as_bytes())?;
        file.sync_all()
    });
    Ok(match written {
        Ok(()) => Exit::Yes,
        Err(error) => {
            let next = next_step(&error);
            refused(out, Exit::Trouble, format_args!("{} cannot be written: {error}{next}", path.display()))
        }
    })
}

/// Runs `evidence new-key`.
///
/// # Errors
/// The output cannot be written.
pub fn new_key(args: &NewKey, out: &mut Out<'_>) -> io::Result<Exit> {
    let made = |seed: &[u8; 32]| {
        SigningKey::new(&args.name, seed).map(|key| (key.verifier().to_string(), key.spelled()))
    };
    make(KEY, &args.file, made, out)
}

/// Makes a key in a file that must not exist, and prints its public half; `spelled`: both halves of 32 random bytes.
pub(super) fn make<E: fmt::Display>(
    what: &'static str,
    file: &Path,
    spelled: impl Fn(&[u8; 32]) -> Result<(String, Zeroizing<String>), E>,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    // What can be wrong is the name, whatever the bytes.
    if let Err(error) = spelled(&[1; 32]) {
        return Ok(refused(out, Exit::Usage, error));
    }
    let mut public = String::new();
    let made = create_key(what, file, |seed| {
        let halves = spelled(seed).map(|(line, private)| {
            public = line;
            private
        });
        halves.unwrap_or_default()
    });
    match made {
        Ok(()) => out.line(public).map(|()| Exit::Yes),
        Err(error) => Ok(refused(out, Exit::Trouble, error)),
    }
}

/// Runs `evidence rotate-key`.
///
/// # Errors
/// The output cannot be written.
pub fn rotate_key(args: &RotateKey, out: &mut Out<'_>) -> io::Result<Exit> {
    let mut keys = Vec::new();
    for path in [&args.old, &args.new] {
        let text = match load_key(KEY, path) {
            Ok(text) => text,
            Err(error) => return Ok(refused(out, Exit::Trouble, error)),
        };
        match SigningKey::parse(&text) {
            Ok(key) => keys.push(key),
            Err(error) => return Ok(refused(out, Exit::Usage, format_args!("{}: {error}", path.display()))),
        }
    }
    let [old, new] = &keys[..] else { return Ok(Exit::Usage) };
    if old.verifier() == new.verifier() {
        return Ok(refused(out, Exit::Usage, "both files hold the same key"));
    }
    hand_over(&old.sign(&rotation_text(old.verifier(), new.verifier())), args.out.as_deref(), out)
}

/// Runs `evidence checkpoint`.
///
/// # Errors
/// The output cannot be written.
pub fn last_checkpoint(args: &LastCheckpoint, out: &mut Out<'_>) -> io::Result<Exit> {
    if let Some(Err(fault)) = args.to.as_ref().map(|to| outside(to, &args.directory)) {
        return Ok(fault.said(out));
    }
    let mut last: Option<String> = None;
    let mut visit = |_: Position, record: &RecordView<'_>| {
        if let Ok((_, Payload::Checkpoint(checkpoint))) = record::payload(record) {
            last = Some(checkpoint.note.get().to_owned());
        }
    };
    let report = match verify_with(&args.directory, Trust::default(), &mut |_, _| {}, &mut visit) {
        Ok(report) => report,
        Err(unreadable) => return Ok(refused(out, Exit::Usage, unreadable)),
    };
    if !report.sound() {
        return Ok(refused(out, Exit::No, "the evidence is broken: `pgturnstile verify` says where"));
    }
    // What a stop left reaches further than any record can.
    let left = std::fs::read_to_string(args.directory.join(LAST_NAME)).ok();
    let reaches = |note: &String| Checkpoint::open(note).map_or(0, |checkpoint| checkpoint.point.records);
    match last.into_iter().chain(left).max_by_key(reaches) {
        Some(note) => hand_over(&note, args.to.as_deref(), out),
        None => {
            let log = report.log_id.map(|id| hex(&id)).unwrap_or_default();
            Ok(refused(
                out,
                Exit::No,
                format_args!("log {log} holds no checkpoint: no gateway that signs wrote to it"),
            ))
        }
    }
}
