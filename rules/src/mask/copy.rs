//! CopyData of a COPY to the client: text, CSV and binary.
//!
//! Owns: where a row and its fields end, in whatever pieces they come, and how a field is spelled. May not: take a CopyData
//! frame that was not checked to be whole. Fails closed: a row with another number of fields than CopyOutResponse told, or
//! one that never ends, is an error, and nothing of it is released. Source: `CopyToTextOneRow`, `CopyAttributeOutText`,
//! `CopyAttributeOutCSV`, `CopyOneRowTo` (src/backend/commands/copyto.c).
//!
//! ```text
//!  pieces ─► carry (a row that is not whole yet) ─► whole rows ─► fields ─► masked ─► pieces, one for each that came
//! ```

use std::borrow::Cow;

use super::binary::word;
use super::plan::Plan;
use super::row::{Masker, Misfit, Positions};
use super::style::Masked;
use super::tally::Tally;
use super::value::Look;
use crate::statement::facts::CopySpelling;

/// Bytes of a row that may wait for its end.
pub const CARRY_BYTES_MAX: usize = 67_108_864;

/// Signature of the binary format, and the words behind it.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const BINARY_HEAD_BYTES: usize = 19;

/// The masking of one COPY; see the module.
#[derive(Debug)]
pub struct CopyMasker {
    plan: Plan,
    spelling: CopySpelling,
    carry: Vec<u8>,
    /// How far `carry` was looked through for its end.
    scan: Scan,
    /// A header (binary), or a line of names, has not come yet.
    head: bool,
    /// The binary trailer came: nothing may follow.
    ended: bool,
    /// Rows that were looked at.
    rows: u64,
}

/// Bytes of a CopyData frame before its data.
const FRAME_HEAD_BYTES: usize = 5;

/// How far a row was looked through: in however many pieces it comes, no byte is looked at again.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// From here on nothing was looked at; of the binary format the next length word stands here, perhaps behind the bytes
    /// that are here.
    at: usize,
    /// Of CSV: `at` stands inside quotes.
    open: bool,
    /// Of the binary format: fields whose lengths were read.
    fields: usize,
}

impl CopyMasker {
    /// For columns under `plan`, spelled as the statement said.
    pub fn new(plan: Plan, spelling: CopySpelling) -> Self {
        let head = match &spelling {
            CopySpelling::Text { header, .. } | CopySpelling::Csv { header, .. } => *header,
            CopySpelling::Binary => true,
        };
        Self { plan, spelling, carry: Vec::new(), scan: Scan::default(), head, ended: false, rows: 0 }
    }

