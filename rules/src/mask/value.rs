//! One value through the detectors: found, and replaced so that it stays valid where it stands.
//!
//! Owns: what a match means in each shape. May not: know rows, frames or labels. Fails closed: what cannot be replaced inside
//! its container makes the whole value NULL.

use super::detect::{self, Detector, Detectors, Match};
use super::number;
use super::plan::Style;
use super::shape::Shape;
use super::style::{Masked, TokenKey, render_match};

/// How deep records and arrays in binary are followed.
const DEPTH_MAX: u8 = 8;

/// What the detectors need to mask values: which, the key, and room that is used again.
#[derive(Debug)]
pub struct Look<'l> {
    /// Which are on.
    pub detectors: &'l Detectors,
    /// Key of tokens.
    pub key: &'l TokenKey,
    /// The detectors that found something, one entry a match; the caller drains it.
    pub hits: &'l mut Vec<Detector>,
}

impl Look<'_> {
    fn style(&self, detector: Detector) -> Style {
        self.detectors.style(detector).unwrap_or(Style::Fixed)
    }

    fn find(&self, value: &[u8]) -> Vec<Match> {
        let mut found = Vec::new();
        detect::find(self.detectors, value, &mut found);
        found
    }

    fn hit(&mut self, detector: Option<Detector>) -> Masked {
        match detector {
            Some(detector) => {
                self.hits.push(detector);
                Masked::Null
            }
            None => Masked::Keep,
        }
    }

    fn number(&self, decimal: Option<String>) -> Option<Detector> {
        let decimal = decimal?;
        detect::number(self.detectors, decimal.trim_start_matches(['-', '+']).as_bytes())
    }

    /// Masks a value, appending what stands in for it to `out`.
    pub fn value(&mut self, shape: Shape, value: &[u8], out: &mut Vec<u8>) -> Masked {
        match shape {
            Shape::Never | Shape::UuidText | Shape::UuidBinary => Masked::Keep,
            Shape::Text | Shape::TextArray => self.text(value, out),
            Shape::Json => self.json(value, out),
            Shape::JsonbBinary => self.jsonb(value, out),
            Shape::NumberText | Shape::FloatText => {
                let detector = self.number(number::text(value));
                self.hit(detector)
            }
            Shape::NumberArray => self.number_array(value, out),
            Shape::Int8Binary => {
                let detector = self.number(number::int8(value));
                self.hit(detector)
            }
            Shape::NumericBinary => {
                let detector = self.number(number::numeric(value));
                self.hit(detector)
            }
            Shape::Float8Binary => {
                let detector = self.number(number::float8(value));
                self.hit(detector)
            }
            Shape::ByteaText => self.bytea(value),
            Shape::Opaque => {
                let detector = self.find(value).first().map(|found| found.detector);
                self.hit(detector)
            }
            Shape::ArrayBinary => self.array(value, out),
            Shape::OpaqueBinary => {
                let detector = self.inside(value, 0);
                self.hit(detector)
            }
            Shape::UnknownBinary => {
                let detector = self.inside(value, 0).or_else(|| self.as_number(value));
                self.hit(detector)
            }
            Shape::Unknown => self.unknown(value, out),
        }
    }

    fn text(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let found = self.find(value);
        if found.is_empty() {
            return Masked::Keep;
        }
        let mut from = 0;
        for Match { start, end, detector } in found {
            out.extend_from_slice(value.get(from..start).unwrap_or_default());
            let matched = value.get(start..end).unwrap_or_default();
            render_match(self.style(detector), detector, matched, self.key, out);
            self.hits.push(detector);
            from = end;
        }
        out.extend_from_slice(value.get(from..).unwrap_or_default());
        Masked::Value
    }

    /// Matches inside strings are replaced; a number that is one becomes `null`.
    fn json(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let found = self.find(value);
        if found.is_empty() {
            return Masked::Keep;
        }
        let mut quotes = Quotes::default();
        let mut from = 0;
        for Match { start, end, detector } in found {
            self.hits.push(detector);
            if start < from {
                // It stands in a number that is `null` already.
                continue;
            }
            if quotes.inside(value, start) {
                out.extend_from_slice(value.get(from..start).unwrap_or_default());
                let matched = value.get(start..end).unwrap_or_default();
                render_match(self.style(detector), detector, matched, self.key, out);
                from = end;
            } else {
                let number =
                    |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
                let before = value.get(from..start).unwrap_or_default();
                let lead = before.iter().rev().take_while(|byte| number(byte)).count();
                let tail =
                    value.get(end..).unwrap_or_default().iter().take_while(|byte| number(byte)).count();
                out.extend_from_slice(before.get(..before.len() - lead).unwrap_or_default());
                out.extend_from_slice(b"null");
                from = end + tail;
            }
        }
        out.extend_from_slice(value.get(from..).unwrap_or_default());
        Masked::Value
    }

    fn jsonb(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let Some((version, text)) = value.split_first() else { return Masked::Keep };
        let begin = out.len();
        out.push(*version);
        let masked = self.json(text, out);
        if masked != Masked::Value {
            out.truncate(begin);
        }
        masked
    }

    /// Elements that are one become NULL.
    fn number_array(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let before = self.hits.len();
        let begin = out.len();
        for part in value.split_inclusive(|byte| matches!(byte, b'{' | b'}' | b',')) {
            let (element, mark) = match part.split_last() {
                Some((mark, element)) if matches!(mark, b'{' | b'}' | b',') => (element, Some(*mark)),
                Some(_) | None => (part, None),
            };
            match self.number(number::text(element)) {
                Some(detector) => {
                    self.hits.push(detector);
                    out.extend_from_slice(b"NULL");
                }
                None => out.extend_from_slice(element),
            }
            out.extend(mark);
        }
        if self.hits.len() > before {
            return Masked::Value;
        }
        out.truncate(begin);
        Masked::Keep
    }

    fn bytea(&mut self, value: &[u8]) -> Masked {
        let decoded = value.strip_prefix(b"\\x").and_then(unhex);
        let detector = self.find(decoded.as_deref().unwrap_or(value)).first().map(|found| found.detector);
        self.hit(detector)
    }

    /// An array in binary (`array_send`, src/backend/utils/adt/arrayfuncs.c): dimensions, flag, element type, bounds, then
    /// the elements with their lengths. An element that cannot be read makes the whole NULL.
    fn array(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let word = |at: usize| value.get(at..)?.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
        let header =
            (|| Some((usize::try_from(word(0)?).ok().filter(|d| *d <= 6)?, word(8)?.cast_unsigned())))();
        let Some((dimensions, element_oid)) = header else { return self.broken() };
        let shape = Shape::of(element_oid, true);
        let begin = out.len();
        let Some(head) = value.get(..12 + 8 * dimensions) else { return self.broken() };
        out.extend_from_slice(head);
        let hits = self.hits.len();
        let mut nulls = false;
        let mut at = head.len();
        while at < value.len() {
            let Some(length) = word(at) else { return self.broken_at(begin, out) };
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            };
            let Some(element) = value.get(at..at + length) else { return self.broken_at(begin, out) };
            at += length;
            let place = out.len();
            out.extend_from_slice(&[0; 4]);
            let length = match self.value(shape, element, out) {
                Masked::Keep => {
                    out.extend_from_slice(element);
                    i32::try_from(element.len()).unwrap_or(-1)
                }
                Masked::Value => i32::try_from(out.len() - place - 4).unwrap_or(-1),
                Masked::Null => {
                    nulls = true;
                    -1
                }
            };
            if let Some(word) = out.get_mut(place..place + 4) {
                word.copy_from_slice(&length.to_be_bytes());
            }
        }
        if self.hits.len() == hits {
            out.truncate(begin);
            return Masked::Keep;
        }
        if nulls && let Some(flag) = out.get_mut(begin + 4..begin + 8) {
            flag.copy_from_slice(&1_i32.to_be_bytes());
        }
        Masked::Value
    }

    /// An array that is none: nothing is known of what it holds.
    fn broken(&mut self) -> Masked {
        Masked::Null
    }

    fn broken_at(&mut self, begin: usize, out: &mut Vec<u8>) -> Masked {
        out.truncate(begin);
        self.broken()
    }

    /// Bytes of a type that is not known: searched as they are, and by every structure that they fit.
    fn inside(&self, value: &[u8], depth: u8) -> Option<Detector> {
        if let Some(found) = self.find(value).first() {
            return Some(found.detector);
        }
        if depth == DEPTH_MAX {
            return None;
        }
        self.in_record(value, depth).or_else(|| self.in_array(value, depth)).or_else(|| self.in_range(value))
    }

    /// `record_send` (src/backend/utils/adt/rowtypes.c): a count, then type, length and bytes of each field.
    fn in_record(&self, value: &[u8], depth: u8) -> Option<Detector> {
        let count = word(value, 0)?;
        let mut at = 4;
        for _ in 0..count {
            let length = word(value, at + 4)?;
            at += 8;
            let Ok(length) = usize::try_from(length) else { continue };
            let field = value.get(at..at.checked_add(length)?)?;
            at += length;
            if let Some(detector) = self.as_number(field).or_else(|| self.inside(field, depth + 1)) {
                return Some(detector);
            }
        }
        None
    }

    fn in_array(&self, value: &[u8], depth: u8) -> Option<Detector> {
        let dimensions =
            usize::try_from(word(value, 0)?).ok().filter(|dimensions| (1..=6).contains(dimensions))?;
        let mut at = 12 + 8 * dimensions;
        while at < value.len() {
            let length = word(value, at)?;
            at += 4;
            let Ok(length) = usize::try_from(length) else { continue };
            let element = value.get(at..at.checked_add(length)?)?;
            at += length;
            if let Some(detector) = self.as_number(element).or_else(|| self.inside(element, depth + 1)) {
                return Some(detector);
            }
        }
        None
    }

    /// `range_send` (src/backend/utils/adt/rangetypes.c): flags, then the bounds with their lengths.
    fn in_range(&self, value: &[u8]) -> Option<Detector> {
        let mut at = 1;
        while at < value.len() {
            let length = usize::try_from(word(value, at)?).ok()?;
            at += 4;
            let bound = value.get(at..at.checked_add(length)?)?;
            at += length;
            if let Some(detector) = self.as_number(bound) {
                return Some(detector);
            }
        }
        None
    }

    /// Bytes that would be a number as `int8` or `numeric`.
    fn as_number(&self, value: &[u8]) -> Option<Detector> {
        self.number(number::int8(value))
            .or_else(|| self.number(number::numeric(value)))
            .or_else(|| self.number(number::float8(value)))
    }

    /// A value of COPY, whose type is not told: judged by how it looks.
    fn unknown(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        if let Some(digits) = value.strip_prefix(b"\\x")
            && digits.len().is_multiple_of(2)
            && digits.iter().all(u8::is_ascii_hexdigit)
        {
            return self.bytea(value);
        }
        let detector = self.number(number::text(value));
        if detector.is_some() {
            return self.hit(detector);
        }
        match value.first() {
            Some(b'{') => self.json(value, out),
            Some(b'[' | b'(') => {
                let detector = self.find(value).first().map(|found| found.detector);
                self.hit(detector)
            }
            Some(_) | None => self.text(value, out),
        }
    }
}

fn word(value: &[u8], at: usize) -> Option<i32> {
    value.get(at..)?.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Whether a place stands inside double quotes, asked at rising places.
#[derive(Default)]
struct Quotes {
    at: usize,
    open: bool,
}

impl Quotes {
    fn inside(&mut self, value: &[u8], place: usize) -> bool {
        while self.at < place {
            match value.get(self.at) {
                Some(b'\\') => self.at += 1,
                Some(b'"') => self.open = !self.open,
                Some(_) | None => {}
            }
            self.at += 1;
        }
        self.open
    }
}
