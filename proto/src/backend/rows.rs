//! Hops over runs of rows. Owns the two fast paths of a relay that has nothing to say about the single row:
//! [`skip_rows`] looks at headers only, [`check_rows`] also walks every DataRow to its end. Both have a naive twin in
//! the tests, built from [`Header::peek`](super::Header) and [`Message::parse`](super::Message).

use super::DataRow;
use crate::{BackendTag, Limits, Malformed, header};

/// A run of whole, consecutive frames of one type, DataRow or CopyData, at the start of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many whole frames.
    pub frames: usize,
    /// How many bytes they have together; the next frame, whole or not, begins there.
    pub bytes: usize,
}

/// How many whole DataRow frames, or CopyData frames, stand at the start of `buf`. The run has one type: that of its
/// first frame. It ends before a frame of another type, an incomplete one, or one whose length is not legal, which
/// [`Header::peek`](super::Header) then names.
///
/// The content of rows is *not* read.
#[inline]
pub fn skip_rows(buf: &[u8], limits: &Limits) -> Rows {
    match run_of(buf) {
        Some(tag) => hop(buf, tag, limits, |_| Ok(())).0,
        None => Rows::default(),
    }
}

/// As [`skip_rows`], and every DataRow is walked: its columns must fill it exactly, and their number must be
/// `columns` where that is known from a RowDescription.
///
/// # Errors
/// The first malformed row, with the run of sound rows before it.
#[inline]
pub fn check_rows(buf: &[u8], limits: &Limits, columns: Option<u16>) -> (Rows, Result<(), Malformed>) {
    match run_of(buf) {
        Some(BackendTag::DataRow) => hop(buf, BackendTag::DataRow, limits, |frame| {
            let row = DataRow::parse(frame)?;
            row.expect_columns(columns)
        }),
        Some(tag) => hop(buf, tag, limits, |_| Ok(())),
        None => (Rows::default(), Ok(())),
    }
}

fn run_of(buf: &[u8]) -> Option<BackendTag> {
    match buf.first() {
        Some(b'D') => Some(BackendTag::DataRow),
        Some(b'd') => Some(BackendTag::CopyData),
        Some(_) | None => None,
    }
}

#[inline]
fn hop<'b>(
    buf: &'b [u8],
    tag: BackendTag,
    limits: &Limits,
    mut check: impl FnMut(&'b [u8]) -> Result<(), Malformed>,
) -> (Rows, Result<(), Malformed>) {
    let (byte, limit) = (tag.byte(), limits.backend(tag));
    let (mut rest, mut frames) = (buf, 0);
    let mut outcome = Ok(());
    while let Some(size) = header::size_of(rest, byte, limit) {
        let Some((frame, behind)) = rest.split_at_checked(size) else { break };
        if let Err(malformed) = check(frame) {
            outcome = Err(malformed);
            break;
        }
        (rest, frames) = (behind, frames + 1);
    }
    (Rows { frames, bytes: buf.len() - rest.len() }, outcome)
}

#[cfg(test)]
mod tests {
    use super::super::{Header, Message};
    use super::*;
    use crate::{Reason, encode};

    /// The same answer, from the general readers.
    fn naive(buf: &[u8], limits: &Limits) -> Rows {
        let mut rows = Rows::default();
        let mut first = None;
        while let Ok(Some(header)) = Header::peek(&buf[rows.bytes..], limits) {
            let fits = matches!(header.tag, BackendTag::DataRow | BackendTag::CopyData)
                && *first.get_or_insert(header.tag) == header.tag
                && rows.bytes + header.len <= buf.len();
            if !fits {
                break;
            }
            rows = Rows { frames: rows.frames + 1, bytes: rows.bytes + header.len };
        }
        rows
    }

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        encode::data_row(&mut out, &[Some(b"1"), None]).unwrap();
        encode::data_row(&mut out, &[None, Some(b"two")]).unwrap();
        encode::data_row(&mut out, &[Some(b""), Some(b"3")]).unwrap();
        encode::command_complete(&mut out, "SELECT 3").unwrap();
        out
    }

    #[test]
    fn a_run_ends_before_another_type() {
        let stream = stream();
        let rows = skip_rows(&stream, &Limits::default());
        assert_eq!(rows.frames, 3);
        assert_eq!(Message::parse(&stream[rows.bytes..]).unwrap().tag(), BackendTag::CommandComplete);
        assert_eq!(check_rows(&stream, &Limits::default(), Some(2)), (rows, Ok(())));
        assert_eq!(skip_rows(&stream[rows.bytes..], &Limits::default()), Rows::default());
    }

    #[test]
    fn a_run_has_one_type() {
        let mut out = Vec::new();
        encode::copy_data(&mut out, b"1\n").unwrap();
        encode::copy_data(&mut out, b"2\n").unwrap();
        let bytes = out.len();
        encode::data_row(&mut out, &[]).unwrap();
        assert_eq!(skip_rows(&out, &Limits::default()), Rows { frames: 2, bytes });
        assert_eq!(check_rows(&out, &Limits::default(), Some(9)), (Rows { frames: 2, bytes }, Ok(())));
    }

    #[test]
    fn a_long_run_is_one_hop() {
        let mut out = Vec::new();
        for number in 0..1_000 {
            encode::data_row(&mut out, &[Some(number.to_string().as_bytes()), None]).unwrap();
        }
        let rows = Rows { frames: 1_000, bytes: out.len() };
        assert_eq!((skip_rows(&out, &Limits::default()), naive(&out, &Limits::default())), (rows, rows));
        assert_eq!(check_rows(&out, &Limits::default(), Some(2)), (rows, Ok(())));
    }

    #[test]
    fn every_cut_agrees_with_the_naive_twin() {
        let (stream, limits) = (stream(), Limits::default());
        for cut in 0..=stream.len() {
            assert_eq!(skip_rows(&stream[..cut], &limits), naive(&stream[..cut], &limits), "cut at {cut}");
        }
    }

    #[test]
    fn illegal_lengths_end_the_run_and_are_left_for_the_header() {
        let sound = stream();
        for length in [0_u32, 3, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff] {
            let mut out = sound[..skip_rows(&sound, &Limits::default()).bytes].to_vec();
            let bytes = out.len();
            out.push(b'D');
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&[0; 64]);
            assert_eq!(skip_rows(&out, &Limits::default()), Rows { frames: 3, bytes });
            assert!(Header::peek(&out[bytes..], &Limits::default()).is_err());
        }
        for (row_bytes_max, frames) in [(10, 0), (11, 1), (12, 1), (13, 3)] {
            let limits = Limits { row_bytes_max, ..Limits::default() };
            assert_eq!(skip_rows(&sound, &limits), naive(&sound, &limits));
            assert_eq!(skip_rows(&sound, &limits).frames, frames, "at most {row_bytes_max} bytes a row");
        }
    }

    #[test]
    fn check_rows_names_the_first_bad_row() {
        let mut out = stream();
        let first = Header::peek(&out, &Limits::default()).unwrap().unwrap().len;
        out[first + 6] = 3;
        let (rows, outcome) = check_rows(&out, &Limits::default(), None);
        assert_eq!(rows, Rows { frames: 1, bytes: first });
        assert_eq!(
            outcome.unwrap_err().what,
            Reason::CountBeyondFrame { field: "columns", count: 3, left: 11 }
        );
        let (rows, outcome) = check_rows(&stream(), &Limits::default(), Some(1));
        assert_eq!(rows.frames, 0);
        assert_eq!(outcome.unwrap_err().what, Reason::ColumnCount { found: 2, described: 1 });
    }
}