    /// Bytes of a row that wait for its end.
    pub fn waiting_bytes(&self) -> usize {
        self.carry.len()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What leaves in the stead of a run of whole CopyData frames; `None` when it may leave as it is.
    ///
    /// # Errors
    /// [`Misfit`]: nothing of the run may be released.
    pub fn run(
        &mut self,
        masker: &mut Masker,
        run: &[u8],
        tally: &mut Tally,
    ) -> Result<Option<Vec<u8>>, Misfit> {
        // Where originals are kept, their rows are counted.
        if self.plan.is_clear() || !masker.keeps_originals() && self.is_clean(run)? {
            return Ok(None);
        }
        let mut out: Option<Vec<u8>> = None;
        let mut at = 0;
        while at < run.len() {
            let (data, next) = frame(run, at)?;
            let masked = self.data(masker, data, tally)?;
            if masked.is_some() && out.is_none() {
                out = Some(run.get(..at).unwrap_or_default().to_vec());
            }
            match (&mut out, masked) {
                (Some(out), Some(masked)) => write_frame(&masked, out)?,
                (Some(out), None) => out.extend_from_slice(run.get(at..next).unwrap_or_default()),
                (None, _) => {}
            }
            at = next;
        }
        Ok(out)
    }

    /// What is left at CopyDone: a last row without its end. `None` when there is none.
    ///
    /// # Errors
    /// [`Misfit`]: the binary format ended inside a row.
    pub fn end(&mut self, masker: &mut Masker, tally: &mut Tally) -> Result<Option<Vec<u8>>, Misfit> {
        if self.carry.is_empty() {
            return Ok(None);
        }
        if self.spelling == CopySpelling::Binary {
            return Err(Misfit);
        }
        let row = std::mem::take(&mut self.carry);
        let mut content = Vec::new();
        masker.at_row(self.rows);
        if !self.row(masker, &row, tally, &mut content)? {
            content = row;
        }
        let mut out = Vec::new();
        write_frame(&content, &mut out)?;
        Ok(Some(out))
    }

    /// Whether the run can be told at a glance to hold nothing: every frame ends with a row, no candidate is in it, and no
    /// escape can stand inside one.
    fn is_clean(&self, run: &[u8]) -> Result<bool, Misfit> {
        if self.plan.walks() || self.head || !self.carry.is_empty() {
            return Ok(false);
        }
        // What no match holds: an escape before it, or its doubling, breaks none up.
        let apart = |byte: u8| matches!(byte, b'"' | b'\\');
        let (quote, unbroken) = match &self.spelling {
            CopySpelling::Binary => return Ok(false),
            CopySpelling::Text { delimiter, .. } => {
                (None, *delimiter == b'\t' || memchr::memchr(b'\\', run).is_none())
            }
            CopySpelling::Csv { quote, escape, .. } => (
                Some(*quote),
                apart(*quote) && apart(*escape) || memchr::memchr2(*quote, *escape, run).is_none(),
            ),
        };
        if !unbroken {
            return Ok(false);
        }
        let mut at = 0;
        while at < run.len() {
            let (data, next) = frame(run, at)?;
            let even = quote.is_none_or(|quote| memchr::memchr_iter(quote, data).count().is_multiple_of(2));
            if data.last() != Some(&b'\n') || !even {
                return Ok(false);
            }
            at = next;
        }
        Ok(Positions::new(run).next().is_none() && !Look::is_spelled_aside(run))
    }

    /// One piece: what leaves in its stead, without a frame; `None` when it may leave as it is.
    fn data(
        &mut self,
        masker: &mut Masker,
        data: &[u8],
        tally: &mut Tally,
    ) -> Result<Option<Vec<u8>>, Misfit> {
        let carried = !self.carry.is_empty();
        let mut own = std::mem::take(&mut self.carry);
        let bytes = if carried {
            own.extend_from_slice(data);
            own.as_slice()
        } else {
            data
        };
        let mut out = Vec::new();
        let (mut at, mut changed) = (0, carried);
        while let Some(length) = self.row_bytes(bytes.get(at..).unwrap_or_default())? {
            self.scan = Scan::default();
            let row = bytes.get(at..at + length).unwrap_or_default();
            let begin = out.len();
            let masked = if std::mem::take(&mut self.head) {
                false
            } else {
                masker.at_row(self.rows);
                self.rows += 1;
                self.row(masker, row, tally, &mut out)?
            };
            if masked {
                changed = true;
            } else {
                out.truncate(begin);
                out.extend_from_slice(row);
            }
            at += length;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.len() > CARRY_BYTES_MAX {
            return Err(Misfit);
        }
        changed |= !rest.is_empty();
        self.carry = if carried && at == 0 { own } else { rest.to_vec() };
        Ok(changed.then_some(out))
    }

    /// Bytes of the row at the front, with its end; `None` where it is not whole, or there is none.
    fn row_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, Misfit> {
        match self.spelling {
            // A line end inside a value is spelled `\n`; a bare one always ends the row.
            CopySpelling::Text { .. } => {
                let end = memchr::memchr(b'\n', bytes.get(self.scan.at..).unwrap_or_default());
                let from = std::mem::replace(&mut self.scan.at, bytes.len());
                Ok(end.map(|end| from + end + 1))
            }
            CopySpelling::Csv { quote, escape, .. } => {
                Ok(csv_row_bytes(bytes, quote, escape, &mut self.scan))
            }
            CopySpelling::Binary => self.binary_row_bytes(bytes),
        }
    }

    fn binary_row_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, Misfit> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.ended {
            return Err(Misfit);
        }
        if self.head {
            return binary_head_bytes(bytes);
        }
        let Some(count) = bytes.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes)) else {
            return Ok(None);
        };
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        let count = usize::try_from(count).map_err(|_| Misfit)?;
        if count != self.plan.columns().len() {
            return Err(Misfit);
        }
        let scan = &mut self.scan;
        scan.at = scan.at.max(2);
        while scan.fields < count {
            let Some(length) = word(bytes, scan.at) else { return Ok(None) };
            scan.at += 4;
            scan.fields += 1;
            match usize::try_from(length) {
                Ok(length) => scan.at = scan.at.checked_add(length).ok_or(Misfit)?,
                Err(_) if length == -1 => {}
                Err(_) => return Err(Misfit),
            }
        }
        Ok((scan.at <= bytes.len()).then_some(scan.at))
    }

    /// Masks a whole row into `out`; false, with anything in `out`, where nothing was masked.
    fn row(
        &self,
        masker: &mut Masker,
        row: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<bool, Misfit> {
        match &self.spelling {
            CopySpelling::Text { delimiter, null, .. } => {
                let form = Text { delimiter: *delimiter, null };
                self.spelled_row(masker, row, &form, tally, out)
            }
            CopySpelling::Csv { delimiter, quote, escape, null, .. } => {
                let form = Csv { delimiter: *delimiter, quote: *quote, escape: *escape, null };
                self.spelled_row(masker, row, &form, tally, out)
            }
            CopySpelling::Binary if self.ended => Ok(false),
            CopySpelling::Binary => self.binary_row(masker, row, tally, out),
        }
    }

    fn spelled_row(
        &self,
        masker: &mut Masker,
        row: &[u8],
        form: &impl Form,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<bool, Misfit> {
        let content = row.strip_suffix(b"\n").unwrap_or(row);
        let (mut changed, mut index, mut at) = (false, 0, 0);
        let mut scratch = Vec::new();
        loop {
            let rest = content.get(at..).unwrap_or_default();
            let Field { bytes, value, null } = form.field(rest);
            let field = rest.get(..bytes).unwrap_or_default();
            if index >= self.plan.columns().len() {
                return Err(Misfit);
            }
            scratch.clear();
            let masked = if null {
                Masked::Keep
            } else {
                masker.column(&self.plan, index, &value, tally, &mut scratch)?
            };
            match masked {
                Masked::Keep => out.extend_from_slice(field),
                Masked::Null => out.extend_from_slice(form.null()),
                Masked::Value => form.encode(&scratch, out),
            }
            changed |= masked != Masked::Keep;
            index += 1;
            at += bytes;
            if at >= content.len() {
                break;
            }
            out.push(form.delimiter());
            at += 1;
        }
        if index != self.plan.columns().len() {
            return Err(Misfit);
        }
        out.extend_from_slice(row.get(content.len()..).unwrap_or_default());
        Ok(changed)
    }

    fn binary_row(
        &self,
        masker: &mut Masker,
        row: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<bool, Misfit> {
        out.extend_from_slice(row.get(..2).ok_or(Misfit)?);
        let (mut changed, mut at) = (false, 2);
        let mut scratch = Vec::new();
        for index in 0..self.plan.columns().len() {
            let length = word(row, at).ok_or(Misfit)?;
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            };
            let value = row.get(at..at + length).ok_or(Misfit)?;
            at += length;
            scratch.clear();
            let masked = masker.column(&self.plan, index, value, tally, &mut scratch)?;
            let stand_in = match masked {
                Masked::Keep => Some(value),
                Masked::Null => None,
                Masked::Value => Some(scratch.as_slice()),
            };
            let bytes = stand_in.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(-1));
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(stand_in.unwrap_or_default());
            changed |= masked != Masked::Keep;
        }
        Ok(changed)
    }
}

