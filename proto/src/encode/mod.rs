//! The frames that the gateway itself originates, appended to a `Vec<u8>`. Owns their layout; what a peer sent is never
//! encoded again, it is forwarded as received.
//!
//! **Invariant.** Either a whole frame is appended whose length word is right and which [`frontend::Message::parse`]
//! or [`backend::Message::parse`] reads back, or nothing is and [`Unencodable`] says why. Frames of fixed content cannot
//! fail and return nothing.
//!
//! Text goes in without its NUL; a NUL inside it would end the string early on the other side and is refused.
//!
//! [`frontend::Message::parse`]: crate::frontend::Message::parse
//! [`backend::Message::parse`]: crate::backend::Message::parse

mod backend;
mod frontend;
mod startup;

pub use backend::{
    authentication_cleartext_password, authentication_md5_password, authentication_ok, authentication_sasl,
    authentication_sasl_continue, authentication_sasl_final, backend_key_data, bind_complete, close_complete,
    command_complete, copy_both_response, copy_in_response, copy_out_response, data_row,
    empty_query_response, error_response, function_call_response, negotiate_protocol_version, no_data,
    notice_response, notification_response, parameter_description, parameter_status, parse_complete,
    portal_suspended, ready_for_query, row_description,
};
pub use frontend::{
    bind, close, copy_fail, describe, execute, flush, function_call, parse, password, query,
    sasl_initial_response, sasl_response, sync, terminate,
};
pub use startup::{cancel_request, gssenc_request, ssl_request, startup};

use thiserror::Error;

use crate::{Format, HEADER_BYTES};

/// Input that no frame can carry. The gateway's own fault, unless the text came from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unencodable {
    /// A NUL inside a text.
    #[error("{field} of {frame} holds a NUL")]
    NulInside {
        /// The message.
        frame: &'static str,
        /// The text.
        field: &'static str,
    },
    /// More elements than a count can say.
    #[error("{count} {field} in {frame}: at most {limit} can be sent")]
    TooMany {
        /// The message.
        frame: &'static str,
        /// What is counted.
        field: &'static str,
        /// How many were given.
        count: usize,
        /// How many the count can say.
        limit: usize,
    },
    /// More bytes than a length can say, or than the other side reads.
    #[error("{bytes} bytes of {field} in {frame}: at most {limit} can be sent")]
    TooLong {
        /// The message.
        frame: &'static str,
        /// What is measured.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A text that must not be empty is: an empty name would end its list.
    #[error("{field} of {frame} is empty")]
    Empty {
        /// The message.
        frame: &'static str,
        /// The text.
        field: &'static str,
    },
    /// A key that no cancel request can have.
    #[error("a cancel key of {bytes} bytes: 4 to 256 can be sent")]
    KeyLength {
        /// Its bytes.
        bytes: usize,
    },
}

/// Most bytes a length word can say.
const LENGTH_MAX: usize = 0x7fff_ffff;

/// Appends one frame. Dropped unfinished (by `?`), it takes back what it appended.
struct Frame<'o> {
    out: &'o mut Vec<u8>,
    name: &'static str,
    /// Where the frame begins.
    start: usize,
    /// Where its length word stands.
    length_at: usize,
    done: bool,
}

impl<'o> Frame<'o> {
    /// Begins a frame with a type byte.
    fn typed(out: &'o mut Vec<u8>, tag: u8, name: &'static str) -> Self {
        let start = out.len();
        out.push(tag);
        out.extend_from_slice(&[0; HEADER_BYTES - 1]);
        Self { out, name, start, length_at: start + 1, done: false }
    }

    /// Begins a startup packet, which has none.
    fn untyped(out: &'o mut Vec<u8>, name: &'static str) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { out, name, start, length_at: start, done: false }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn text(&mut self, field: &'static str, text: &[u8]) -> Result<(), Unencodable> {
        if memchr::memchr(0, text).is_some() {
            return Err(Unencodable::NulInside { frame: self.name, field });
        }
        self.bytes(text);
        self.bytes(&[0]);
        Ok(())
    }

    /// A text of a list that an empty text ends.
    fn element(&mut self, field: &'static str, text: &[u8]) -> Result<(), Unencodable> {
        if text.is_empty() {
            return Err(Unencodable::Empty { frame: self.name, field });
        }
        self.text(field, text)
    }

    fn count(&mut self, field: &'static str, count: usize) -> Result<(), Unencodable> {
        let limit = usize::from(u16::MAX);
        let word = u16::try_from(count).map_err(|_| Unencodable::TooMany {
            frame: self.name,
            field,
            count,
            limit,
        })?;
        self.bytes(&word.to_be_bytes());
        Ok(())
    }

