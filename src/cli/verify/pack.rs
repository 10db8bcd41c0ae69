//! `verify` of an audit pack: its files, its note, and everything in it that follows from the evidence.
//!
//! Owns: what is wrong with a pack, in words. Nothing in a pack is taken at its maker's word but what `pack.json` says under `made`
//! (period, seed, who, when): listings and pages are made anew from the evidence by the code that made them, and compared. What else
//! lies in the folder is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::super::audit::listings;
use super::super::reading::{Fault, Reading};
use super::super::{Exit, Out};
use crate::audit::pack::manifest::{self, EVIDENCE_NAME, Looked, Manifest};
use crate::audit::pack::place::Place;
use crate::audit::pack::recipe::{RECIPE_BYTES_MAX, RECIPE_NAME, Recipe};
use crate::audit::time::rfc3339;
use crate::evidence::chain::Hash;
use crate::evidence::checkpoint::LAST_NAME;
use crate::evidence::describe::{escaped, hex};
use crate::evidence::note::VerifierKey;
use crate::evidence::read::segment_index;
use crate::evidence::verify::Report;

/// Whose word the expected end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndFrom {
    /// That of whoever verifies, where there is one.
    Outside,
    /// The pack's own: whoever made it chose it, signed or not.
    Pack,
}

/// A pack that is being verified.
pub(super) struct Pack {
    looked: Looked,
    pub(super) end_from: EndFrom,
    /// What was made anew and is the same, where that could be tried.
    same: Option<usize>,
    recipe: Option<Recipe>,
    /// What of the period the log in it does not cover.
    uncovered: Option<String>,
}

impl Pack {
    /// Looks at a pack's files, and turns the reading to the evidence in it: its end must be the one that the note names. The reading's
    /// key is the one that must have signed the pack; `log_key` that of the log in it.
    pub(super) fn open(reading: &mut Reading, log_key: Option<&String>) -> Result<Pack, Fault> {
        let root = reading.directory.clone();
        let mut looked = manifest::look(&root).map_err(|error| {
            Fault(Exit::Usage, format!("cannot read the pack {}: {error}", root.display()))
        })?;
        reading.directory = root.join(EVIDENCE_NAME);
        let mut end_from = EndFrom::Outside;
        if let Some(said) = &looked.manifest
            && reading.checkpoint.is_none()
            && reading.head.is_none()
        {
            reading.head = Some(hex(&said.head));
            end_from = EndFrom::Pack;
        }
        if let Some(expected) = std::mem::replace(&mut reading.key, log_key.cloned()) {
            VerifierKey::parse(&expected).map_err(|error| Fault(Exit::Usage, format!("--key: {error}")))?;
            let signer = looked.manifest.as_ref().and_then(|said| said.key.as_ref()).map(ToString::to_string);
            if signer.as_ref() != Some(&expected) {
                let signer = signer.unwrap_or_else(|| "nobody".to_owned());
                looked.wrong.push(format!("the pack is signed by {signer}, and {expected} was expected"));
            }
        }
        Ok(Pack { looked, end_from, same: None, recipe: None, uncovered: None })
    }

    /// Whether nothing is wrong.
    pub(super) fn is_sound(&self) -> bool {
        self.looked.wrong.is_empty()
    }

    /// Holds the note and every listing and page against the evidence.
    pub(super) fn hold_against(&mut self, report: &Report, root: &Path) {
        let Some(note) = self.looked.manifest.clone() else { return };
        self.looked.wrong.extend(note_against(&note, report));
        match made_anew(root) {
            Ok(Anew { recipe, files, uncovered }) => {
                self.uncovered = uncovered;
                self.looked.wrong.extend(recipe.against(&note));
                self.same = Some(files.len());
                self.recipe = Some(recipe);
                self.compare(&files);
            }
            Err(why) => self.looked.wrong.push(why),
        }
    }

