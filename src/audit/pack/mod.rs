//! A package for an auditor: populations of a period, samples, a packet for each sample, and the evidence itself.
//!
//! Owns: what is listed, counted and drawn, and the pages. May not: copy or judge evidence; who makes a pack does both before it
//! writes what is here. Every listing carries its completeness block: from which records, by which filter, how many.
//!
//! ```text
//! OUT/index.html            one page: completeness, criteria, populations, samples; reads and prints
//!     pack.json             the same for programs
//!     criteria.csv          the map to the Trust Services Criteria
//!     populations/NAME.csv  every event of a population in the period
//!     samples/NAME.csv      those that the seed drew
//!     packets/N.html, .json one sample: the event, and where its session's transcript is
//!     sessions/ID.html      transcripts of the sessions that the samples are of
//!     evidence/             the log up to the end that the pack was made from
//!     pack.files, pack.note every file's hash; what the pack is, signed where a key was given
//! ```

pub mod control;
pub mod manifest;
pub mod page;
pub mod place;
pub mod recipe;
pub mod sample;

use std::io::{self, Write};

use super::columns::COLUMNS;
use super::csv;
use super::event::Event;
use control::POPULATIONS;
use place::{Place, Sheet};
use recipe::Recipe;
use sample::Sample;

/// One population on its way, and what is known of it at the end.
pub struct Listing {
    sheet: Option<Sheet>,
    /// Events.
    pub count: u64,
    /// First and last sequence.
    pub range: Option<(u64, u64)>,
    /// What was drawn.
    pub sample: Sample,
}

/// The populations of a pack, filled while events come by.
pub struct Populations {
    recipe: Recipe,
    /// In the order of [`POPULATIONS`].
    pub listings: Vec<Listing>,
    /// Events of the period, in populations or not; a permitted Parse runs nothing and is none, as in `evidence query`.
    pub events: u64,
    /// Permitted Parses of the period.
    pub parsed: u64,
    failed: Option<io::Error>,
}

/// The line of titles of every listing.
pub fn titles() -> String {
    COLUMNS.iter().map(|column| column.name).collect::<Vec<&str>>().join(",")
}

/// An event's line.
pub fn row(event: &Event) -> String {
    csv::line(COLUMNS.iter().map(|column| (column.cell)(event)))
}

/// The file of a population's listing.
fn listing_name(population: &control::Population) -> String {
    format!("populations/{}.csv", population.name)
}

impl Populations {
    /// Begins the files.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn create(place: &Place, recipe: Recipe) -> io::Result<Populations> {
        let listings = POPULATIONS.iter().map(|population| {
            let mut sheet = place.begin(&listing_name(population))?;
            writeln!(sheet, "{}", titles())?;
            Ok(Listing { sheet: Some(sheet), count: 0, range: None, sample: Sample::new(recipe.samples) })
        });
        let listings = listings.collect::<io::Result<Vec<Listing>>>()?;
        Ok(Populations { recipe, listings, events: 0, parsed: 0, failed: None })
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        if self.failed.is_some() || !self.recipe.holds(event) {
            return;
        }
        let counted = match event.statement() {
            Some(statement) if statement.runs_nothing => &mut self.parsed,
            Some(_) | None => &mut self.events,
        };
        *counted += 1;
        for (population, listing) in POPULATIONS.iter().zip(&mut self.listings) {
            if !(population.takes)(event) {
                continue;
            }
            listing.count += 1;
            let range = listing.range.unwrap_or((event.sequence, event.sequence));
            listing.range = Some((range.0.min(event.sequence), range.1.max(event.sequence)));
            listing.sample.offer(&self.recipe.seed, population.name, event.sequence, event.stream);
            if let Some(sheet) = &mut listing.sheet
                && let Err(error) = writeln!(sheet, "{}", row(event))
            {
                self.failed = Some(error);
            }
        }
    }

    /// Events of a population, by its name.
    pub fn count(&self, name: &str) -> u64 {
        let of = POPULATIONS.iter().zip(&self.listings).find(|(population, _)| population.name == name);
        of.map_or(0, |(_, listing)| listing.count)
    }

    /// Everything is on its way to the disk.
    ///
    /// # Errors
    /// What could not be written.
    pub fn finish(&mut self, place: &mut Place) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for (population, listing) in POPULATIONS.iter().zip(&mut self.listings) {
            if let Some(sheet) = listing.sheet.take() {
                place.end(&listing_name(population), sheet)?;
            }
        }
        Ok(())
    }
}
