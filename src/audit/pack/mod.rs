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
pub mod sample;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::columns::COLUMNS;
use super::csv;
use super::event::Event;
use control::POPULATIONS;
use sample::Sample;

/// What a pack is about.
#[derive(Clone, Debug)]
pub struct Period {
    /// From this moment, nanoseconds since 1970 UTC.
    pub from_ns: u64,
    /// Before this one.
    pub to_ns: u64,
    /// What the samples are drawn by.
    pub seed: String,
    /// Samples of each population at most.
    pub samples: usize,
}

impl Period {
    fn holds(&self, event: &Event) -> bool {
        (self.from_ns..self.to_ns).contains(&event.time_ns)
    }
}

/// One population on its way, and what is known of it at the end.
pub struct Listing {
    file: BufWriter<File>,
    /// Events.
    pub count: u64,
    /// First and last sequence.
    pub range: Option<(u64, u64)>,
    /// What was drawn.
    pub sample: Sample,
}

/// The populations of a pack, filled while events come by.
pub struct Populations {
    period: Period,
    /// In the order of [`POPULATIONS`].
    pub listings: Vec<Listing>,
    /// Events of the period, in populations or not.
    pub events: u64,
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

impl Populations {
    /// Makes the files below `out`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn create(out: &Path, period: Period) -> io::Result<Populations> {
        let folder = out.join("populations");
        fs::create_dir(&folder)?;
        let listings = POPULATIONS.iter().map(|population| {
            let mut file = BufWriter::new(File::create_new(folder.join(format!("{}.csv", population.name)))?);
            writeln!(file, "{}", titles())?;
            Ok(Listing { file, count: 0, range: None, sample: Sample::new(period.samples) })
        });
        let listings = listings.collect::<io::Result<Vec<Listing>>>()?;
        Ok(Populations { period, listings, events: 0, failed: None })
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        if self.failed.is_some() || !self.period.holds(event) {
            return;
        }
        self.events += 1;
        for (population, listing) in POPULATIONS.iter().zip(&mut self.listings) {
            if !(population.takes)(event) {
                continue;
            }
            listing.count += 1;
            let range = listing.range.unwrap_or((event.sequence, event.sequence));
            listing.range = Some((range.0.min(event.sequence), range.1.max(event.sequence)));
            listing.sample.offer(&self.period.seed, population.name, event.sequence, event.stream);
            if let Err(error) = writeln!(listing.file, "{}", row(event)) {
                self.failed = Some(error);
            }
        }
    }

    /// Everything is on its way to the disk.
    ///
    /// # Errors
    /// What could not be written.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.listings.iter_mut().try_for_each(|listing| listing.file.flush())
    }
}
