//! What `check` says of the second place of the evidence's checkpoints.
//!
//! Owns the words alone: [`crate::evidence::second_place`] looks. What the start would refuse is an error; on another machine than the
//! log is on there is no log, and nothing is said.

use pgturnstile_rules::document::{Diagnostic, Severity};

use crate::config::Config;
use crate::evidence::second_place::{Standing, second_place};

/// The finding, where the second place is missing, behind or another log's.
pub(super) fn finding(config: &Config) -> Option<Diagnostic> {
    let evidence = &config.evidence;
    let head = evidence.head.as_deref()?;
    let (directory, shown) = (evidence.directory.display(), head.display());
    let mut severity = Severity::Error;
    let message = match second_place(&evidence.directory, head, evidence.checkpoint_every_s) {
        Ok(Standing::Fits) => return None,
        Ok(Standing::Missing) => format!(
            "{shown} holds no checkpoint although the log was kept to one there: the start will refuse; find out who removed it, \
             then `pgturnstile evidence checkpoint {directory} --to {shown}` puts the log's last one there"
        ),
        Ok(Standing::NoCheckpoint) => {
            format!(
                "{shown} holds something else than a checkpoint of pgturnstile's evidence: the start will refuse"
            )
        }
        Ok(Standing::OtherLog) => {
            format!(
                "{shown} holds the checkpoint of another log than the one in {directory}: the start will refuse"
            )
        }
        Ok(Standing::Behind { there, log }) => {
            severity = Severity::Warning;
            format!(
                "{shown} is behind: it was signed over {there} records, the log's own last checkpoint over {log}; what lies between \
             them can be cut off without the second place showing it. See `pgturnstile verify {directory} --checkpoint {shown}`"
            )
        }
        Ok(Standing::Ahead { there, log }) => format!(
            "{shown} was signed over {there} records, the log in {directory} holds {log}: its end was cut off or an older copy \
             put back, and the start will refuse. See `pgturnstile verify {directory} --checkpoint {shown}`"
        ),
        Err(error) => {
            severity = Severity::Warning;
            format!("the second place {shown} cannot be held against {directory}: {error}")
        }
    };
    let mut place = evidence.place.clone();
    place.key = "evidence.head.file".to_owned();
    Some(place.diagnostic(severity, message))
}
