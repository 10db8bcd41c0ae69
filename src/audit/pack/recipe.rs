//! What a pack is made by: with the evidence, all that decides every byte of its listings and pages.
//!
//! Owns: what `pack.json` says under `made`, so that anybody can make the same again. May not: hold anything that the evidence says
//! itself. A recipe of another version is refused: its listings had other columns, populations or words.

use serde::{Deserialize, Serialize};

use super::control::VERSION;
use super::manifest::Manifest;
use crate::audit::event::Event;

/// The file that holds it.
pub const RECIPE_NAME: &str = "pack.json";
/// Longest such file that is read, bytes: more than the listings' own part of it can have at [`SAMPLES_MAX`].
pub const RECIPE_BYTES_MAX: u64 = 4 << 20;
/// Samples of a population at most.
pub const SAMPLES_MAX: u16 = 1_000;

/// What a pack is made by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the populations, the map and the form of every page.
    pub version: u32,
    /// Version of the program that made it.
    pub program: String,
    /// From this moment, nanoseconds since 1970 UTC.
    pub from_ns: u64,
    /// Before this one.
    pub to_ns: u64,
    /// What the samples are drawn by.
    pub seed: String,
    /// Samples of each population at most.
    pub samples: usize,
    /// Who made the pack, in their own words.
    pub operator: String,
    /// When, nanoseconds since 1970 UTC.
    pub made_ns: u64,
    /// The key that signs the pack.
    pub key: Option<String>,
}

/// The part of `pack.json` that is read again.
#[derive(Deserialize)]
struct Made {
    made: Recipe,
}

impl Recipe {
    pub(super) fn holds(&self, event: &Event) -> bool {
        (self.from_ns..self.to_ns).contains(&event.time_ns)
    }

    /// Reads the recipe out of a pack's `pack.json`.
    ///
    /// # Errors
    /// Why the listings of this pack cannot be made anew, in words.
    pub fn of(text: &[u8]) -> Result<Recipe, String> {
        let Made { made } =
            serde_json::from_slice(text).map_err(|error| format!("{RECIPE_NAME}: {error}"))?;
        if made.version != VERSION {
            return Err(format!(
                "{RECIPE_NAME}: pgturnstile {} made it with populations and pages of version {}, and these are of version {VERSION}: \
                 verify the pack with a program of that version",
                made.program, made.version
            ));
        }
        if made.samples > usize::from(SAMPLES_MAX) {
            return Err(format!("{RECIPE_NAME}: {} samples, and {SAMPLES_MAX} are the most", made.samples));
        }
        Ok(made)
    }

    /// What it says otherwise than the pack's note, in words.
    pub fn against(&self, note: &Manifest) -> Vec<String> {
        let mut wrong = Vec::new();
        if (self.from_ns, self.to_ns) != note.period {
            wrong.push(format!("{RECIPE_NAME}: its period is not that of the note"));
        }
        if self.key != note.key.as_ref().map(ToString::to_string) {
            wrong.push(format!("{RECIPE_NAME}: the key that it names is not that of the note"));
        }
        wrong
    }
}
