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

use tokio::time::Instant;

use crate::backend::dial::{Connected, dial};
use crate::backend::error::{DialError, Failure, Step};
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

/// Opens two sessions and compares process ids.
///
/// # Errors
/// Where a session cannot be had or a query fails.
pub async fn detect(
    target: &Target,
    login: &Login<'_>,
    parameters: &StartupParameters,
    deadline: Instant,
) -> Result<Pooling, DialError> {
    let mut first = dial(target, login, parameters, deadline).await?;
    let mut second = dial(target, login, parameters, deadline).await?;
    let found = compare(&mut first, &mut second, deadline).await;
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
