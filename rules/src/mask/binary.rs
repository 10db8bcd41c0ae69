//! Containers in binary: arrays, records, ranges; and bytes of a type that is not known.
//!
//! Owns: how these are laid out, and what they hold. May not: rebuild more than an array of plain elements. Fails closed: an
//! array that is none is an error; what is found in anything else makes the whole value NULL. Sources: `array_send`
//! (src/backend/utils/adt/arrayfuncs.c), `record_send` (rowtypes.c), `range_send` (rangetypes.c), `multirange_send`
//! (multirangetypes.c).
//!
//! Nesting is followed by a list of what is still to be looked at, never by the stack, and by the types that the bytes name:
//! every byte is read at most twice, once as a part of the whole and once as a part of its innermost element.

use super::detect::Detector;
use super::guess;
use super::row::Misfit;
use super::shape::Shape;
use super::style::Masked;
use super::value::Look;

/// Dimensions that an array has at most (`MAXDIM`, src/include/utils/array.h).
const DIMENSIONS_MAX: usize = 6;

pub(super) fn word(value: &[u8], at: usize) -> Option<i32> {
    value.get(at..)?.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
}

/// What stands behind a length word: `None` for NULL, and where it ends.
fn sized(value: &[u8], at: usize) -> Option<(Option<&[u8]>, usize)> {
    let begin = at.checked_add(4)?;
    match usize::try_from(word(value, at)?) {
        Ok(length) => {
            let end = begin.checked_add(length)?;
            Some((Some(value.get(begin..end)?), end))
        }
        Err(_) if word(value, at) == Some(-1) => Some((None, begin)),
        Err(_) => None,
    }
}

/// The head of an array.
struct Head {
    element_oid: u32,
    /// How many elements follow.
    elements: usize,
    bytes: usize,
}

impl Head {
    fn read(value: &[u8]) -> Option<Head> {
        let dimensions = usize::try_from(word(value, 0)?).ok().filter(|count| *count <= DIMENSIONS_MAX)?;
        if !matches!(word(value, 4)?, 0 | 1) {
            return None;
        }
        let element_oid = word(value, 8)?.cast_unsigned();
        let mut elements = usize::from(dimensions > 0);
        for dimension in 0..dimensions {
            let size = usize::try_from(word(value, 12 + 8 * dimension)?).ok()?;
            word(value, 16 + 8 * dimension)?;
            elements = elements.checked_mul(size)?;
        }
        Some(Head { element_oid, elements, bytes: 12 + 8 * dimensions })
    }
}

/// Masks an array of a type that the table of shapes knows to hold plain elements: those that become NULL are NULL in it.
///
/// # Errors
/// [`Misfit`]: it is no array, or its elements are no plain ones. PostgreSQL has no arrays of arrays.
pub(super) fn array(look: &mut Look<'_>, value: &[u8], out: &mut Vec<u8>) -> Result<Masked, Misfit> {
    let head = Head::read(value).ok_or(Misfit)?;
    let shape = Shape::of(head.element_oid, true);
    match shape {
        Shape::ArrayBinary | Shape::OpaqueBinary | Shape::UnknownBinary(_) => return Err(Misfit),
        Shape::Text
        | Shape::Json
        | Shape::JsonbBinary
        | Shape::NumberText
        | Shape::FloatText
        | Shape::Int8Binary
        | Shape::NumericBinary
        | Shape::Float8Binary
        | Shape::UuidText
        | Shape::UuidBinary
        | Shape::ByteaText
        | Shape::Opaque
        | Shape::OpaqueText
        | Shape::TextArray
        | Shape::NumberArray
        | Shape::Unknown(_)
        | Shape::Never => {}
    }
    let begin = out.len();
    out.extend_from_slice(value.get(..head.bytes).ok_or(Misfit)?);
    let (mut at, mut nulls, mut changed) = (head.bytes, false, false);
    for _ in 0..head.elements {
        let (element, end) = sized(value, at).ok_or(Misfit)?;
        at = end;
        let place = out.len();
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        let Some(element) = element else { continue };
        let masked = look.value(shape, element, out)?;
        match masked {
            Masked::Keep => out.extend_from_slice(element),
            Masked::Value => {}
            Masked::Null => {
                (nulls, changed) = (true, true);
                continue;
            }
        }
        changed |= masked == Masked::Value;
        let length = i32::try_from(out.len() - place - 4).map_err(|_| Misfit)?;
        out.get_mut(place..place + 4).ok_or(Misfit)?.copy_from_slice(&length.to_be_bytes());
    }
    if at != value.len() {
        return Err(Misfit);
    }
    if !changed {
        out.truncate(begin);
        return Ok(Masked::Keep);
    }
    if nulls {
        out.get_mut(begin + 4..begin + 8).ok_or(Misfit)?.copy_from_slice(&1_i32.to_be_bytes());
    }
    Ok(Masked::Value)
}

