//! What values look like, without any of them.
//!
//! Owns: the shape of a value, and which shapes may be told. May not: keep a value. A shape is told only where many values
//! have it: a rare one points at somebody.
//!
//! A shape keeps the length of a run of digits, not which; letters as `a`, however many; one of a few separators as it is,
//! once for a run of it; anything else as `*`.

use std::collections::BTreeMap;

/// Fewest values of a shape that is told.
pub const VALUES_MIN: u64 = 20;
/// Most different shapes that are counted for a column; what comes later is "other".
const SHAPES_MAX: usize = 256;
/// Most characters of a shape.
const CHARACTERS_MAX: usize = 40;
/// Most shapes that are told for a column.
const TOLD_MAX: usize = 3;

/// Shapes of one column's values and how many have each.
#[derive(Debug, Default)]
pub struct Shapes(BTreeMap<Box<str>, u64>);

impl Shapes {
    /// One more value.
    pub fn add(&mut self, value: &[u8]) {
        let shape = of(value);
        if let Some(count) = self.0.get_mut(shape.as_str()) {
            *count += 1;
        } else if self.0.len() < SHAPES_MAX {
            self.0.insert(shape.into(), 1);
        }
    }

    /// The shapes of another part of the same column.
    pub fn merge(&mut self, other: Shapes) {
        for (shape, count) in other.0 {
            if self.0.len() < SHAPES_MAX || self.0.contains_key(&shape) {
                *self.0.entry(shape).or_default() += count;
            }
        }
    }

    /// The commonest, each with its share of `total` in whole percent; those of few values are left out.
    pub fn told(&self, total: u64) -> Vec<(String, u64)> {
        let mut shapes: Vec<(&Box<str>, u64)> = self
            .0
            .iter()
            .filter(|(_, count)| **count >= VALUES_MIN)
            .map(|(shape, count)| (shape, *count))
            .collect();
        shapes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        shapes
            .into_iter()
            .map(|(shape, count)| (shape.to_string(), count * 100 / total.max(1)))
            .filter(|(_, percent)| *percent > 0)
            .take(TOLD_MAX)
            .collect()
    }
}

/// What one byte becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digit,
    Letter,
    Separator(u8),
    Other,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'0'..=b'9' => Kind::Digit,
        b'A'..=b'Z' | b'a'..=b'z' | 0x80..=0xFF => Kind::Letter,
        b' ' | b'-' | b'.' | b'/' | b':' | b'@' | b'_' | b'+' | b'(' | b')' | b',' => Kind::Separator(byte),
        0..=0x1F | b'!'..=b'\'' | b'*' | b';'..=b'?' | b'['..=b'^' | b'`' | b'{'..=0x7F => Kind::Other,
    }
}

/// The shape of a value: `9{3}-9{2}-9{4}`, `a@a.a`.
pub fn of(value: &[u8]) -> String {
    let mut shape = String::new();
    for run in value.chunk_by(|a, b| kind(*a) == kind(*b)) {
        if shape.len() >= CHARACTERS_MAX {
            shape.push('…');
            break;
        }
        match run.first().map(|byte| kind(*byte)) {
            Some(Kind::Digit) if run.len() == 1 => shape.push('9'),
            Some(Kind::Digit) => shape.push_str(&format!("9{{{}}}", run.len())),
            Some(Kind::Letter) => shape.push('a'),
            Some(Kind::Separator(byte)) => shape.push(char::from(byte)),
            Some(Kind::Other) => shape.push('*'),
            None => {}
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_tells_digits_and_separators_and_nothing_of_letters() {
        for (value, wanted) in [
            ("123-45-6789", "9{3}-9{2}-9{4}"),
            ("kim.lee+x@example.com", "a.a+a@a.a"),
            ("Ünïcödé 7", "a 9"),
            ("!!\"#$", "*"),
            ("----", "-"),
            ("", ""),
        ] {
            assert_eq!(of(value.as_bytes()), wanted);
        }
        let long = "a1-".repeat(200);
        assert!(of(long.as_bytes()).chars().count() <= CHARACTERS_MAX + 5);
    }

    #[test]
    fn rare_shapes_are_not_told() {
        let mut shapes = Shapes::default();
        for _ in 0..VALUES_MIN {
            shapes.add(b"123-45-6789");
        }
        shapes.add(b"7-7-7-7");
        assert_eq!(shapes.told(VALUES_MIN + 1), [("9{3}-9{2}-9{4}".to_owned(), 95)]);
        assert!(shapes.told(100_000).is_empty(), "less than one in a hundred");
    }

    #[test]
    fn the_number_of_shapes_is_bounded() {
        let mut shapes = Shapes::default();
        for number in 0..10_000_u32 {
            let value: String = (0..14).map(|bit| if number >> bit & 1 == 1 { "1-" } else { "a." }).collect();
            shapes.add(value.as_bytes());
        }
        assert!(shapes.0.len() <= SHAPES_MAX);
    }
}
