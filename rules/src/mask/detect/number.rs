//! Detectors of numbers: payment cards, social security numbers, telephone numbers.
//!
//! Owns: those three and the reading of grouped digits. May not: look beyond the value. Sources: ISO/IEC 7812 with the brands'
//! published ranges; the SSA's and IRS's rules of areas and groups; E.164 and the North American numbering plan.

use super::text::{open_left, open_right, stretch};

/// Most digits that a number of a detector has.
const DIGITS_MAX: usize = 20;

/// Digits in groups.
pub(super) struct Grouped {
    pub(super) digits: [u8; DIGITS_MAX],
    pub(super) end: usize,
    /// What joins the groups, where it is the same everywhere.
    joint: Option<u8>,
}

pub(super) fn digits(value: &[u8], start: usize) -> usize {
    stretch(value, start, DIGITS_MAX + 1, |byte| byte.is_ascii_digit())
}

/// Whether a number, not a part of a longer one, can begin at `start`.
pub(super) fn begins(value: &[u8], start: usize) -> bool {
    open_left(value, start)
        && !(matches!(byte_before(value, start), Some(b'-' | b'.')) && digit_before(value, start))
}

fn byte_before(value: &[u8], start: usize) -> Option<u8> {
    start.checked_sub(1).and_then(|place| value.get(place)).copied()
}

/// Whether a digit stands before the byte that stands before `start`.
fn digit_before(value: &[u8], start: usize) -> bool {
    start.checked_sub(2).and_then(|place| value.get(place)).is_some_and(u8::is_ascii_digit)
}

impl Grouped {
    /// Whether more digits stand before it, joined by a space as its own groups are: it is a part of something longer.
    pub(super) fn goes_on_before(&self, value: &[u8], start: usize) -> bool {
        self.joint == Some(b' ') && byte_before(value, start) == Some(b' ') && digit_before(value, start)
    }
}

/// Whether it ends before `end`: no further digits, joined by a separator or not.
pub(super) fn ends(value: &[u8], end: usize) -> bool {
    let continues =
        matches!(value.get(end), Some(b'-' | b'.')) && value.get(end + 1).is_some_and(u8::is_ascii_digit);
    open_right(value, end) && !continues
}

/// Reads groups of these sizes from `start`, each joined to the next by one separator of its own position in `joints`;
/// where `joints` is a single one of several bytes, all must be the same one of them.
pub(super) fn grouped(value: &[u8], start: usize, groups: &[usize], joint: Joint<'_>) -> Option<Grouped> {
    let mut out = Grouped { digits: [0; DIGITS_MAX], end: start, joint: None };
    let mut count = 0;
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            let byte = *value.get(out.end)?;
            let fits = match joint {
                Joint::Same(of) => of.contains(&byte) && *out.joint.get_or_insert(byte) == byte,
                Joint::Exactly(bytes) => bytes.get(index - 1) == Some(&byte),
            };
            if !fits {
                return None;
            }
            out.end += 1;
        }
        for _ in 0..*group {
            let byte = *value.get(out.end)?;
            if !byte.is_ascii_digit() {
                return None;
            }
            *out.digits.get_mut(count)? = byte - b'0';
            (count, out.end) = (count + 1, out.end + 1);
        }
    }
    (!value.get(out.end).is_some_and(u8::is_ascii_digit)).then_some(out)
}

