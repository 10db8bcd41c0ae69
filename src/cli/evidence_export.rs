//! `pgturnstile evidence export`: events for other systems, once or for as long as the log grows.
//!
//! Owns: its arguments, where the output goes, and when the cursor is written: behind the output, so that a crash repeats events and
//! never loses one. One export at a time has a cursor, and an output. The reading is [`crate::evidence::follow`]'s: whole blocks alone, each judged before it is told.
//!
//! ```text
//!  look ── events ──> output ── flushed, a file synced ──> cursor replaced ──> (--follow) wait ──> look
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::columns::COLUMNS;
use crate::audit::cursor::{Cursor, lock_now};
use crate::audit::event::Event;
use crate::audit::filter::Filter;
use crate::audit::stand::{Fingerprint, Stand};
use crate::audit::tell::Teller;
use crate::audit::{csv, html, json, ocsf};
use crate::config::next_step;
use crate::evidence::describe::hex;
use crate::evidence::follow::Follow;
use crate::evidence::verify::Report;

use super::asked::{self, Unmet};
use super::reading::{Fault, Reading, judged, lies_inside, proof};
use super::{Exit, Out};

/// Arguments of `evidence export`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Write events for other systems: JSON lines, CSV, one HTML page, or OCSF 1.8.0 (statements as Datastore Activity, class 6005; logins as \
Authentication, 3002; other events have no class there and are counted).

With --cursor FILE the next run goes on where this one ended. The cursor is replaced behind what it vouches for: delivery is at \
least once, and each event has an id to tell a repeated one by (log and sequence; in OCSF metadata.uid). With --out FILE it is exactly \
once: the cursor also says how long the file was, and what a crash left behind that is cut off first. A cursor whose \
records are not the log's first ones is refused: the log was cut, set back, or is another. One export at a time writes to a cursor and to a \
file: a second one is refused (CURSOR.lock, which stays, and FILE are locked for as long as the run lasts, however it ends). To go on, the log is read from its \
beginning again (seconds per GB), and verified.

With --follow it goes on for as long as the log grows, and tells only blocks that are whole. A statement is told when its last \
answer is there; with a cursor or --follow, one without an end is told when its session's end is known.

CSV is safe for spreadsheets as that of `evidence query`; HTML runs no script and loads nothing.",
    after_help = "\
Examples:
  pgturnstile evidence export evidence --format csv --from 2026-10-01 --to 2026-12-31 --out q4.csv
  pgturnstile evidence export evidence --format html --verdict refuse --out refusals.html
  pgturnstile evidence export evidence --format ocsf --cursor /var/lib/siem/cursor --out /var/lib/siem/spool.jsonl
  pgturnstile evidence export evidence --format ocsf --kind '*' --follow --cursor cursor | siem-agent

Exit codes:
  0  everything that is there was exported
  1  something is wrong with the evidence, or the cursor is not of this log: what stands before it was exported
  2  the arguments, the cursor or the directory cannot be used
  3  the output or the cursor cannot be written, or another export writes there"
)]
pub struct Args {
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    filter: Filter,
    /// The form.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write into this file; standard output without it. It is added to where a cursor says so, and must not exist otherwise.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Go on where the last run with this file ended, and note there how far this one came.
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Go on for as long as the log grows.
    #[arg(long)]
    follow: bool,
    /// How often --follow looks, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    every_ms: u64,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line.
    Jsonl,
    /// CSV with a line of titles.
    Csv,
    /// One page.
    Html,
    /// OCSF 1.8.0, one JSON object a line.
    Ocsf,
}

/// Where the output goes.
enum Sink<'o, 'w> {
    Standard(&'o mut Out<'w>),
    File(io::BufWriter<File>),
}

impl Sink<'_, '_> {
    fn line(&mut self, line: &str) -> io::Result<()> {
        match self {
            Sink::Standard(out) => out.line(line),
            Sink::File(file) => writeln!(file, "{line}"),
        }
    }

    /// Everything so far is where it belongs; how long the file is.
    fn settle(&mut self) -> io::Result<Option<u64>> {
        match self {
            Sink::Standard(out) => out.flush().map(|()| None),
            Sink::File(file) => {
                file.flush()?;
                file.get_ref().sync_data()?;
                file.stream_position().map(Some)
            }
        }
    }
}

/// An export on its way.
struct Export<'a> {
    args: &'a Args,
    log: String,
    /// Held for as long as the run lasts.
    _lock: Option<File>,
    cursor: Option<Cursor>,
    seen: Fingerprint,
    /// Whether the log begins with what the cursor has taken; `None` until that is known.
    held: Option<bool>,
    told: u64,
    classless: u64,
    noted: Option<Stand>,
    failed: Option<io::Error>,
    unmet: Unmet<'a>,
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// The file of `--out`, locked: nothing of it changes before the lock is had, for another run may be writing there.
fn open_out(path: &Path, cursor: Option<u64>) -> io::Result<File> {
    let Some(bytes) = cursor else {
        let file = match OpenOptions::new().write(true).create_new(true).open(path) {
            // Left by a run that ended before its cursor began.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_empty(path) => {
                OpenOptions::new().write(true).open(path)
            }
            opened => opened,
        }?;
        lock_now(&file)?;
        // Whoever had it in between may have written it.
        if file.metadata()?.len() > 0 {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        return Ok(file);
    };
    let mut file = OpenOptions::new().write(true).open(path)?;
    lock_now(&file)?;
    if file.metadata()?.len() < bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is shorter than the {bytes} bytes that the cursor has seen: somebody cut it"),
        ));
    }
    // What a crash left behind the cursor comes again.
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

