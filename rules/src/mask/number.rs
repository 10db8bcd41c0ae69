//! Numbers as PostgreSQL sends them, to decimal digits and back.
//!
//! Owns: `int8`, `float8`, `numeric` in binary, and numbers in text. May not: mask. Fails: what is no number of the type is
//! `None`. Source: `numeric_send` (src/backend/utils/adt/numeric.c).

/// `int8` in binary.
pub(super) fn int8(value: &[u8]) -> Option<String> {
    Some(i64::from_be_bytes(value.try_into().ok()?).to_string())
}

/// `int8` in binary, where it has as many digits as a card: most have not, and none of those need be spelled.
pub(super) fn long_int8(value: &[u8]) -> Option<String> {
    /// The smallest of fourteen digits.
    const LONG_MIN: u64 = 10_000_000_000_000;
    let number = i64::from_be_bytes(value.try_into().ok()?);
    (number.unsigned_abs() >= LONG_MIN).then(|| number.to_string())
}

/// A whole `float8` that is exact, as decimal digits.
fn float(value: f64) -> Option<String> {
    // Above 2^63 no card or id is exact any more.
    (value.is_finite() && value.fract() == 0.0 && value.abs() < 9.2e18).then(|| format!("{value:.0}"))
}

/// `float8` in binary, where it is a whole number.
pub(super) fn float8(value: &[u8]) -> Option<String> {
    float(f64::from_be_bytes(value.try_into().ok()?))
}

/// A number in text, where it is whole: `4711`, `-4711.00`, `4.711e+3`.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    if text.bytes().any(|byte| matches!(byte, b'e' | b'E')) {
        return float(text.parse().ok()?);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (sound && fraction.bytes().all(|byte| byte == b'0')).then(|| whole.to_owned())
}

/// Whether a value is spelled as the server spells numbers: a fraction, an exponent and a sign or none of them.
pub(super) fn is_figure(value: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let unsigned = |text: &[u8]| digits(text.strip_prefix(b"-").unwrap_or(text));
    let mut parts = value.splitn(2, |byte| *byte == b'e');
    let (mantissa, exponent) = (parts.next().unwrap_or_default(), parts.next());
    let mut parts = mantissa.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let whole_is = !whole.is_empty() && whole != b"-" && unsigned(whole);
    whole_is && digits(fraction) && exponent.is_none_or(|e| unsigned(e.strip_prefix(b"+").unwrap_or(e)))
}

/// `numeric` in binary, where it is a whole number.
pub(super) fn numeric(value: &[u8]) -> Option<String> {
    let word = |at: usize| Some(i16::from_be_bytes(*value.get(at..)?.first_chunk::<2>()?));
    let (count, weight, sign) = (usize::try_from(word(0)?).ok()?, word(2)?, word(4)?.cast_unsigned());
    word(6)?;
    if value.len() != 8 + 2 * count || !matches!(sign, 0 | 0x4000) || weight > 7 {
        return None;
    }
    let mut out = String::new();
    if sign == 0x4000 {
        out.push('-');
    }
    for place in 0..=usize::try_from(weight).ok()? {
        let digit = if place < count { word(8 + 2 * place)? } else { 0 };
        if !(0..10_000).contains(&digit) {
            return None;
        }
        out.push_str(&if place == 0 { digit.to_string() } else { format!("{digit:04}") });
    }
    let whole = usize::try_from(weight + 1).ok()?;
    let fraction_is_zero = (whole..count).all(|place| word(8 + 2 * place) == Some(0));
    fraction_is_zero.then_some(out)
}

/// Appends a whole, positive `numeric` in binary.
pub(super) fn write_numeric(value: u64, out: &mut Vec<u8>) {
    let mut digits = Vec::new();
    let mut rest = value;
    while rest > 0 {
        digits.push(u16::try_from(rest % 10_000).unwrap_or(0));
        rest /= 10_000;
    }
    digits.reverse();
    let count = u16::try_from(digits.len()).unwrap_or(0);
    for word in [count, count.saturating_sub(1), 0, 0].into_iter().chain(digits) {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_every_spelling() {
        assert_eq!(text(b"4711.00").as_deref(), Some("4711"));
        assert_eq!(text(b"-4711").as_deref(), Some("-4711"));
        assert_eq!(text(b"4.111111111111111e+15").as_deref(), Some("4111111111111111"));
        for no_number in ["123-45-6789", "+4711", "-", "4-7", "4711.0.0", ".0"] {
            assert_eq!(text(no_number.as_bytes()), None, "{no_number}");
        }
        assert_eq!((text(b"4711.5"), text(b"NaN"), text(b""), text(b"1e999")), (None, None, None, None));
        assert_eq!(float8(&4_111_111_111_111_111_f64.to_be_bytes()).as_deref(), Some("4111111111111111"));
        for figure in ["4711", "-4711.50", "4.1e+15", "-1e-7", "12."] {
            assert!(is_figure(figure.as_bytes()), "{figure}");
        }
        for other in ["", "-", ".5", "1.2.3", "123-45-6789", "4 7", "1e5e5", "NaN", "+47"] {
            assert!(!is_figure(other.as_bytes()), "{other}");
        }
        let long = |number: i64| long_int8(&number.to_be_bytes());
        assert_eq!((long(9_999_999_999_999), long(i64::MIN)), (None, Some(i64::MIN.to_string())));
        assert_eq!(long(-10_000_000_000_000).as_deref(), Some("-10000000000000"));
        assert_eq!(float8(&f64::NAN.to_be_bytes()), None);
        for number in [0, 1, 9_999, 10_000, 4_111_111_111_111_111, u64::MAX] {
            let mut bytes = Vec::new();
            write_numeric(number, &mut bytes);
            assert_eq!(numeric(&bytes).unwrap_or_else(|| "0".to_owned()), number.to_string());
        }
        // 1.5, NaN, a length that does not fit
        assert_eq!(numeric(b"\0\x02\0\0\0\0\0\x01\0\x01\x13\x88"), None);
        assert_eq!(numeric(b"\0\0\0\0\xC0\0\0\0"), None);
        assert_eq!(numeric(b"\0\x09\0\0\0\0\0\0"), None);
    }
}
