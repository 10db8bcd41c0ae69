//! JSON: matches inside strings are replaced where they stand, a number that is one becomes `null`.
//!
//! Owns: the walk over a JSON text's strings and numbers, flat: nesting costs nothing. May not: check that the text is JSON.
//! Fails closed: a byte that no JSON text holds outside of its strings makes the whole NULL where
//! anything is found in it. Source: RFC 8259.

use super::detect::Detector;
use super::number;
use super::style::Masked;
use super::value::Look;

/// Digits that a number must spell before its exponent to be looked at: fewer are a card's only by an exponent, and the
/// sweep sees no shorter ones.
const DIGITS_MIN: usize = 10;

/// A part of a JSON text.
enum Part {
    /// What stands between the quotes.
    String(std::ops::Range<usize>),
    Number(std::ops::Range<usize>),
    /// What no JSON text holds here.
    Foreign,
}

/// The strings and numbers of a text in their order.
struct Parts<'v> {
    value: &'v [u8],
    at: usize,
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        loop {
            let begin = self.at;
            match self.value.get(begin)? {
                b'"' => {
                    let end = string_end(self.value, begin + 1);
                    self.at = end + 1;
                    return Some(Part::String(begin + 1..end));
                }
                b'-' | b'0'..=b'9' => {
                    let rest = self.value.get(begin..).unwrap_or_default();
                    let length = rest
                        .iter()
                        .take_while(|byte| {
                            byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')
                        })
                        .count();
                    self.at = begin + length;
                    return Some(Part::Number(begin..self.at));
                }
                // The letters are those of true, false and null.
                b' ' | b'\t' | b'\n' | b'\r' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b't' | b'r'
                | b'u' | b'e' | b'f' | b'a' | b'l' | b's' | b'n' => self.at = begin + 1,
                _ => {
                    self.at = self.value.len();
                    return Some(Part::Foreign);
                }
            }
        }
    }
}

/// Where the string that begins at `at` ends: its closing quote, or the end of the value.
fn string_end(value: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', value.get(at..).unwrap_or_default()) {
        at += found;
        if value.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    value.len()
}

fn number_is(look: &Look<'_>, spelled: &[u8]) -> Option<Detector> {
    let digits =
        spelled.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(|byte| byte.is_ascii_digit());
    if digits.count() < DIGITS_MIN { None } else { look.number(number::text(spelled)) }
}

/// Masks a JSON text, appending what stands in for it to `out`.
pub(super) fn mask(look: &mut Look<'_>, value: &[u8], out: &mut Vec<u8>) -> Masked {
    let (begin, before) = (out.len(), *look.hits);
    let mut from = 0;
    for part in (Parts { value, at: 0 }) {
        match part {
            Part::String(range) => from = look.matches(value, range, begin, from, out),
            Part::Number(range) => {
                if let Some(detector) = number_is(look, value.get(range.clone()).unwrap_or_default()) {
                    look.hits.add(detector);
                    out.extend_from_slice(value.get(from..range.start).unwrap_or_default());
                    out.extend_from_slice(b"null");
                    from = range.end;
                }
            }
            Part::Foreign => {
                out.truncate(begin);
                *look.hits = before;
                let detector = look.first(value);
                return look.hit(detector);
            }
        }
    }
    if from == 0 {
        return Masked::Keep;
    }
    out.extend_from_slice(value.get(from..).unwrap_or_default());
    Masked::Value
}

/// What finds something in a JSON text, as [`mask`] would.
pub(super) fn search(look: &Look<'_>, value: &[u8]) -> Option<Detector> {
    // A version byte stands before `jsonb` in binary.
    let value = value.strip_prefix(&[1]).unwrap_or(value);
    Parts { value, at: 0 }.find_map(|part| match part {
        Part::String(range) => look.first(value.get(range).unwrap_or_default()),
        Part::Number(range) => number_is(look, value.get(range).unwrap_or_default()),
        Part::Foreign => look.first(value),
    })
}