    fn compare(&mut self, made: &BTreeMap<String, Hash>) {
        let there = &self.looked.there;
        let wrong = &mut self.looked.wrong;
        for (name, hash) in made {
            match there.get(name) {
                Some(found) if found == hash => {}
                // The list has said so already.
                Some(_) if wrong.contains(&format!("{name} was changed")) => {}
                Some(_) => wrong.push(format!("{name} is not what the evidence gives")),
                None => wrong.push(format!("{name} is missing: the evidence gives it")),
            }
        }
        let known: BTreeSet<&String> = made.keys().collect();
        let foreign = there.keys().filter(|name| !known.contains(name) && !is_evidence(name));
        wrong.extend(
            foreign.map(|name| format!("{name} is in the pack, and nothing in the evidence gives it")),
        );
    }

    /// The report for people.
    pub(super) fn write(&self, root: &Path, out: &mut Out<'_>) -> io::Result<()> {
        let state = if self.is_sound() { "OK" } else { "BROKEN" };
        out.line(format_args!("{state}: the audit pack {}", root.display()))?;
        for what in &self.looked.wrong {
            out.line(format_args!("  {}", escaped(what)))?;
        }
        let Some(said) = &self.looked.manifest else { return Ok(()) };
        let key = said.key.as_ref().map_or_else(
            || "nobody: whoever hands it over can have made it".to_owned(),
            |key| format!("{key} (compare it with the one that you know from elsewhere)"),
        );
        out.line(format_args!("  files     {} on its list", self.looked.files))?;
        out.line(format_args!("  period    {} to {}", rfc3339(said.period.0), rfc3339(said.period.1)))?;
        if let Some(uncovered) = &self.uncovered {
            out.line(format_args!("  covered   {}", escaped(uncovered)))?;
        }
        out.line(format_args!("  signed    by {}", escaped(&key)))?;
        if let (Some(same), Some(recipe)) = (self.same, &self.recipe) {
            out.line(format_args!(
                "  listings  {same} files were made anew from the evidence, by the seed \"{}\" with at most {} samples of each population",
                escaped(&recipe.seed),
                recipe.samples
            ))?;
        }
        Ok(())
    }

    /// The report for programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "ok": self.is_sound(),
            "files": self.looked.files,
            "made_anew": self.same,
            "uncovered": self.uncovered,
            "seed": self.recipe.as_ref().map(|recipe| &recipe.seed),
            "wrong": self.looked.wrong,
            "key": self.looked.manifest.as_ref().and_then(|said| said.key.as_ref()).map(ToString::to_string),
        })
    }
}

/// Whether a file of a pack belongs to its copy of the evidence, which its own verifier judges.
fn is_evidence(name: &str) -> bool {
    name.strip_prefix(EVIDENCE_NAME)
        .and_then(|name| name.strip_prefix('/'))
        .is_some_and(|name| name == LAST_NAME || segment_index(name).is_some())
}

/// What the note says of the evidence and is not so.
fn note_against(note: &Manifest, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if Some(note.log) != report.log_id {
        wrong.push(format!("{}: it is about another log", manifest::NOTE_NAME));
    }
    if note.records != report.records {
        wrong.push(format!(
            "{}: it says {} records, and the evidence in the pack holds {}",
            manifest::NOTE_NAME,
            note.records,
            report.records
        ));
    }
    if note.head != report.head {
        wrong.push(format!("{}: the evidence in the pack does not end where it says", manifest::NOTE_NAME));
    }
    wrong
}

/// What was made anew.
struct Anew {
    recipe: Recipe,
    /// Blake3 of every listing and page, by its path in the pack.
    files: BTreeMap<String, Hash>,
    /// What of the period the log does not cover.
    uncovered: Option<String>,
}

/// Every listing and page by its hash, made from the pack's evidence by its recipe.
fn made_anew(root: &Path) -> Result<Anew, String> {
    let mut text = Vec::new();
    File::open(root.join(RECIPE_NAME))
        .and_then(|file| file.take(RECIPE_BYTES_MAX).read_to_end(&mut text))
        .map_err(|error| format!("{RECIPE_NAME}: {error}"))?;
    let recipe = Recipe::of(&text)?;
    let mut place = Place::Hashes(BTreeMap::new());
    let made = listings::make(&recipe, &root.join(EVIDENCE_NAME), false, &mut place)
        .map_err(|Fault(_, why)| format!("its listings cannot be made anew: {why}"))?;
    match place {
        Place::Hashes(files) => Ok(Anew { recipe, files, uncovered: made.uncovered }),
        Place::Folder(_) => Err("its listings were made into a folder".to_owned()),
    }
}
