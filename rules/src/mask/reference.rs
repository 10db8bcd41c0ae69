//! The naive twin of the masker: what it must come to, in the plainest words.
//!
//! Owns: the meaning of a plan on whole frames, and of a shape on one value. It walks every value of every row, asks every
//! detector at every byte, takes containers apart and puts them together anew. May not: be used on the data path; share the
//! walk of values with the masker (it shares the detectors' matches, the readings of numbers and the stand-ins, which have
//! tests of their own). Property tests and the fuzz target `mask_differential` hold [`Masker`](super::row::Masker) against
//! it. It recurses, and its time grows with the square of a value: for tests, of values that are small.

mod parts;

use pgturnstile_proto::backend::{CopyData, DataRow};
use pgturnstile_proto::encode;

use parts::{Array, Kind, array_parts, bytea, json_parts, multirange, range, record};

use super::detect::{self, Detector, Detectors, Match, match_at};
use super::number;
use super::plan::{ColumnMask, Plan, Style};
use super::row::Misfit;
use super::shape::{Hint, Shape};
use super::style::{self, ColumnTokens, Masked, TokenKey, render_match};
use super::tally::{At, By, Hits, Tally};
use super::value::GROWTH_BYTES_MAX;

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// Itself.
    Kept,
    /// NULL.
    Null,
    /// This.
    Value(Vec<u8>),
}

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

/// One value under detectors.
///
/// # Errors
/// It is no value of its type.
pub fn value(
    detectors: &Detectors,
    tokens: Option<ColumnTokens<'_>>,
    shape: Shape,
    value: &[u8],
) -> Result<(Became, Hits), Misfit> {
    let mut twin = Twin { detectors, tokens, hits: Hits::default(), grown: 0 };
    let became = twin.value(shape, value)?;
    Ok((became, twin.hits))
}

/// Rows, one after the other.
///
/// # Errors
/// As the masker's.
pub fn rows(key: &TokenKey, plan: &Plan, run: &[u8], tally: &mut Tally) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::new();
    let mut rest = run;
    while !rest.is_empty() {
        let (frame, behind) = frame(rest)?;
        let row = DataRow::parse(frame).map_err(|_| Misfit)?;
        if row.columns().len() != plan.columns().len() {
            return Err(Misfit);
        }
        let mut values = Vec::new();
        for (index, value) in row.columns().iter().enumerate() {
            values.push(match value {
                None => None,
                Some(value) => match column(key, plan, index, value, tally)? {
                    Became::Kept => Some(value.to_vec()),
                    Became::Null => None,
                    Became::Value(value) => Some(value),
                },
            });
        }
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
        let (frame, behind) = frame(rest)?;
        out.extend_from_slice(CopyData::parse(frame).map_err(|_| Misfit)?.data());
        rest = behind;
    }
    Ok(out)
}

/// The frame at the front, and what stands behind it.
fn frame(bytes: &[u8]) -> Result<(&[u8], &[u8]), Misfit> {
    let length = bytes.get(1..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Misfit)?;
    bytes.split_at_checked(u32::from_be_bytes(*length) as usize + 1).ok_or(Misfit)
}

fn column(
    key: &TokenKey,
    plan: &Plan,
    index: usize,
    bytes: &[u8],
    tally: &mut Tally,
) -> Result<Became, Misfit> {
    let column = plan.columns().get(index).ok_or(Misfit)?;
    let at = At::Column(u16::try_from(index).unwrap_or(u16::MAX));
    match column.mask {
        ColumnMask::Label { label, style } => {
            tally.add(at, By::Label(label));
            let mut out = Vec::new();
            Ok(match style::label(style, column.shape, bytes, key, &mut out) {
                Masked::Keep => Became::Kept,
                Masked::Null => Became::Null,
                Masked::Value => Became::Value(out),
            })
        }
        ColumnMask::Null { why } => {
            tally.add(at, By::Withheld(why));
            Ok(Became::Null)
        }
        ColumnMask::Clear if plan.detectors().is_empty() => Ok(Became::Kept),
        ColumnMask::Clear => {
            let tokens = column.origin.map(|origin| ColumnTokens { key, origin });
            let (became, hits) = value(plan.detectors(), tokens, column.shape, bytes)?;
            tally.found(at, &hits);
            Ok(became)
        }
    }
}

struct Twin<'t> {
    detectors: &'t Detectors,
    tokens: Option<ColumnTokens<'t>>,
    hits: Hits,
    /// Bytes that the value has grown by so far.
    grown: isize,
}

