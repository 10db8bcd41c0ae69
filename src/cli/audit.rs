//! `pgturnstile audit pack`: a package for an auditor, which a stranger checks with `verify` alone.
//!
//! Owns: the arguments, the copy of the evidence, the order of the steps. What is listed and drawn is
//! [`crate::audit::pack`]'s. Everything in the pack is read from the copy inside it, so that the pack is about what it holds. It
//! writes into a new folder alone; what fails leaves that folder behind, without a note, which no pack is.
//!
//! ```text
//! copy last.checkpoint, segments ─► listings, pages (audit/listings.rs) out of the copy, which is cut behind its last whole block ─► list of files ─► note
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit::pack::control::{POPULATIONS, VERSION};
use crate::audit::pack::manifest::{self, EVIDENCE_NAME, FILES_NAME, Manifest, NOTE_NAME};
use crate::audit::pack::place::Place;
use crate::audit::pack::recipe::{Recipe, SAMPLES_MAX};
use crate::audit::time;
use crate::config::load_key;
use crate::evidence::checkpoint::LAST_NAME;
use crate::evidence::describe::hex;
use crate::evidence::note::SigningKey;
use crate::evidence::read::{segment_index, segment_name};
use crate::evidence::verify::{Report, is_locked};

use super::reading::{Fault, Reading, judged, lies_inside, proof};
use super::{Exit, Out};
use listings::{Made, unwritten};

pub(super) mod listings;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes stand in the help of each: pgturnstile audit pack --help")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Make a package for a period: populations, samples, packets, the criteria, and the evidence itself.
    Pack(Box<Args>),
}

/// Runs `audit`.
///
/// # Errors
/// The output cannot be written.
pub fn run_audit(args: &AuditArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    match &args.command {
        AuditCommand::Pack(args) => run(args, out),
    }
}

/// Arguments of `audit pack`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Make a package for an auditor about a period: for each control a population (CSV), samples of it drawn by a printed seed, a packet for each \
sample with its session's transcript, the map to the Trust Services Criteria, one index page that reads and prints well, and the evidence itself.

Every listing says what it is complete with regard to: filter, period, who made it and with what, counts, the range of records, that there is no gap, \
the chain's head, the last checkpoint. A stranger checks the whole with `pgturnstile verify FOLDER`: every file against the list, the list \
against the note and its signature, the evidence against its own chain and against the head that the note names, and every listing, packet and \
page against what the evidence gives. Give --sign, and \
hand the public key over by another way.

All of the log up to now is copied into the pack, because a chain is proven from its beginning; a gateway may go on writing meanwhile. \
Nothing in it that was masked or lifted comes back: a pack holds what the evidence holds.",
    after_help = "\
Examples:
  pgturnstile audit pack evidence --from 2026-07-01 --to 2026-12-31 --out q3-q4 --operator 'Kim Example, Platform' --sign audit.ed25519
  pgturnstile audit pack evidence --from 2026-11-01 --to 2026-11-30 --out november --seed 'agreed with the auditor'
  pgturnstile verify q3-q4 --key 'audit+1a2b3c4d+AU...'

Exit codes:
  0  the pack was made, over sound evidence
  1  the pack was made, and something is wrong with the evidence: the pack says what, and what --checkpoint, --head or --key contradict is printed
  2  the arguments or the directory cannot be used
  3  the pack cannot be written"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    /// The period's first day or moment, UTC.
    #[arg(long, value_name = "TIME", value_parser = time::begin)]
    from: u64,
    /// The period's last day (to its end), or the moment before which it ends, UTC.
    #[arg(long, value_name = "TIME", value_parser = time::end)]
    to: u64,
    /// The folder to make; it must not exist.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Who makes the pack: it stands in the completeness block.
    #[arg(long, value_name = "WORDS", default_value = "not said")]
    operator: String,
    /// What the samples are drawn by; best agreed with the auditor. Random, and printed in the pack, without it.
    #[arg(long, value_name = "WORDS")]
    seed: Option<String>,
    /// Samples of each population at most.
    #[arg(long, value_name = "COUNT", default_value_t = 25, value_parser = clap::value_parser!(u16).range(0..=i64::from(SAMPLES_MAX)))]
    samples: u16,
    /// Sign the pack with the Ed25519 key in this file, as `evidence new-key` makes it.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

/// What copies one file.
type CopyOne<'c> = &'c mut dyn FnMut(&Path, &Path) -> io::Result<u64>;

