//! Names that SQL made, as the server has them: prepared statements of PREPARE, cursors of DECLARE.
//!
//! Code of the database's users can drop a name and give it to another statement (`EXECUTE 'DEALLOCATE s'`, a `refcursor`), with
//! no text that says so. So where such code ran, the server is asked beside the guarded settings which names stand there
//! since when, and a name that is not what the client made is forgotten: who uses it then is refused, as with any name
//! that did not come through here.
//!
//! Owns: the reading of that answer, and when each name was first seen. May not: ask. Fails closed: an answer that cannot
//! be read is none, and ends the session.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// Names, and since when they stand there, as the server spells it.
pub type Since = serde_json::Map<String, Value>;

/// What the server has in its session.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// Oid of the session's temporary schema; 0 for none.
    pub temporary: u64,
    /// A type of that schema bears the name of one of `pg_catalog`.
    pub types: bool,
    /// Prepared statements of PREPARE.
    pub statements: Since,
    /// Cursors.
    pub cursors: Since,
    /// Its temporary relations; `None` where there are more than are told.
    pub relations: Option<Vec<Arc<str>>>,
}

/// How many temporary relations the server tells at most.
const RELATIONS_TOLD_MAX: usize = 1_000;

impl Told {
    /// From the answer to the SELECT of [`super::denial::GUARD_READ_TEMPORARY`]; `None` where it is another.
    pub fn read(answer: &[u8]) -> Option<Told> {
        let mut parts = match serde_json::from_slice(answer) {
            Ok(Value::Array(parts)) if parts.len() == 5 => parts.into_iter(),
            Ok(_) | Err(_) => return None,
        };
        let temporary = parts.next()?.as_u64()?;
        let types = parts.next()?.as_bool()?;
        let mut names = || match parts.next() {
            Some(Value::Object(since)) => Some(since),
            Some(Value::Null) => Some(Since::new()),
            Some(_) | None => None,
        };
        let (statements, cursors) = (names()?, names()?);
        let relations = match parts.next()? {
            Value::Null => Some(Vec::new()),
            Value::Array(told) if told.len() >= RELATIONS_TOLD_MAX => None,
            Value::Array(told) => {
                Some(told.iter().map(|name| name.as_str().map(Arc::from)).collect::<Option<_>>()?)
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return None,
        };
        Some(Told { temporary, types, statements, cursors, relations })
    }
}

/// Names of one kind that SQL made, and since when the server has each; `None` until it has said so.
#[derive(Debug, Default)]
pub struct Made(HashMap<Box<[u8]>, Option<Value>>);

impl Made {
    /// SQL made this name.
    pub fn put(&mut self, name: &[u8]) {
        self.0.insert(name.into(), None);
    }

    /// The name is gone, or not SQL's any more.
    pub fn drop(&mut self, name: &[u8]) {
        self.0.remove(name);
    }

    /// All of them but those that `stays` says.
    pub fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        self.0.retain(|name, _| stays(name));
    }

    /// Compares with what the server has: the names that are not what SQL made through here, which are forgotten.
    pub fn compare(&mut self, told: &Since) -> Vec<Box<[u8]>> {
        let mut moved = Vec::new();
        self.0.retain(|name, since| {
            let now = std::str::from_utf8(name).ok().and_then(|name| told.get(name));
            let stands = match (now, since.as_ref()) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(now), Some(then)) => now == then,
            };
            if stands {
                *since = now.cloned();
            } else {
                moved.push(name.clone());
            }
            stands
        });
        let made = &self.0;
        let of_others = told.keys().map(|name| name.as_bytes()).filter(|name| !made.contains_key(*name));
        let new: Vec<Box<[u8]>> =
            of_others.filter(|name| !moved.iter().any(|known| **known == **name)).map(Box::from).collect();
        moved.extend(new);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Since {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_server_says() {
        let read = |text: &str| Told::read(text.as_bytes());
        let some = Told {
            temporary: 7,
            types: true,
            statements: told(r#"{"s": 1.5}"#),
            cursors: Since::new(),
            relations: Some(vec!["t".into()]),
        };
        assert_eq!(read(r#"[7, true, { "s" : 1.5 }, null, ["t"]]"#), Some(some));
        for other in [
            "",
            "0",
            "[0]",
            "[0, false, null]",
            "[0, null, null]",
            "[0, false, null, 1]",
            "[0, null, null, null]",
            "[0, 1, null, null]",
            "[\"0\", false, null, null, null]",
            "[0, false, null, null]",
            "[0, false, null, null, null, null]",
            "[0, false, null, null, [1]]",
            "[0, false, null, null, {}]",
            "[-1, false, {}, {}]",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_stands_while_the_server_has_the_same_one() {
        let mut made = Made::default();
        made.put(b"s");
        assert!(made.compare(&told(r#"{"s": 1}"#)).is_empty());
        assert!(made.compare(&told(r#"{"s": 1}"#)).is_empty());
        assert_eq!(made.compare(&told(r#"{"s": 2}"#)), [Box::from(*b"s")]);
        // It is nobody's now.
        assert_eq!(made.compare(&told(r#"{"s": 2}"#)), [Box::from(*b"s")]);
        made.put(b"s");
        assert!(made.compare(&told(r#"{"s": 3}"#)).is_empty());
        assert_eq!(made.compare(&told("{}")), [Box::from(*b"s")]);
        assert_eq!(made.compare(&told(r#"{"of_code": 4}"#)), [Box::from(*b"of_code")]);
    }
}
