//! One value through the detectors: found, and replaced so that it stays valid where it stands.
//!
//! Owns: what a match means in each shape. May not: know rows, frames or labels. Fails closed: what cannot be replaced inside
//! its container makes the whole value NULL; what is not of its declared type's form at all is an error.
//!
//! Bound: the work is linear in the value's bytes, whatever they are; nothing recurses on the nesting of a value; what is
//! written is at most [`GROWTH_BYTES_MAX`] longer than the value, stand-ins of constants aside.

use super::detect::{self, Detector, Detectors, Match};
use super::number;
use super::plan::Style;
use super::row::{Misfit, Positions};
use super::shape::Shape;
use super::style::{ColumnTokens, Masked, render_match};
use super::tally::Hits;
use super::{binary, guess, json};

/// Bytes that a value may grow by, through stand-ins that are longer than what they stand for. Beyond it constants stand in.
pub const GROWTH_BYTES_MAX: usize = 65_536;

/// Bytes of an e-mail address at least, where it stands in bytes that are no text.
const ADDRESS_BYTES_MIN: usize = 12;

/// What the detectors need to mask values: which, the key, and what they found.
#[derive(Debug)]
pub struct Look<'l> {
    /// Which are on.
    pub detectors: &'l Detectors,
    /// Tokens of the column, where it is known which it is.
    pub tokens: Option<ColumnTokens<'l>>,
    /// What was found; the caller counts it.
    pub hits: &'l mut Hits,
}

