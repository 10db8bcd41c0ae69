//! Format codes: 0 is text, 1 is binary, nothing else exists. Owns their lists as they stand in Bind, FunctionCall and
//! the Copy responses.

/// How a value is spelled on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The type's text form.
    Text,
    /// The type's binary form.
    Binary,
}

impl Format {
    /// The format that a code names, if it names one.
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }

    /// The code on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// A checked list of format codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Formats<'b> {
    codes: &'b [u8],
}

impl<'b> Formats<'b> {
    /// Over codes that were read one by one and found known.
    pub(crate) fn new(codes: &'b [u8]) -> Self {
        Self { codes }
    }

    /// How many codes were sent.
    pub fn len(&self) -> usize {
        self.codes.len() / 2
    }

    /// None were sent: everything is text.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The codes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Format> + Clone + use<'b> {
        self.codes.chunks_exact(2).map(decode)
    }

    /// The format of value number `index`, by the protocol's rule: no code means all text, one code is for all, else
    /// one code for each. `None` where a list of several has no code for `index`.
    pub fn of(&self, index: usize) -> Option<Format> {
        match self.len() {
            0 => Some(Format::Text),
            1 => self.iter().next(),
            _ => self.iter().nth(index),
        }
    }
}

impl std::fmt::Debug for Formats<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The constructor admitted only `00 00` and `00 01`.
fn decode(code: &[u8]) -> Format {
    if code.last() == Some(&1) { Format::Binary } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_none_one_or_each() {
        assert_eq!(Formats::new(&[]).of(7), Some(Format::Text));
        assert_eq!(Formats::new(&[0, 1]).of(7), Some(Format::Binary));
        let each = Formats::new(&[0, 1, 0, 0]);
        assert_eq!((each.of(0), each.of(1), each.of(2)), (Some(Format::Binary), Some(Format::Text), None));
        assert_eq!(each.iter().len(), 2);
        assert_eq!(format!("{each:?}"), "[Binary, Text]");
    }

    #[test]
    fn codes_round_trip_and_others_are_none() {
        for code in i16::MIN..=i16::MAX {
            match Format::from_code(code) {
                Some(format) => assert_eq!(format.code(), code),
                None => assert!(code != 0 && code != 1),
            }
        }
    }
}
