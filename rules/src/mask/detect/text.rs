//! Detectors of what is made of letters and digits: IBAN, e-mail. And where a word begins.
//!
//! Owns: those two, and the rule of word boundaries that every detector follows. May not: look beyond the value. Sources: ISO
//! 13616 and the SWIFT registry of IBAN formats; RFC 5321 without quoted local parts and address literals.

use super::plausible_run;

/// Whether a word can begin at `start`: nothing of a word stands before it, or an escape that ends there. A letter behind a
/// backslash is the escape's own (JSON, COPY, arrays); a digit behind one is not: no escape of them is made so.
pub(super) fn open_left(value: &[u8], start: usize) -> bool {
    let here = value.get(start);
    match before(value, start, 1) {
        None => true,
        Some(b'\\') => !here.is_some_and(u8::is_ascii_alphabetic),
        // The first track of a magnetic stripe.
        Some(b'B') if before(value, start, 2) == Some(b'%') => here.is_some_and(u8::is_ascii_digit),
        Some(byte) => !byte.is_ascii_alphanumeric() || behind_escape(value, start),
    }
}

fn before(value: &[u8], start: usize, distance: usize) -> Option<u8> {
    start.checked_sub(distance).and_then(|place| value.get(place)).copied()
}

/// Whether an escape ends before `start`: a backslash and a letter, or `\u` and four hexadecimal digits.
fn behind_escape(value: &[u8], start: usize) -> bool {
    let unicode = |from: usize| {
        value.get(from..from + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let letter = before(value, start, 1).is_some_and(|byte| byte.is_ascii_alphabetic());
    if letter && before(value, start, 2) == Some(b'\\') {
        return before(value, start, 1) != Some(b'u') || !unicode(start);
    }
    start
        .checked_sub(6)
        .is_some_and(|escape| value.get(escape..escape + 2) == Some(b"\\u".as_slice()) && unicode(escape + 2))
}

/// Whether a word can end before `end`.
pub(super) fn open_right(value: &[u8], end: usize) -> bool {
    !value.get(end).is_some_and(u8::is_ascii_alphanumeric)
}

/// How many bytes from `start` on are of a kind, at most `most`.
pub(super) fn stretch(value: &[u8], start: usize, most: usize, of: impl Fn(u8) -> bool) -> usize {
    value.get(start..).unwrap_or_default().iter().take(most).take_while(|byte| of(**byte)).count()
}

/// Lengths of account numbers by country.
const COUNTRIES: &[(&[u8; 2], u8)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// An IBAN, written together or in groups of four, in any case. It must hold a stretch of digits that the sweep sees, which
/// every one does whose account number is not mostly letters.
pub(super) fn iban(value: &[u8], start: usize) -> Option<usize> {
    let &[a, b, c, d] = value.get(start..)?.first_chunk::<4>()?;
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    if !c.is_ascii_digit() || !d.is_ascii_digit() || !open_left(value, start) {
        return None;
    }
    let length = usize::from(COUNTRIES.iter().find(|(code, _)| **code == country)?.1);
    let separator = value.get(start + 4).copied().filter(|byte| matches!(byte, b' ' | b'-'));
    let mut digits = [0_u8; 34];
    let mut at = start;
    for index in 0..length {
        if let Some(separator) = separator
            && index > 0
            && index % 4 == 0
        {
            if value.get(at) != Some(&separator) {
                return None;
            }
            at += 1;
        }
        let byte = value.get(at)?.to_ascii_uppercase();
        if !byte.is_ascii_alphanumeric() {
            return None;
        }
        *digits.get_mut(index)? = byte;
        at += 1;
    }
    let account = digits.get(..length)?;
    let inside = value.get(start..at)?;
    let seen = || (0..inside.len()).any(|place| plausible_run(inside, place));
    (open_right(value, at) && mod_97(account) == 1 && seen()).then_some(at)
}

fn mod_97(account: &[u8]) -> u32 {
    let (head, rest) = account.split_at_checked(4).unwrap_or((account, &[]));
    rest.iter().chain(head).fold(0, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter.wrapping_sub(b'A')) + 10) % 97,
    })
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | 0x80..=0xFF)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | 0x80..=0xFF)
}

/// An e-mail address: local part, `@`, at least two labels, the last of letters.
pub(super) fn email(value: &[u8], start: usize) -> Option<usize> {
    let here = *value.get(start)?;
    let begins = is_local(here)
        && match before(value, start, 1) {
            None => true,
            Some(b'\\') => !here.is_ascii_alphabetic(),
            Some(byte) => !is_local(byte) || behind_escape(value, start),
        };
    if !begins {
        return None;
    }
    let at = start + stretch(value, start, usize::MAX, is_local);
    if value.get(at) != Some(&b'@') {
        return None;
    }
    let length = stretch(value, at + 1, DOMAIN_BYTES_MAX, is_domain);
    let domain = value.get(at + 1..at + 1 + length)?;
    // The longest part that is a domain: a sentence may end behind it, or something else be joined to it.
    let of_label = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
    (1..=length)
        .rev()
        .find(|end| !domain.get(*end).is_some_and(of_label) && domain.get(..*end).is_some_and(is_domain_name))
        .map(|end| at + 1 + end)
}

/// Bytes of a domain at most (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 255;

fn is_domain_name(domain: &[u8]) -> bool {
    let Some(dot) = memchr::memrchr(b'.', domain) else { return false };
    let top = domain.get(dot + 1..).unwrap_or_default();
    let letters = top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    let encoded = top.starts_with(b"xn--") && top.last() != Some(&b'-');
    dot > 0 && (top.len() >= 2 && letters || encoded)
}
