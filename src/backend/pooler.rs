//! Whether a pooler stands between the gateway and the target (README decision 16).
//!
//! One client session must be one target session: behind a *transaction* pooler a setting, a temporary table or a
//! prepared statement of one client would show in another's session, and the gateway's startup packet would guard
//! nothing. A *session* pooler keeps the pairing and may stand there.
//!
//! How it shows: two sessions are open at once, the second inside a transaction, and the first is asked for its process
//! id before and after. A transaction pooler lends the first one's idle server connection to the second (both then have
//! one process id) or gives the first another one afterwards. A session pooler shows the same id each time, but not the
//! one in BackendKeyData, which poolers make up.
//!
//! Poolers also drop startup parameters, in silence where they are told to (pgbouncer's `ignore_startup_parameters`;
//! by default it refuses the session). So what the gateway sent is read back, too: a guard that did not arrive is an
//! error that names it, whatever stands between. Servers before 18 do not report search_path and the timeouts, so the
//! login alone cannot see this.

use tokio::time::Instant;

use crate::backend::dial::{Connected, dial};
use crate::backend::error::{DialError, Failure, Step, Unfit};
use crate::backend::login::Login;
use crate::backend::query::query;
use crate::backend::startup::StartupParameters;
use crate::backend::target::Target;

/// How often the question is put: another client of the pooler may take the idle connection in between.
const ROUNDS: usize = 3;

/// What stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Nothing: the process ids are those of BackendKeyData.
    None,
    /// Something that keeps one server session for one client session: it makes its own cancel keys.
    Session,
    /// Something that lends a server session out by transaction or statement. Not to be used.
    Transaction,
}

/// What the startup packet fixes and this check reads back: the access entry's guards.
const GUARDS: [&str; 5] = [
    "search_path",
    "default_transaction_read_only",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
];

/// Opens two sessions, compares process ids, and reads the startup packet's guards back.
///
/// # Errors
/// Where a session cannot be had, a query fails, or a guard did not arrive ([`Unfit::Setting`]).
pub async fn detect(
    target: &Target,
    login: &Login<'_>,
    parameters: &StartupParameters,
    deadline: Instant,
) -> Result<Pooling, DialError> {
    let mut first = dial(target, login, parameters, deadline).await?;
    let mut second = dial(target, login, parameters, deadline).await?;
    let found = async {
        let found = compare(&mut first, &mut second, deadline).await?;
        match found {
            Pooling::Transaction => {}
            Pooling::None | Pooling::Session => arrived(&mut first, parameters, deadline).await?,
        }
        Ok(found)
    };
    let found = found.await;
    // What was found does not depend on how the sessions end.
    drop(first.close().await);
    drop(second.close().await);
    found.map_err(|failure| DialError { target: target.name().to_owned(), failure })
}

async fn compare(
    first: &mut Connected,
    second: &mut Connected,
    deadline: Instant,
) -> Result<Pooling, Failure> {
    let mut own_keys = true;
    for _ in 0..ROUNDS {
        let before = process_id(first, "SELECT pg_catalog.pg_backend_pid()", deadline).await?;
        let other = process_id(second, "BEGIN; SELECT pg_catalog.pg_backend_pid()", deadline).await?;
        let after = process_id(first, "SELECT pg_catalog.pg_backend_pid()", deadline).await?;
        query(&mut second.stream, "ROLLBACK", deadline).await?;
        if before == other || before != after {
            return Ok(Pooling::Transaction);
        }
        own_keys &= before == first.key.process_id() && other == second.key.process_id();
    }
    Ok(if own_keys { Pooling::None } else { Pooling::Session })
}

async fn arrived(
    session: &mut Connected,
    parameters: &StartupParameters,
    deadline: Instant,
) -> Result<(), Failure> {
    for (name, wanted) in parameters.pairs() {
        let Some(name) = GUARDS.into_iter().find(|guard| guard == name) else { continue };
        // `setting` is the value in the setting's base unit: milliseconds as sent, and a list as it was given.
        let text = format!("SELECT setting FROM pg_catalog.pg_settings WHERE name = '{name}'");
        let answer = query(&mut session.stream, &text, deadline).await?;
        let found = match answer.rows.as_slice() {
            [row] => row.first().cloned().flatten(),
            _ => None,
        };
        let found = found.ok_or(Unfit::Missing(name))?;
        if found != *wanted {
            return Err(Unfit::Setting { name, found, wanted: wanted.clone() }.into());
        }
    }
    Ok(())
}

async fn process_id(session: &mut Connected, text: &str, deadline: Instant) -> Result<u32, Failure> {
    let answer = query(&mut session.stream, text, deadline).await?;
    match answer.rows.as_slice() {
        [row] => match row.as_slice() {
            [Some(value)] => value.parse().ok(),
            _ => None,
        },
        _ => None,
    }
    .ok_or(Failure::Nonsense { step: Step::Query, what: "something else than one process id" })
}