/// Copies the checkpoint that a stop left, then the segments, oldest first. In this order: a gateway that goes on meanwhile and stops
/// leaves a checkpoint over records behind the copy, and the copy would stand there as one whose end was cut off.
fn copy(from: &Path, to: &Path, copy_one: CopyOne<'_>) -> io::Result<()> {
    match copy_one(&from.join(LAST_NAME), &to.join(LAST_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(_) => {}
    }
    let mut indices: Vec<u64> = Vec::new();
    for entry in fs::read_dir(from)? {
        indices.extend(entry?.file_name().to_str().and_then(segment_index));
    }
    indices.sort_unstable();
    for name in indices.into_iter().map(segment_name) {
        copy_one(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Copies a regular file: a pipe or a device has no end.
fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    if !fs::metadata(from)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no regular file", from.display()),
        ));
    }
    let copied = fs::copy(from, to)?;
    // Head and note vouch for what was read: a loss of power must not take it from the log behind them.
    File::open(from)?.sync_data()?;
    Ok(copied)
}

/// The same words in a new file.
fn write(path: &Path, text: &str) -> Result<(), Fault> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(unwritten(path))
}

fn key(args: &Args) -> Result<Option<SigningKey>, Fault> {
    let Some(path) = &args.sign else { return Ok(None) };
    let text = load_key("signing key", path).map_err(|error| Fault(Exit::Trouble, error.to_string()))?;
    let key = SigningKey::parse(&text);
    key.map(Some).map_err(|error| Fault(Exit::Usage, format!("{}: {error}", path.display())))
}

/// Sixteen random bytes: nobody could arrange the samples beforehand.
fn random_seed() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Fault(Exit::Trouble, format!("no randomness: {error}")))?;
    Ok(hex(&bytes))
}

fn make(args: &Args) -> Result<Made, Fault> {
    if args.from >= args.to {
        return Err(Fault(Exit::Usage, "--to lies before --from".to_owned()));
    }
    let key = key(args)?;
    if lies_inside(&args.out, &args.reading.directory).map_err(unwritten(&args.out))? {
        let why = format!("--out {} lies in the evidence: name a folder elsewhere", args.out.display());
        return Err(Fault(Exit::Usage, why));
    }
    let seed = match &args.seed {
        Some(seed) => seed.clone(),
        None => random_seed()?,
    };
    fs::create_dir(&args.out).map_err(unwritten(&args.out))?;
    let evidence = args.out.join(EVIDENCE_NAME);
    fs::create_dir(&evidence).map_err(unwritten(&evidence))?;
    let live = is_locked(&args.reading.directory).map_err(unwritten(&args.reading.directory))?;
    copy(&args.reading.directory, &evidence, &mut copy_file).map_err(unwritten(&args.reading.directory))?;
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let recipe = Recipe {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        from_ns: args.from,
        to_ns: args.to,
        seed,
        samples: usize::from(args.samples),
        operator: args.operator.clone(),
        made_ns: u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX),
        key: key.as_ref().map(|key| key.verifier().to_string()),
    };
    let made = listings::make(&recipe, &evidence, live, &mut Place::Folder(args.out.clone()))?;
    let report = &made.report;
    let files = manifest::list(&args.out).map_err(unwritten(&args.out))?;
    write(&args.out.join(FILES_NAME), &files)?;
    let manifest = Manifest {
        log: report.log_id.unwrap_or_default(),
        records: report.records,
        head: report.head,
        period: (args.from, args.to),
        files: *blake3::hash(files.as_bytes()).as_bytes(),
        key: None,
    };
    write(&args.out.join(NOTE_NAME), &manifest.note(key.as_ref()))?;
    Ok(made)
}

/// What the maker knows of the log from elsewhere, held against the copy: it is for the maker, and not in the pack.
fn known(args: &Args, made: &Made) -> Result<Option<Report>, Fault> {
    let reading = &args.reading;
    if !made.report.sound()
        || (reading.checkpoint.is_none() && reading.head.is_none() && reading.key.is_none())
    {
        return Ok(None);
    }
    let copy = Reading { directory: args.out.join(EVIDENCE_NAME), ..reading.clone() };
    copy.walk(&mut |_, _| {}).map(Some)
}

/// Runs `audit pack`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let made = match make(args).and_then(|made| Ok((known(args, &made)?, made))) {
        Ok(made) => made,
        Err(fault) => return Ok(fault.said(out)),
    };
    let (known, Made { report, populations, uncovered }) = made;
    let report = known.unwrap_or(report);
    out.line(format_args!("pack      {}", args.out.display()))?;
    for (population, listing) in POPULATIONS.iter().zip(&populations.listings) {
        let drawn = listing.sample.drawn().len();
        out.line(format_args!("  {:>9}  {} ({drawn} drawn)", listing.count, population.title))?;
    }
    out.line(format_args!(
        "Begin with {}; check it with: pgturnstile verify {}",
        args.out.join("index.html").display(),
        args.out.display()
    ))?;
    out.flush()?;
    uncovered.iter().for_each(|line| out.complain(line));
    out.complain(proof(&report));
    Ok(judged(&report, out))
}

#[cfg(test)]
mod tests;
