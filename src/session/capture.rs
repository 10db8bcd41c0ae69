//! Rows and COPY data into the evidence, as they leave.
//!
//! Owns: the way of a run of frames from the masker to records, the bound of it, and the mark that the run's bytes wait for.
//! May not: mask, or see a byte before the masker did. Bounds: [`CAPTURED_BYTES_MAX`] a record, the policy's
//! `record_rows_bytes_max` a result; credits of the lane are waited for, and nothing is kept here. Fails closed: where a record
//! cannot be taken the session ends, and the bytes that it should have held do not leave.
//!
//! ```text
//!   masked run ─► fits the bound? ─ all, or its first rows ─► records ─┐
//!                        └ the rest ─► capture-ended ──────────────────┴─► mark: the run stays until it is durable
//! ```

use std::time::Duration;

use tokio::time::timeout;

use super::account::{Account, bare, ended};
use super::digest::RowDigest;
use super::end::End;
use super::expect::{Expectation, Run};
use super::recorder::{Phase, Progress};
use super::relay::Relay;
use crate::evidence::limits::CAPTURED_BYTES_MAX;
use crate::evidence::record::v1::{self, Captured, Direction, StatementResult};
use crate::evidence::record::{Entry, How};
use crate::evidence::{AppendError, Mark, State};
use crate::net::conduit::Position;

/// Bytes of a frame before its body.
const FRAME_HEAD_BYTES: usize = 5;
/// Bytes of a record beside its frames, at most.
const RECORD_MARGIN_BYTES: u64 = 1 << 10;

/// What is captured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// Rows, by the record that describes them.
    Rows {
        /// Its number.
        described: u64,
    },
    /// Data of a COPY to the client.
    CopyToClient {
        /// It is spelled in binary.
        binary: bool,
    },
    /// Data of a COPY from the client.
    CopyFromClient {
        /// It is spelled in binary.
        binary: bool,
    },
}

/// A run of frames, or a piece of one long frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'p> {
    pub(super) bytes: &'p [u8],
    /// Frames that begin in it.
    pub(super) begins: u64,
    /// Bytes of its last frame that come behind it.
    pub(super) rest: usize,
}

impl<'p> Piece<'p> {
    /// Whole frames.
    pub(super) fn whole(bytes: &'p [u8], frames: usize) -> Self {
        Self { bytes, begins: frames as u64, rest: 0 }
    }
}

/// Bytes and frames of a piece that fit into `left` bytes, at the end of a frame.
fn fitting(piece: &Piece<'_>, left: u64) -> (usize, u64) {
    let whole = piece.bytes.len() as u64 + piece.rest as u64;
    if piece.begins == 0 || whole <= left {
        return (piece.bytes.len(), piece.begins);
    }
    if piece.rest > 0 {
        return (0, 0);
    }
    let (mut at, mut frames) = (0, 0);
    while let Some(length) = frame_bytes(piece.bytes.get(at..).unwrap_or_default()) {
        if (at + length) as u64 > left || at + length > piece.bytes.len() {
            break;
        }
        at += length;
        frames += 1;
    }
    (at, frames)
}

/// Length of the frame that begins here.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..FRAME_HEAD_BYTES)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()?.checked_add(1)
}

/// Cuts a run into records: at the ends of frames, but for a frame that is longer than a record.
struct Records<'r> {
    rest: &'r [u8],
    begins: u64,
    bytes_max: usize,
    /// Bytes of a frame that was begun.
    inside: usize,
}

impl<'r> Iterator for Records<'r> {
    type Item = (&'r [u8], u64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.inside == 0 && self.rest.len() <= self.bytes_max {
            return Some((std::mem::take(&mut self.rest), std::mem::take(&mut self.begins)));
        }
        let (mut at, mut begins) = (self.inside.min(self.bytes_max), 0);
        self.inside -= at;
        while self.inside == 0 && at < self.bytes_max {
            let Some(length) = frame_bytes(self.rest.get(at..).unwrap_or_default()) else { break };
            if at + length > self.bytes_max {
                if at == 0 {
                    (at, begins, self.inside) = (self.bytes_max, 1, length - self.bytes_max);
                }
                break;
            }
            at += length;
            begins += 1;
        }
        // What is no frame was refused before; it would go as it is.
        let at = if at == 0 { self.rest.len() } else { at.min(self.rest.len()) };
        let (record, rest) = self.rest.split_at(at);
        self.rest = rest;
        self.begins = self.begins.saturating_sub(begins);
        Some((record, begins))
    }
}