    fn formats(&mut self, field: &'static str, formats: &[Format]) -> Result<(), Unencodable> {
        self.count(field, formats.len())?;
        for format in formats {
            self.bytes(&format.code().to_be_bytes());
        }
        Ok(())
    }

    fn oids(&mut self, field: &'static str, oids: &[u32]) -> Result<(), Unencodable> {
        self.count(field, oids.len())?;
        for oid in oids {
            self.bytes(&oid.to_be_bytes());
        }
        Ok(())
    }

    fn value(&mut self, field: &'static str, value: Option<&[u8]>) -> Result<(), Unencodable> {
        let Some(value) = value else {
            self.bytes(&(-1_i32).to_be_bytes());
            return Ok(());
        };
        let (bytes, limit) = (value.len(), LENGTH_MAX);
        let word = i32::try_from(bytes).map_err(|_| Unencodable::TooLong {
            frame: self.name,
            field,
            bytes,
            limit,
        })?;
        self.bytes(&word.to_be_bytes());
        self.bytes(value);
        Ok(())
    }

    fn values(&mut self, field: &'static str, values: &[Option<&[u8]>]) -> Result<(), Unencodable> {
        self.count(field, values.len())?;
        values.iter().try_for_each(|value| self.value(field, *value))
    }

    fn key(&mut self, key: &[u8]) -> Result<(), Unencodable> {
        if !(crate::CANCEL_KEY_BYTES_MIN..=crate::CANCEL_KEY_BYTES_MAX).contains(&key.len()) {
            return Err(Unencodable::KeyLength { bytes: key.len() });
        }
        self.bytes(key);
        Ok(())
    }

    /// Writes the length word.
    fn finish(mut self) -> Result<(), Unencodable> {
        let bytes = self.out.len().saturating_sub(self.length_at);
        let too_long = Unencodable::TooLong { frame: self.name, field: "content", bytes, limit: LENGTH_MAX };
        let word = i32::try_from(bytes).map_err(|_| too_long)?.to_be_bytes();
        let slot = self.out.get_mut(self.length_at..).and_then(<[u8]>::first_chunk_mut::<4>);
        debug_assert!(slot.is_some(), "the length word was reserved when the frame began");
        *slot.ok_or(too_long)? = word;
        self.done = true;
        Ok(())
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.out.truncate(self.start);
        }
    }
}

/// Appends a CopyData (either direction).
///
/// # Errors
/// More bytes than a length can say.
pub fn copy_data(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unencodable> {
    let mut frame = Frame::typed(out, b'd', "CopyData");
    frame.bytes(data);
    frame.finish()
}

/// Appends a CopyDone (either direction).
pub fn copy_done(out: &mut Vec<u8>) {
    out.extend_from_slice(b"c\0\0\0\x04");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::ProtocolVersion;

    #[test]
    fn what_cannot_be_sent_leaves_no_trace() {
        let mut out = b"kept".to_vec();
        let nul = Unencodable::NulInside { frame: "Parse", field: "statement text" };
        assert_eq!(parse(&mut out, "s", "SELECT '\0'", &[]), Err(nul));
        assert_eq!(nul.to_string(), "statement text of Parse holds a NUL");
        let many =
            Unencodable::TooMany { frame: "Parse", field: "parameter types", count: 65_536, limit: 65_535 };
        assert_eq!(parse(&mut out, "s", "SELECT", &vec![0; 65_536]), Err(many));
        assert_eq!(backend_key_data(&mut out, 1, b"abc"), Err(Unencodable::KeyLength { bytes: 3 }));
        assert_eq!(cancel_request(&mut out, 1, &[0; 257]), Err(Unencodable::KeyLength { bytes: 257 }));
        let empty = Unencodable::Empty { frame: "StartupMessage", field: "parameter name" };
        assert_eq!(startup(&mut out, ProtocolVersion::V3_0, [("", "x")]), Err(empty));
        let empty = Unencodable::Empty { frame: "Authentication", field: "mechanism" };
        assert_eq!(authentication_sasl(&mut out, [""]), Err(empty));
        let long = "x".repeat(crate::STARTUP_BYTES_MAX);
        let bytes = 4 + 5 + long.len() + 1 + 1;
        let limit = crate::STARTUP_BYTES_MAX;
        let too_long = Unencodable::TooLong { frame: "StartupMessage", field: "parameters", bytes, limit };
        assert_eq!(startup(&mut out, ProtocolVersion::V3_0, [("user", &long)]), Err(too_long));
        assert_eq!(
            error_response(&mut out, &[(0, "text")]),
            Err(Unencodable::Empty { frame: "ErrorResponse", field: "field code" })
        );
        assert_eq!(out, b"kept");
    }
}
