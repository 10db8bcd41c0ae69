//! What stands in for a value: the styles, carried out.
//!
//! Owns: the constants, the tokens and their key, and which style a type can take. May not: decide what is masked. Fails
//! closed: a style that the type cannot take in its format is SQL NULL.

use blake3::Hasher;

use super::detect::Detector;
use super::number;
use super::plan::{Canonical, Origin, Style};
use super::shape::Shape;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// It stays.
    Keep,
    /// It is NULL.
    Null,
    /// What was appended to the output stands in for it.
    Value,
}

/// The constant of [`Style::Fixed`] for a labelled column.
const FIXED: &[u8] = b"***";
/// What stands before the last characters: its length tells nothing.
const HIDDEN: &[u8] = b"****";
/// Digits of base 32, without the letters that are mistaken for others.
const BASE_32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CONTEXT_KEY: &str = "pgturnstile mask v1 token key";
const CONTEXT_ID: &str = "pgturnstile mask v1 token key id";

/// The key of tokens: equal values get equal tokens as long as it stays. Derived from a master key, so that neither tells
/// the other's outputs.
#[derive(Clone)]
pub struct TokenKey {
    key: [u8; 32],
    id: u16,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({:04x})", self.id)
    }
}

impl TokenKey {
    /// The key that comes from these bytes of a master key.
    pub fn derive(master: &[u8]) -> Self {
        let id = blake3::derive_key(CONTEXT_ID, master);
        Self { key: blake3::derive_key(CONTEXT_KEY, master), id: u16::from_be_bytes([id[0], id[1]]) }
    }

    /// Names the key in its tokens, without telling it.
    pub fn id(&self) -> u16 {
        self.id
    }

    fn hash(&self, canonical: Canonical, value: &[u8]) -> [u8; 16] {
        Self::finish(Hasher::new_keyed(&self.key), canonical, value)
    }

    fn finish(mut hasher: Hasher, canonical: Canonical, value: &[u8]) -> [u8; 16] {
        match canonical {
            Canonical::AsIs => {
                hasher.update(value);
            }
            Canonical::Lower => value.iter().for_each(|byte| {
                hasher.update(&[byte.to_ascii_lowercase()]);
            }),
            Canonical::Digits => value.iter().filter(|byte| byte.is_ascii_digit()).for_each(|byte| {
                hasher.update(&[*byte]);
            }),
        }
        let mut short = [0; 16];
        short.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
        short
    }

    fn text(&self, canonical: Canonical, value: &[u8], out: &mut Vec<u8>) {
        self.spell(self.hash(canonical, value), out);
    }

    /// `tok_`, the key's id, and 128 bits.
    fn spell(&self, hash: [u8; 16], out: &mut Vec<u8>) {
        let mut bits = u128::from_be_bytes(hash);
        out.extend_from_slice(format!("tok_{:04x}_", self.id).as_bytes());
        let mut digits = [b'0'; 26];
        for place in digits.iter_mut().rev() {
            *place = BASE_32.get((bits & 31) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        out.extend_from_slice(&digits);
    }

    /// 62 bits, for types of numbers.
    fn number(&self, canonical: Canonical, value: &[u8]) -> i64 {
        let hash = u128::from_be_bytes(self.hash(canonical, value));
        i64::try_from(hash >> 66).unwrap_or(0)
    }

    /// A UUID of version 8 (RFC 9562).
    fn uuid(&self, canonical: Canonical, value: &[u8]) -> [u8; 16] {
        let mut id = self.hash(canonical, value);
        id[6] = id[6] & 0x0F | 0x80;
        id[8] = id[8] & 0x3F | 0x80;
        id
    }
}

/// The tokens that detectors give in one column. Equal values get equal ones there, and there alone: a constant of the client,
/// or a column that it fills itself, gives none that stands anywhere else.
#[derive(Clone, Copy, Debug)]
pub struct ColumnTokens<'k> {
    /// The key.
    pub key: &'k TokenKey,
    /// The column.
    pub origin: Origin,
}

impl ColumnTokens<'_> {
    fn text(&self, canonical: Canonical, value: &[u8], out: &mut Vec<u8>) {
        let mut hasher = Hasher::new_keyed(&self.key.key);
        // No text of PostgreSQL begins so: what a label gives is never what a detector gives.
        hasher.update(b"\0column\0").update(self.origin.as_bytes());
        self.key.spell(TokenKey::finish(hasher, canonical, value), out);
    }
}

