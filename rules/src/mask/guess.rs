//! Values whose type nobody tells: COPY, and types that are not in the table of shapes.
//!
//! Owns: what such a value is taken for, and how it stays readable for whatever type it has. May not: take bytes for a number
//! where text of the same bytes is as likely. Fails closed: where no partial replacement is valid for every type that the
//! value may have, it becomes NULL.
//!
//! ```text
//!  text     \x…             bytea                        NULL
//!           a number        any type of numbers, text    NULL
//!           digits, spaces  int2vector, oidvector, text  NULL
//!           JSON            json, jsonb, text            as JSON
//!           {…}             array, multirange            elements, where all are plain; else NULL
//!           [… (…           range, composite, geometry   NULL
//!           anything else   text                         in place
//!  binary   text            text                         NULL
//!           array, record   by the types that they name  NULL
//!           8 bytes         int8, float8: cards of 16 digits alone, and no float8 where the bytes are text
//!           8 + 2n bytes    numeric, as strictly as the server writes it
//! ```
//!
//! A [`Hint`] of the catalog settles which of these is meant: digits in a column of numbers are a number and no text, eight bytes in
//! an `int8` column are one. What does not read as the hint says is taken as above: the catalog may be a moment old.

use serde::de::IgnoredAny;

use super::detect::Detector;
use super::shape::Hint;
use super::style::Masked;
use super::value::Look;
use super::{binary, json, number};

/// Digits of the only cards that eight bytes are taken for: those of 15 are timestamps of 2010 to 2012 in `timestamptz`, and
/// those of 19 are `float8` of common sizes and words of text.
const BYTES_CARD_DIGITS: usize = 16;

/// Masks a value of COPY in text or CSV, decoded, appending what stands in for it to `out`.
pub(super) fn text(look: &mut Look<'_>, hint: Hint, value: &[u8], out: &mut Vec<u8>) -> Masked {
    match hint {
        Hint::Number if number::is_figure(value) => {
            let detector = look.number(number::text(value));
            return look.hit(detector);
        }
        Hint::Nothing if value.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ') => {
            return Masked::Keep;
        }
        Hint::Opaque => return opaque(look, value),
        Hint::None | Hint::Number | Hint::Nothing | Hint::Int8 | Hint::Numeric | Hint::Float8 => {}
    }
    if let Some(digits) = value.strip_prefix(b"\\x")
        && digits.len().is_multiple_of(2)
        && digits.iter().all(u8::is_ascii_hexdigit)
    {
        let detector = look.bytea(value);
        return look.hit(detector);
    }
    let detector = number_of(look, Hint::None, value);
    if detector.is_some() {
        return look.hit(detector);
    }
    match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[' | b'"') if serde_json::from_slice::<IgnoredAny>(value).is_ok() => {
            json::mask(look, value, out)
        }
        Some(b'{') => braces(look, hint, value, out),
        Some(b'[' | b'(') => opaque(look, value),
        Some(_) if value.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ') => opaque(look, value),
        Some(_) | None => escaped_bytea(look, value).unwrap_or_else(|| look.text(value, out)),
    }
}

fn opaque(look: &mut Look<'_>, value: &[u8]) -> Masked {
    let detector = look.opaque_text(value);
    look.hit(detector)
}

/// A value that is one number, of whatever type: by the rules of numbers, and, as it may be text, by those of text.
fn number_of(look: &Look<'_>, hint: Hint, value: &[u8]) -> Option<Detector> {
    let decimal = number::text(value)?;
    look.number(Some(decimal)).or_else(|| if hint == Hint::Number { None } else { look.first(value) })
}

/// NULL where `bytea` in its escape form holds something that its spelling does not show.
fn escaped_bytea(look: &mut Look<'_>, value: &[u8]) -> Option<Masked> {
    memchr::memchr(b'\\', value)?;
    if look.first(value).is_some() {
        return None;
    }
    let detector = look.bytea(value)?;
    Some(look.hit(Some(detector)))
}

