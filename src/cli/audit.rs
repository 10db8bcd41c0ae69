//! `pgturnstile audit pack`: a package for an auditor, which a stranger checks with `verify` alone.
//!
//! Owns: the arguments, the copy of the evidence, the order of the steps. What is listed and drawn is
//! [`crate::audit::pack`]'s. Everything in the pack is read from the copy inside it, so that the pack is about what it holds. It
//! writes into a new folder alone; what fails leaves that folder behind, without a note, which no pack is.
//!
//! ```text
//! copy segments ─► read the copy to its last whole block: populations, samples ─► cut the copy there
//!               ─► verify the copy: packets and transcripts of what was drawn ─► pages ─► list of files ─► note
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit::coverage::Coverage;
use crate::audit::event::Event;
use crate::audit::pack::control::{CRITERIA, POPULATIONS};
use crate::audit::pack::manifest::{self, EVIDENCE_NAME, FILES_NAME, Manifest, NOTE_NAME};
use crate::audit::pack::page::{self, Basis};
use crate::audit::pack::{Period, Populations, row, titles};
use crate::audit::tell::Teller;
use crate::audit::{csv, json, time};
use crate::config::{load_key, next_step};
use crate::evidence::checkpoint::LAST_NAME;
use crate::evidence::describe::hex;
use crate::evidence::follow::Follow;
use crate::evidence::format::RecordView;
use crate::evidence::note::SigningKey;
use crate::evidence::read::{segment_index, segment_name};
use crate::evidence::verify::{Report, Trust, is_locked, verify_with};

use super::evidence_show::timeline::Timeline;
use super::reading::{Fault, Reading, judged, proof};
use super::{Exit, Out};

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
against the note and its signature, the evidence against its own chain and against the head that the note names. Give --sign, and \
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
  1  the pack was made, and something is wrong with the evidence: the pack says what
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
    #[arg(long, value_name = "COUNT", default_value_t = 25, value_parser = clap::value_parser!(u16).range(0..=1000))]
    samples: u16,
    /// Sign the pack with the Ed25519 key in this file, as `evidence new-key` makes it.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> Fault + '_ {
    move |error| Fault(Exit::Trouble, format!("{}: {error}{}", path.display(), next_step(&error)))
}

/// Copies the segments, oldest first, and the checkpoint that a stop left.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut indices: Vec<u64> = Vec::new();
    for entry in fs::read_dir(from)? {
        indices.extend(entry?.file_name().to_str().and_then(segment_index));
    }
    indices.sort_unstable();
    for name in indices.into_iter().map(segment_name) {
        copy_file(&from.join(&name), &to.join(&name))?;
    }
    match copy_file(&from.join(LAST_NAME), &to.join(LAST_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(_) => Ok(()),
    }
}

/// Copies a regular file: a pipe or a device has no end.
fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    if !fs::metadata(from)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no regular file", from.display()),
        ));
    }
    fs::copy(from, to)
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

/// The first pass: populations and samples, out of the copy up to its last whole block. Where a gateway was writing meanwhile, the copy is
/// then cut there: what stands behind was on its way. Otherwise it stays as it is, and what is wrong at its end is told.
fn populate(args: &Args, period: &Period, evidence: &Path) -> Result<Populations, Fault> {
    let live = is_locked(&args.reading.directory).map_err(unwritten(&args.reading.directory))?;
    let mut populations = Populations::create(&args.out, period.clone()).map_err(unwritten(&args.out))?;
    let mut follow = Follow::new(evidence, Trust::default(), live)?;
    let mut teller = Teller::default();
    follow.look(&mut |_, record| teller.take(record, &mut |event| populations.take(event)))?;
    teller.finish(follow.records(), &mut |event| populations.take(event));
    populations.finish().map_err(unwritten(&args.out))?;
    if let Some((segment, end)) = follow.end().filter(|_| live && follow.bad().is_none()) {
        let path = evidence.join(segment_name(segment));
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(end));
        cut.map_err(unwritten(&path))?;
    }
    Ok(populations)
}

/// The transcripts of the sampled sessions, on their way.
struct Transcripts(HashMap<[u8; 16], (Timeline, Vec<u8>)>);

impl Transcripts {
    fn of(populations: &Populations) -> Transcripts {
        let drawn = populations.listings.iter().flat_map(|listing| listing.sample.drawn());
        Transcripts(drawn.map(|(_, session)| (session, Default::default())).collect())
    }

    fn take(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        let stream = record.header().stream;
        let Some((timeline, lines)) = self.0.get_mut(&stream) else { return Ok(()) };
        timeline.take(record, &hex(&stream), &mut Out::captured(lines, &mut Vec::new()))
    }