impl Look<'_> {
    /// NULL where something was found.
    pub(super) fn hit(&mut self, detector: Option<Detector>) -> Masked {
        match detector {
            Some(detector) => {
                self.hits.add(detector);
                Masked::Null
            }
            None => Masked::Keep,
        }
    }

    /// What finds something in bytes taken as text.
    pub(super) fn first(&self, value: &[u8]) -> Option<Detector> {
        detect::find(self.detectors, value).next().map(|found| found.detector)
    }

    /// What finds something in bytes that may be anything: where they are no text, an address as short as chance makes one is
    /// none (in a megabyte of random bytes there are some hundred of six bytes).
    pub(super) fn first_in_bytes(&self, value: &[u8]) -> Option<Detector> {
        // The sweep leads to everything that a detector finds, and is much faster than asking them.
        Positions::new(value).next()?;
        let text = std::str::from_utf8(value).is_ok();
        let by_chance = |found: &Match| {
            let matched = value.get(found.start..found.end).unwrap_or_default();
            found.detector == Detector::Email && (matched.len() < ADDRESS_BYTES_MIN || !matched.is_ascii())
        };
        let mut found = detect::find(self.detectors, value);
        found.find(|found| text || !by_chance(found)).map(|found| found.detector)
    }

    /// What finds the number itself.
    pub(super) fn number(&self, decimal: Option<String>) -> Option<Detector> {
        let decimal = decimal?;
        detect::number(self.detectors, decimal.trim_start_matches(['-', '+']).as_bytes())
    }

    /// Appends what stands in for a match; `plain` is where `out` would end had nothing grown so far.
    pub(super) fn render(&self, detector: Detector, matched: &[u8], plain: usize, out: &mut Vec<u8>) {
        let style = if out.len() > plain.saturating_add(GROWTH_BYTES_MAX) {
            Style::Fixed
        } else {
            self.detectors.style(detector).unwrap_or(Style::Fixed)
        };
        render_match(style, detector, matched, self.tokens, out);
    }

    /// Masks a value, appending what stands in for it to `out`.
    ///
    /// # Errors
    /// [`Misfit`]: it is no value of its type.
    pub fn value(&mut self, shape: Shape, value: &[u8], out: &mut Vec<u8>) -> Result<Masked, Misfit> {
        Ok(match shape {
            Shape::Never | Shape::UuidText | Shape::UuidBinary => Masked::Keep,
            Shape::Text | Shape::TextArray => self.text(value, out),
            Shape::Json => json::mask(self, value, out),
            Shape::JsonbBinary => self.jsonb(value, out),
            Shape::NumberText | Shape::FloatText => {
                let detector = self.number(number::text(value));
                self.hit(detector)
            }
            Shape::NumberArray => self.number_array(value, out),
            Shape::Int8Binary | Shape::NumericBinary | Shape::Float8Binary | Shape::Opaque => {
                let detector = self.leaf(shape, value);
                self.hit(detector)
            }
            Shape::ByteaText => {
                let detector = self.bytea(value);
                self.hit(detector)
            }
            Shape::OpaqueText => {
                let detector = self.opaque_text(value);
                self.hit(detector)
            }
            Shape::ArrayBinary => return binary::array(self, value, out),
            Shape::OpaqueBinary => {
                let detector = binary::search(self, value);
                self.hit(detector)
            }
            Shape::UnknownBinary(hint) => {
                let detector = guess::binary(self, hint, value);
                self.hit(detector)
            }
            Shape::Unknown(hint) => guess::text(self, hint, value, out),
        })
    }

    /// What finds something in a value that is no container.
    pub(super) fn leaf(&self, shape: Shape, value: &[u8]) -> Option<Detector> {
        match shape {
            Shape::Never | Shape::UuidText | Shape::UuidBinary => None,
            Shape::Int8Binary => self.number(number::long_int8(value)),
            Shape::NumericBinary => self.number(number::numeric(value)),
            Shape::Float8Binary => self.number(number::float8(value)),
            Shape::NumberText | Shape::FloatText => self.number(number::text(value)),
            Shape::ByteaText => self.bytea(value),
            Shape::Opaque => self.first_in_bytes(value),
            Shape::OpaqueText => self.opaque_text(value),
            Shape::Json | Shape::JsonbBinary => json::search(self, value),
            Shape::Text
            | Shape::TextArray
            | Shape::NumberArray
            | Shape::ArrayBinary
            | Shape::OpaqueBinary
            | Shape::Unknown(_)
            | Shape::UnknownBinary(_) => self.first(value),
        }
    }

    pub(super) fn text(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let begin = out.len();
        let from = self.matches(value, 0..value.len(), begin, 0, out);
        if from == 0 {
            return Masked::Keep;
        }
        out.extend_from_slice(value.get(from..).unwrap_or_default());
        Masked::Value
    }

    /// Replaces what is found in a part of a value that is text by itself. `from` is how much of the value `out`, begun at
    /// `begin`, holds already; returns how much it holds now.
    pub(super) fn matches(
        &mut self,
        value: &[u8],
        part: std::ops::Range<usize>,
        begin: usize,
        mut from: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let text = value.get(part.clone()).unwrap_or_default();
        for Match { start, end, detector } in detect::find(self.detectors, text) {
            let (start, end) = (part.start + start, part.start + end);
            out.extend_from_slice(value.get(from..start).unwrap_or_default());
            self.render(detector, value.get(start..end).unwrap_or_default(), begin + start, out);
            self.hits.add(detector);
            from = end;
        }
        from
    }

    fn jsonb(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        // `jsonb_send` (src/backend/utils/adt/jsonb.c) knows version 1 alone.
        let Some(text) = value.strip_prefix(&[1]) else {
            let detector = self.first(value);
            return self.hit(detector);
        };
        let begin = out.len();
        out.push(1);
        let masked = json::mask(self, text, out);
        if masked != Masked::Value {
            out.truncate(begin);
        }
        masked
    }

    /// Elements that are one become NULL.
    fn number_array(&mut self, value: &[u8], out: &mut Vec<u8>) -> Masked {
        let begin = out.len();
        let mut from = 0;
        let mut at = 0;
        for element in value.split(|byte| matches!(byte, b'{' | b'}' | b',')) {
            if let Some(detector) = self.number(number::text(element)) {
                self.hits.add(detector);
                out.extend_from_slice(value.get(from..at).unwrap_or_default());
                out.extend_from_slice(b"NULL");
                from = at + element.len();
            }
            at += element.len() + 1;
        }
        if from == 0 {
            out.truncate(begin);
            return Masked::Keep;
        }
        out.extend_from_slice(value.get(from..).unwrap_or_default());
        Masked::Value
    }

    /// `bytea` as text, in both of its forms (`byteaout`, src/backend/utils/adt/varlena.c).
    pub(super) fn bytea(&self, value: &[u8]) -> Option<Detector> {
        match value.strip_prefix(b"\\x") {
            Some(digits) => self.first_in_bytes(&unhex(digits)),
            None if memchr::memchr(b'\\', value).is_some() => self.first_in_bytes(&unescape_bytea(value)),
            None => self.first_in_bytes(value),
        }
    }

    /// Text of a type that is not known: a composite, a range, an array of such, an extension's. What `bytea` and `float8`
    /// inside of it spell is read too.
    pub(super) fn opaque_text(&self, value: &[u8]) -> Option<Detector> {
        self.first(value).or_else(|| self.hex_inside(value)).or_else(|| self.exponents_inside(value))
    }

    /// Whether something in a value is spelled so that a sweep does not see it.
    pub(super) fn is_spelled_aside(value: &[u8]) -> bool {
        memchr::memmem::find(value, b"\\x").is_some() || memchr::memmem::find(value, b"e+").is_some()
    }

    fn hex_inside(&self, value: &[u8]) -> Option<Detector> {
        memchr::memmem::find_iter(value, b"\\x").find_map(|at| {
            let digits = value.get(at + 2..)?;
            let length = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.first_in_bytes(&unhex(digits.get(..length)?))
        })
    }

    /// A `float8` as in `(4.111111111111111e+15,x)`.
    fn exponents_inside(&self, value: &[u8]) -> Option<Detector> {
        /// Longer is no card with its exponent.
        const MANTISSA_BYTES_MAX: usize = 24;
        let of_number = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        memchr::memmem::find_iter(value, b"e+").find_map(|at| {
            let before = value.get(..at)?.iter().rev().take(MANTISSA_BYTES_MAX).take_while(of_number).count();
            let behind = value.get(at + 2..)?.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
            self.number(number::text(value.get(at - before..at + 2 + behind)?))
        })
    }
}

