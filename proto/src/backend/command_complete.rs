//! CommandComplete (`C`): the command tag. Server: `EndCommand` (dest.c), tags in `cmdtaglist.h`.

use std::str::Utf8Error;

use super::open;
use crate::{BackendTag, Malformed};

/// Commands whose tag ends with a number of rows (`rowcnt` in cmdtaglist.h; CREATE TABLE AS reports as SELECT).
const COUNTING: [&[u8]; 8] =
    [b"COPY", b"DELETE", b"FETCH", b"INSERT", b"MERGE", b"MOVE", b"SELECT", b"UPDATE"];

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'b> {
    tag: &'b [u8],
}

impl<'b> CommandComplete<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A missing NUL, one inside the tag, or anything behind it.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::CommandComplete)?;
        let tag = reader.last_text("command tag")?;
        reader.finish(Self { tag })
    }

    /// The tag: `SELECT 5`, `INSERT 0 5`, `CREATE TABLE`.
    pub fn tag(&self) -> &'b [u8] {
        self.tag
    }

    /// The tag as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn tag_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.tag)
    }

    /// Rows returned, changed, copied or passed, where the command counts rows.
    pub fn rows(&self) -> Option<u64> {
        let mut words = self.tag.split(|&byte| byte == b' ');
        let verb = words.next()?;
        if !COUNTING.contains(&verb) {
            return None;
        }
        if verb == b"INSERT" {
            // INSERT's first number is the oid of a row in a table with oids, which no supported server has: 0
            words.next().filter(|oid| decimal(oid).is_some())?;
        }
        let rows = decimal(words.next()?)?;
        words.next().is_none().then_some(rows)
    }
}

/// Digits only: no sign, no blank, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static FIXTURE: &[u8] = b"C\0\0\0\x0dSELECT 5\0";

    #[test]
    fn deconstruct() {
        let complete = CommandComplete::parse(FIXTURE).unwrap();
        assert_eq!(
            (complete.tag(), complete.tag_str(), complete.rows()),
            (&b"SELECT 5"[..], Ok("SELECT 5"), Some(5))
        );
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::command_complete(&mut frame, "SELECT 5").unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn rows_are_read_where_the_tag_has_them() {
        let rows = |tag: &str| CommandComplete { tag: tag.as_bytes() }.rows();
        assert_eq!(rows("INSERT 0 5"), Some(5));
        assert_eq!(rows("COPY 18446744073709551615"), Some(u64::MAX));
        for (verb, count) in [("DELETE", 0), ("FETCH", 1), ("MERGE", 2), ("MOVE", 3), ("UPDATE", 4)] {
            assert_eq!(rows(&format!("{verb} {count}")), Some(count));
        }
        for none in [
            "",
            "SELECT",
            "SELECT ",
            "SELECT x",
            "SELECT -1",
            "SELECT +1",
            "SELECT 1 2",
            "INSERT 5",
            "INSERT x 5",
            "COPY 18446744073709551616",
            "CREATE TABLE",
            "CREATE TABLE 5",
            "select 5",
            "SELECT 5 ",
            "SELECT  5",
        ] {
            assert_eq!(rows(none), None, "{none}");
        }
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| CommandComplete::parse(frame).unwrap_err().what;
        assert_eq!(what(b"C\0\0\0\x04"), Reason::MissingNul { field: "command tag" });
        assert_eq!(what(b"C\0\0\0\x08a\0b\0"), Reason::NulInside { field: "command tag" });
        assert_eq!(what(b"C\0\0\0\x07a\0b"), Reason::TrailingBytes { count: 1 });
    }
}