/// What stands between groups.
#[derive(Clone, Copy)]
pub(super) enum Joint<'j> {
    /// One of these, the same everywhere.
    Same(&'j [u8]),
    /// These in order.
    Exactly(&'j [u8]),
}

const CARD_GROUPS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// A card number, written together or as on the card.
pub(super) fn card(value: &[u8], start: usize) -> Option<usize> {
    let fraction = byte_before(value, start) == Some(b'.') && digit_before(value, start);
    if !open_left(value, start) || fraction {
        return None;
    }
    let together = digits(value, start);
    let candidate = match together {
        12..=19 => grouped(value, start, &[together], Joint::Same(b"")),
        4 => {
            let found = CARD_GROUPS.iter().find_map(|groups| {
                let read = grouped(value, start, groups, Joint::Same(b" -."))?;
                let count = groups.iter().sum();
                is_card(read.digits.get(..count)?).then_some(read.end)
            })?;
            return (open_right(value, found) && !in_uuid(value, start)).then_some(found);
        }
        _ => None,
    }?;
    let sound = is_card(candidate.digits.get(..together)?) && open_right(value, candidate.end);
    (sound && !in_uuid(value, start)).then_some(candidate.end)
}

/// Whether the digits (0 to 9) are a card's: brand, length and check digit.
fn is_card(digits: &[u8]) -> bool {
    brand_takes(digits) && luhn(digits)
}

fn brand_takes(digits: &[u8]) -> bool {
    let Some(head) = digits.first_chunk::<6>() else { return false };
    let head = head.iter().fold(0_u32, |head, digit| head * 10 + u32::from(*digit));
    match (head, digits.len()) {
        // Visa; those of 13 digits have not been issued for decades, and EAN-13 of Germany look like them
        (400_000..=499_999, 16 | 19)
        // Mastercard
        | (510_000..=559_999 | 222_100..=272_099, 16)
        // American Express
        | (340_000..=349_999 | 370_000..=379_999, 15)
        // Discover and RuPay
        | (601_100..=601_199 | 644_000..=659_999 | 508_500..=508_999 | 606_985..=608_500, 16..=19)
        // JCB
        | (352_800..=358_999, 16..=19)
        // Diners Club
        | (300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999, 14..=19)
        // UnionPay
        | (620_000..=629_999, 16..=19)
        // Maestro
        | (501_800..=501_899 | 502_000..=502_099 | 503_800..=503_899 | 589_300..=589_399 | 630_400..=630_499
            | 675_900..=675_999 | 676_100..=676_399, 12..=19)
        // Mir, Troy
        | (220_000..=220_499 | 979_200..=979_289, 16..=19) => true,
        _ => false,
    }
}

/// The check of ISO/IEC 7812-1, over digits 0 to 9.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) * (1 + u32::from(place % 2 == 1));
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the digits at `start` are a group of a UUID: random ids must not look like cards.
pub(super) fn in_uuid(value: &[u8], start: usize) -> bool {
    [0, 9, 14, 19, 24].into_iter().any(|offset| {
        start.checked_sub(offset).and_then(|begin| value.get(begin..begin + 36)).is_some_and(|id| {
            id.iter().enumerate().all(|(place, byte)| match place {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
        })
    })
}

/// A social security number or an ITIN with separators. Without them any nine digits would be one.
pub(super) fn ssn(value: &[u8], start: usize) -> Option<usize> {
    if !begins(value, start) {
        return None;
    }
    let read = grouped(value, start, &[3, 2, 4], Joint::Same(b" -"))?;
    if read.goes_on_before(value, start) {
        return None;
    }
    let Grouped { digits, end, .. } = read;
    let number = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0_u32, |all, digit| all * 10 + u32::from(*digit))
    };
    let (area, group, serial) = (number(0, 3), number(3, 5), number(5, 9));
    let sound = match area {
        0 | 666 => false,
        900..=999 => matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99),
        _ => group != 0 && serial != 0,
    };
    (sound && ends(value, end)).then_some(end)
}

/// A telephone number: `+` and eight to fifteen digits, or ten of the North American plan with separators.
pub(super) fn phone(value: &[u8], start: usize) -> Option<usize> {
    match value.get(start)? {
        b'+' => international(value, start),
        _ => north_american(value, start),
    }
}

fn international(value: &[u8], start: usize) -> Option<usize> {
    if !open_left(value, start) || !matches!(value.get(start + 1), Some(b'1'..=b'9')) {
        return None;
    }
    let (mut at, mut count) = (start + 1, 0);
    let end = loop {
        if !value.get(at)?.is_ascii_digit() {
            return None;
        }
        (at, count) = (at + 1, count + 1);
        if count > 15 {
            return None;
        }
        // Up to two separators, as in "+1 (415) 555".
        let joint = stretch(value, at, 2, |byte| matches!(byte, b' ' | b'-' | b'.' | b'(' | b')'));
        if !value.get(at + joint).is_some_and(u8::is_ascii_digit) {
            break at;
        }
        at += joint;
    };
    let end = extended(value, end);
    (count >= 8 && end - start >= pgturnstile_sweep::RUN_BYTES_MIN && open_right(value, end)).then_some(end)
}

/// Digits of an extension behind an `x`.
const EXTENSION_DIGITS_MAX: usize = 6;

fn north_american(value: &[u8], start: usize) -> Option<usize> {
    if !begins(value, start) {
        return None;
    }
    let (digits, end) = if value.get(start) == Some(&b'(') {
        let space = usize::from(value.get(start + 5) == Some(&b' '));
        let area = grouped(value, start + 1, &[3], Joint::Same(b""))?;
        if value.get(area.end) != Some(&b')') {
            return None;
        }
        let rest = grouped(value, area.end + 1 + space, &[3, 4], Joint::Same(b" -."))?;
        let mut digits = area.digits;
        digits.get_mut(3..10)?.copy_from_slice(rest.digits.get(..7)?);
        (digits, rest.end)
    } else {
        // The trunk prefix may be joined like the rest.
        let prefixed = matches!(value.get(start..start + 2), Some([b'1', b' ' | b'-' | b'.']));
        let groups: &[usize] = if prefixed { &[1, 3, 3, 4] } else { &[3, 3, 4] };
        let mut read = grouped(value, start, groups, Joint::Same(b" -."))?;
        if read.goes_on_before(value, start) {
            return None;
        }
        read.digits.rotate_left(usize::from(prefixed));
        (read.digits, read.end)
    };
    let sound = digits.first()? >= &2 && digits.get(3)? >= &2;
    let end = extended(value, end);
    (sound && ends(value, end)).then_some(end)
}

/// Behind the extension of a number that ends at `end`, as in `415-555-2671x123`.
fn extended(value: &[u8], end: usize) -> usize {
    if !matches!(value.get(end), Some(b'x' | b'X')) {
        return end;
    }
    match stretch(value, end + 1, EXTENSION_DIGITS_MAX, |byte| byte.is_ascii_digit()) {
        0 => end,
        digits => end + 1 + digits,
    }
}
