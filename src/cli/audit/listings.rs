//! Everything of an audit pack that follows from the evidence in it and its recipe: listings, samples, packets, transcripts, pages.
//!
//! Owns: the two passes over the evidence. Who makes a pack writes into a folder; who verifies one makes the same into hashes. So nothing
//! here may look at anything else than the recipe and the evidence: no clock, no path, no key that only one of the two has.
//!
//! ```text
//! read the copy to its last whole block: populations, samples ─► verify it: packets and transcripts of what was drawn ─► pages
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::super::evidence_show::timeline::Timeline;
use super::super::reading::{Fault, with_progress};
use super::super::{Exit, Out};
use crate::audit::coverage::Coverage;
use crate::audit::event::Event;
use crate::audit::pack::control::{CRITERIA, POPULATIONS};
use crate::audit::pack::page::{self, Basis};
use crate::audit::pack::place::Place;
use crate::audit::pack::recipe::{RECIPE_NAME, Recipe};
use crate::audit::pack::{Populations, row, titles};
use crate::audit::tell::Teller;
use crate::audit::{csv, json};
use crate::config::next_step;
use crate::evidence::describe::hex;
use crate::evidence::follow::Follow;
use crate::evidence::format::RecordView;
use crate::evidence::read::segment_name;
use crate::evidence::verify::{Report, Trust};

/// What was made.
pub(in crate::cli) struct Made {
    /// What the evidence proves by itself.
    pub(in crate::cli) report: Report,
    /// What was listed.
    pub(in crate::cli) populations: Populations,
    /// What of the period the log does not cover.
    pub(in crate::cli) uncovered: Option<String>,
}

pub(super) fn unwritten(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Fault {
    move |error| Fault(Exit::Trouble, format!("{}: {error}{}", path.as_ref().display(), next_step(&error)))
}

fn put(place: &mut Place, name: &str, text: &str) -> Result<(), Fault> {
    place.put(name, text).map_err(unwritten(name))
}

/// Makes all of it. `cut`: a gateway was writing while the evidence was copied, so what stands behind the last whole block was on its way,
/// and is cut off.
///
/// # Errors
/// The evidence cannot be read, or the place not be written.
pub(in crate::cli) fn make(
    recipe: &Recipe,
    evidence: &Path,
    cut: bool,
    place: &mut Place,
) -> Result<Made, Fault> {
    let populations = populate(recipe, evidence, cut, place)?;
    let (report, coverage) = prove(recipe, &populations, evidence, place)?;
    let basis = Basis {
        recipe,
        report: &report,
        coverage: &coverage,
        events: populations.events,
        parsed: populations.parsed,
        unknown: populations.count("unknown-outcomes"),
    };
    put(place, "index.html", &basis.index(&populations.listings))?;
    put(place, RECIPE_NAME, &json::page(&basis.json(&populations.listings)))?;
    let criteria: Vec<String> =
        CRITERIA.iter().map(|criterion| csv::line(page::criterion_cells(criterion))).collect();
    put(place, "criteria.csv", &format!("criterion,asks,control,populations\n{}\n", criteria.join("\n")))?;
    let uncovered = coverage.uncovered();
    Ok(Made { report, populations, uncovered })
}

/// The first pass: populations and samples, up to the last whole block.
fn populate(recipe: &Recipe, evidence: &Path, cut: bool, place: &mut Place) -> Result<Populations, Fault> {
    let mut populations = Populations::create(place, recipe.clone()).map_err(unwritten("populations"))?;
    let mut follow = Follow::new(evidence, Trust::default(), cut)?;
    let mut teller = Teller::default();
    follow.look(&mut |_, record| teller.take(record, &mut |event| populations.take(event)))?;
    teller.finish(follow.records(), &mut |event| populations.take(event));
    populations.finish(place).map_err(unwritten("populations"))?;
    if let Some((segment, end)) = follow.end().filter(|_| cut && follow.bad().is_none()) {
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

    fn write(self, place: &mut Place) -> Result<(), Fault> {
        for (session, (timeline, mut lines)) in self.0 {
            let id = hex(&session);
            let name = format!("sessions/{id}.html");
            timeline.finish(&mut Out::captured(&mut lines, &mut Vec::new())).map_err(unwritten(&name))?;
            put(place, &name, &page::transcript(&id, &String::from_utf8_lossy(&lines)))?;
        }
        Ok(())
    }
}

/// The packets of what was drawn, on their way.
struct Packets<'p> {
    drawn: HashSet<u64>,
    rows: HashMap<u64, String>,
    place: &'p mut Place,
    failed: Option<Fault>,
}

impl Packets<'_> {
    fn hear(&mut self, event: &Event) {
        if self.failed.is_some() || !self.drawn.contains(&event.sequence) {
            return;
        }
        let name = format!("packets/{}", event.sequence);
        let written = put(self.place, &format!("{name}.html"), &page::packet(event)).and_then(|()| {
            put(self.place, &format!("{name}.json"), &format!("{}\n", json::event_line(event)))
        });
        self.failed = written.err();
        self.rows.insert(event.sequence, row(event));
    }
}

/// The second pass: proves the evidence, and writes the packets and transcripts of what was drawn. What is known from elsewhere (a
/// checkpoint, a key) has no part in it: who verifies the pack may know something else.
fn prove(
    recipe: &Recipe,
    populations: &Populations,
    evidence: &Path,
    place: &mut Place,
) -> Result<(Report, Coverage), Fault> {
    let drawn = populations.listings.iter().flat_map(|listing| listing.sample.drawn());
    let drawn = drawn.map(|(sequence, _)| sequence).collect();
    let mut packets = Packets { drawn, rows: HashMap::new(), place, failed: None };
    let mut transcripts = Transcripts::of(populations);
    let (mut teller, mut unheard) = (Teller::default(), None);
    let mut coverage = Coverage::of(Some(recipe.from_ns), Some(recipe.to_ns));
    let report = with_progress(evidence, Trust::default(), &mut |_, record| {
        coverage.record(record);
        teller.take(record, &mut |event| packets.hear(event));
        if let Err(error) = transcripts.take(record) {
            unheard.get_or_insert(error);
        }
    })?;
    teller.finish(report.records, &mut |event| packets.hear(event));
    let Packets { rows, place, failed, .. } = packets;
    if let Some(fault) = failed {
        return Err(fault);
    }
    if let Some(error) = unheard {
        return Err(unwritten("sessions")(error));
    }
    transcripts.write(place)?;
    for (population, listing) in POPULATIONS.iter().zip(&populations.listings) {
        let drawn = listing.sample.drawn();
        let lines = drawn.iter().filter_map(|(sequence, _)| rows.get(sequence));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        put(place, &format!("samples/{}.csv", population.name), &format!("{}\n{text}", titles()))?;
    }
    Ok((report, coverage))
}
