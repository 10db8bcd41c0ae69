//! What the naive twin takes values apart into.
//!
//! Owns: the parts of JSON, arrays, records and ranges, each read on its own and copied. May not: know detectors. Never fails: what
//! cannot be read is none of them.

/// What stands between the double quotes that open at the front, and its closing quote, where there is one.
fn quoted(value: &[u8]) -> (Vec<u8>, Option<u8>) {
    let mut inside = Vec::new();
    let mut bytes = value.iter().skip(1).copied();
    while let Some(byte) = bytes.next() {
        if byte == b'"' {
            return (inside, Some(b'"'));
        }
        inside.push(byte);
        if byte == b'\\' {
            inside.extend(bytes.next());
        }
    }
    (inside, None)
}

/// The parts of an array's text: whether one was quoted, what it holds, and its closing quote. A mark is a part of its own.
pub(super) fn array_parts(value: &[u8]) -> Vec<(bool, Vec<u8>, Option<u8>)> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.first() {
        let bytes = if *first == b'"' {
            let (inside, close) = quoted(rest);
            let bytes = 1 + inside.len() + usize::from(close.is_some());
            parts.push((true, inside, close));
            bytes
        } else if b"{},".contains(first) {
            parts.push((false, vec![*first], None));
            1
        } else {
            let end = rest.iter().position(|byte| b"{},\"".contains(byte)).unwrap_or(rest.len());
            // What begins so is no array's, however far it goes.
            parts.push((false, rest.get(..end).unwrap_or_default().to_vec(), None));
            end
        };
        rest = rest.get(bytes..).unwrap_or_default();
    }
    parts
}

pub(super) enum Kind {
    Text,
    Number,
    Mark,
    Foreign,
}

/// The parts of a JSON text; nothing behind what is foreign to it.
pub(super) fn json_parts(value: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.first() {
        let bytes = match first {
            b'"' => {
                let (inside, close) = quoted(rest);
                let bytes = 1 + inside.len() + usize::from(close.is_some());
                parts.push((Kind::Mark, vec![b'"']));
                parts.push((Kind::Text, inside));
                parts.push((Kind::Mark, close.into_iter().collect()));
                bytes
            }
            b'-' | b'0'..=b'9' => {
                let end =
                    rest.iter().position(|byte| !b"0123456789+-.eE".contains(byte)).unwrap_or(rest.len());
                parts.push((Kind::Number, rest.get(..end).unwrap_or_default().to_vec()));
                end
            }
            byte if b" \t\n\r{}[],:trufalsen".contains(byte) => {
                parts.push((Kind::Mark, vec![*byte]));
                1
            }
            _ => {
                parts.push((Kind::Foreign, Vec::new()));
                return parts;
            }
        };
        rest = rest.get(bytes..).unwrap_or_default();
    }
    parts
}

/// `bytea` as text, decoded.
pub(super) fn bytea(value: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if let Some(digits) = value.strip_prefix(b"\\x") {
        let pairs =
            digits.chunks_exact(2).map(|pair| Some(digit(pair.first()?)? * 16 + digit(pair.get(1)?)?));
        return pairs.flatten().collect();
    }
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let octal = value.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (byte, value.get(at + 1), octal) {
            (b'\\', _, Some(decoded)) => {
                out.push(decoded);
                at += 4;
            }
            (b'\\', Some(b'\\'), None) => {
                out.push(b'\\');
                at += 2;
            }
            (byte, _, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Bytes that are taken off the front, word by word.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn word(&mut self) -> Option<i32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*word))
    }

    fn sized(&mut self) -> Option<Option<&'b [u8]>> {
        match self.word()? {
            -1 => Some(None),
            length => {
                let (value, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
                self.0 = rest;
                Some(Some(value))
            }
        }
    }
}

pub(super) struct Array<'b> {
    pub(super) head: &'b [u8],
    pub(super) oid: u32,
    pub(super) elements: Vec<Option<&'b [u8]>>,
}

impl<'b> Array<'b> {
    pub(super) fn read(value: &'b [u8]) -> Option<Array<'b>> {
        let mut cursor = Cursor(value);
        let (dimensions, flag, oid) = (cursor.word()?, cursor.word()?, cursor.word()?.cast_unsigned());
        if !(0..=6).contains(&dimensions) || !(0..=1).contains(&flag) {
            return None;
        }
        let mut count = i64::from(dimensions > 0);
        for _ in 0..dimensions {
            let size = i64::from(cursor.word()?);
            cursor.word()?;
            count = count.checked_mul(size).filter(|_| size >= 0)?;
        }
        let head = value.get(..value.len() - cursor.0.len())?;
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(cursor.sized()?);
        }
        cursor.0.is_empty().then_some(Array { head, oid, elements })
    }
}

pub(super) fn record(value: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut cursor = Cursor(value);
    let mut fields = Vec::new();
    for _ in 0..u32::try_from(cursor.word()?).ok()? {
        let oid = cursor.word()?.cast_unsigned();
        fields.extend(cursor.sized()?.map(|field| (oid, field)));
    }
    cursor.0.is_empty().then_some(fields)
}

pub(super) fn range(value: &[u8]) -> Option<Vec<&[u8]>> {
    let (flags, rest) = value.split_first()?;
    if *flags >= 32 {
        return None;
    }
    let mut cursor = Cursor(rest);
    let mut bounds = Vec::new();
    for infinite in [8, 16] {
        if flags & 1 == 0 && flags & infinite == 0 {
            bounds.push(cursor.sized()??);
        }
    }
    cursor.0.is_empty().then_some(bounds)
}

pub(super) fn multirange(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut cursor = Cursor(value);
    let mut bounds = Vec::new();
    for _ in 0..u32::try_from(cursor.word()?).ok()? {
        bounds.extend(range(cursor.sized()??)?);
    }
    cursor.0.is_empty().then_some(bounds)
}