impl Of {
    fn what(self) -> Captured {
        match self {
            Of::Rows { .. } => Captured::Rows,
            Of::CopyToClient { .. } => Captured::CopyToClient,
            Of::CopyFromClient { .. } => Captured::CopyFromClient,
        }
    }

    fn entry<'e>(self, progress: &Progress, frames: &'e [u8], rows: u64) -> Entry<'e> {
        let copy = |direction, binary| {
            Entry::CopyData(v1::CopyData { direction, binary, offset: progress.bytes, frames })
        };
        match self {
            Of::Rows { described } => {
                Entry::Rows(v1::Rows { described, first_row: progress.rows, rows, frames })
            }
            Of::CopyToClient { binary } => copy(Direction::ToClient, binary),
            Of::CopyFromClient { binary } => copy(Direction::FromClient, binary),
        }
    }
}

impl Account {
    fn progress(&mut self, of: Of) -> &mut Progress {
        match of {
            Of::Rows { .. } | Of::CopyToClient { .. } => &mut self.recorder.out,
            Of::CopyFromClient { .. } => &mut self.recorder.copied_in,
        }
    }

    /// Records what is to leave. The mark that it waits for; `None` where it waits for none.
    ///
    /// # Errors
    /// The record was not taken: the session ends, and nothing of the piece may leave.
    pub(super) async fn capture(&mut self, run: &Run, of: Of, piece: Piece<'_>) -> Result<Option<Mark>, End> {
        let against = match (self.progress(of).phase, of) {
            (Phase::Ended, _) => return Ok(None),
            (Phase::Idle, _) if !self.recorder.keeps_rows() => return Ok(None),
            (Phase::Running, _) => None,
            (Phase::Idle, Of::Rows { .. } | Of::CopyToClient { .. }) => {
                self.recorder.against_rows(&run.decision).map(str::to_owned)
            }
            (Phase::Idle, Of::CopyFromClient { .. }) => self.against_copied_in(run),
        };
        if let Some(why) = against {
            return self.end_capture(run.record, of, &why).await;
        }
        self.room_for_data()?;
        self.progress(of).phase = Phase::Running;
        let rows_bytes_max = self.recorder.recording().rows_bytes_max;
        let left = rows_bytes_max.saturating_sub(self.progress(of).bytes);
        let (bytes, begins) = fitting(&piece, left);
        let cut = bytes < piece.bytes.len();
        let longest = self.log.lane().record_bytes_max().saturating_sub(RECORD_MARGIN_BYTES);
        let mut records = Records {
            rest: piece.bytes.get(..bytes).unwrap_or_default(),
            begins,
            bytes_max: usize::try_from(longest).unwrap_or(usize::MAX).clamp(1, CAPTURED_BYTES_MAX),
            inside: if piece.begins == 0 { bytes } else { 0 },
        };
        let mut mark = None;
        while let Some((frames, begins)) = records.next() {
            let how = if cut || !records.rest.is_empty() { self.how().followed() } else { self.how() };
            let entry = of.entry(self.progress(of), frames, begins);
            let appended = self.log.append(entry, how.belonging_to(run.record)).await;
            mark = Some(appended.map_err(|error| ended(&error))?);
            let progress = self.progress(of);
            progress.rows += begins;
            progress.bytes += frames.len() as u64;
        }
        if cut {
            let why = format!("the result is larger than record_rows_bytes_max, {rows_bytes_max} bytes");
            return self.end_capture(run.record, of, &why).await;
        }
        Ok(mark.and_then(|mark| self.gate(mark)))
    }

    /// What is begun goes on while the disk runs full, but rows would fill it for good.
    ///
    /// # Errors
    /// It does: the session ends.
    pub(super) fn room_for_data(&self) -> Result<(), End> {
        match self.log.lane().state() {
            State::Constrained(constraint) => Err(ended(&AppendError::Constrained(constraint))),
            State::Running | State::Stopped(_) => Ok(()),
        }
    }

