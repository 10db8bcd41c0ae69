//! The short name of a record, as a refused client is told it and may read it out.
//!
//! Owns: writing and reading it. It holds the first 32 bits of the session's id and the low 20 of the record's number in the
//! session, in Crockford's base 32. It names, it proves nothing: two sessions may begin with the same bits. Compiles without
//! runtime, TLS and parser.

use core::fmt;

/// Crockford's digits: without I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of a reference.
const LENGTH: usize = 11;
/// Bits of the record's number that it holds.
const NUMBER_BITS: u32 = 20;
/// The same as a mask.
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// The name of the record `number` of a session: the same in the client's message, the server's log and the evidence.
pub fn reference(session: &[u8; 16], number: u64) -> String {
    let head = u32::from_be_bytes([session[0], session[1], session[2], session[3]]);
    let mut value = (u64::from(head) << NUMBER_BITS) | (number & NUMBER_MASK);
    let mut text = [b'0'; LENGTH];
    for place in text.iter_mut().rev() {
        *place = DIGITS.get((value & 31) as usize).copied().unwrap_or(b'0');
        value >>= 5;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    session: u32,
    number: u64,
}

impl Reference {
    /// Reads one as somebody typed it: upper or lower case, with O for 0 and I or L for 1.
    ///
    /// # Errors
    /// Words for whoever typed it.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let fault =
            || "write the 11 letters and digits that stand behind `ref` in the client's message".to_owned();
        let digit = |byte: u8| {
            let byte = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            DIGITS.iter().position(|digit| *digit == byte)
        };
        if text.len() != LENGTH {
            return Err(fault());
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            value = (value << 5) | digit(byte).ok_or_else(fault)? as u64;
        }
        let session = u32::try_from(value >> NUMBER_BITS).map_err(|_too_large| fault())?;
        Ok(Reference { session, number: value & NUMBER_MASK })
    }

    /// Whether the record `number` of `session` bears it.
    pub fn names(&self, session: &[u8; 16], number: u64) -> bool {
        session.starts_with(&self.session.to_be_bytes()) && number & NUMBER_MASK == self.number
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut session = [0; 16];
        session[..4].copy_from_slice(&self.session.to_be_bytes());
        f.write_str(&reference(&session, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_the_record_that_it_names() {
        let session = *b"\xde\xad\xbe\xef............";
        for number in [0, 1, 31, 32, NUMBER_MASK, NUMBER_MASK + 7] {
            let text = reference(&session, number);
            assert_eq!(text.len(), LENGTH);
            let read = Reference::parse(&text.to_lowercase()).unwrap();
            assert!(read.names(&session, number) && !read.names(&session, number + 1), "{text}");
            assert!(!read.names(&[0; 16], number));
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(Reference::parse("OOOOOOOOOOL").unwrap().to_string(), "00000000001");
        for wrong in ["", "0XQZ6WG000", "0XQZ6WG00088", "0XQZ6WG000U", "ZZZZZZZZZZZ", "0XQZ6WG00é"] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
