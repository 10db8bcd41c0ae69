//! The order of the answers to what the gateway itself asks.
//!
//! Owns: which frame of the backend has a place next. May not: read a frame's content. Fails closed: a frame out of its place
//! has none, and ends the session.
//!
//! ```text
//!   Query:     (T D C)…            for each text
//!   by name:   3 3  (1 2 D C 3 3)…  for each text; the first two where a reading before it may have left its names
//! ```

use pgturnstile_proto::BackendTag as Tag;

/// Of one text of a Query that gives one row.
const OF_A_QUERY: &[Tag] = &[Tag::RowDescription, Tag::DataRow, Tag::CommandComplete];
/// Of Parse, Bind, Execute, and Close of both, of one that gives one row.
const BY_NAME: &[Tag] = &[
    Tag::ParseComplete,
    Tag::BindComplete,
    Tag::DataRow,
    Tag::CommandComplete,
    Tag::CloseComplete,
    Tag::CloseComplete,
];

/// What is still to come.
#[derive(Debug)]
pub struct Answers {
    /// CloseComplete before all else.
    closes: u8,
    of_each: &'static [Tag],
    /// Texts that are not answered yet, and how many frames of the first of them are here.
    texts: usize,
    here: usize,
}

impl Answers {
    /// To so many texts of a Query.
    pub fn of_a_query(texts: usize) -> Self {
        Self { closes: 0, of_each: OF_A_QUERY, texts, here: 0 }
    }

    /// To so many texts under a reserved name; `closed_before`: what may bear it is closed first.
    pub fn by_name(texts: usize, closed_before: bool) -> Self {
        Self { closes: if closed_before { 2 } else { 0 }, of_each: BY_NAME, texts, here: 0 }
    }

    /// Whether the frame has its place here.
    pub fn takes(&mut self, tag: Tag) -> bool {
        if self.closes > 0 {
            self.closes -= u8::from(tag == Tag::CloseComplete);
            return tag == Tag::CloseComplete;
        }
        if self.texts == 0 || self.of_each.get(self.here) != Some(&tag) {
            return false;
        }
        self.here += 1;
        if self.here == self.of_each.len() {
            self.here = 0;
            self.texts -= 1;
        }
        true
    }

    /// An error ends them all.
    pub fn failed(&mut self) {
        self.closes = 0;
        self.texts = 0;
    }

    /// Whether nothing is still to come.
    pub fn over(&self) -> bool {
        self.closes == 0 && self.texts == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_has_one_place() {
        for (make, whole) in [
            (Answers::of_a_query as fn(usize) -> Answers, OF_A_QUERY),
            (|texts| Answers::by_name(texts, false), BY_NAME),
        ] {
            for stop in 0..2 * whole.len() {
                let mut answers = make(2);
                for at in 0..stop {
                    assert!(!answers.over());
                    assert!(answers.takes(whole[at % whole.len()]), "{at}");
                }
                let next = whole[stop % whole.len()];
                for tag in OF_A_QUERY.iter().chain(BY_NAME).filter(|tag| **tag != next) {
                    assert!(!answers.takes(*tag), "{tag:?} behind {stop}");
                }
            }
        }
    }

    #[test]
    fn what_is_closed_first_is_answered_first() {
        let mut answers = Answers::by_name(1, true);
        assert!(!answers.takes(Tag::ParseComplete));
        assert!(answers.takes(Tag::CloseComplete) && answers.takes(Tag::CloseComplete));
        assert!(!answers.takes(Tag::CloseComplete));
        assert!(BY_NAME.iter().all(|tag| answers.takes(*tag)));
        assert!(answers.over() && !answers.takes(Tag::ParseComplete));
    }

    #[test]
    fn nothing_stands_behind_an_error() {
        let mut answers = Answers::of_a_query(4);
        assert!(answers.takes(Tag::RowDescription));
        answers.failed();
        assert!(answers.over() && !answers.takes(Tag::DataRow));
    }
}