/// Appends what stands in for a match inside a text; without `tokens`, the constant in their stead.
pub fn render_match(
    style: Style,
    detector: Detector,
    matched: &[u8],
    tokens: Option<ColumnTokens<'_>>,
    out: &mut Vec<u8>,
) {
    match style {
        Style::Null | Style::Fixed => out.extend_from_slice(detector.stand_in()),
        // The end of a secret is the secret, or half of it.
        Style::Last(_) if detector.is_secret() => out.extend_from_slice(detector.stand_in()),
        Style::Last(count) => last(matched, count, out),
        Style::Domain => match domain(matched) {
            Some(domain) if detector == Detector::Email => {
                out.extend_from_slice(FIXED);
                out.extend_from_slice(domain);
            }
            Some(_) | None => out.extend_from_slice(detector.stand_in()),
        },
        Style::Token(canonical) => match tokens {
            Some(tokens) => tokens.text(canonical, matched, out),
            None => out.extend_from_slice(detector.stand_in()),
        },
    }
}

/// A constant and the last characters.
fn last(value: &[u8], count: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(HIDDEN);
    let begins = |byte: &u8| byte & 0xC0 != 0x80;
    let characters = value.iter().filter(|byte| begins(byte)).count();
    let keep = usize::from(count).min(characters / 2);
    if keep == 0 {
        return;
    }
    let from = value.iter().enumerate().filter(|(_, byte)| begins(byte)).nth(characters - keep);
    out.extend_from_slice(from.and_then(|(place, _)| value.get(place..)).unwrap_or_default());
}

fn domain(value: &[u8]) -> Option<&[u8]> {
    value.get(memchr::memrchr(b'@', value)?..)
}

/// Masks a value of a labelled column.
pub fn label(style: Style, shape: Shape, value: &[u8], key: &TokenKey, out: &mut Vec<u8>) -> Masked {
    match style {
        Style::Null => Masked::Null,
        Style::Fixed => quoted(shape, out, |out| out.extend_from_slice(FIXED)),
        Style::Last(count) => text_only(shape, value, out, |out| last(value, count, out)),
        Style::Domain => text_only(shape, value, out, |out| {
            out.extend_from_slice(FIXED);
            out.extend_from_slice(domain(value).unwrap_or_default());
        }),
        Style::Token(canonical) => token(canonical, shape, value, key, out),
    }
}