fn trouble(what: &str, error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::WouldBlock {
        let next = "two at once would leave holes: nothing was changed; wait for that run to end, or give this one a --cursor and an --out \
                    of its own";
        return Fault(Exit::Trouble, format!("{what}: {error}, and {next}"));
    }
    let exit = if error.kind() == io::ErrorKind::InvalidData { Exit::Usage } else { Exit::Trouble };
    Fault(exit, format!("{what}: {error}{}", next_step(error)))
}

/// Where a file is or will be, whatever it is called; `None` where its folder cannot be looked at.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    path.canonicalize().ok().or_else(|| Some(folder.canonicalize().ok()?.join(path.file_name()?)))
}

/// The form and filter of an export, as a cursor holds them to.
fn what(args: &Args) -> String {
    format!("{:?} {:?}", args.format, args.filter)
}

impl<'a> Export<'a> {
    fn new(args: &'a Args) -> Result<Export<'a>, Fault> {
        if args.format == Format::Html && (args.follow || args.cursor.is_some()) {
            return Err(Fault(
                Exit::Usage,
                "a page has an end: --format html takes no --follow and no --cursor".to_owned(),
            ));
        }
        for path in [&args.out, &args.cursor].into_iter().flatten() {
            let inside = lies_inside(path, &args.reading.directory);
            if inside.map_err(|error| trouble(&path.display().to_string(), &error))? {
                let why = format!("{} lies in the evidence: name a file elsewhere", path.display());
                return Err(Fault(Exit::Usage, why));
            }
        }
        if let (Some(out), Some(cursor)) = (&args.out, &args.cursor)
            && place(out) == place(cursor)
        {
            let why = "--out and --cursor are one file: the cursor is replaced with each look, and the events would be gone; name two";
            return Err(Fault(Exit::Usage, why.to_owned()));
        }
        if let Some(fault) = asked::fault(&args.filter) {
            return Err(Fault(Exit::Usage, fault));
        }
        let (lock, cursor) = match &args.cursor {
            None => (None, None),
            Some(path) => {
                let failed = |error| trouble(&path.display().to_string(), &error);
                // Before it is read: what another run notes behind this would be taken twice.
                let lock = Cursor::hold(path).map_err(failed)?;
                (Some(lock), Cursor::read(path).map_err(failed)?)
            }
        };
        if let Some(cursor) = &cursor
            && (cursor.what != what(args) || cursor.bytes.is_some() != args.out.is_some())
        {
            let message = "the cursor is of an export with another form, filter or output: what lies before it would be missing; \
                           name another file as --cursor";
            return Err(Fault(Exit::Usage, message.to_owned()));
        }
        Ok(Export {
            args,
            log: String::new(),
            _lock: lock,
            cursor,
            seen: Fingerprint::default(),
            held: None,
            told: 0,
            classless: 0,
            noted: None,
            failed: None,
            unmet: Unmet::of(&args.filter),
        })
    }

    fn sink<'o, 'w>(&self, out: &'o mut Out<'w>) -> Result<Sink<'o, 'w>, Fault> {
        let Some(path) = &self.args.out else { return Ok(Sink::Standard(out)) };
        let shown = path.display().to_string();
        let opened = open_out(path, self.cursor.as_ref().and_then(|cursor| cursor.bytes));
        opened.map(|file| Sink::File(io::BufWriter::new(file))).map_err(|error| trouble(&shown, &error))
    }

    fn begin(&self, sink: &mut Sink<'_, '_>) -> io::Result<()> {
        match self.args.format {
            Format::Csv if self.cursor.as_ref().is_none_or(|cursor| cursor.stand.records == 0) => {
                sink.line(&COLUMNS.iter().map(|column| column.name).collect::<Vec<&str>>().join(","))
            }
            Format::Html => {
                sink.line(&html::head("Evidence"))?;
                sink.line(&html::table(COLUMNS.iter().map(|column| column.name)))
            }
            Format::Csv | Format::Jsonl | Format::Ocsf => Ok(()),
        }
    }

    fn hear(&mut self, event: &Event, sink: &mut Sink<'_, '_>) {
        let taken = self.cursor.as_ref().map_or(0, |cursor| cursor.stand.records);
        if self.failed.is_some() || event.told_at < taken {
            return;
        }
        if !self.args.filter.wants(event) {
            if self.told == 0 {
                self.unmet.take(event);
            }
            return;
        }
        let line = match self.args.format {
            Format::Jsonl => json::event_line(event),
            Format::Csv => csv::line(COLUMNS.iter().map(|column| (column.cell)(event))),
            Format::Html => html::row(COLUMNS.iter().map(|column| (column.cell)(event))),
            Format::Ocsf => match ocsf::of(event, &self.log) {
                Some(event) => json::line(&event),
                None => {
                    self.classless += 1;
                    return;
                }
            },
        };
        self.told += 1;
        self.failed = sink.line(&line).err();
    }

    /// Takes one look at the log, and notes how far it came.
    fn look(
        &mut self,
        follow: &mut Follow,
        teller: &mut Teller,
        sink: &mut Sink<'_, '_>,
    ) -> Result<(), Fault> {
        let taken = self.cursor.as_ref().map(|cursor| cursor.stand);
        follow.look(&mut |_, record| {
            self.seen.take(&record.hash());
            if let Some(stand) = taken.filter(|stand| stand.records == record.sequence() + 1) {
                self.held = Some(self.seen.stand() == stand);
            }
            // Nothing of another log is told.
            if self.held != Some(false) {
                teller.take(record, &mut |event| self.hear(event, sink));
            }
        })?;
        if let Some(error) = self.failed.take() {
            return Err(self.unwritten(error));
        }
        let stand = self.seen.stand();
        let goes_on = taken.is_none_or(|taken| taken.records == 0 || self.held == Some(true));
        if !goes_on {
            let message = "the log does not begin with the records that the cursor has taken: it was cut, set back, or is another; \
                           see pgturnstile verify, with the last checkpoint that was kept elsewhere";
            return Err(Fault(Exit::No, message.to_owned()));
        }
        let bytes = sink.settle().map_err(|error| self.unwritten(error))?;
        if let Some(path) = &self.args.cursor
            && self.noted != Some(stand)
        {
            let cursor = Cursor { log: self.log.clone(), stand, what: what(self.args), bytes };
            cursor.write(path).map_err(|error| trouble(&path.display().to_string(), &error))?;
            self.noted = Some(stand);
        }
        Ok(())
    }

    fn unwritten(&self, error: io::Error) -> Fault {
        // A reader that closes the pipe has seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe && self.args.out.is_none() {
            return Fault(Exit::Yes, String::new());
        }
        let path =
            self.args.out.as_ref().map_or_else(|| "output".to_owned(), |path| path.display().to_string());
        Fault(Exit::Trouble, format!("{path}: {error}"))
    }

