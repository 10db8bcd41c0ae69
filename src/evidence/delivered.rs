//! Recorded rows and COPY data as values.
//!
//! Owns: the way from the frames that kinds 36 and 37 hold to rows, over the ends of records: a long frame may go on in the
//! next one. May not: decode a value; that is [`super::value`]. Fails by an end: what is no frame is not guessed at.
//! Compiles with std alone.

/// Bytes of a frame before its body: tag and length.
const HEAD_BYTES: usize = 5;

/// One column: where its value stands in the frame, or NULL.
pub type Cell<'b> = Option<&'b [u8]>;

/// The frames of one result, or of one direction of a COPY, as they are read from its records in order.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The beginning of a frame that is not whole yet.
    rest: Vec<u8>,
    broken: bool,
}

impl Frames {
    /// None yet.
    pub fn new() -> Frames {
        Frames::default()
    }

    /// Takes the bytes of the next record, and hands every frame that is whole by now to `each`, without its head.
    ///
    /// Bytes that are no frames end it: nothing of them or behind them is handed on. [`Frames::is_broken`] says so.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if self.broken {
            return;
        }
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(head) = self.rest.get(at..at + HEAD_BYTES) {
            let length =
                head.get(1..).and_then(|length| length.first_chunk::<4>()).copied().unwrap_or_default();
            let end = usize::try_from(u32::from_be_bytes(length))
                .ok()
                .and_then(|length| (at + 1).checked_add(length));
            let Some(end) = end.filter(|end| *end >= at + HEAD_BYTES) else {
                self.broken = true;
                return;
            };
            let Some(body) = self.rest.get(at + HEAD_BYTES..end) else { break };
            each(body);
            at = end;
        }
        self.rest.drain(..at);
    }

    /// Whether something was no frame.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bytes of a frame that is not whole: 0 at the end of a result, unless its capture was cut off.
    pub fn waiting_bytes(&self) -> usize {
        self.rest.len()
    }
}

/// The columns of a DataRow's body; `None` where it is none.
pub fn cells(body: &[u8]) -> Option<Vec<Cell<'_>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let mut cells = Vec::with_capacity(count.min(rest.len() / 4));
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        rest = behind;
        if length == -1 {
            cells.push(None);
            continue;
        }
        let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        cells.push(Some(value));
        rest = behind;
    }
    rest.is_empty().then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = vec![b'D'];
        frame.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        frame.extend(body);
        frame
    }

    proptest! {
        /// However records cut the frames, the same bodies come out.
        #[test]
        fn frames_are_found_across_records(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
                                           cut in 1usize..64) {
            let all: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            let (mut frames, mut found) = (Frames::new(), Vec::new());
            for piece in all.chunks(cut) {
                frames.push(piece, |body| found.push(body.to_vec()));
            }
            prop_assert_eq!(found, bodies);
            prop_assert_eq!(frames.waiting_bytes(), 0);
        }

        /// Neither bytes that are no frames nor those that are no row are guessed at.
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            Frames::new().push(&bytes, |_| {});
            drop(cells(&bytes));
        }
    }

    #[test]
    fn a_row_has_its_values_and_nulls() {
        let body = [&[0, 3][..], &[0, 0, 0, 1], b"a", &[255; 4], &[0; 4]].concat();
        assert_eq!(cells(&body), Some(vec![Some(&b"a"[..]), None, Some(&b""[..])]));
        assert_eq!(cells(&body[..body.len() - 1]), None);
        let mut frames = Frames::new();
        frames.push(&[b'D', 0, 0, 0, 3, 0, 0], |_| panic!("a length below four is no frame"));
        assert!(frames.is_broken());
    }
}