impl Twin<'_> {
    fn value(&mut self, shape: Shape, value: &[u8]) -> Result<Became, Misfit> {
        Ok(match shape {
            Shape::Never | Shape::UuidText | Shape::UuidBinary => Became::Kept,
            Shape::Text | Shape::TextArray => became(value, self.text(value)),
            Shape::Json => self.json(value),
            Shape::JsonbBinary => match value.split_first() {
                Some((1, text)) => match self.json(text) {
                    Became::Value(text) => Became::Value([&[1], text.as_slice()].concat()),
                    same @ (Became::Kept | Became::Null) => same,
                },
                Some(_) | None => {
                    let detector = self.first(value);
                    self.null(detector)
                }
            },
            Shape::NumberArray => {
                let parts = value.split_inclusive(|byte| b"{},".contains(byte)).map(|part| {
                    let (element, mark) = match part.split_last() {
                        Some((mark, element)) if b"{},".contains(mark) => (element, vec![*mark]),
                        Some(_) | None => (part, Vec::new()),
                    };
                    match self.number(number::text(element)) {
                        Some(detector) => {
                            self.hits.add(detector);
                            [b"NULL".as_slice(), &mark].concat()
                        }
                        None => part.to_vec(),
                    }
                });
                let out: Vec<Vec<u8>> = parts.collect();
                became(value, out.concat())
            }
            Shape::ArrayBinary => self.array(value)?,
            Shape::Unknown(hint) => self.unknown(hint, value),
            Shape::NumberText
            | Shape::FloatText
            | Shape::Int8Binary
            | Shape::NumericBinary
            | Shape::Float8Binary
            | Shape::ByteaText
            | Shape::Opaque
            | Shape::OpaqueText
            | Shape::OpaqueBinary
            | Shape::UnknownBinary(_) => {
                let detector = self.held(shape, value);
                self.null(detector)
            }
        })
    }

    /// What a value holds, where it can only stay or be NULL.
    fn held(&self, shape: Shape, value: &[u8]) -> Option<Detector> {
        match shape {
            Shape::Never | Shape::UuidText | Shape::UuidBinary => None,
            Shape::NumberText | Shape::FloatText => self.number(number::text(value)),
            Shape::Int8Binary => self.number(number::int8(value)),
            Shape::NumericBinary => self.number(number::numeric(value)),
            Shape::Float8Binary => self.number(number::float8(value)),
            Shape::ByteaText => self.first_of_bytes(&bytea(value)),
            Shape::Opaque => self.first_of_bytes(value),
            Shape::OpaqueText => self.opaque(value),
            Shape::UnknownBinary(Hint::Nothing) => self.first_of_bytes(value),
            Shape::UnknownBinary(Hint::Int8) if value.len() == 8 => self.number(number::int8(value)),
            Shape::UnknownBinary(Hint::Float8) if value.len() == 8 => self.number(number::float8(value)),
            Shape::UnknownBinary(Hint::Numeric) if number::numeric(value).is_some() => {
                self.number(number::numeric(value))
            }
            Shape::OpaqueBinary | Shape::UnknownBinary(_) => {
                self.first_of_bytes(value).or_else(|| self.inside(value, true))
            }
            Shape::Json | Shape::JsonbBinary => {
                // A version byte stands before `jsonb` in binary.
                self.first_of_json(value.strip_prefix(&[1]).unwrap_or(value))
            }
            Shape::Text | Shape::TextArray | Shape::NumberArray | Shape::ArrayBinary | Shape::Unknown(_) => {
                self.first(value)
            }
        }
    }

    fn null(&mut self, detector: Option<Detector>) -> Became {
        match detector {
            Some(detector) => {
                self.hits.add(detector);
                Became::Null
            }
            None => Became::Kept,
        }
    }

    fn first(&self, value: &[u8]) -> Option<Detector> {
        find(self.detectors, value).first().map(|found| found.detector)
    }

    fn first_of_bytes(&self, value: &[u8]) -> Option<Detector> {
        let text = String::from_utf8(value.to_vec()).is_ok();
        let by_chance = |found: &Match| {
            let matched = value.get(found.start..found.end).unwrap_or_default();
            found.detector == Detector::Email && (matched.len() < 12 || !matched.is_ascii())
        };
        let mut found = find(self.detectors, value).into_iter();
        found.find(|found| text || !by_chance(found)).map(|found| found.detector)
    }

    fn number(&self, decimal: Option<String>) -> Option<Detector> {
        detect::number(self.detectors, decimal?.trim_start_matches(['-', '+']).as_bytes())
    }

    fn text(&mut self, value: &[u8]) -> Vec<u8> {
        let mut out = value.to_vec();
        let mut shift = 0_isize;
        for Match { start, end, detector } in find(self.detectors, value) {
            self.hits.add(detector);
            let style = match self.detectors.style(detector) {
                Some(style) if self.grown <= isize::try_from(GROWTH_BYTES_MAX).unwrap_or(0) => style,
                Some(_) | None => Style::Fixed,
            };
            let mut stand_in = Vec::new();
            render_match(
                style,
                detector,
                value.get(start..end).unwrap_or_default(),
                self.tokens,
                &mut stand_in,
            );
            let more = stand_in.len().cast_signed() - (end - start).cast_signed();
            drop(out.splice(start.saturating_add_signed(shift)..end.saturating_add_signed(shift), stand_in));
            shift += more;
            self.grown += more;
        }
        out
    }

    fn json(&mut self, value: &[u8]) -> Became {
        let (hits, grown) = (self.hits, self.grown);
        let mut out = Vec::new();
        for (kind, part) in json_parts(value) {
            match kind {
                Kind::Text => out.extend(self.text(&part)),
                Kind::Number => match self.json_number(&part) {
                    Some(detector) => {
                        self.hits.add(detector);
                        self.grown += 4 - part.len().cast_signed();
                        out.extend_from_slice(b"null");
                    }
                    None => out.extend(part),
                },
                Kind::Mark => out.extend(part),
                Kind::Foreign => {
                    (self.hits, self.grown) = (hits, grown);
                    let detector = self.first(value);
                    return self.null(detector);
                }
            }
        }
        became(value, out)
    }

    fn json_number(&self, part: &[u8]) -> Option<Detector> {
        let mantissa = part.split(|byte| b"eE".contains(byte)).next().unwrap_or_default();
        let long = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count() >= 10;
        if long { self.number(number::text(part)) } else { None }
    }

    fn first_of_json(&self, value: &[u8]) -> Option<Detector> {
        json_parts(value).into_iter().find_map(|(kind, part)| match kind {
            Kind::Text => self.first(&part),
            Kind::Number => self.json_number(&part),
            Kind::Mark => None,
            Kind::Foreign => self.first(value),
        })
    }

    fn array(&mut self, value: &[u8]) -> Result<Became, Misfit> {
        let array = Array::read(value).ok_or(Misfit)?;
        let shape = Shape::of(array.oid, true);
        if matches!(shape, Shape::ArrayBinary | Shape::OpaqueBinary | Shape::UnknownBinary(_)) {
            return Err(Misfit);
        }
        let mut elements = Vec::new();
        let mut nulls = false;
        for element in array.elements {
            elements.push(match element {
                None => None,
                Some(element) => {
                    // Room is counted for each element by itself.
                    self.grown = 0;
                    match self.value(shape, element)? {
                        Became::Kept => Some(element.to_vec()),
                        Became::Null => {
                            nulls = true;
                            None
                        }
                        Became::Value(element) => Some(element),
                    }
                }
            });
        }
        let mut out = array.head.to_vec();
        for element in elements {
            let length = element.as_ref().map_or(-1, |element| i32::try_from(element.len()).unwrap_or(-1));
            out.extend_from_slice(&length.to_be_bytes());
            out.extend(element.unwrap_or_default());
        }
        if let (true, Some(flag)) = (nulls, out.get_mut(4..8)) {
            flag.copy_from_slice(&[0, 0, 0, 1]);
        }
        Ok(became(value, out))
    }

    /// What bytes of no known type hold, behind what they hold as text.
    fn inside(&self, value: &[u8], whole: bool) -> Option<Detector> {
        let fields = match (Array::read(value), record(value)) {
            (Some(array), _) => {
                array.elements.into_iter().flatten().map(|element| (array.oid, element)).collect()
            }
            (None, Some(fields)) => fields,
            (None, None) => {
                let number = self.guess(value).or_else(|| {
                    range(value)
                        .or_else(|| multirange(value))?
                        .into_iter()
                        .find_map(|bound| self.guess(bound))
                });
                return number.or_else(|| if whole { None } else { self.first_of_bytes(value) });
            }
        };
        let is_inner = |oid: u32| matches!(Shape::of(oid, true), Shape::ArrayBinary | Shape::OpaqueBinary);
        let plain = fields.iter().filter(|(oid, _)| !is_inner(*oid));
        let found = { plain }.find_map(|(oid, field)| self.held(Shape::of(*oid, true), field));
        let inner = fields.iter().rev().filter(|(oid, _)| is_inner(*oid));
        found.or_else(|| { inner }.find_map(|(_, field)| self.inside(field, false)))
    }

    fn guess(&self, value: &[u8]) -> Option<Detector> {
        let card = |decimal: Option<String>| {
            let decimal = decimal.filter(|decimal| decimal.trim_start_matches('-').len() == 16);
            self.number(decimal)
        };
        let is_text = String::from_utf8(value.to_vec()).is_ok_and(|text| !text.contains(char::is_control));
        card(number::int8(value))
            .or_else(|| self.number(number::numeric(value)))
            .or_else(|| card(number::float8(value).filter(|_| !is_text)))
    }

    fn opaque(&self, value: &[u8]) -> Option<Detector> {
        let hex = |at: usize| {
            let digits = value.get(at + 2..)?;
            let end = digits.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(digits.len());
            self.first_of_bytes(&bytea(value.get(at..at + 2 + end)?))
        };
        let exponent = |at: usize| {
            let of_number = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
            let begin =
                (at.saturating_sub(24)..at).rev().take_while(|at| value.get(*at).is_some_and(of_number));
            let begin = begin.last().unwrap_or(at);
            let behind = value.get(at + 2..)?.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
            self.number(number::text(value.get(begin..at + 2 + behind)?))
        };
        let places =
            |word: &'static [u8]| (0..value.len()).filter(move |at| value.get(*at..*at + 2) == Some(word));
        self.first(value)
            .or_else(|| places(b"\\x").find_map(hex))
            .or_else(|| places(b"e+").find_map(exponent))
    }

    /// A value of COPY; see [`guess`](mod@super::guess).
    fn unknown(&mut self, hint: Hint, value: &[u8]) -> Became {
        let figures = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ');
        if hint == Hint::Nothing && figures {
            return Became::Kept;
        }
        if hint == Hint::Opaque || hint == Hint::Number && number::is_figure(value) {
            let of = if hint == Hint::Opaque { Shape::OpaqueText } else { Shape::NumberText };
            let detector = self.held(of, value);
            return self.null(detector);
        }
        let hex = value.strip_prefix(b"\\x").filter(|digits| digits.len() % 2 == 0);
        if hex.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let detector = self.held(Shape::ByteaText, value);
            return self.null(detector);
        }
        if let Some(detector) = self.whole_number(Hint::None, value) {
            return self.null(Some(detector));
        }
        let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
        match value.trim_ascii_start().first() {
            Some(b'{' | b'[' | b'"') if is_json() => self.json(value),
            Some(b'{') => self.braces(hint, value),
            Some(b'[' | b'(') => {
                let detector = self.opaque(value);
                self.null(detector)
            }
            Some(_) if figures => {
                let detector = self.opaque(value);
                self.null(detector)
            }
            Some(_) | None => {
                let escaped = value.contains(&b'\\') && self.first(value).is_none();
                match self.first_of_bytes(&bytea(value)).filter(|_| escaped) {
                    Some(detector) => self.null(Some(detector)),
                    None => became(value, self.text(value)),
                }
            }
        }
    }

    fn whole_number(&self, hint: Hint, value: &[u8]) -> Option<Detector> {
        let found = self.number(Some(number::text(value)?));
        found.or_else(|| self.first(value).filter(|_| hint != Hint::Number))
    }

    fn braces(&mut self, hint: Hint, value: &[u8]) -> Became {
        let (hits, grown) = (self.hits, self.grown);
        let mut out = Vec::new();
        for (quoted, part, close) in array_parts(value) {
            let figures = part.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace());
            let foreign = match part.trim_ascii_start().first() {
                Some(lead) if quoted => b"{[(\"\\".contains(lead) || figures,
                Some(_) => part.first().is_some_and(|first| b"[(\\".contains(first)),
                None => quoted && !part.is_empty(),
            };
            if foreign {
                (self.hits, self.grown) = (hits, grown);
                let detector = self.opaque(value);
                return self.null(detector);
            }
            if let Some(detector) = self.whole_number(hint, &part) {
                self.hits.add(detector);
                out.extend_from_slice(b"NULL");
                self.grown += 4 - (part.len() + 2 * usize::from(quoted)).cast_signed();
                continue;
            }
            out.extend(quoted.then_some(b'"'));
            let number = hint == Hint::Number && number::is_figure(&part);
            out.extend(if number { part } else { self.text(&part) });
            out.extend(close);
        }
        became(value, out)
    }
}

fn became(value: &[u8], out: Vec<u8>) -> Became {
    if out == value { Became::Kept } else { Became::Value(out) }
}