    fn write(self, folder: &Path) -> Result<(), Fault> {
        for (session, (timeline, mut lines)) in self.0 {
            let id = hex(&session);
            let path = folder.join(format!("{id}.html"));
            timeline.finish(&mut Out::captured(&mut lines, &mut Vec::new())).map_err(unwritten(&path))?;
            write(&path, &page::transcript(&id, &String::from_utf8_lossy(&lines)))?;
        }
        Ok(())
    }
}

/// The second pass: proves the copy, and writes the packets and transcripts of what was drawn.
fn prove(args: &Args, populations: &Populations, evidence: &Path) -> Result<(Report, Coverage), Fault> {
    let packets = args.out.join("packets");
    let drawn: HashSet<u64> = populations
        .listings
        .iter()
        .flat_map(|listing| listing.sample.drawn())
        .map(|(sequence, _)| sequence)
        .collect();
    let mut rows: HashMap<u64, String> = HashMap::new();
    let mut failed: Option<Fault> = None;
    let mut hear = |event: &Event| {
        if failed.is_some() || !drawn.contains(&event.sequence) {
            return;
        }
        let path = packets.join(format!("{}.html", event.sequence));
        let written = write(&path, &page::packet(event)).and_then(|()| {
            let path = path.with_extension("json");
            write(&path, &format!("{}\n", json::event_line(event)))
        });
        failed = written.err();
        rows.insert(event.sequence, row(event));
    };
    let mut transcripts = Transcripts::of(populations);
    let (mut teller, mut unheard) = (Teller::default(), None);
    let trust = args.reading.trust().map_err(|what| Fault(Exit::Usage, what))?;
    let mut coverage = Coverage::of(Some(args.from), Some(args.to));
    let report = verify_with(evidence, trust, &mut |_, _| {}, &mut |_, record| {
        coverage.record(record);
        teller.take(record, &mut hear);
        if let Err(error) = transcripts.take(record) {
            unheard.get_or_insert(error);
        }
    })?;
    teller.finish(report.records, &mut hear);
    if let Some(fault) = failed {
        return Err(fault);
    }
    if let Some(error) = unheard {
        return Err(unwritten(&args.out)(error));
    }
    transcripts.write(&args.out.join("sessions"))?;
    for (population, listing) in POPULATIONS.iter().zip(&populations.listings) {
        let drawn = listing.sample.drawn();
        let lines = drawn.iter().filter_map(|(sequence, _)| rows.get(sequence));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        write(
            &args.out.join("samples").join(format!("{}.csv", population.name)),
            &format!("{}\n{text}", titles()),
        )?;
    }
    Ok((report, coverage))
}

/// Sixteen random bytes: nobody could arrange the samples beforehand.
fn random_seed() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Fault(Exit::Trouble, format!("no randomness: {error}")))?;
    Ok(hex(&bytes))
}

fn make(args: &Args) -> Result<(Report, Populations, Option<String>), Fault> {
    if args.from >= args.to {
        return Err(Fault(Exit::Usage, "--to lies before --from".to_owned()));
    }
    let key = key(args)?;
    let seed = match &args.seed {
        Some(seed) => seed.clone(),
        None => random_seed()?,
    };
    fs::create_dir(&args.out).map_err(unwritten(&args.out))?;
    let evidence = args.out.join(EVIDENCE_NAME);
    for folder in
        [evidence.clone(), args.out.join("samples"), args.out.join("packets"), args.out.join("sessions")]
    {
        fs::create_dir(&folder).map_err(unwritten(&folder))?;
    }
    copy(&args.reading.directory, &evidence).map_err(unwritten(&args.reading.directory))?;
    let period = Period { from_ns: args.from, to_ns: args.to, seed, samples: usize::from(args.samples) };
    let populations = populate(args, &period, &evidence)?;
    let (report, coverage) = prove(args, &populations, &evidence)?;
    let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let basis = Basis {
        period: &period,
        operator: &args.operator,
        made_ns: u64::try_from(made.as_nanos()).unwrap_or(u64::MAX),
        report: &report,
        coverage: &coverage,
        events: populations.events,
        key: key.as_ref().map(|key| key.verifier().to_string()),
    };
    write(&args.out.join("index.html"), &basis.index(&populations.listings))?;
    write(&args.out.join("pack.json"), &format!("{:#}\n", basis.json(&populations.listings)))?;
    let criteria: Vec<String> =
        CRITERIA.iter().map(|criterion| csv::line(page::criterion_cells(criterion))).collect();
    write(
        &args.out.join("criteria.csv"),
        &format!("criterion,asks,control,populations\n{}\n", criteria.join("\n")),
    )?;
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
    Ok((report, populations, coverage.uncovered()))
}

/// Runs `audit pack`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let (report, populations, uncovered) = match make(args) {
        Ok(made) => made,
        Err(fault) => return Ok(fault.said(out)),
    };
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
