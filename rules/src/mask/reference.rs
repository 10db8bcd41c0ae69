//! The naive twin of the masker: what it must come to, in the plainest words.
//!
//! Owns: the meaning of a plan on whole frames. It walks every value of every row, asks every detector at every byte, and
//! builds every frame anew. May not: be used on the data path. Property tests and the fuzz target `mask_differential` hold
//! [`Masker`] against it.

use pgturnstile_proto::backend::{CopyData, DataRow};
use pgturnstile_proto::encode;

use super::detect::{Detector, Detectors, Match, match_at};
use super::plan::Plan;
use super::row::{Masker, Misfit};
use super::style::Masked;
use super::tally::Tally;

/// The matches in a value, by asking every detector at every byte.
pub fn find(detectors: &Detectors, value: &[u8]) -> Vec<Match> {
    let mut found: Vec<Match> = Vec::new();
    for start in 0..value.len() {
        if found.last().is_some_and(|last| start < last.end) {
            continue;
        }
        let first = Detector::ALL.iter().filter(|detector| detectors.style(**detector).is_some()).find_map(
            |detector| match_at(*detector, value, start).map(|end| Match { start, end, detector: *detector }),
        );
        found.extend(first);
    }
    found
}

/// Rows, one after the other.
///
/// # Errors
/// As the masker's.
pub fn rows(masker: &mut Masker, plan: &Plan, run: &[u8], tally: &mut Tally) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::new();
    let mut rest = run;
    while !rest.is_empty() {
        let length = rest.get(1..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Misfit)?;
        let bytes = u32::from_be_bytes(*length) as usize + 1;
        let (frame, behind) = rest.split_at_checked(bytes).ok_or(Misfit)?;
        let row = DataRow::parse(frame).map_err(|_| Misfit)?;
        if row.columns().len() != plan.columns().len() {
            return Err(Misfit);
        }
        let values: Vec<Option<Vec<u8>>> = row
            .columns()
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let value = value?;
                let mut stand_in = Vec::new();
                match masker.column(plan, index, value, tally, &mut stand_in) {
                    Masked::Keep => Some(value.to_vec()),
                    Masked::Null => None,
                    Masked::Value => Some(stand_in),
                }
            })
            .collect();
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        encode::data_row(&mut out, &values).map_err(|_| Misfit)?;
        rest = behind;
    }
    Ok(out)
}

/// The data of CopyData frames, put together.
///
/// # Errors
/// A frame that is none.
pub fn copy_data(run: &[u8]) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::new();
    let mut rest = run;
    while !rest.is_empty() {
        let length = rest.get(1..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Misfit)?;
        let (frame, behind) =
            rest.split_at_checked(u32::from_be_bytes(*length) as usize + 1).ok_or(Misfit)?;
        out.extend_from_slice(CopyData::parse(frame).map_err(|_| Misfit)?.data());
        rest = behind;
    }
    Ok(out)
}
