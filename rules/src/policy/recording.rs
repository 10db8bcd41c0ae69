//! How much the evidence keeps of a session's statements and results.
//!
//! Owns: [`Recording`] and the choice of it (README decision 13). May not: record, or look at a value. Fails closed: rows are
//! kept only where the masker stands before them, for everybody on the target alike; where it does not, less is kept, and
//! [`Recording::why`] says so.
//!
//! ```text
//! access entry, else [defaults], else: rows where labels or detectors are active, digest elsewhere
//!    rows ─ nothing is active on the target ──────────────────► digest
//!         └ a detector of the target is off for the identity ─► text, in which it is searched for all the same
//! ```

use crate::mask::detect::{Detector, Detectors};
use crate::mask::plan::Style;
use crate::policy::labelled::Labelled;
use crate::policy::model::{Model, Record};
use crate::policy::{Policy, Subject};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// How much.
    pub record: Record,
    /// Bytes of rows, and of COPY data in each direction, that are kept of one result.
    pub rows_bytes_max: u64,
    /// What says so, and why it is less than asked for.
    pub why: String,
    /// Nobody asked for anything else.
    pub by_default: bool,
    /// What looks at texts and parameters that are kept: every detector of the target, whoever the identity is.
    pub detectors: Detectors,
}

/// Every detector that some entry switches on for a target.
#[must_use]
pub fn detectors_of_target(model: &Model, target: &str) -> Detectors {
    let of_target = model.detections.iter().filter(|detection| detection.targets.contain(target));
    of_target
        .flat_map(|detection| &detection.detect)
        .fold(Detectors::NONE, |all, detector| all.with(*detector, Style::Fixed))
}

impl Subject {
    /// How much is recorded of it on its target, where these columns are labelled.
    #[must_use]
    pub fn recording(&self, policy: &Policy, labelled: &Labelled) -> Recording {
        let (access, defaults) = (self.access(), &policy.model.defaults);
        let detectors = detectors_of_target(&policy.model, self.target());
        let active = !labelled.is_empty() || !detectors.is_empty();
        let (asked, who) = match (access.record, defaults.record) {
            (Some(record), _) => (record, format!("access {} ({})", access.id, access.place)),
            (None, Some(record)) => (record, "[defaults] of the policy".to_owned()),
            (None, None) if active => {
                (Record::Rows, "the default where labels or detectors are active".to_owned())
            }
            (None, None) => {
                (Record::Digest, "the default where neither labels nor detectors are active".to_owned())
            }
        };
        let (record, why) = match asked {
            Record::Rows if !active => (
                Record::Digest,
                format!("{who} says rows, but neither labels nor detectors are active on the target"),
            ),
            Record::Rows if self.misses_one_of(&detectors) => (
                Record::Text,
                format!("{who} says rows, but a detector of the target is off for this identity"),
            ),
            Record::Digest | Record::Text | Record::Rows => (asked, who),
        };
        let rows_bytes_max = access.record_rows_bytes_max.unwrap_or(defaults.record_rows_bytes_max);
        let by_default = access.record.is_none() && defaults.record.is_none();
        Recording { record, rows_bytes_max, why, by_default, detectors }
    }

    fn misses_one_of(&self, detectors: &Detectors) -> bool {
        Detector::ALL.iter().any(|detector| {
            detectors.style(*detector).is_some() && self.detectors().style(*detector).is_none()
        })
    }
}
