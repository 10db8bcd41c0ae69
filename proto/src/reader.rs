//! The cursor under every view. Owns the walk over one frame's body; it can neither leave the frame nor forget to
//! reach its end, because [`Reader::finish`] is the only way to a view.

use crate::{Malformed, Reason, format::Formats, header::HEADER_BYTES, values::Values};

/// A cursor confined to one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'b> {
    frame: &'static str,
    /// Bytes of the whole frame, for offsets.
    total: usize,
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Opens a typed frame: exactly one, of the type asked for.
    #[inline]
    pub(crate) fn open(frame: &'b [u8], tag: u8, name: &'static str) -> Result<Self, Malformed> {
        let fail = |what, offset| Err(Malformed { frame: name, what, offset });
        let Some((&[found, a, b, c, d], body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return fail(Reason::NotOneFrame { given: frame.len(), declared: HEADER_BYTES }, 0);
        };
        if found != tag {
            return fail(Reason::WrongTag { expected: tag, found }, 0);
        }
        let declared = i32::from_be_bytes([a, b, c, d]);
        match usize::try_from(declared) {
            Ok(length) if length >= 4 => {
                if length - 4 == body.len() {
                    Ok(Self { frame: name, total: frame.len(), rest: body })
                } else {
                    fail(Reason::NotOneFrame { given: frame.len(), declared: length + 1 }, 1)
                }
            }
            Ok(_) | Err(_) => fail(Reason::LengthTooSmall { declared, least: 4 }, 1),
        }
    }

    /// Opens an untyped packet (startup) whose length word was checked by the caller; `packet` includes that word.
    #[inline]
    pub(crate) fn over(frame: &'static str, packet: &'b [u8], rest: &'b [u8]) -> Self {
        Self { frame, total: packet.len(), rest }
    }

    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn offset(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    pub(crate) fn fault(&self, what: Reason) -> Malformed {
        Malformed { frame: self.frame, what, offset: self.offset() }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.fault(Reason::Truncated { field }));
        };
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(field).map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, Malformed> {
        self.array(field).map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// A NUL-terminated string, without its NUL.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'b [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.fault(Reason::MissingNul { field }))?;
        match (self.rest.get(..end), self.rest.get(end + 1..)) {
            (Some(text), Some(rest)) => {
                self.rest = rest;
                Ok(text)
            }
            (_, _) => Err(self.fault(Reason::MissingNul { field })),
        }
    }

    /// A NUL-terminated string that must be the last field of its frame: exactly one NUL, at the end.
    pub(crate) fn last_text(&mut self, field: &'static str) -> Result<&'b [u8], Malformed> {
        let ends_with_nul = self.rest.last() == Some(&0);
        let text = self.text(field)?;
        match self.rest.len() {
            0 => Ok(text),
            _ if ends_with_nul => Err(self.fault(Reason::NulInside { field })),
            count => Err(self.fault(Reason::TrailingBytes { count })),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, field: &'static str, length: usize) -> Result<&'b [u8], Malformed> {
        let left = self.left();
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.fault(Reason::LengthBeyondFrame { field, length, left }));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A value: a length word, then so many bytes; −1 is NULL.
    #[inline]
    pub(crate) fn value(&mut self, field: &'static str) -> Result<Option<&'b [u8]>, Malformed> {
        let length = self.i32(field)?;
        match usize::try_from(length) {
            Ok(length) => self.bytes(field, length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.fault(Reason::NegativeLength { field, length })),
        }
    }

    /// Fails unless `count` elements of at least `least` bytes each can still follow.
    #[inline]
    pub(crate) fn room(&self, field: &'static str, count: usize, least: usize) -> Result<(), Malformed> {
        let left = self.left();
        match count.checked_mul(least) {
            Some(bytes) if bytes <= left => Ok(()),
            Some(_) | None => Err(self.fault(Reason::CountBeyondFrame { field, count, left })),
        }
    }

    /// A count of two bytes (the server reads it unsigned: 65,535 parameters are legal), then so many values.
    #[inline]
    pub(crate) fn values(
        &mut self,
        counted: &'static str,
        field: &'static str,
    ) -> Result<Values<'b>, Malformed> {
        let count = self.u16(counted)?;
        self.room(counted, usize::from(count), 4)?;
        let start = self.rest;
        for _ in 0..count {
            self.value(field)?;
        }
        let bytes = self.walked(start);
        Ok(Values::new(count, bytes))
    }

    /// A count of two bytes, then so many format codes, each of them known.
    pub(crate) fn formats(
        &mut self,
        counted: &'static str,
        field: &'static str,
    ) -> Result<Formats<'b>, Malformed> {
        let count = usize::from(self.u16(counted)?);
        self.room(counted, count, 2)?;
        let start = self.rest;
        for _ in 0..count {
            self.format(field)?;
        }
        Ok(Formats::new(self.walked(start)))
    }

    /// One format code.
    pub(crate) fn format(&mut self, field: &'static str) -> Result<crate::Format, Malformed> {
        let code = self.i16(field)?;
        crate::Format::from_code(code).ok_or_else(|| self.fault(Reason::UnknownFormat { field, code }))
    }

    /// What was consumed since `start` was the rest.
    #[inline]
    pub(crate) fn walked(&self, start: &'b [u8]) -> &'b [u8] {
        start.get(..start.len().saturating_sub(self.rest.len())).unwrap_or_default()
    }

    /// Everything not read yet, unread.
    #[inline]
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Takes everything not read yet.
    #[inline]
    pub(crate) fn take_rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the walk: fails if a byte is left.
    #[inline]
    pub(crate) fn finish<V>(self, view: V) -> Result<V, Malformed> {
        match self.rest.len() {
            0 => Ok(view),
            count => Err(self.fault(Reason::TrailingBytes { count })),
        }
    }
}
