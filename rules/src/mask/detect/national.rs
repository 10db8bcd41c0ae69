//! National ids that carry a check digit.
//!
//! Owns: one table of countries, each with its grouping and its check. May not: look beyond the value. What has one weak
//! check digit and no date is only found with its separators: one in ten of all numbers of that length would pass.
//! Sources: the issuing authorities' published rules, as named at each.

use super::number::{Grouped, Joint, begins, digits, ends, grouped, in_uuid, luhn};

type Check = fn(&[u8]) -> bool;

/// Groups, what joins them, and the check over the digits.
struct Form {
    groups: &'static [usize],
    joint: Joint<'static>,
    check: Check,
}

/// Written with separators.
const SEPARATED: &[Form] = &[
    // United Kingdom, NHS number
    Form { groups: &[3, 3, 4], joint: Joint::Same(b" -"), check: nhs },
    // Canada, SIN
    Form { groups: &[3, 3, 3], joint: Joint::Same(b" -"), check: sin },
    // Brazil, CPF and CNPJ
    Form { groups: &[3, 3, 3, 2], joint: Joint::Exactly(b"..-"), check: cpf },
    Form { groups: &[2, 3, 3, 4, 2], joint: Joint::Exactly(b"../-"), check: cnpj },
    // India, Aadhaar
    Form { groups: &[4, 4, 4], joint: Joint::Same(b" -"), check: aadhaar },
    // Belgium, national register number
    Form { groups: &[2, 2, 2, 3, 2], joint: Joint::Exactly(b"..-."), check: belgium },
    // France, NIR
    Form { groups: &[1, 2, 2, 2, 3, 3, 2], joint: Joint::Same(b" "), check: france },
    // Sweden, personal identity number
    Form { groups: &[6, 4], joint: Joint::Same(b"-"), check: sweden },
    // South Korea, resident registration number
    Form { groups: &[6, 7], joint: Joint::Same(b"-"), check: korea },
    // Thailand
    Form { groups: &[1, 4, 5, 2, 1], joint: Joint::Same(b"-"), check: thailand },
];

/// Written together: two check digits, or one and a date, or a structure. South Korea's is not among them: it is written with
/// its hyphen, and milliseconds since 1970 read as one.
const TOGETHER: &[(usize, Check)] = &[
    (11, cpf),
    (11, poland),
    (11, norway),
    (11, turkey),
    (11, germany),
    (11, belgium),
    (11, baltic),
    (13, south_africa),
    (15, france),
];

/// Any of them.
pub(super) fn id(value: &[u8], start: usize) -> Option<usize> {
    if !value.get(start)?.is_ascii_digit() || !begins(value, start) {
        return None;
    }
    let together = digits(value, start);
    let end = if matches!(together, 11 | 13 | 15) {
        let Grouped { digits, end, .. } = grouped(value, start, &[together], Joint::Same(b""))?;
        let digits = digits.get(..together)?;
        TOGETHER.iter().find(|(length, check)| *length == together && check(digits)).map(|_| end)
    } else if together == 17 || together == 18 {
        china(value, start, together)
    } else {
        SEPARATED.iter().find_map(|form| {
            let read = grouped(value, start, form.groups, form.joint)?;
            let count = form.groups.iter().sum();
            let sound = !read.goes_on_before(value, start) && (form.check)(read.digits.get(..count)?);
            sound.then_some(read.end)
        })
    }?;
    (ends(value, end) && !in_uuid(value, start)).then_some(end)
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

fn digit(digits: &[u8], place: usize) -> u32 {
    u32::from(digits.get(place).copied().unwrap_or(0))
}

fn number(digits: &[u8], from: usize, to: usize) -> u64 {
    digits.get(from..to).unwrap_or_default().iter().fold(0, |all, digit| all * 10 + u64::from(*digit))
}

fn all_same(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| matches!(pair, [a, b] if a == b))
}

fn is_day(month: u64, day: u64) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

fn nhs(d: &[u8]) -> bool {
    let check = 11 - weighted(d, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    check != 10 && check % 11 == digit(d, 9) && !all_same(d)
}

fn sin(d: &[u8]) -> bool {
    luhn(d) && digit(d, 0) != 0 && digit(d, 0) != 8
}

fn mod_11_check(d: &[u8], weights: &[u32]) -> u32 {
    match weighted(d, weights) % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    }
}

