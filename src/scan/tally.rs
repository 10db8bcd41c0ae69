//! One column's values, counted as they pass.
//!
//! Owns: what each detector matches in a value, and how often. May not: keep a value, or any part of one. Memory is bounded,
//! whatever the values are.

use pgturnstile_rules::mask::detect::{self, Detector, Detectors};
use pgturnstile_rules::mask::plan::Style;
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::tally::Hits;
use pgturnstile_rules::mask::value::Look;

use super::shape::Shapes;

/// Most bytes of a value that are looked at: the server was asked for fewer of most types.
const VALUE_BYTES_MAX: usize = 65_536;
/// Most digits that are counted of a value of digits.
const DIGITS_MAX: usize = 24;
/// Longest value of digits and separators.
const DIGITS_BYTES_MAX: usize = 40;

/// How a column's values are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As text: a match may be the whole value.
    Text,
    /// As a number in digits: every match is the whole value.
    Number,
    /// As this shape spells it; what is inside counts.
    Container(Shape),
}

/// Counts of one column.
#[derive(Debug, Default)]
pub struct Tally {
    /// Values that are NULL, or wider than what is looked at.
    pub absent: u64,
    /// Values looked at.
    pub looked: u64,
    /// Shapes of them.
    pub shapes: Shapes,
    hits: [u64; Detector::ALL.len()],
    whole: [u64; Detector::ALL.len()],
    digits: [u64; DIGITS_MAX + 1],
}

impl Tally {
    /// One more value.
    pub fn add(&mut self, spelling: Spelling, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.absent += 1;
            return;
        };
        let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
        self.looked += 1;
        match spelling {
            Spelling::Text | Spelling::Number => self.text(value),
            Spelling::Container(shape) => self.container(shape, value),
        }
    }

    fn text(&mut self, value: &[u8]) {
        let value = value.trim_ascii();
        self.shapes.add(value);
        self.count_digits(value);
        let mut seen = Hits::default();
        for found in detect::find(&Detectors::all(Style::Fixed), value) {
            seen.add(found.detector);
            if found.start == 0 && found.end == value.len() {
                bump(&mut self.whole, found.detector);
            }
        }
        self.hit(&seen);
    }

    fn container(&mut self, shape: Shape, value: &[u8]) {
        let detectors = Detectors::all(Style::Fixed);
        let (mut hits, mut out) = (Hits::default(), Vec::new());
        let mut look = Look { detectors: &detectors, tokens: None, hits: &mut hits };
        // A value that does not read has no match.
        if look.value(shape, value, &mut out).is_ok() {
            self.hit(&hits);
        }
    }

    fn hit(&mut self, seen: &Hits) {
        for (detector, _) in seen.iter() {
            bump(&mut self.hits, detector);
        }
    }

    fn count_digits(&mut self, value: &[u8]) {
        let of_number = |byte: &u8| {
            byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'+' | b'/')
        };
        if value.len() <= DIGITS_BYTES_MAX && value.iter().all(of_number) {
            let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
            if let Some(count) = self.digits.get_mut(digits) {
                *count += 1;
            }
        }
    }

    /// Values in which a detector matched.
    pub fn matched(&self, detector: Detector) -> u64 {
        self.hits.get(detector as usize).copied().unwrap_or_default()
    }

    /// Values that are one match of it.
    pub fn whole(&self, detector: Detector) -> u64 {
        self.whole.get(detector as usize).copied().unwrap_or_default()
    }

    /// Values of so many digits, with separators or without.
    pub fn with_digits(&self, digits: std::ops::RangeInclusive<usize>) -> u64 {
        self.digits.get(digits).unwrap_or_default().iter().sum()
    }

    /// The counts of another part of the same column.
    pub fn of_parts(parts: Vec<Tally>) -> Tally {
        parts.into_iter().fold(Tally::default(), |mut all, part| {
            all.absent += part.absent;
            all.looked += part.looked;
            let counts = all.hits.iter_mut().zip(part.hits);
            let counts = counts.chain(all.whole.iter_mut().zip(part.whole));
            counts.chain(all.digits.iter_mut().zip(part.digits)).for_each(|(count, more)| *count += more);
            all.shapes.merge(part.shapes);
            all
        })
    }
}

fn bump(counts: &mut [u64], detector: Detector) {
    if let Some(count) = counts.get_mut(detector as usize) {
        *count += 1;
    }
}
