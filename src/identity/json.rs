//! JSON read strictly: an object that names a member twice is refused.
//!
//! RFC 8259 leaves open which of two equal members counts, and readers differ; RFC 7515 section 4 lets a reader refuse
//! them. Here they are refused at every depth, so that openidconnect's reading and ours cannot part. Depth is bounded
//! by serde_json (128), size by the caller. Errors carry no text of the input.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::denied::Flaw;

/// Reads one JSON object, and nothing behind it but white space.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Flaw> {
    let duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { duplicate: &duplicate }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|_| if duplicate.get() { Flaw::DuplicateMember } else { Flaw::Json })?;
    match value {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Flaw::NoObject)
        }
    }
}

#[derive(Clone, Copy)]
struct Strict<'d> {
    /// Set when the error that ends the reading is a member named twice.
    duplicate: &'d Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                self.duplicate.set(true);
                return Err(A::Error::custom("duplicate member"));
            }
            let value = members.next_value_seed(self)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_refused_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"iss":"x","\u0069ss":"y"}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(Flaw::DuplicateMember), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_or_no_json_is_named_so() {
        for (text, flaw) in [
            ("[]", Flaw::NoObject),
            ("\"a\"", Flaw::NoObject),
            ("null", Flaw::NoObject),
            ("", Flaw::Json),
            ("{", Flaw::Json),
            ("{}{}", Flaw::Json),
            ("{\"a\":\"\\ud800\"}", Flaw::Json),
            ("{\"a\":1e999}", Flaw::Json),
        ] {
            assert_eq!(object(text.as_bytes()), Err(flaw), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Flaw::Json));
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert_eq!(object(deep.as_bytes()), Err(Flaw::Json), "depth is bounded");
    }

    #[test]
    fn equals_serde_json_where_nothing_is_named_twice() {
        let text = br#" {"a":[1,-2,3.5,true,null,"x\n\u00e9"],"b":{"c":{}},"d":18446744073709551615} "#;
        let ours = object(text).expect("an object");
        let theirs: Value = serde_json::from_slice(text).expect("JSON");
        assert_eq!(Value::Object(ours), theirs);
    }
}
