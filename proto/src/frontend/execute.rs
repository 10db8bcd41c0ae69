//! Execute (`E`): runs a portal up to a number of rows. Server: `exec_execute_message` (postgres.c).

use std::{num::NonZeroU32, str::Utf8Error};

use super::open;
use crate::{FrontendTag, Malformed};

/// A portal to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'b> {
    portal: &'b [u8],
    row_limit: i32,
}

impl<'b> Execute<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// An unterminated name, a missing row limit, or bytes behind it.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::Execute)?;
        let portal = reader.text("portal name")?;
        let row_limit = reader.i32("row limit")?;
        reader.finish(Self { portal, row_limit })
    }

    /// The portal's name; empty is the unnamed portal.
    pub fn portal(&self) -> &'b [u8] {
        self.portal
    }

    /// The portal's name as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn portal_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.portal)
    }

    /// Most rows to return. `None`: all of them, which zero and (as the server reads it) negative numbers mean.
    pub fn row_limit(&self) -> Option<NonZeroU32> {
        u32::try_from(self.row_limit).ok().and_then(NonZeroU32::new)
    }

    /// The limit as sent.
    pub fn row_limit_word(&self) -> i32 {
        self.row_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static FIXTURE: &[u8] = b"E\0\0\0\x0bp1\0\0\0\0\x07";

    #[test]
    fn deconstruct() {
        let execute = Execute::parse(FIXTURE).unwrap();
        assert_eq!((execute.portal_str(), execute.row_limit()), (Ok("p1"), NonZeroU32::new(7)));
        for all in [&b"E\0\0\0\x09\0\0\0\0\0"[..], b"E\0\0\0\x09\0\xff\xff\xff\xff"] {
            assert_eq!(Execute::parse(all).unwrap().row_limit(), None);
        }
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::execute(&mut frame, "p1", 7).unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Execute::parse(frame).unwrap_err().what;
        assert_eq!(what(b"E\0\0\0\x04"), Reason::MissingNul { field: "portal name" });
        assert_eq!(what(b"E\0\0\0\x08\0\0\0\0"), Reason::Truncated { field: "row limit" });
        assert_eq!(what(b"E\0\0\0\x0a\0\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
    }
}