/// What finds something in bytes of a type that is not known: taken as text, and as the array or record that they are.
pub(super) fn search<'v>(look: &Look<'_>, value: &'v [u8]) -> Option<Detector> {
    if let Some(found) = look.first_in_bytes(value) {
        return Some(found);
    }
    let mut left = vec![value];
    let mut whole = true;
    while let Some(bytes) = left.pop() {
        let mut inner = Vec::new();
        let mut of = |oid: u32, field: &'v [u8]| {
            let shape = Shape::of(oid, true);
            match shape {
                Shape::ArrayBinary | Shape::OpaqueBinary | Shape::UnknownBinary(_) => {
                    if !field.is_empty() {
                        inner.push(field);
                    }
                    None
                }
                Shape::Text
                | Shape::Json
                | Shape::JsonbBinary
                | Shape::NumberText
                | Shape::FloatText
                | Shape::Int8Binary
                | Shape::NumericBinary
                | Shape::Float8Binary
                | Shape::UuidText
                | Shape::UuidBinary
                | Shape::ByteaText
                | Shape::Opaque
                | Shape::OpaqueText
                | Shape::TextArray
                | Shape::NumberArray
                | Shape::Unknown(_)
                | Shape::Never => look.leaf(shape, field),
            }
        };
        match in_array(bytes, &mut of).or_else(|| in_record(bytes, &mut of)) {
            Some(Some(found)) => return Some(found),
            Some(None) => left.append(&mut inner),
            None => {
                // No container: what is read here is read nowhere else. The whole was searched above.
                let found = guess::bytes(look, bytes);
                let found = if whole { found } else { found.or_else(|| look.first_in_bytes(bytes)) };
                if found.is_some() {
                    return found;
                }
            }
        }
        whole = false;
    }
    None
}

/// What finds something in the elements of an array; the outer `None` where the bytes are none.
///
/// The word behind the dimensions is a flag of 0 or 1; in a record a type's oid stands there, and none of these is one.
fn in_array<'v>(
    value: &'v [u8],
    of: &mut impl FnMut(u32, &'v [u8]) -> Option<Detector>,
) -> Option<Option<Detector>> {
    let head = Head::read(value)?;
    let ends = (0..head.elements).try_fold(head.bytes, |at, _| Some(sized(value, at)?.1))?;
    if ends != value.len() {
        return None;
    }
    let mut at = head.bytes;
    for _ in 0..head.elements {
        let (element, end) = sized(value, at)?;
        at = end;
        if let Some(found) = element.and_then(|element| of(head.element_oid, element)) {
            return Some(Some(found));
        }
    }
    Some(None)
}

/// The same of the fields of a record.
fn in_record<'v>(
    value: &'v [u8],
    of: &mut impl FnMut(u32, &'v [u8]) -> Option<Detector>,
) -> Option<Option<Detector>> {
    let count = usize::try_from(word(value, 0)?).ok()?;
    let ends = (0..count).try_fold(4, |at, _| {
        word(value, at)?;
        Some(sized(value, at + 4)?.1)
    })?;
    if ends != value.len() {
        return None;
    }
    let mut at = 4;
    for _ in 0..count {
        let oid = word(value, at)?.cast_unsigned();
        let (field, end) = sized(value, at + 4)?;
        at = end;
        if let Some(found) = field.and_then(|field| of(oid, field)) {
            return Some(Some(found));
        }
    }
    Some(None)
}

/// The bounds of a range, or of each range of a multirange; empty where the bytes are neither.
pub(super) fn bounds(value: &[u8]) -> Vec<&[u8]> {
    in_range(value).or_else(|| in_multirange(value)).unwrap_or_default()
}

fn in_range(value: &[u8]) -> Option<Vec<&[u8]>> {
    const EMPTY: u8 = 0x01;
    const LOWER_INFINITE: u8 = 0x08;
    const UPPER_INFINITE: u8 = 0x10;
    const ALL: u8 = 0x1F;
    let flags = *value.first()?;
    if flags & !ALL != 0 {
        return None;
    }
    let count = match flags {
        flags if flags & EMPTY != 0 => 0,
        flags => 2 - usize::from(flags & LOWER_INFINITE != 0) - usize::from(flags & UPPER_INFINITE != 0),
    };
    let (mut bounds, mut at) = (Vec::with_capacity(count), 1);
    for _ in 0..count {
        let (bound, end) = sized(value, at)?;
        bounds.push(bound?);
        at = end;
    }
    (at == value.len()).then_some(bounds)
}

fn in_multirange(value: &[u8]) -> Option<Vec<&[u8]>> {
    let count = usize::try_from(word(value, 0)?).ok()?;
    let (mut bounds, mut at) = (Vec::new(), 4);
    for _ in 0..count {
        let (range, end) = sized(value, at)?;
        bounds.extend(in_range(range?)?);
        at = end;
    }
    (at == value.len()).then_some(bounds)
}
