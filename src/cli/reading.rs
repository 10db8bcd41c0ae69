//! How commands read evidence: verified as it is read, with what is known from outside.
//!
//! Owns: the arguments that name a directory and an expected end, the progress bar, and what is said when the evidence does not hold.
//! May not: hand out a record that was not found sound.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Exit, Out};
use crate::evidence::checkpoint::{Checkpoint, unhex};
use crate::evidence::format::RecordView;
use crate::evidence::note::{NOTE_BYTES_MAX, VerifierKey};
use crate::evidence::read::Position;
use crate::evidence::verify::{End, ExpectedEnd, Report, Trust, Unreadable, verify_with};

/// Below this the bar would be gone before it was read.
const PROGRESS_BYTES_MIN: u64 = 32 << 20;

/// What is said where an id's first digits are no session's.
pub(super) const NO_SESSION: &str = "no session's id begins so";

/// Where the evidence is, and what is known of it from elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reading {
    /// The directory of the evidence.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// A checkpoint that was kept elsewhere: the log must hold at least what it was signed over.
    #[arg(long, value_name = "FILE", conflicts_with = "head")]
    pub checkpoint: Option<PathBuf>,
    /// A chain value that was kept elsewhere (64 hexadecimal digits, as printed behind `head`): the log must pass it.
    #[arg(long, value_name = "HASH")]
    pub head: Option<String>,
    /// The key that signs the checkpoints, as the gateway's start and `evidence new-key` print it.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// Whether what is to be made lies in the evidence: what is there is the gateway's, and read whole at its start.
///
/// # Errors
/// The folder that it is to be made in cannot be looked at.
pub(super) fn lies_inside(path: &Path, directory: &Path) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize()?;
    Ok(directory.canonicalize().is_ok_and(|directory| folder.starts_with(directory)))
}

/// Refuses a file that a command would make in the evidence.
pub(super) fn outside(path: &Path, directory: &Path) -> Result<(), Fault> {
    match lies_inside(path, directory) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let why = format!(
                "{} lies in the evidence, which holds what the gateway wrote alone: name a file elsewhere",
                path.display()
            );
            Err(Fault(Exit::Usage, why))
        }
        Err(error) => Err(Fault(Exit::Trouble, format!("{}: {error}", path.display()))),
    }
}

fn read_note(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(NOTE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

impl Reading {
    /// Nothing but the directory.
    #[cfg(test)]
    pub(super) fn of(directory: &Path) -> Reading {
        Reading { directory: directory.to_owned(), ..Reading::default() }
    }

    /// What the arguments bring from outside; an error in words for whoever typed them.
    pub(super) fn trust(&self) -> Result<Trust, String> {
        let mut trust = Trust::default();
        if let Some(path) = &self.checkpoint {
            let note = read_note(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let checkpoint = Checkpoint::open(&note).map_err(|error| {
                format!("{} is no checkpoint of pgturnstile's evidence: {error}", path.display())
            })?;
            trust.end = Some(ExpectedEnd::Checkpoint(Box::new(checkpoint)));
        }
        if let Some(head) = &self.head {
            let value = unhex(&head.to_ascii_lowercase()).ok_or("--head takes 64 hexadecimal digits")?;
            trust.end = Some(ExpectedEnd::Head(value));
        }
        if let Some(key) = &self.key {
            trust.key = Some(VerifierKey::parse(key).map_err(|error| format!("--key: {error}"))?);
        }
        Ok(trust)
    }

    /// Reads all of it, verified; `visit` gets every sound record.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(Position, &RecordView<'_>)) -> Result<Report, Fault> {
        let trust = self.trust().map_err(|what| Fault(Exit::Usage, what))?;
        with_progress(&self.directory, trust, visit).map_err(Fault::from)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Exit, pub(super) String);

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Fault {
        Fault(Exit::Usage, format!("{unreadable}; name the directory of an [evidence] section"))
    }
}

impl Fault {
    /// Says it on standard error; the exit code is handed back.
    pub(super) fn said(self, out: &mut Out<'_>) -> Exit {
        out.complain(format_args!("error: {}", self.1));
        self.0
    }
}

/// Says, on standard error, what the walk did not find sound, or could not prove; the answer for the exit code.
pub(super) fn judged(report: &Report, out: &mut Out<'_>) -> Exit {
    if let Some(bad) = &report.bad {
        out.complain(format_args!(
            "BROKEN behind this: segment {}, offset {}, record {}: {}; see pgturnstile verify",
            bad.position.segment, bad.position.offset, bad.position.sequence, bad.flaw
        ));
        return Exit::No;
    }
    for (what, text) in &report.findings {
        out.complain(format_args!("BROKEN: {}: {text}; see pgturnstile verify", what.name()));
    }
    if report.sound() { Exit::Yes } else { Exit::No }
}

/// One line about how far what was read can be trusted, for the end of an answer.
pub(super) fn proof(report: &Report) -> String {
    let end = match &report.end {
        End::Unproven => "nothing from outside proves its end (--checkpoint FILE)".to_owned(),
        End::Reached { records, behind } => {
            let but = match report.unstopped.len() {
                0 => String::new(),
                holes => format!(" but for {holes} stretch(es) that pgturnstile verify names"),
            };
            format!("complete up to record {records}{but}, {behind} behind it")
        }
        End::NotReached
        | End::Behind { .. }
        | End::Forked { .. }
        | End::OtherLog { .. }
        | End::WrongKey { .. } => "not what was expected".to_owned(),
    };
    let state = if report.sound() { "sound" } else { "BROKEN" };
    format!("evidence {state}: {} records in {} segment(s); {end}", report.records, report.segments)
}

/// Verifies with a bar on standard error, where that is a terminal and there is time to read it.
pub(super) fn with_progress(
    directory: &Path,
    trust: Trust,
    visit: &mut dyn FnMut(Position, &RecordView<'_>),
) -> Result<Report, Unreadable> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let mut shown = false;
    let mut progress = |read: u64, total: u64| {
        if !shown && total >= PROGRESS_BYTES_MIN {
            shown = true;
            bar.set_length(total);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
            {
                bar.set_style(style);
            }
            // Draws nothing unless standard error is a terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if shown {
            bar.set_position(read);
        }
    };
    let verified = verify_with(directory, trust, &mut progress, visit);
    bar.finish_and_clear();
    verified
}
