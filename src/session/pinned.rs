//! What may not move under a session: the settings that decide how the server reads and resolves a text.
//!
//! Owns: their values at login, and the comparison. May not: fetch them. Fails closed: a value that cannot be compared
//! has moved.

use super::denial::GUARDED;

/// Reported settings whose move ends the session. `search_path` is reported from PostgreSQL 18 on.
const REPORTED: [&str; 9] = [
    "client_encoding",
    "standard_conforming_strings",
    "session_authorization",
    "is_superuser",
    "default_transaction_read_only",
    "search_path",
    // These no honest server moves.
    "server_version",
    "server_encoding",
    "integer_datetimes",
];

/// Reported settings that a session may move, and by which the same text means another moment or span of time.
const READ_BY: [&str; 3] = ["DateStyle", "IntervalStyle", "TimeZone"];

/// See the module.
#[derive(Clone, Debug)]
pub struct Pinned {
    reported: [Option<Box<[u8]>>; REPORTED.len()],
    unreported: Vec<Option<Box<[u8]>>>,
    /// As they are now.
    read_by: [Option<Box<[u8]>>; READ_BY.len()],
}

impl Pinned {
    /// From what the server reported at login and what was read of the rest, in the order of [`GUARDED`].
    pub fn new<'p>(
        parameters: impl Iterator<Item = (&'p str, &'p str)> + Clone,
        unreported: Vec<Option<Box<[u8]>>>,
    ) -> Self {
        let reported = REPORTED.map(|name| {
            parameters.clone().find(|(key, _)| *key == name).map(|(_, value)| Box::from(value.as_bytes()))
        });
        let read_by = READ_BY.map(|name| {
            parameters.clone().find(|(key, _)| *key == name).map(|(_, value)| Box::from(value.as_bytes()))
        });
        Self { reported, unreported, read_by }
    }

    /// The server reports a setting that may move.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) {
        let place = READ_BY.iter().position(|known| known.as_bytes() == name);
        if let Some(known) = place.and_then(|place| self.read_by.get_mut(place)) {
            *known = Some(Box::from(value));
        }
    }

    /// Every setting that says what a text means, as it is now, spelled for a digest.
    pub(super) fn spelled(&self) -> Vec<u8> {
        let mut spelled = Vec::new();
        for value in self.reported.iter().chain(&self.unreported).chain(&self.read_by) {
            let (known, value) = (u8::from(value.is_some()), value.as_deref().unwrap_or_default());
            spelled.push(known);
            spelled.extend_from_slice(&(value.len() as u64).to_le_bytes());
            spelled.extend_from_slice(value);
        }
        spelled
    }

    /// The name of the pinned setting that this report moves.
    pub fn moved(&self, name: &[u8], value: &[u8]) -> Option<String> {
        let place = REPORTED.iter().position(|pinned| pinned.as_bytes() == name)?;
        let before = self.reported.get(place).and_then(Option::as_deref);
        let stands = before.is_some_and(|before| same(name, before, value));
        (!stands).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// The name of the first guarded setting whose reading differs from the one at login.
    pub fn moved_unreported(&self, values: &[Option<Box<[u8]>>]) -> Option<&'static str> {
        if values.len() != GUARDED.len() || self.unreported.len() != GUARDED.len() {
            return GUARDED.first().copied();
        }
        GUARDED
            .iter()
            .zip(self.unreported.iter().zip(values))
            .find(|(name, (a, b))| match (a, b) {
                (Some(a), Some(b)) => !same(name.as_bytes(), a, b),
                (None, None) => false,
                (Some(_), None) | (None, Some(_)) => true,
            })
            .map(|(name, _)| *name)
    }
}

/// Whether two values of a setting mean the same. A search path is a list of names that can be spelled in several ways: the
/// startup packet quotes them, `SET search_path TO crm` does not.
fn same(name: &[u8], a: &[u8], b: &[u8]) -> bool {
    a == b || name == b"search_path" && matches!((schemas(a), schemas(b)), (Some(a), Some(b)) if a == b)
}