/// Bytes of the header of the binary format.
fn binary_head_bytes(bytes: &[u8]) -> Result<Option<usize>, Misfit> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Err(Misfit);
    }
    let (Some(flags), Some(extension)) = (word(bytes, 11), word(bytes, 15)) else { return Ok(None) };
    // Flags in the upper half change how the rest is read; none is defined any more.
    let extension = usize::try_from(extension).map_err(|_| Misfit)?;
    if flags.cast_unsigned() >> 16 != 0 || extension > CARRY_BYTES_MAX {
        return Err(Misfit);
    }
    let length = BINARY_HEAD_BYTES + extension;
    Ok((length <= bytes.len()).then_some(length))
}

/// The data of the frame at `at`, and where the next one begins.
fn frame(run: &[u8], at: usize) -> Result<(&[u8], usize), Misfit> {
    let length = word(run, at + 1).and_then(|length| usize::try_from(length).ok()).ok_or(Misfit)?;
    let next = at + 1 + length;
    Ok((run.get(at + FRAME_HEAD_BYTES..next).ok_or(Misfit)?, next))
}

fn write_frame(data: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    if data.is_empty() {
        return Ok(());
    }
    let length = u32::try_from(data.len() + 4).map_err(|_| Misfit)?;
    out.push(b'd');
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    Ok(())
}

