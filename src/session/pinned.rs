//! What may not move under a session: the settings that decide how the server reads and resolves a text.
//!
//! Owns: their values at login, and the comparison. May not: fetch them. Fails closed: a value that cannot be compared
//! has moved.

use super::denial::GUARDED;

/// Reported settings whose move ends the session. `search_path` is reported from PostgreSQL 18 on.
const REPORTED: [&str; 6] = [
    "client_encoding",
    "standard_conforming_strings",
    "session_authorization",
    "is_superuser",
    "default_transaction_read_only",
    "search_path",
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Pinned {
    reported: [Option<Box<[u8]>>; REPORTED.len()],
    unreported: Vec<Option<Box<[u8]>>>,
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
        Self { reported, unreported }
    }

    /// The name of the pinned setting that this report moves.
    pub fn moved(&self, name: &[u8], value: &[u8]) -> Option<String> {
        let place = REPORTED.iter().position(|pinned| pinned.as_bytes() == name)?;
        let before = self.reported.get(place).and_then(Option::as_deref);
        (before != Some(value)).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// The name of the first guarded setting whose reading differs from the one at login.
    pub fn moved_unreported(&self, values: &[Option<Box<[u8]>>]) -> Option<&'static str> {
        if values.len() != GUARDED.len() || self.unreported.len() != GUARDED.len() {
            return GUARDED.first().copied();
        }
        GUARDED
            .iter()
            .zip(self.unreported.iter().zip(values))
            .find(|(_, (a, b))| a != b)
            .map(|(name, _)| *name)
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
        assert_eq!(pinned.moved_unreported(&values("boss", "crm")), Some("role"));
        assert_eq!(pinned.moved_unreported(&values("none", "evil")), Some("search_path"));
        assert_eq!(pinned.moved_unreported(&[]), Some("role"));
    }
}
