//! Values of PostgreSQL as text, from either form.
//!
//! Owns: how the binary form of the built-in types reads (`*_send` in src/backend/utils/adt), so that evidence which holds the
//! bytes can be read by people and tools. May not: know records. Fails: never; a type that is not known here, or bytes that
//! are no value of it, stay bytes. Compiles with std alone.
//!
//! Spelled as the server does under `DateStyle = ISO`, `IntervalStyle = postgres`, `TimeZone = UTC`.

use super::describe::Value;

/// Days from 1970-01-01 to PostgreSQL's 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const DAY_US: i64 = 86_400_000_000;
/// Nesting of arrays that is followed: PostgreSQL has six dimensions.
const DIMENSIONS_MAX: i32 = 6;

/// Oids of `pg_type.dat`, and the element of each array type of theirs.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const CHAR: u32 = 18;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const XML: u32 = 142;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const UNKNOWN: u32 = 705;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const DATE: u32 = 1082;
    pub(super) const TIME: u32 = 1083;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const INTERVAL: u32 = 1186;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
    pub(super) const ARRAYS: &[u32] = &[
        1000, 1001, 1002, 1003, 1016, 1005, 1007, 1009, 1028, 199, 143, 1021, 1022, 1014, 1015, 1182, 1183,
        1115, 1185, 1187, 1231, 2951, 3807,
    ];
}

/// A value as output shows it: text where it can be told, else its bytes.
pub fn shown(type_oid: u32, binary: bool, bytes: &[u8]) -> Value {
    text(type_oid, binary, bytes).map_or_else(|| Value::Bytes(bytes.to_vec()), Value::Text)
}

/// The text form of a value; `None` where its bytes are not understood. What is spelled in text already is its own.
pub fn text(type_oid: u32, binary: bool, bytes: &[u8]) -> Option<String> {
    if !binary {
        return utf8(bytes);
    }
    if oid::ARRAYS.contains(&type_oid) {
        return array(bytes);
    }
    match type_oid {
        oid::BOOL => match bytes {
            [0] => Some("f".to_owned()),
            [1] => Some("t".to_owned()),
            _ => None,
        },
        oid::BYTEA => Some(format!("\\x{}", super::describe::hex(bytes))),
        oid::CHAR
        | oid::NAME
        | oid::TEXT
        | oid::JSON
        | oid::XML
        | oid::UNKNOWN
        | oid::BPCHAR
        | oid::VARCHAR => utf8(bytes),
        oid::JSONB => bytes.strip_prefix(&[1]).and_then(utf8),
        oid::INT2 => whole(bytes, i16::from_be_bytes).map(|number| number.to_string()),
        oid::INT4 => whole(bytes, i32::from_be_bytes).map(|number| number.to_string()),
        oid::INT8 => whole(bytes, i64::from_be_bytes).map(|number| number.to_string()),
        oid::OID => whole(bytes, u32::from_be_bytes).map(|number| number.to_string()),
        oid::FLOAT4 => whole(bytes, f32::from_be_bytes).map(|number| float(&format!("{number:e}"), 6)),
        oid::FLOAT8 => whole(bytes, f64::from_be_bytes).map(|number| float(&format!("{number:e}"), 15)),
        oid::NUMERIC => numeric(bytes),
        oid::UUID => uuid(bytes),
        oid::DATE => whole(bytes, i32::from_be_bytes).map(|days| match days {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            days => {
                let (date, era) = date(i64::from(days));
                format!("{date}{era}")
            }
        }),
        oid::TIME => whole(bytes, i64::from_be_bytes).map(time),
        oid::TIMESTAMP => whole(bytes, i64::from_be_bytes).map(|at| timestamp(at, "")),
        oid::TIMESTAMPTZ => whole(bytes, i64::from_be_bytes).map(|at| timestamp(at, "+00")),
        oid::INTERVAL => interval(bytes),
        _ => None,
    }
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A number that takes all of the bytes.
fn whole<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Option<T> {
    bytes.try_into().ok().map(read)
}

/// The next `N` bytes as a number; moves on behind them.
fn take<const N: usize, T>(bytes: &mut &[u8], read: impl Fn([u8; N]) -> T) -> Option<T> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(read(*first))
}

/// As `float8out` spells the shortest digits: `scientific` is `d.ddde±x`, plain from 1e-4 up to 10^`digits`.
fn float(scientific: &str, digits: i32) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific {
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            _ => "NaN".to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    if !(-4..digits).contains(&exponent) {
        let way = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{way}{:02}", exponent.abs());
    }
    let figures: String = mantissa.chars().filter(|character| *character != '.').collect();
    let point = usize::try_from(exponent.max(-1) + 1).unwrap_or(0);
    let zeros = usize::try_from(-1 - exponent).unwrap_or(0);
    if zeros > 0 || point == 0 {
        return format!("{sign}0.{}{figures}", "0".repeat(zeros));
    }
    match figures.split_at_checked(point) {
        Some((before, "")) => format!("{sign}{before}"),
        Some((before, behind)) => format!("{sign}{before}.{behind}"),
        None => format!("{sign}{figures:0<point$}"),
    }
}

