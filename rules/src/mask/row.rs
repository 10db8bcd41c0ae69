//! Runs of DataRow frames.
//!
//! Owns: the way from a run to what leaves in its stead. May not: take a run that was not checked: every frame is whole and
//! holds as many columns as the plan ([`check_rows`](pgturnstile_proto::backend::check_rows)). Fails closed: a frame that
//! is none of that is an error, and nothing of the run may be released.

use pgturnstile_proto::Values;
use pgturnstile_proto::backend::DataRow;
use pgturnstile_sweep::{Candidate, Candidates};

use super::detect::{self, Anchors};
use super::originals::Originals;
use super::plan::{Column, ColumnMask, Plan};
use super::shape::Shape;
use super::style::{self, ColumnTokens, Masked, TokenKey};
use super::tally::{At, By, Hits, Tally};
use super::value::Look;

/// A run that is not what its caller said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row that does not fit its description")]
pub struct Misfit;

/// Bytes of a DataRow before its first column.
const HEAD_BYTES: usize = 7;

/// Room for a stand-in that is kept between rows.
const SCRATCH_BYTES_MAX: usize = 65_536;

/// Masks rows; see the module. One for each session.
#[derive(Debug)]
pub struct Masker {
    key: TokenKey,
    scratch: Vec<u8>,
    /// Of what is masked, where somebody takes them.
    originals: Option<Originals>,
    /// Rows of the result before the run.
    first_row: u64,
}

impl Masker {
    /// With the key of tokens.
    pub fn new(key: TokenKey) -> Self {
        Self { key, scratch: Vec::new(), originals: None, first_row: 0 }
    }

    /// Whether the originals of what is masked from here on are kept, until they are taken; and how many rows of their result
    /// came before.
    pub fn keep_originals(&mut self, keeps: bool, first_row: u64) {
        self.originals = keeps.then(Originals::default);
        self.first_row = first_row;
    }

    /// Whether they are.
    pub(super) fn keeps_originals(&self) -> bool {
        self.originals.is_some()
    }

    /// What was kept; none is kept from here on.
    pub fn take_originals(&mut self) -> Originals {
        self.originals.take().unwrap_or_default()
    }

    /// What is masked now is of this row of the run, or of the COPY.
    pub(super) fn at_row(&mut self, row: u64) {
        if let Some(originals) = &mut self.originals {
            originals.at_row(self.first_row + row);
        }
    }

    /// The key of tokens.
    pub fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Masks one value of a column; what stands in for it is appended to `out`.
    ///
    /// # Errors
    /// [`Misfit`]: it is no value of its column's type.
    pub(super) fn column(
        &mut self,
        plan: &Plan,
        index: usize,
        value: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Masked, Misfit> {
        let Column { mask, shape, origin } = plan.columns().get(index).copied().ok_or(Misfit)?;
        let at = At::Column(u16::try_from(index).unwrap_or(u16::MAX));
        let masked = match mask {
            ColumnMask::Label { label, style } => {
                tally.add(at, By::Label(label));
                style::label(style, shape, value, &self.key, out)
            }
            ColumnMask::Null { why } => {
                tally.add(at, By::Withheld(why));
                Masked::Null
            }
            ColumnMask::Clear => {
                if plan.detectors().is_empty() || !shape.may_hold() {
                    return Ok(Masked::Keep);
                }
                let mut hits = Hits::default();
                let tokens = origin.map(|origin| ColumnTokens { key: &self.key, origin });
                let mut look = Look { detectors: plan.detectors(), tokens, hits: &mut hits };
                let masked = look.value(shape, value, out)?;
                tally.found(at, &hits);
                masked
            }
        };
        match (masked, &mut self.originals) {
            (Masked::Null | Masked::Value, Some(originals)) => originals.push(index, value),
            (Masked::Keep, _) | (_, None) => {}
        }
        Ok(masked)
    }

    /// What leaves in the stead of a run of whole, checked DataRow frames; `None` when it may leave as it is.
    ///
    /// # Errors
    /// [`Misfit`]: nothing of the run may be released.
    pub fn rows(&mut self, plan: &Plan, run: &[u8], tally: &mut Tally) -> Result<Option<Vec<u8>>, Misfit> {
        if plan.is_clear() {
            return Ok(None);
        }
        let mut rebuilt = Rebuilt { run, out: None, taken: 0 };
        let mut row = 0;
        if plan.walks() {
            let mut at = 0;
            while at < run.len() {
                self.at_row(row);
                at = self.row(plan, at, tally, &mut rebuilt)?;
                row += 1;
            }
        } else {
            let mut frame = 0;
            for position in Positions::new(run) {
                if position < frame {
                    continue;
                }
                // Hop to the frame that holds it.
                loop {
                    let next = frame + frame_bytes(run, frame)?;
                    if position < next {
                        break;
                    }
                    frame = next;
                    row += 1;
                }
                self.at_row(row);
                frame = self.row(plan, frame, tally, &mut rebuilt)?;
                row += 1;
            }
        }
        Ok(rebuilt.finish())
    }

    /// Walks the row at `at`; where the next one begins.
    fn row(
        &mut self,
        plan: &Plan,
        at: usize,
        tally: &mut Tally,
        rebuilt: &mut Rebuilt<'_>,
    ) -> Result<usize, Misfit> {
        let end = at + frame_bytes(rebuilt.run, at)?;
        let frame = rebuilt.run.get(at..end).ok_or(Misfit)?;
        let columns: Values<'_> = DataRow::parse(frame).map_err(|_| Misfit)?.columns();
        if columns.len() != plan.columns().len() {
            return Err(Misfit);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut offset = at + HEAD_BYTES;
        let mut begin = None;
        for (index, value) in columns.iter().enumerate() {
            let Some(value) = value else {
                offset += 4;
                continue;
            };
            if passes_at_a_glance(plan, index, value) {
                offset += 4 + value.len();
                continue;
            }
            scratch.clear();
            let masked = self.column(plan, index, value, tally, &mut scratch)?;
            let stand_in = match masked {
                Masked::Keep => None,
                Masked::Null => Some(None),
                Masked::Value => Some(Some(scratch.as_slice())),
            };
            if let Some(stand_in) = stand_in {
                begin.get_or_insert_with(|| rebuilt.upto(at));
                rebuilt.replace(offset, 4 + value.len(), stand_in);
            }
            offset += 4 + value.len();
        }
        // One large value must not hold its room for as long as the session lives.
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        self.scratch = scratch;
        if let Some(begin) = begin {
            rebuilt.close_frame(begin, end)?;
        }
        Ok(end)
    }
}

/// Whether a value bears no label and no candidate stands in it: most values of a row that is walked for another's sake.
fn passes_at_a_glance(plan: &Plan, index: usize, value: &[u8]) -> bool {
    plan.columns().get(index).is_some_and(|column| {
        column.mask == ColumnMask::Clear
            && (!column.shape.hides_from_sweep()
                || column.shape == Shape::OpaqueText && !Look::is_spelled_aside(value))
            && Positions::new(value).next().is_none()
    })
}

/// Bytes of the frame at `at`.
fn frame_bytes(run: &[u8], at: usize) -> Result<usize, Misfit> {
    let length = run.get(at + 1..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Misfit)?;
    let bytes =
        usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Misfit)?.checked_add(1).ok_or(Misfit)?;
    if bytes < HEAD_BYTES || at + bytes > run.len() { Err(Misfit) } else { Ok(bytes) }
}

/// A run of which parts were replaced.
struct Rebuilt<'r> {
    run: &'r [u8],
    out: Option<Vec<u8>>,
    /// How much of the run is in `out`, or was replaced there.
    taken: usize,
}

