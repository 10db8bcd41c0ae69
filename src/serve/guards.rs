//! The guards as the target gives them: read once behind the login, before the client is told anything.
//!
//! Owns: what is asked, and what must come. A server reports neither `role` nor the timeouts, and `search_path` only from 18
//! on; `ALTER ROLE … SET role`, a login trigger or a pooler that drops startup parameters would give a session another
//! start than its access entry says (README decision 15). May not: set anything. Fails closed: a value that is not the one
//! that was asked for ends the login, by name, and the operator is told.

use tokio::time::Instant;

use crate::backend::{self, DialError, Failure, StartupParameters, Unfit};
use crate::net::stream::Stream;
use crate::session::{Pinned, denial};

/// Settings that an access entry may fix, which no server reports.
const TIMEOUTS: [&str; 3] = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
/// Milliseconds of the units by which a server shows a time, greatest first (`convert_int_from_base_unit`,
/// src/backend/utils/misc/guc.c).
const UNITS: [(u64, &str); 5] =
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];

/// Reads them, compares them, and keeps what may not move.
///
/// # Errors
/// A setting with another value than the access entry's, or a target that does not answer.
pub(super) async fn read(
    stream: &mut Stream,
    reported: &[(String, String)],
    sent: &StartupParameters,
    target: &str,
    deadline: Instant,
) -> Result<Pinned, DialError> {
    let failed = |failure| DialError { target: target.to_owned(), failure };
    let wanted = wanted(sent);
    let mut question = denial::GUARD_READ.to_owned();
    for (name, _) in wanted.iter().skip(denial::GUARDED.len()) {
        question.push_str("; SHOW ");
        question.push_str(name);
    }
    let answer = backend::query::query(stream, &question, deadline).await.map_err(failed)?;
    let values: Vec<Option<String>> =
        answer.rows.into_iter().map(|row| row.into_iter().next().flatten()).collect();
    check(&wanted, &values).map_err(|unfit| failed(Failure::Unfit(unfit)))?;
    let unreported =
        values.into_iter().take(denial::GUARDED.len()).map(|value| value.map(|v| v.into_bytes().into()));
    Ok(Pinned::new(reported.iter().map(|(n, v)| (n.as_str(), v.as_str())), unreported.collect()))
}

/// Name and value of each, the settings of [`denial::GUARDED`] first and in its order.
fn wanted(sent: &StartupParameters) -> Vec<(&'static str, String)> {
    let [role, search_path, row_security, replication] = denial::GUARDED;
    let mut wanted = vec![
        (role, "none".to_owned()),
        (search_path, sent.search_path().to_owned()),
        (row_security, "on".to_owned()),
        (replication, "origin".to_owned()),
    ];
    for name in TIMEOUTS {
        let milliseconds = sent.value(name);
        if !milliseconds.is_empty() {
            wanted.push((name, shown(milliseconds)));
        }
    }
    wanted
}

/// A number of milliseconds as SHOW gives it.
fn shown(milliseconds: &str) -> String {
    let Ok(count @ 1..) = milliseconds.parse::<u64>() else { return milliseconds.to_owned() };
    UNITS
        .iter()
        .find(|(unit, _)| count % unit == 0)
        .map_or_else(|| milliseconds.to_owned(), |(unit, name)| format!("{}{name}", count / unit))
}

fn check(wanted: &[(&'static str, String)], values: &[Option<String>]) -> Result<(), Unfit> {
    for (place, (name, wanted)) in wanted.iter().enumerate() {
        let Some(Some(found)) = values.get(place) else { return Err(Unfit::Missing(name)) };
        if found != wanted {
            return Err(Unfit::Setting { name, found: found.clone(), wanted: wanted.clone() });
        }
    }
    if values.len() == wanted.len() { Ok(()) } else { Err(Unfit::Missing("its settings one by one")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_the_server_shows_them() {
        for (milliseconds, text) in [
            ("0", "0"),
            ("1", "1ms"),
            ("61500", "61500ms"),
            ("90000", "90s"),
            ("60000", "1min"),
            ("7200000", "2h"),
            ("86400000", "1d"),
            ("2147483647", "2147483647ms"),
        ] {
            assert_eq!(shown(milliseconds), text);
        }
    }

    #[test]
    fn another_value_is_named() {
        let wanted = vec![("role", "none".to_owned()), ("lock_timeout", "2s".to_owned())];
        let values = |a: &str, b: &str| vec![Some(a.to_owned()), Some(b.to_owned())];
        assert_eq!(check(&wanted, &values("none", "2s")), Ok(()));
        assert!(matches!(check(&wanted, &values("boss", "2s")), Err(Unfit::Setting { name: "role", .. })));
        assert!(matches!(
            check(&wanted, &values("none", "0")),
            Err(Unfit::Setting { name: "lock_timeout", .. })
        ));
        assert_eq!(check(&wanted, &[Some("none".to_owned())]), Err(Unfit::Missing("lock_timeout")));
        assert_eq!(check(&wanted, &[Some("none".to_owned()), None]), Err(Unfit::Missing("lock_timeout")));
        let mut more = values("none", "2s");
        more.push(Some("x".to_owned()));
        assert!(check(&wanted, &more).is_err());
    }
}