/// Text of a type that is text, or of a JSON string.
fn quoted(shape: Shape, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Masked {
    match shape {
        Shape::Text | Shape::Unknown(_) => write(out),
        Shape::Json | Shape::JsonbBinary => {
            if shape == Shape::JsonbBinary {
                out.push(1);
            }
            out.push(b'"');
            write(out);
            out.push(b'"');
        }
        Shape::NumberText
        | Shape::FloatText
        | Shape::Int8Binary
        | Shape::NumericBinary
        | Shape::Float8Binary
        | Shape::UuidText
        | Shape::UuidBinary
        | Shape::ByteaText
        | Shape::Opaque
        | Shape::OpaqueText
        | Shape::TextArray
        | Shape::NumberArray
        | Shape::ArrayBinary
        | Shape::OpaqueBinary
        | Shape::UnknownBinary(_)
        | Shape::Never => return Masked::Null,
    }
    Masked::Value
}

/// Only where the value is text, and, of an unknown type, looks like nothing else.
fn text_only(shape: Shape, value: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Masked {
    let looks_like_text =
        || value.first().is_some_and(u8::is_ascii_alphabetic) || memchr::memchr(b'@', value).is_some();
    if shape == Shape::Text || matches!(shape, Shape::Unknown(_)) && looks_like_text() {
        quoted(shape, out, write)
    } else {
        Masked::Null
    }
}

fn token(canonical: Canonical, shape: Shape, value: &[u8], key: &TokenKey, out: &mut Vec<u8>) -> Masked {
    if matches!(shape, Shape::Unknown(_)) {
        return text_only(shape, value, out, |out| key.text(canonical, value, out));
    }
    let decimal = match shape {
        Shape::NumberText => std::str::from_utf8(value).ok().map(str::to_owned),
        Shape::Int8Binary => number::int8(value),
        Shape::NumericBinary => number::numeric(value),
        Shape::UuidText => {
            out.extend_from_slice(uuid_text(key.uuid(canonical, value)).as_bytes());
            return Masked::Value;
        }
        Shape::UuidBinary => {
            let Ok(id) = <[u8; 16]>::try_from(value) else { return Masked::Null };
            out.extend_from_slice(&key.uuid(canonical, uuid_text(id).as_bytes()));
            return Masked::Value;
        }
        Shape::Text
        | Shape::Json
        | Shape::JsonbBinary
        | Shape::FloatText
        | Shape::Float8Binary
        | Shape::ByteaText
        | Shape::Opaque
        | Shape::OpaqueText
        | Shape::TextArray
        | Shape::NumberArray
        | Shape::ArrayBinary
        | Shape::OpaqueBinary
        | Shape::Unknown(_)
        | Shape::UnknownBinary(_)
        | Shape::Never => return quoted(shape, out, |out| key.text(canonical, value, out)),
    };
    let Some(decimal) = decimal else { return Masked::Null };
    let token = key.number(canonical, decimal.as_bytes());
    match shape {
        Shape::Int8Binary => out.extend_from_slice(&token.to_be_bytes()),
        Shape::NumericBinary => number::write_numeric(token.unsigned_abs(), out),
        Shape::Text
        | Shape::Json
        | Shape::JsonbBinary
        | Shape::NumberText
        | Shape::FloatText
        | Shape::Float8Binary
        | Shape::UuidText
        | Shape::UuidBinary
        | Shape::ByteaText
        | Shape::Opaque
        | Shape::OpaqueText
        | Shape::TextArray
        | Shape::NumberArray
        | Shape::ArrayBinary
        | Shape::OpaqueBinary
        | Shape::Unknown(_)
        | Shape::UnknownBinary(_)
        | Shape::Never => out.extend_from_slice(token.to_string().as_bytes()),
    }
    Masked::Value
}

fn uuid_text(id: [u8; 16]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}-{}-{}-{}-{}", hex(&id[..4]), hex(&id[4..6]), hex(&id[6..8]), hex(&id[8..10]), hex(&id[10..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::derive(&[7; 32])
    }

    fn masked(style: Style, shape: Shape, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match label(style, shape, value, &key(), &mut out) {
            Masked::Keep => Some(value.to_vec()),
            Masked::Null => None,
            Masked::Value => Some(out),
        }
    }

    #[test]
    fn last_keeps_never_more_than_half() {
        let last4 = |value: &str| {
            String::from_utf8(masked(Style::Last(4), Shape::Text, value.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(last4("123-45-6789"), "****6789");
        assert_eq!(last4("1234"), "****34");
        assert_eq!(last4("1"), "****");
        assert_eq!(last4(""), "****");
        assert_eq!(last4("жжжжéé€€"), "****éé€€");
    }

    #[test]
    fn domain_keeps_what_follows_the_last_at() {
        assert_eq!(masked(Style::Domain, Shape::Text, b"ann@example.org").unwrap(), b"***@example.org");
        assert_eq!(masked(Style::Domain, Shape::Text, b"no address").unwrap(), b"***");
    }

    #[test]
    fn tokens_are_equal_for_equal_values_in_both_formats() {
        let token = Style::Token(Canonical::AsIs);
        let text = masked(token, Shape::NumberText, b"4711").unwrap();
        let binary = masked(token, Shape::Int8Binary, &4711_i64.to_be_bytes()).unwrap();
        assert_eq!(text, i64::from_be_bytes(binary.try_into().unwrap()).to_string().into_bytes());
        let mut stored = Vec::new();
        number::write_numeric(4711, &mut stored);
        let numeric = masked(token, Shape::NumericBinary, &stored).unwrap();
        assert_eq!(number::numeric(&numeric).unwrap().into_bytes(), text);
        let id = [0x12; 16];
        let text = masked(token, Shape::UuidText, b"12121212-1212-1212-1212-121212121212").unwrap();
        let binary = masked(token, Shape::UuidBinary, &id).unwrap();
        assert_eq!(text, uuid_text(binary.try_into().unwrap()).into_bytes());
        let lower = Style::Token(Canonical::Lower);
        assert_eq!(masked(lower, Shape::Text, b"Ann@X.org"), masked(lower, Shape::Text, b"ann@x.ORG"));
        assert_ne!(masked(token, Shape::Text, b"Ann@X.org"), masked(token, Shape::Text, b"ann@x.ORG"));
    }

    #[test]
    fn a_style_that_a_type_cannot_take_is_null() {
        for shape in
            [Shape::NumberText, Shape::OpaqueBinary, Shape::Never, Shape::TextArray, Shape::ByteaText]
        {
            assert_eq!(masked(Style::Last(4), shape, b"123"), None, "{shape:?}");
            assert_eq!(masked(Style::Domain, shape, b"123"), None, "{shape:?}");
            assert_eq!(masked(Style::Null, shape, b"123"), None, "{shape:?}");
        }
        assert_eq!(masked(Style::Fixed, Shape::Json, b"{}").unwrap(), b"\"***\"");
        assert_eq!(masked(Style::Fixed, Shape::JsonbBinary, b"\x01{}").unwrap(), b"\x01\"***\"");
    }
}