/// The names of a search path, as `SplitIdentifierString` (src/backend/utils/adt/varlena.c) cuts them; `None` where it would
/// fail, and where case would have to be folded by the server's locale.
fn schemas(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut rest = path.trim_ascii_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, behind) = match rest.strip_prefix(b"\"") {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let end = rest.iter().position(|byte| *byte == b',' || byte.is_ascii_whitespace());
                let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
                (name.to_ascii_lowercase(), behind)
            }
        };
        let bare = name.iter().all(u8::is_ascii);
        if name.is_empty() || !bare && !rest.starts_with(b"\"") {
            return None;
        }
        names.push(name);
        match behind.trim_ascii_start() {
            [] => return Some(names),
            [b',', more @ ..] => rest = more.trim_ascii_start(),
            [_, ..] => return None,
        }
    }
}

/// A name in double quotes, the first of which is cut off, and what stands behind it.
fn quoted_name(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut rest = quoted;
    loop {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        let (part, behind) = rest.split_at_checked(end)?;
        name.extend_from_slice(part);
        match behind {
            [b'"', b'"', more @ ..] => {
                name.push(b'"');
                rest = more;
            }
            [b'"', more @ ..] => return Some((name, more)),
            [..] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(role: &str, path: &str) -> Vec<Option<Box<[u8]>>> {
        [role, path, "on", "origin"].iter().map(|v| Some(Box::from(v.as_bytes()))).collect()
    }

    #[test]
    fn a_move_is_named() {
        let login = [("client_encoding", "UTF8"), ("TimeZone", "UTC")];
        let pinned = Pinned::new(login.into_iter(), values("none", "crm"));
        assert_eq!(pinned.moved(b"client_encoding", b"UTF8"), None);
        assert_eq!(pinned.moved(b"TimeZone", b"CET"), None);
        assert_eq!(pinned.moved(b"client_encoding", b"SJIS").as_deref(), Some("client_encoding"));
        assert_eq!(
            pinned.moved(b"search_path", b"evil").as_deref(),
            Some("search_path"),
            "never reported before"
        );
        assert_eq!(pinned.moved_unreported(&values("none", "crm")), None);
        assert_eq!(pinned.moved_unreported(&values("none", "\"crm\"")), None, "another spelling of the same");
        assert_eq!(pinned.moved_unreported(&values("boss", "crm")), Some("role"));
        assert_eq!(pinned.moved_unreported(&values("none", "evil")), Some("search_path"));
        assert_eq!(pinned.moved_unreported(&[]), Some("role"));
    }

    #[test]
    fn what_a_text_means_is_spelled_as_it_is_now() {
        let login = [("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY")];
        let mut pinned = Pinned::new(login.into_iter(), values("none", "crm"));
        let before = pinned.spelled();
        assert_ne!(before, Pinned::new(login.into_iter(), values("boss", "crm")).spelled());
        pinned.note(b"application_name", b"x");
        assert_eq!(pinned.spelled(), before);
        pinned.note(b"DateStyle", b"ISO, DMY");
        assert_ne!(pinned.spelled(), before);
        pinned.note(b"DateStyle", b"ISO, MDY");
        assert_eq!(pinned.spelled(), before);
    }

    #[test]
    fn search_paths_are_compared_by_their_names() {
        for (one, other) in [
            ("\"crm\"", "crm"),
            ("\"crm\", \"mart\"", "crm,mart"),
            ("crm , mart", "\"crm\",  \"mart\" "),
            ("CRM", "crm"),
            ("\"a\"\"b\"", " \"a\"\"b\""),
            ("", " "),
        ] {
            assert!(same(b"search_path", one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert!(one == other || !same(b"role", one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in [
            ("\"CRM\"", "crm"),
            ("\"crm,mart\"", "crm,mart"),
            ("crm, mart", "mart, crm"),
            ("crm", "crm, crm"),
            ("crm", "crm,"),
            ("crm", "crm mart"),
            ("\"crm", "crm"),
            ("\"crm\"x", "crm"),
            ("\"\"", ""),
            ("é", "\"é\""),
            ("\"a\"\"b\"", "\"ab\""),
        ] {
            assert!(!same(b"search_path", one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }
}
