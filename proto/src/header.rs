//! The five bytes in front of every frame behind the startup packet. Owns where a frame ends, and nothing else.

use crate::{BackendTag, FrontendTag, Limits, Malformed, Reason};

/// Bytes of a header: the type and the length word.
pub const HEADER_BYTES: usize = 5;

/// Type and size of the next frame, read from its first five bytes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<T> {
    /// The message type.
    pub tag: T,
    /// Bytes of the whole frame, type byte and length word included; at least 5.
    pub len: usize,
}

/// What a header of one direction needs to know. Sealed by being private.
pub(crate) trait Tag: Copy {
    const UNKNOWN: &'static str;
    fn of(byte: u8) -> Option<Self>;
    fn title(self) -> &'static str;
    fn limit(self, limits: &Limits) -> usize;
}

impl Tag for FrontendTag {
    const UNKNOWN: &'static str = "frontend frame";
    #[inline]
    fn of(byte: u8) -> Option<Self> {
        Self::from_byte(byte)
    }
    #[inline]
    fn title(self) -> &'static str {
        self.name()
    }
    #[inline]
    fn limit(self, limits: &Limits) -> usize {
        limits.frontend(self)
    }
}

impl Tag for BackendTag {
    const UNKNOWN: &'static str = "backend frame";
    #[inline]
    fn of(byte: u8) -> Option<Self> {
        Self::from_byte(byte)
    }
    #[inline]
    fn title(self) -> &'static str {
        self.name()
    }
    #[inline]
    fn limit(self, limits: &Limits) -> usize {
        limits.backend(self)
    }
}

#[inline]
fn peek<T: Tag>(buf: &[u8], limits: &Limits) -> Result<Option<Header<T>>, Malformed> {
    let Some((&[byte, a, b, c, d], _)) = buf.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let Some(tag) = T::of(byte) else {
        return Err(Malformed { frame: T::UNKNOWN, what: Reason::UnknownTag { byte }, offset: 0 });
    };
    let declared = i32::from_be_bytes([a, b, c, d]);
    let body = match usize::try_from(declared) {
        Ok(length) if length >= 4 => length - 4,
        Ok(_) | Err(_) => {
            let what = Reason::LengthTooSmall { declared, least: 4 };
            return Err(Malformed { frame: tag.title(), what, offset: 1 });
        }
    };
    let limit = tag.limit(limits);
    if body > limit {
        return Err(Malformed {
            frame: tag.title(),
            what: Reason::OverLimit { declared: body, limit },
            offset: 1,
        });
    }
    Ok(Some(Header { tag, len: body + HEADER_BYTES }))
}

/// Size of the next whole frame if its first byte is `byte` and its length is legal under `limit`: the header as a
/// relay's hop needs it, without the reasons.
#[inline]
pub(crate) fn size_of(buf: &[u8], byte: u8, limit: usize) -> Option<usize> {
    let (&[found, a, b, c, d], _) = buf.split_first_chunk::<HEADER_BYTES>()?;
    let body = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok()?.checked_sub(4)?;
    (found == byte && body <= limit).then_some(body + HEADER_BYTES)
}

impl Header<FrontendTag> {
    /// Reads the header of a client's next frame. `Ok(None)`: fewer than five bytes are there.
    ///
    /// # Errors
    /// Unknown type, a length below four, or one over `limits` for this type. The connection cannot be read further:
    /// nobody knows where the next frame starts.
    #[inline]
    pub fn peek(buf: &[u8], limits: &Limits) -> Result<Option<Self>, Malformed> {
        peek(buf, limits)
    }
}

impl Header<BackendTag> {
    /// Reads the header of a server's next frame. `Ok(None)`: fewer than five bytes are there.
    ///
    /// # Errors
    /// As for the frontend's header.
    #[inline]
    pub fn peek(buf: &[u8], limits: &Limits) -> Result<Option<Self>, Malformed> {
        peek(buf, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontend(bytes: &[u8]) -> Result<Option<Header<FrontendTag>>, Malformed> {
        Header::<FrontendTag>::peek(bytes, &Limits::default())
    }

    #[test]
    fn fewer_than_five_bytes_say_nothing_yet() {
        for length in 0..HEADER_BYTES {
            assert_eq!(frontend(&[0xff; HEADER_BYTES][..length]), Ok(None));
        }
    }

    #[test]
    fn a_header_counts_the_whole_frame() {
        assert_eq!(frontend(b"Q\0\0\0\x0dSELECT 1\0"), Ok(Some(Header { tag: FrontendTag::Query, len: 14 })));
        assert_eq!(frontend(b"S\0\0\0\x04"), Ok(Some(Header { tag: FrontendTag::Sync, len: 5 })));
    }

    #[test]
    fn impossible_lengths_and_types_are_named() {
        let what = |bytes: &[u8]| frontend(bytes).unwrap_err().what;
        assert_eq!(what(b"Q\0\0\0\x03"), Reason::LengthTooSmall { declared: 3, least: 4 });
        assert_eq!(what(b"Q\xff\xff\xff\xff"), Reason::LengthTooSmall { declared: -1, least: 4 });
        assert_eq!(what(b"Q\x80\0\0\0"), Reason::LengthTooSmall { declared: i32::MIN, least: 4 });
        assert_eq!(
            what(b"Q\x7f\xff\xff\xff"),
            Reason::OverLimit {
                declared: 0x7fff_fffb,
                limit: Limits::default().frontend(FrontendTag::Query)
            }
        );
        assert_eq!(what(b"Z\0\0\0\x04"), Reason::UnknownTag { byte: b'Z' });
        assert_eq!(
            frontend(b"Q\0\0\0\x03").unwrap_err().to_string(),
            "malformed Query at byte 1: declared length 3 is less than 4"
        );
    }

    #[test]
    fn the_limit_of_each_type_is_exact() {
        let limits = Limits::default();
        for &tag in FrontendTag::ALL {
            let at = |body: usize| {
                let mut frame = vec![tag.byte()];
                frame.extend_from_slice(&i32::try_from(body + 4).unwrap().to_be_bytes());
                Header::<FrontendTag>::peek(&frame, &limits)
            };
            let limit = limits.frontend(tag);
            assert_eq!(at(limit), Ok(Some(Header { tag, len: limit + 5 })));
            assert_eq!(at(limit + 1).unwrap_err().what, Reason::OverLimit { declared: limit + 1, limit });
        }
        for &tag in BackendTag::ALL {
            let at = |body: usize| {
                let mut frame = vec![tag.byte()];
                frame.extend_from_slice(&i32::try_from(body + 4).unwrap().to_be_bytes());
                Header::<BackendTag>::peek(&frame, &limits)
            };
            let limit = limits.backend(tag);
            assert_eq!(at(limit), Ok(Some(Header { tag, len: limit + 5 })));
            assert_eq!(at(limit + 1).unwrap_err().what, Reason::OverLimit { declared: limit + 1, limit });
        }
    }
}
