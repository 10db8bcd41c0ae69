//! Originals of what was masked, into the evidence, sealed to the auditor's key.
//!
//! Owns: which originals are kept, up to which bound, and that their record stands before what stands in for them leaves. May
//! not: see one of a value that was not masked or withheld, or keep any where the configuration names no key. Bound: of one
//! result the policy's `record_rows_bytes_max`, what stands before each value included; then the last record says why the rest
//! is left out. Fails closed: where they cannot be sealed or recorded, the session ends, or the statement is refused.

use pgturnstile_rules::mask::originals::Originals;

use super::account::{Account, ended};
use super::capture::Of;
use super::end::End;
use super::expect::Run;
use crate::evidence::limits::CAPTURED_BYTES_MAX;
use crate::evidence::originals::{Chunks, Valued};
use crate::evidence::record::How;
use crate::evidence::record::v1::SealedOf;
use crate::evidence::{AppendError, Mark};

/// Bytes of a sealed record beside its values, at most; columns are 2 bytes each, and there are 1,664 at most.
const MARGIN_BYTES: u64 = 8 << 10;

impl Account {
    /// Whether originals of rows that are masked now are kept.
    pub(super) fn seals_rows(&self) -> bool {
        self.log.seals() && !self.recorder.sealed.ended
    }

    /// Seals originals of rows or COPY data; the mark that what stands in for them waits for.
    ///
    /// # Errors
    /// They were not recorded: the session ends, and nothing of the run may leave.
    pub(super) async fn seal_rows(
        &mut self,
        run: &Run,
        of: Of,
        originals: Originals,
    ) -> Result<Option<Mark>, End> {
        let what = match of {
            Of::Rows { .. } => SealedOf::Rows,
            Of::CopyToClient { .. } => SealedOf::CopyToClient,
            // What comes from the client is masked for nobody.
            Of::CopyFromClient { .. } => return Ok(None),
        };
        if originals.is_empty() {
            return Ok(None);
        }
        self.room_for_data()?;
        let how = self.how().belonging_to(run.record);
        let values: Vec<Valued<'_>> = originals.iter().collect();
        let mark = self.seal(what, &values, how).await.map_err(|error| ended(&error))?;
        Ok(mark.and_then(|mark| self.gate(mark)))
    }

    /// The same for what is no part of a result: a bound of its own.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(super) async fn seal_aside(
        &mut self,
        what: SealedOf,
        values: &[Valued<'_>],
        how: How,
    ) -> Result<Option<Mark>, AppendError> {
        let result = std::mem::take(&mut self.recorder.sealed);
        let sealed = self.seal(what, values, how).await;
        self.recorder.sealed = result;
        sealed
    }

    /// Seals values. The mark of the last record; `None` where none are kept.
    ///
    /// # Errors
    /// See [`AppendError`].
    async fn seal(
        &mut self,
        what: SealedOf,
        values: &[Valued<'_>],
        how: How,
    ) -> Result<Option<Mark>, AppendError> {
        if !self.log.seals() || self.recorder.sealed.ended {
            return Ok(None);
        }
        let record = self.log.lane().record_bytes_max().saturating_sub(MARGIN_BYTES);
        let bytes_max = usize::try_from(record).unwrap_or(usize::MAX).min(CAPTURED_BYTES_MAX);
        let bound = self.recorder.recording().rows_bytes_max;
        // Rows come in as large pieces as the server sends: a piece may not pass the bound by more than itself.
        let left = usize::try_from(bound.saturating_sub(self.recorder.sealed.bytes)).unwrap_or(usize::MAX);
        let bytes_max = bytes_max.min(left);
        let mut mark = None;
        let mut chunks = Chunks::new(values, bytes_max);
        while let Some(chunk) = chunks.next() {
            self.recorder.sealed.bytes += chunk.bytes() as u64;
            let full = self.recorder.sealed.bytes >= bound;
            let why = full.then(|| format!("record_rows_bytes_max, {bound} bytes, is reached"));
            let last = full || chunks.is_empty();
            let how = if last { how } else { how.followed() };
            mark = self.log.seal(what, &chunk, why.as_deref(), how).await?.or(mark);
            if full {
                self.recorder.sealed.ended = true;
                break;
            }
        }
        Ok(mark)
    }
}
