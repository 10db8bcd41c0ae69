//! What a start knows of the log from outside its records: the second place, and the checkpoint that a stop left.
//!
//! Owns: reading both, and judging what follows: which key signed so far, whether the second place may be empty. May not:
//! change anything. Fails by [`OpenError`], each with the command that explains or repairs.

use super::OpenError;
use super::anchor;
use super::checkpoint::{Checkpoint, open_rotation};
use super::disk::Disk;
use super::head::Head;
use super::note::NOTE_BYTES_MAX;
use super::open::Settings;
use super::recover::Held;

/// See the module.
pub(crate) struct Before {
    head: Option<Head>,
    held: Vec<Held>,
}

fn held(file: &std::path::Path, note: &str) -> Result<Held, OpenError> {
    match Checkpoint::open(note) {
        Ok(checkpoint) => Ok(Held { checkpoint, file: file.to_owned() }),
        Err(error) => Err(OpenError::NoCheckpoint { file: file.to_owned(), what: error.to_string() }),
    }
}

impl Before {
    /// Reads the second place, where the settings name one, and what the last stop left.
    pub(crate) fn read(settings: &Settings, disk: &dyn Disk) -> Result<Before, OpenError> {
        let mut kept = Vec::new();
        let path = settings.signing.as_ref().and_then(|signing| signing.head.as_ref());
        let head = path.map(|path| Head::open(path));
        let head = head.transpose().map_err(|error| OpenError::Head(error.to_string()))?;
        if let Some(head) = &head
            && let Some(note) = head.known()
        {
            kept.push(held(head.path(), note)?);
        }
        if let Some(note) = anchor::left(disk, NOTE_BYTES_MAX).map_err(OpenError::Read)? {
            kept.push(held(&anchor::left_path(&settings.directory), &note)?);
        }
        Ok(Before { head, held: kept })
    }

    /// What the log must hold.
    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    /// Whether the key may sign on, and the second place may be as it is: `last_note` is the last checkpoint in the log.
    /// Says the rotation to record, where the key is a new one.
    pub(crate) fn judge(
        &self,
        settings: &Settings,
        last_note: Option<&str>,
    ) -> Result<Option<String>, OpenError> {
        let Some(signing) = &settings.signing else { return Ok(None) };
        let in_log = last_note.map(|note| held(&settings.directory, note)).transpose()?;
        let all = self.held.iter().chain(&in_log).map(|held| &held.checkpoint);
        let Some(last) = all.max_by_key(|checkpoint| checkpoint.point.records) else { return Ok(None) };
        if let Some(head) = &self.head
            && head.known().is_none()
            && last.second_place
        {
            return Err(OpenError::HeadGone { file: head.path().to_owned() });
        }
        let now = signing.key.verifier();
        if last.key == *now {
            return Ok(None);
        }
        match signing.rotation.as_deref().map(open_rotation) {
            Some(Ok((old, new))) if old == last.key && new == *now => Ok(signing.rotation.clone()),
            Some(_) | None => {
                Err(OpenError::UncertifiedKey { before: last.key.to_string(), now: now.to_string() })
            }
        }
    }

    /// The second place.
    pub(crate) fn into_head(self) -> Option<Head> {
        self.head
    }
}