/// The bytes that hexadecimal digits spell; a digit without its partner, and what is none, is left out.
pub fn unhex(digits: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        0..=b'/' | b':'..=b'@' | b'G'..=b'`' | b'g'..=0xFF => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).filter_map(pair).collect()
}

/// A text that is kept, with what the detectors find in it replaced by constants; `None` where they find nothing.
pub fn redacted(detectors: &Detectors, text: &str) -> Option<String> {
    if detectors.is_empty() {
        return None;
    }
    Positions::new(text.as_bytes()).next()?;
    let (mut out, mut hits) = (Vec::new(), Hits::default());
    let mut fixed = Detectors::NONE;
    for detector in Detector::ALL.iter().filter(|detector| detectors.style(**detector).is_some()) {
        fixed = fixed.with(*detector, Style::Fixed);
    }
    let masked = Look { detectors: &fixed, tokens: None, hits: &mut hits }.text(text.as_bytes(), &mut out);
    // A match begins and ends where a character does.
    (masked == Masked::Value).then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The bytes that the escape form spells: `\\`, `\` and three octal digits, the rest as it is.
fn unescape_bytea(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        let octal = |byte: u8| byte.wrapping_sub(b'0') & 7;
        rest = match behind {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..] if *first == b'\\' => {
                bytes.push(octal(*a) << 6 | octal(*b) << 3 | octal(*c));
                behind
            }
            [b'\\', behind @ ..] if *first == b'\\' => {
                bytes.push(b'\\');
                behind
            }
            behind => {
                bytes.push(*first);
                behind
            }
        };
    }
    bytes
}
