//! Times as people write and read them.
//!
//! Owns: RFC 3339 out, RFC 3339 or a date in, always UTC. A time that no calendar has is printed as its number.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 as RFC 3339.
pub fn rfc3339(ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

fn nanoseconds(time: Timestamp) -> Result<u64, String> {
    u64::try_from(time.as_nanosecond()).map_err(|_| "it lies before 1970 or too far ahead".to_owned())
}

/// A moment, or the first of a date, UTC.
///
/// # Errors
/// Words for whoever typed it.
pub fn begin(text: &str) -> Result<u64, String> {
    match text.parse::<Date>() {
        Ok(date) if !text.contains(['T', 't', ' ']) => {
            let time = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
            nanoseconds(time.timestamp())
        }
        Ok(_) | Err(_) => match text.parse::<Timestamp>() {
            Ok(time) => nanoseconds(time),
            Err(_) => {
                Err("write a date (2026-11-21) or a time with its zone (2026-11-21T14:00:00Z)".to_owned())
            }
        },
    }
}

/// A moment, or the end of a date, UTC: what comes before it counts.
///
/// # Errors
/// As [`begin`].
pub fn end(text: &str) -> Result<u64, String> {
    let date = text.len() == "2026-11-21".len() && text.parse::<Date>().is_ok();
    let day_ns = if date { 86_400_000_000_000 } else { 0 };
    begin(text).map(|from| from.saturating_add(day_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_begins_at_its_first_moment_and_ends_at_its_last() {
        let day = 86_400_000_000_000;
        assert_eq!(begin("1970-01-02"), Ok(day));
        assert_eq!(end("1970-01-02"), Ok(2 * day));
        assert_eq!(end("1970-01-02T00:00:00Z"), Ok(day));
        assert_eq!(begin("1970-01-02T01:00:00+01:00"), Ok(day));
        assert_eq!(rfc3339(day), "1970-01-02T00:00:00Z");
        for wrong in ["", "yesterday", "1969-12-31", "2026-13-01", "2026-11-21T14:00:00"] {
            assert!(begin(wrong).is_err() && end(wrong).is_err(), "{wrong}");
        }
    }
}