    /// What comes from a client may be a labelled column's, and is searched by no detector on its way.
    fn against_copied_in(&self, run: &Run) -> Option<String> {
        let against = self.recorder.against_values(Some(&run.decision));
        against.map(str::to_owned).or_else(|| {
            (!self.recorder.recording().detectors.is_empty()).then(|| {
                "a detector is active on the target, and data from the client is held by digest alone there"
                    .to_owned()
            })
        })
    }

    async fn end_capture(&mut self, record: u64, of: Of, why: &str) -> Result<Option<Mark>, End> {
        let progress = self.progress(of);
        progress.phase = Phase::Ended;
        let (rows, bytes) = (progress.rows, progress.bytes);
        let entry = Entry::CaptureEnded(v1::CaptureEnded { what: of.what(), why, rows, bytes });
        let appended = self.log.append(entry, self.how().belonging_to(record)).await;
        let mark = appended.map_err(|error| ended(&error))?;
        Ok(self.gate(mark))
    }

    /// Records CopyData that goes to the target, and feeds its digest; the mark that the copy's end waits for.
    ///
    /// # Errors
    /// As [`Self::capture`].
    pub(super) async fn capture_copied_in(
        &mut self,
        run: &Run,
        binary: bool,
        piece: Piece<'_>,
    ) -> Result<Option<Mark>, End> {
        if !self.recorder.keeps_texts() {
            return Ok(None);
        }
        let keys = self.log.keys();
        self.recorder.copied_digest.get_or_insert_with(|| keys.parameters_hasher()).update(piece.bytes);
        self.recorder.copied_frames += piece.begins;
        self.capture(run, Of::CopyFromClient { binary }, piece).await
    }

    /// What came from the client for a statement that ends is recorded by its digest.
    pub(super) async fn copied_in_ended(&mut self, record: u64, bytes: u64) -> Result<(), End> {
        let frames = std::mem::take(&mut self.recorder.copied_frames);
        let Some(hasher) = self.recorder.copied_digest.take() else { return Ok(()) };
        let digest = *hasher.finalize().as_bytes();
        let entry = Entry::CopiedIn(v1::CopiedIn { frames, bytes, digest: &digest });
        let appended = self.log.append(entry, How::QUEUED.belonging_to(record)).await;
        appended.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// Records what left of a result that does not come to its end, and what came for a COPY: the session ends before. Who hangs up
    /// has read it all the same.
    ///
    /// # Errors
    /// The record was not taken.
    pub(super) async fn cut_off(&mut self, run: &Run) -> Result<(), End> {
        let bytes_in = std::mem::take(&mut self.copied_in_bytes);
        if run.rows == 0 && run.bytes == 0 && bytes_in == 0 {
            return Ok(());
        }
        self.copied_in_ended(run.record, bytes_in).await?;
        self.recorder.result_ended();
        self.totals.rows += run.rows;
        let entry = Entry::StatementResult(StatementResult {
            rows: run.rows,
            bytes: run.bytes,
            bytes_in,
            digest: self.digest.take().map(RowDigest::finish),
            started_ns: run.started_ns,
            first_row_ns: run.first_row_ns,
            ..bare(v1::Outcome::Unknown, self.now_ns())
        });
        let appended = self.log.append(entry, How::QUEUED.answering(run.record)).await;
        appended.map_err(|error| ended(&error))?;
        Ok(())
    }

    /// Whether what leaves stays until its record is durable.
    pub(super) fn stays(&self) -> bool {
        self.recorder.keeps_rows() && self.waits()
    }
}

/// Bytes for the client that stay until a record is durable, and all behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staying {
    position: Position,
    mark: Mark,
    /// They begin inside a frame.
    inside_frame: bool,
}

impl Relay {
    /// What is framed from here on leaves when `mark` is durable.
    pub(super) fn stay(&mut self, mark: Option<Mark>, inside_frame: bool) {
        let Some(mark) = mark else { return };
        let position = self.down.position();
        if self.staying.is_empty() {
            self.down.stay(Some(position));
        }
        self.staying.push_back(Staying { position, mark, inside_frame });
    }

    /// Lets go what need not stay any more. The mark that the next waits for.
    pub(super) fn let_go(&mut self) -> Result<Option<Mark>, End> {
        let mut gone = 0;
        let mut durable = Ok(());
        for staying in &self.staying {
            match self.account.durable(staying.mark) {
                Ok(true) => gone += 1,
                Ok(false) => break,
                Err(end) => {
                    durable = Err(end);
                    break;
                }
            }
        }
        if gone > 0 {
            self.staying.drain(..gone);
            self.down.stay(self.staying.front().map(|staying| staying.position));
        }
        durable.map(|()| self.staying.front().map(|staying| staying.mark))
    }