impl Rebuilt<'_> {
    /// Takes over what stands before `at`; where it ends in `out`.
    fn upto(&mut self, at: usize) -> usize {
        let run = self.run;
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(run.len() + 64));
        out.extend_from_slice(run.get(self.taken..at).unwrap_or_default());
        self.taken = at;
        out.len()
    }

    /// Puts a value, `None` for NULL, in the stead of the `bytes` of length and value at `at`.
    fn replace(&mut self, at: usize, bytes: usize, stand_in: Option<&[u8]>) {
        self.upto(at);
        let Some(out) = &mut self.out else { return };
        let length = stand_in.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(-1));
        out.extend_from_slice(&length.to_be_bytes());
        if length >= 0 {
            out.extend_from_slice(stand_in.unwrap_or_default());
        }
        self.taken = at + bytes;
    }

    /// Takes over the rest of the frame that ends at `end` and began at `begin` in `out`, and corrects its length.
    fn close_frame(&mut self, begin: usize, end: usize) -> Result<(), Misfit> {
        let frame_end = self.upto(end);
        let length = u32::try_from(frame_end - begin - 1).map_err(|_| Misfit)?;
        let place = self.out.as_mut().and_then(|out| out.get_mut(begin + 1..begin + 5)).ok_or(Misfit)?;
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        if self.out.is_some() {
            self.upto(self.run.len());
        }
        self.out
    }
}

/// Where in a run something may stand that a detector finds, in rising order, perhaps more than once.
pub(super) struct Positions<'r> {
    run: &'r [u8],
    numbers: Candidates<'r>,
    anchors: &'static Anchors,
    number: Option<usize>,
    anchor: Option<usize>,
}

impl<'r> Positions<'r> {
    pub(super) fn new(run: &'r [u8]) -> Self {
        let anchors = Anchors::get();
        let mut positions = Self { run, numbers: Candidates::new(run), anchors, number: None, anchor: None };
        positions.number = positions.next_number();
        positions.anchor = positions.next_anchor(0);
        positions
    }

    fn next_anchor(&self, mut from: usize) -> Option<usize> {
        loop {
            let at = self.anchors.next(self.run, from)?;
            if detect::plausible_anchor(self.run, at) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    fn next_number(&mut self) -> Option<usize> {
        let run = self.run;
        self.numbers
            .find(|candidate| match *candidate {
                Candidate::At(at) => {
                    // Of an address, a byte stands before it and a domain behind.
                    let before = at.checked_sub(1).and_then(|place| run.get(place));
                    let behind = run.get(at + 1);
                    before.is_some_and(|byte| *byte > b' ') && behind.is_some_and(|byte| *byte > b' ')
                }
                Candidate::Run(start) => detect::plausible_run(run, start),
            })
            .map(Candidate::position)
    }
}

impl Iterator for Positions<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match (self.number, self.anchor) {
            (None, None) => None,
            (Some(number), anchor) if anchor.is_none_or(|anchor| number <= anchor) => {
                self.number = self.next_number();
                Some(number)
            }
            (_, Some(anchor)) => {
                self.anchor = self.next_anchor(anchor + 1);
                Some(anchor)
            }
            (Some(number), None) => {
                self.number = None;
                Some(number)
            }
        }
    }
}