/// `numeric_send`: count of digits to the base 10,000, weight, sign, scale, digits.
fn numeric(mut bytes: &[u8]) -> Option<String> {
    let count = take(&mut bytes, i16::from_be_bytes)?;
    let weight = i64::from(take(&mut bytes, i16::from_be_bytes)?);
    let sign = match take(&mut bytes, u16::from_be_bytes)? {
        0 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let scale = usize::from(take(&mut bytes, u16::from_be_bytes)?);
    if bytes.len() != usize::try_from(count).ok()? * 2 {
        return None;
    }
    let digit = |place: i64| -> u16 {
        let at = usize::try_from(weight - place).ok().map(|at| at * 2);
        let pair = at.and_then(|at| bytes.get(at..)).and_then(|rest| rest.first_chunk::<2>());
        pair.map_or(0, |pair| u16::from_be_bytes(*pair))
    };
    let before: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", digit(place))).collect();
    let places = i64::try_from(scale.div_ceil(4)).ok()?;
    let behind: String = (1..=places).map(|place| format!("{:04}", digit(-place))).collect();
    let before = match before.trim_start_matches('0') {
        "" => "0",
        before => before,
    };
    Some(match behind.get(..scale) {
        None | Some("") => format!("{sign}{before}"),
        Some(behind) => format!("{sign}{before}.{behind}"),
    })
}

fn uuid(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 16 {
        return None;
    }
    let digits = super::describe::hex(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    Some(parts.join("-"))
}

/// The date of a day that PostgreSQL counts from 2000-01-01, and its era where it is not ours
/// (civil_from_days, howardhinnant.github.io/date_algorithms.html).
fn date(days: i64) -> (String, &'static str) {
    let from_march = days + EPOCH_DAYS + 719_468;
    let (cycle, day) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

/// A time of day, microseconds.
fn time(us: i64) -> String {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{whole}{}", fraction_of_second(fraction))
}

fn fraction_of_second(us: i64) -> String {
    if us == 0 {
        return String::new();
    }
    format!(".{:06}", us.abs()).trim_end_matches('0').to_owned()
}

fn timestamp(us: i64, zone: &str) -> String {
    match us {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        us => {
            let (date, era) = date(us.div_euclid(DAY_US));
            format!("{date} {}{zone}{era}", time(us.rem_euclid(DAY_US)))
        }
    }
}

/// `interval_send`: microseconds, days, months; as `IntervalStyle = postgres` spells it.
fn interval(mut bytes: &[u8]) -> Option<String> {
    let us = take(&mut bytes, i64::from_be_bytes)?;
    let days = take(&mut bytes, i32::from_be_bytes)?;
    let months = take(&mut bytes, i32::from_be_bytes)?;
    if !bytes.is_empty() {
        return None;
    }
    let mut parts: Vec<String> = Vec::new();
    let mut before = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let plus = if before && count > 0 { "+" } else { "" };
            parts.push(format!("{plus}{count} {unit}{}", if count == 1 { "" } else { "s" }));
            before = count < 0;
        }
    }
    if us != 0 || parts.is_empty() {
        let sign = if us < 0 {
            "-"
        } else if before {
            "+"
        } else {
            ""
        };
        let seconds = us.unsigned_abs() / 1_000_000;
        let fraction = i64::try_from(us.unsigned_abs() % 1_000_000).unwrap_or(0);
        parts.push(format!(
            "{sign}{:02}:{:02}:{:02}{}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            fraction_of_second(fraction)
        ));
    }
    Some(parts.join(" "))
}

/// `array_send`: dimensions, whether NULLs are in it, the element's type, each dimension's length and lower bound, elements.
fn array(mut bytes: &[u8]) -> Option<String> {
    let dimensions = take(&mut bytes, i32::from_be_bytes)?;
    let _nulls = take(&mut bytes, i32::from_be_bytes)?;
    let element = take(&mut bytes, u32::from_be_bytes)?;
    if !(0..=DIMENSIONS_MAX).contains(&dimensions) {
        return None;
    }
    let mut lengths = Vec::new();
    let mut bounds = String::new();
    let mut shifted = false;
    for _ in 0..dimensions {
        let length = take(&mut bytes, i32::from_be_bytes)?;
        let first = take(&mut bytes, i32::from_be_bytes)?;
        shifted |= first != 1;
        bounds.push_str(&format!("[{first}:{}]", first.checked_add(length)?.checked_sub(1)?));
        lengths.push(usize::try_from(length).ok()?);
    }
    let mut out = if shifted { format!("{bounds}=") } else { String::new() };
    if lengths.is_empty() {
        out.push_str("{}");
    } else {
        elements(&mut bytes, element, &lengths, &mut out)?;
    }
    bytes.is_empty().then_some(out)
}

fn elements(bytes: &mut &[u8], element: u32, lengths: &[usize], out: &mut String) -> Option<()> {
    let (length, inner) = lengths.split_first()?;
    out.push('{');
    for at in 0..*length {
        if at > 0 {
            out.push(',');
        }
        if !inner.is_empty() {
            elements(bytes, element, inner, out)?;
            continue;
        }
        let size = take(bytes, i32::from_be_bytes)?;
        let Ok(size) = usize::try_from(size) else {
            out.push_str("NULL");
            continue;
        };
        let (value, rest) = bytes.split_at_checked(size)?;
        *bytes = rest;
        quoted(&text(element, true, value)?, out);
    }
    out.push('}');
    Some(())
}

/// As `array_out` quotes an element.
fn quoted(element: &str, out: &mut String) {
    let plain = !element.is_empty()
        && !element.eq_ignore_ascii_case("null")
        && !element.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace());
    if plain {
        out.push_str(element);
        return;
    }
    out.push('"');
    for character in element.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_values_read_as_the_server_spells_them() {
        let numeric = |digits: &[u16], weight: i16, sign: u16, scale: u16| {
            let mut bytes = i16::try_from(digits.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(scale.to_be_bytes());
            digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
            bytes
        };
        let interval = |us: i64, days: i32, months: i32| {
            [&us.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat()
        };
        let cases: Vec<(u32, Vec<u8>, &str)> = vec![
            (oid::BOOL, vec![1], "t"),
            (oid::INT2, (-7i16).to_be_bytes().to_vec(), "-7"),
            (oid::INT8, i64::MIN.to_be_bytes().to_vec(), "-9223372036854775808"),
            (oid::FLOAT8, 0.1f64.to_be_bytes().to_vec(), "0.1"),
            (oid::FLOAT8, 1e15f64.to_be_bytes().to_vec(), "1e+15"),
            (oid::FLOAT8, 123_456.75f64.to_be_bytes().to_vec(), "123456.75"),
            (oid::FLOAT8, (-1e-5f64).to_be_bytes().to_vec(), "-1e-05"),
            (oid::FLOAT8, 0.000_12f64.to_be_bytes().to_vec(), "0.00012"),
            (oid::FLOAT8, 100f64.to_be_bytes().to_vec(), "100"),
            (oid::FLOAT8, (-0f64).to_be_bytes().to_vec(), "-0"),
            (oid::FLOAT4, f32::INFINITY.to_be_bytes().to_vec(), "Infinity"),
            (oid::NUMERIC, numeric(&[1, 2345, 6700], 1, 0, 2), "12345.67"),
            (oid::NUMERIC, numeric(&[5], -1, 0x4000, 6), "-0.000500"),
            (oid::NUMERIC, numeric(&[], 0, 0, 2), "0.00"),
            (oid::NUMERIC, numeric(&[1], 2, 0, 0), "100000000"),
            (oid::DATE, (-730_119i32).to_be_bytes().to_vec(), "0001-01-01"),
            (oid::DATE, (-730_120i32).to_be_bytes().to_vec(), "0001-12-31 BC"),
            (oid::DATE, 9_821i32.to_be_bytes().to_vec(), "2026-11-21"),
            (oid::TIMESTAMP, (-1i64).to_be_bytes().to_vec(), "1999-12-31 23:59:59.999999"),
            (oid::TIMESTAMPTZ, 1_500_000i64.to_be_bytes().to_vec(), "2000-01-01 00:00:01.5+00"),
            (oid::TIMESTAMP, i64::MAX.to_be_bytes().to_vec(), "infinity"),
            (oid::INTERVAL, interval(3_600_000_000, -1, 14), "1 year 2 mons -1 days +01:00:00"),
            (oid::INTERVAL, interval(0, 0, 0), "00:00:00"),
            (oid::UUID, (0..16).collect(), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (oid::BYTEA, vec![0, 255], "\\x00ff"),
            (oid::JSONB, b"\x01{}".to_vec(), "{}"),
            (oid::TEXT, "é".into(), "é"),
        ];
        for (oid, bytes, spelled) in cases {
            assert_eq!(text(oid, true, &bytes).as_deref(), Some(spelled), "{oid}");
        }
        assert_eq!(text(oid::INT4, true, b"abc"), None);
        assert_eq!(text(600, true, &[0; 16]), None, "a point is not understood");
        assert_eq!(text(600, false, b"(0,0)").as_deref(), Some("(0,0)"));
    }

    #[test]
    fn arrays_quote_what_would_be_misread() {
        let mut bytes = Vec::new();
        for number in [1, 1, 25, 3, 1] {
            bytes.extend(i32::to_be_bytes(number));
        }
        for element in [Some("a b"), None, Some("c")] {
            match element {
                Some(element) => {
                    bytes.extend(i32::try_from(element.len()).unwrap().to_be_bytes());
                    bytes.extend(element.as_bytes());
                }
                None => bytes.extend((-1i32).to_be_bytes()),
            }
        }
        assert_eq!(text(1009, true, &bytes).as_deref(), Some("{\"a b\",NULL,c}"));
    }

    proptest! {
        /// No bytes of a peer make it panic.
        #[test]
        fn any_bytes_are_taken(oid in prop_oneof![Just(16u32), Just(1009), Just(1700), Just(1082), Just(1114), Just(1186), Just(1007), Just(701)],
                               bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(text(oid, true, &bytes));
        }
    }
}