    fn run(&mut self, sink: &mut Sink<'_, '_>) -> Result<Report, Fault> {
        let trust = self.args.reading.trust().map_err(|what| Fault(Exit::Usage, what))?;
        let mut follow = Follow::new(&self.args.reading.directory, trust, self.args.follow)?;
        self.log = hex(&follow.log_id()?);
        if let Some(cursor) = self.cursor.as_ref().filter(|cursor| cursor.log != self.log) {
            return Err(Fault(
                Exit::No,
                format!("the cursor is of log {}, this is {}", cursor.log, self.log),
            ));
        }
        if let (None, Some(path), Some(_)) = (&self.cursor, &self.args.cursor, &self.args.out) {
            // A run that is killed before it has taken all that is there leaves a file that the next one begins anew.
            let nothing = Stand { records: 0, fingerprint: Fingerprint::default().stand().fingerprint };
            let begun =
                Cursor { log: self.log.clone(), stand: nothing, what: what(self.args), bytes: Some(0) };
            begun.write(path).map_err(|error| trouble(&path.display().to_string(), &error))?;
        }
        if let Err(error) = self.begin(sink) {
            return Err(self.unwritten(error));
        }
        let mut teller = Teller::default();
        loop {
            self.look(&mut follow, &mut teller, sink)?;
            if !self.args.follow || follow.bad().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(self.args.every_ms));
        }
        if self.args.cursor.is_none() {
            teller.finish(follow.records(), &mut |event| self.hear(event, sink));
        }
        if self.args.format == Format::Html {
            let ended = sink.line(html::TABLE_END).and_then(|()| sink.line(html::FOOT));
            ended.map_err(|error| self.unwritten(error))?;
        }
        sink.settle().map_err(|error| self.unwritten(error))?;
        Ok(follow.report()?)
    }
}

/// Runs `evidence export`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let mut export = match Export::new(args) {
        Ok(export) => export,
        Err(fault) => return Ok(fault.said(out)),
    };
    let ran = match export.sink(out) {
        Ok(mut sink) => export.run(&mut sink),
        Err(fault) => Err(fault),
    };
    let report = match ran {
        Ok(report) => report,
        Err(Fault(Exit::Yes, _)) => return Ok(Exit::Yes),
        Err(fault) => return Ok(fault.said(out)),
    };
    // With a cursor, what is new may well be nothing.
    if export.told == 0 && args.cursor.is_none() {
        export.unmet.lines().iter().for_each(|line| out.complain(line));
    }
    let classless = match export.classless {
        0 => String::new(),
        count => format!(", {count} without a class in OCSF"),
    };
    out.complain(format_args!("{} event(s) exported{classless}; {}", export.told, proof(&report)));
    Ok(judged(&report, out))
}

#[cfg(test)]
mod tests;