/// An array, where its elements are plain.
fn braces(look: &mut Look<'_>, hint: Hint, value: &[u8], out: &mut Vec<u8>) -> Masked {
    let (begin, before) = (out.len(), *look.hits);
    let mut from = 0;
    for element in (Elements { value, at: 0 }) {
        let (range, quote) = match element {
            Element::Plain(range) => (range, 0),
            Element::Quoted(range) if is_plain(value.get(range.clone()).unwrap_or_default()) => (range, 1),
            Element::Quoted(_) | Element::Foreign => {
                // What stands in it has a form of its own, or this is no array.
                out.truncate(begin);
                *look.hits = before;
                return opaque(look, value);
            }
        };
        let element = value.get(range.clone()).unwrap_or_default();
        match number_of(look, hint, element) {
            Some(detector) => {
                look.hits.add(detector);
                out.extend_from_slice(value.get(from..range.start - quote).unwrap_or_default());
                out.extend_from_slice(b"NULL");
                from = range.end + quote;
            }
            None if hint == Hint::Number && number::is_figure(element) => {}
            None => from = look.matches(value, range, begin, from, out),
        }
    }
    if from == 0 {
        return Masked::Keep;
    }
    out.extend_from_slice(value.get(from..).unwrap_or_default());
    Masked::Value
}

/// Whether a quoted element is text, as far as it shows: no JSON, composite, range, array or `bytea`.
fn is_plain(element: &[u8]) -> bool {
    match element.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[' | b'(' | b'"') => false,
        Some(b'\\') => false,
        Some(_) => !element.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace()),
        None => element.is_empty(),
    }
}

enum Element {
    /// Without quotes.
    Plain(std::ops::Range<usize>),
    /// Between quotes, escapes and all.
    Quoted(std::ops::Range<usize>),
    /// No element of an array's text.
    Foreign,
}

/// The elements of an array's text (`array_out`, src/backend/utils/adt/arrayfuncs.c), whatever its dimensions.
struct Elements<'v> {
    value: &'v [u8],
    at: usize,
}

impl Iterator for Elements<'_> {
    type Item = Element;

    fn next(&mut self) -> Option<Element> {
        loop {
            let begin = self.at;
            match self.value.get(begin)? {
                b'{' | b'}' | b',' => self.at = begin + 1,
                b'"' => {
                    let mut end = begin + 1;
                    while let Some(byte) = self.value.get(end).filter(|byte| **byte != b'"') {
                        end += 1 + usize::from(*byte == b'\\');
                    }
                    let end = end.min(self.value.len());
                    self.at = end + 1;
                    return Some(Element::Quoted(begin + 1..end));
                }
                b'[' | b'(' | b'\\' => {
                    self.at = self.value.len();
                    return Some(Element::Foreign);
                }
                _ => {
                    let rest = self.value.get(begin..).unwrap_or_default();
                    let length = rest.iter().position(|byte| matches!(byte, b'{' | b'}' | b',' | b'"'));
                    self.at = begin + length.unwrap_or(rest.len());
                    return Some(Element::Plain(begin..self.at));
                }
            }
        }
    }
}

/// What finds something in a value of COPY in binary.
pub(super) fn binary(look: &Look<'_>, hint: Hint, value: &[u8]) -> Option<Detector> {
    match hint {
        Hint::Int8 if value.len() == 8 => look.number(number::long_int8(value)),
        Hint::Float8 if value.len() == 8 => look.number(number::float8(value)),
        Hint::Nothing => look.first_in_bytes(value),
        Hint::Numeric => match number::numeric(value) {
            Some(decimal) => look.number(Some(decimal)),
            None => binary::search(look, value),
        },
        Hint::None | Hint::Int8 | Hint::Float8 | Hint::Number | Hint::Opaque => binary::search(look, value),
    }
}

/// What bytes in binary are as a number, or as a range of such. Their text is another's to search.
pub(super) fn bytes(look: &Look<'_>, value: &[u8]) -> Option<Detector> {
    scalar(look, value).or_else(|| binary::bounds(value).into_iter().find_map(|bound| scalar(look, bound)))
}

fn scalar(look: &Look<'_>, value: &[u8]) -> Option<Detector> {
    let card = |decimal: Option<String>| {
        let digits = decimal.as_ref().map(|decimal| decimal.trim_start_matches('-').len());
        if digits == Some(BYTES_CARD_DIGITS) { look.number(decimal) } else { None }
    };
    card(number::int8(value))
        .or_else(|| look.number(number::numeric(value)))
        .or_else(|| if is_text(value) { None } else { card(number::float8(value)) })
}

/// Whether bytes read as text: UTF-8, and no control characters.
fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control))
}