/// A field as it stands in a row.
struct Field<'f> {
    /// How many bytes of the row it is.
    bytes: usize,
    /// What it spells.
    value: Cow<'f, [u8]>,
    /// It is NULL.
    null: bool,
}

/// How fields are spelled in rows that end with a line.
trait Form {
    fn delimiter(&self) -> u8;
    /// How NULL is written.
    fn null(&self) -> &[u8];
    /// The field at the front.
    fn field<'f>(&self, content: &'f [u8]) -> Field<'f>;
    /// Spells a value.
    fn encode(&self, value: &[u8], out: &mut Vec<u8>);
}

#[derive(Clone, Copy)]
struct Text<'t> {
    delimiter: u8,
    null: &'t [u8],
}

impl Form for Text<'_> {
    fn delimiter(&self) -> u8 {
        self.delimiter
    }

    fn null(&self) -> &[u8] {
        self.null
    }

    /// Up to the next delimiter that no backslash stands before.
    fn field<'f>(&self, content: &'f [u8]) -> Field<'f> {
        let mut bytes = 0;
        while let Some(byte) =
            content.get(bytes).filter(|byte| **byte != self.delimiter || self.delimiter == b'\\')
        {
            bytes += 1 + usize::from(*byte == b'\\');
        }
        let bytes = bytes.min(content.len());
        let field = content.get(..bytes).unwrap_or_default();
        Field { bytes, value: text_decode(field), null: field == self.null }
    }

    fn encode(&self, value: &[u8], out: &mut Vec<u8>) {
        text_encode(value, self.delimiter, out);
    }
}

fn text_decode(field: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', field).is_none() {
        return Cow::Borrowed(field);
    }
    let mut value = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            value.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'b') => value.push(8),
            Some(b'f') => value.push(12),
            Some(b'n') => value.push(b'\n'),
            Some(b'r') => value.push(b'\r'),
            Some(b't') => value.push(b'\t'),
            Some(b'v') => value.push(11),
            Some(other) => value.push(*other),
            None => value.push(b'\\'),
        }
    }
    Cow::Owned(value)
}

fn text_encode(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in value {
        let escape = match byte {
            8 => Some(b'b'),
            12 => Some(b'f'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            11 => Some(b'v'),
            b'\\' => Some(b'\\'),
            byte if *byte == delimiter => Some(*byte),
            _ => None,
        };
        match escape {
            Some(escape) => out.extend_from_slice(&[b'\\', escape]),
            None => out.push(*byte),
        }
    }
}

#[derive(Clone, Copy)]
struct Csv<'c> {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: &'c [u8],
}

impl Form for Csv<'_> {
    fn delimiter(&self) -> u8 {
        self.delimiter
    }

    fn null(&self) -> &[u8] {
        self.null
    }

    fn field<'f>(&self, content: &'f [u8]) -> Field<'f> {
        let (mut value, mut open, mut quoted, mut at) = (Vec::new(), false, false, 0);
        while let Some(byte) = content.get(at).copied() {
            let next = content.get(at + 1).copied();
            if open && byte == self.escape && (next == Some(self.quote) || next == Some(self.escape)) {
                value.extend(next);
                at += 2;
                continue;
            }
            if byte == self.quote {
                open = !open;
                quoted = true;
            } else if byte == self.delimiter && !open {
                break;
            } else {
                value.push(byte);
            }
            at += 1;
        }
        let null = !quoted && content.get(..at) == Some(self.null);
        Field { bytes: at, value: Cow::Owned(value), null }
    }

    fn encode(&self, value: &[u8], out: &mut Vec<u8>) {
        out.push(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                out.push(self.escape);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }
}

/// Bytes of the row at the front, with its line end, which stands outside quotes.
fn csv_row_bytes(bytes: &[u8], quote: u8, escape: u8, scan: &mut Scan) -> Option<usize> {
    while let Some(byte) = bytes.get(scan.at).copied() {
        if scan.open && byte == escape {
            match bytes.get(scan.at + 1) {
                // What stands behind it says what it is.
                None => return None,
                Some(next) if *next == quote || *next == escape => {
                    scan.at += 2;
                    continue;
                }
                Some(_) => {}
            }
        }
        if byte == quote {
            scan.open = !scan.open;
        } else if byte == b'\n' && !scan.open {
            return Some(scan.at + 1);
        }
        scan.at += 1;
    }
    None
}
