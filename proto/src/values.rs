//! A counted list of nullable values: Bind's and FunctionCall's parameters, DataRow's columns. Owns its iteration.

/// A checked list of values. `None` is NULL; an empty slice is an empty value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Values<'b> {
    count: u16,
    bytes: &'b [u8],
}

impl<'b> Values<'b> {
    /// Over bytes that were walked and hold exactly `count` values.
    pub(crate) fn new(count: u16, bytes: &'b [u8]) -> Self {
        Self { count, bytes }
    }

    /// How many values there are, NULLs included.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in order.
    pub fn iter(&self) -> ValuesIter<'b> {
        ValuesIter { count: self.count, rest: self.bytes }
    }

    /// Length words and values as they stand in the frame, for digests over parameters as sent.
    pub fn as_bytes(&self) -> &'b [u8] {
        self.bytes
    }
}

impl<'b> IntoIterator for Values<'b> {
    type Item = Option<&'b [u8]>;
    type IntoIter = ValuesIter<'b>;

    fn into_iter(self) -> ValuesIter<'b> {
        self.iter()
    }
}

impl std::fmt::Debug for Values<'_> {
    /// Lengths only: values are data and do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|value| value.map(<[u8]>::len))).finish()
    }
}

/// Iterator over [`Values`].
#[derive(Clone)]
pub struct ValuesIter<'b> {
    count: u16,
    rest: &'b [u8],
}

impl<'b> Iterator for ValuesIter<'b> {
    type Item = Option<&'b [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, rest) = rest.split_at_checked(length)?;
                self.rest = rest;
                Some(Some(value))
            }
            Err(_) => {
                self.rest = rest;
                Some(None)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.count), Some(usize::from(self.count)))
    }
}

impl ExactSizeIterator for ValuesIter<'_> {}

impl std::fmt::Debug for ValuesIter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValuesIter").field("left", &self.count).finish()
    }
}

/// A word of four bytes, from a chunk that is known to have four.
pub(crate) fn word(chunk: &[u8]) -> u32 {
    chunk.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