    /// At the session's end: waits until all may leave, within `limit`. What may not never does. Whether the client then stands
    /// inside a frame.
    pub(super) async fn let_go_at_the_end(&mut self, limit: Duration) -> bool {
        if let Some(last) = self.staying.back() {
            let lane = self.account.lane().clone();
            let waited = timeout(limit, lane.until_durable(last.mark)).await;
            if !matches!(waited, Ok(Ok(()))) {
                tracing::debug!("what is not in the evidence does not leave");
            }
        }
        if let Err(stopped) = self.let_go() {
            tracing::debug!(reason = %stopped.reason(), "what is not in the evidence does not leave");
        }
        let inside = self.staying.front().is_some_and(|staying| staying.inside_frame);
        self.staying.clear();
        self.down.drop_staying() && inside
    }

    /// CopyData of the client, or a piece of it, on its way to the target.
    pub(super) async fn capture_copied_in(
        &mut self,
        here: usize,
        begins: u64,
        rest: usize,
    ) -> Result<(), End> {
        if !self.account.recorder.keeps_texts() {
            return Ok(());
        }
        let copies = |run: &&Run| run.decision.copies_in > 0 && !run.failed;
        let Some(run) = self.queue.iter().filter_map(Expectation::run).find(copies) else {
            return Ok(());
        };
        let bytes = self.up.unscanned().get(..here).unwrap_or_default();
        let piece = Piece { bytes, begins, rest };
        if let Some(mark) = self.account.capture_copied_in(run, self.masking.copy_binary, piece).await? {
            self.gate.copy_recorded = Some(mark);
        }
        Ok(())
    }

    /// Whether the end of a copy waits until what was copied is in the evidence: until then it has no effect.
    pub(super) fn copy_end_waits(&mut self) -> Result<bool, End> {
        let Some(mark) = self.gate.copy_recorded else { return Ok(false) };
        if !self.account.durable(mark)? {
            return Ok(true);
        }
        self.gate.copy_recorded = None;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run_of(bodies: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            bytes.push(b'D');
            bytes.extend(u32::try_from(body + 4).unwrap().to_be_bytes());
            bytes.resize(bytes.len() + body, 7);
        }
        bytes
    }

    proptest! {
        /// Records hold the run, in order, none longer than it may be, each frame counted where it begins.
        #[test]
        fn records_hold_the_whole_run(bodies in proptest::collection::vec(0usize..60, 1..30), bytes_max in 8usize..90) {
            let run = run_of(&bodies);
            let records = Records { rest: &run, begins: bodies.len() as u64, bytes_max, inside: 0 };
            let (mut all, mut begins) = (Vec::new(), 0);
            for (record, count) in records {
                prop_assert!(!record.is_empty() && record.len() <= bytes_max);
                all.extend_from_slice(record);
                begins += count;
            }
            prop_assert_eq!(all, run);
            prop_assert_eq!(begins, bodies.len() as u64);
        }

        /// What fits ends with a frame, and one more frame would not fit.
        #[test]
        fn what_fits_ends_with_a_frame(bodies in proptest::collection::vec(0usize..60, 1..30), left in 0u64..900) {
            let run = run_of(&bodies);
            let (bytes, frames) = fitting(&Piece::whole(&run, bodies.len()), left);
            let frames = usize::try_from(frames).unwrap();
            let upto = |count: usize| bodies.iter().take(count).map(|body| body + 5).sum::<usize>();
            prop_assert_eq!(bytes, upto(frames));
            prop_assert!(bytes as u64 <= left);
            prop_assert!(frames == bodies.len() || upto(frames + 1) as u64 > left);
        }
    }

    #[test]
    fn a_long_frame_is_taken_whole_or_not_at_all() {
        let piece = |begins, rest| Piece { bytes: &[7; 10], begins, rest };
        assert_eq!(fitting(&piece(1, 90), 100), (10, 1));
        assert_eq!(fitting(&piece(1, 90), 99), (0, 0));
        assert_eq!(fitting(&piece(0, 80), 0), (10, 0), "it was taken when it began");
    }
}