fn cpf(d: &[u8]) -> bool {
    !all_same(d)
        && mod_11_check(d, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(d, 9)
        && mod_11_check(d, &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(d, 10)
}

fn cnpj(d: &[u8]) -> bool {
    !all_same(d)
        && mod_11_check(d, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(d, 12)
        && mod_11_check(d, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == digit(d, 13)
}

/// Verhoeff's check.
fn aadhaar(d: &[u8]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PERMUTED: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let check = d.iter().rev().enumerate().fold(0_u8, |check, (place, digit)| {
        let row = PERMUTED.get(place % 8).copied().unwrap_or_default();
        let next = row.get(usize::from(*digit)).copied().unwrap_or(0);
        PRODUCT.get(usize::from(check)).and_then(|row| row.get(usize::from(next))).copied().unwrap_or(0)
    });
    check == 0 && digit(d, 0) >= 2 && !are_years_or_round(d)
}

/// Whether groups of four digits are all years, or all round: figures side by side, of which one in ten passes the check.
fn are_years_or_round(d: &[u8]) -> bool {
    let groups = [number(d, 0, 4), number(d, 4, 8), number(d, 8, 12)];
    groups.iter().all(|group| (1900..2100).contains(group))
        || groups.iter().all(|group| group.is_multiple_of(50))
}

fn belgium(d: &[u8]) -> bool {
    let (serial, key) = (number(d, 0, 9), number(d, 9, 11));
    let plausible = number(d, 2, 4) <= 12 && number(d, 4, 6) <= 31 && number(d, 6, 9) != 0;
    plausible && (97 - serial % 97 == key || 97 - (2_000_000_000 + serial) % 97 == key)
}

fn france(d: &[u8]) -> bool {
    let month = number(d, 3, 5);
    let plausible = matches!(digit(d, 0), 1 | 2) && ((1..=12).contains(&month) || (20..=42).contains(&month));
    plausible && 97 - number(d, 0, 13) % 97 == number(d, 13, 15)
}

fn sweden(d: &[u8]) -> bool {
    let day = number(d, 4, 6);
    // Coordination numbers add sixty to the day.
    luhn(d) && is_day(number(d, 2, 4), if day > 60 { day - 60 } else { day })
}

fn korea(d: &[u8]) -> bool {
    let check = (11 - weighted(d, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10;
    is_day(number(d, 2, 4), number(d, 4, 6)) && (1..=8).contains(&digit(d, 6)) && check == digit(d, 12)
}

fn thailand(d: &[u8]) -> bool {
    let check = (11 - weighted(d, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 10;
    digit(d, 0) != 0 && check == digit(d, 12)
}

fn poland(d: &[u8]) -> bool {
    let month = number(d, 2, 4) % 20;
    let check = (10 - weighted(d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10;
    is_day(month, number(d, 4, 6)) && check == digit(d, 10)
}

fn norway(d: &[u8]) -> bool {
    let (day, month) = (number(d, 0, 2) % 40, number(d, 2, 4) % 40);
    let first = (11 - weighted(d, &[3, 7, 6, 1, 8, 9, 4, 5, 2]) % 11) % 11;
    let second = (11 - weighted(d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    is_day(month, day) && first == digit(d, 9) && second == digit(d, 10)
}

fn turkey(d: &[u8]) -> bool {
    let odd: u32 = [0, 2, 4, 6, 8].into_iter().map(|place| digit(d, place)).sum();
    let even: u32 = [1, 3, 5, 7].into_iter().map(|place| digit(d, place)).sum();
    let tenth = (odd * 7 + 90 - even) % 10;
    digit(d, 0) != 0 && tenth == digit(d, 9) && (odd + even + digit(d, 9)) % 10 == digit(d, 10)
}

/// The tax id: of its first ten digits one stands twice or three times and the others at most once.
fn germany(d: &[u8]) -> bool {
    let mut seen = [0_u8; 10];
    for digit in d.iter().take(10) {
        if let Some(count) = seen.get_mut(usize::from(*digit)) {
            *count += 1;
        }
    }
    let repeated = seen.iter().filter(|count| **count > 1).count();
    let structure = repeated == 1 && seen.iter().all(|count| *count <= 3) && digit(d, 0) != 0;
    let product = d.iter().take(10).fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    structure && (11 - product) % 10 == digit(d, 10)
}

/// Estonia and Lithuania.
fn baltic(d: &[u8]) -> bool {
    let first = weighted(d, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11;
    let check = match first {
        10 => weighted(d, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11 % 10,
        check => check,
    };
    (1..=8).contains(&digit(d, 0)) && is_day(number(d, 3, 5), number(d, 5, 7)) && check == digit(d, 10)
}

fn south_africa(d: &[u8]) -> bool {
    // Milliseconds since 1970, from 2020 to 2033, read as children's of 2016 to 2020.
    let is_time = (1_600_000_000_000..2_000_000_000_000).contains(&number(d, 0, 13));
    !is_time && luhn(d) && is_day(number(d, 2, 4), number(d, 4, 6)) && matches!(digit(d, 10), 0 | 1)
}

/// Eighteen digits, the last of which may be an `X` (GB 11643).
fn china(value: &[u8], start: usize, together: usize) -> Option<usize> {
    let mut d = [0_u8; 17];
    for (place, digit) in d.iter_mut().enumerate() {
        *digit = value.get(start + place)?.wrapping_sub(b'0');
    }
    let last = match (together, value.get(start + 17)?) {
        (17, b'X' | b'x') => 10,
        (18, byte) => u32::from(byte.wrapping_sub(b'0')),
        _ => return None,
    };
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let dated = matches!(number(&d, 6, 8), 19 | 20) && is_day(number(&d, 10, 12), number(&d, 12, 14));
    (dated && (weighted(&d, &weights) + last) % 11 == 1).then_some(start + 18)
}
