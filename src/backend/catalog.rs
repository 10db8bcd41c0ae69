//! Reading a target's catalog, and seeing it drift.
//!
//! Owns: running the queries of [`pgturnstile_rules::catalog`] on the control connection. May not: interpret their rows, or
//! run on a client's session. Fails by [`ReadError`]; a failed read leaves the connection unusable.

use std::sync::Arc;

use pgturnstile_rules::catalog::queries::{CLOSE, FINGERPRINT, GREET, OPEN, QUERIES};
use pgturnstile_rules::catalog::{LoadError, Rows, Snapshot};
use tokio::time::Instant;

use super::dial::Connected;
use super::error::Failure;
use super::query::query;

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection or the server.
    #[error("reading the catalog: {0}")]
    Failure(#[from] Failure),
    /// The rows make no snapshot.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A fingerprint that is no single value.
    #[error("the catalog's fingerprint is no single value")]
    Fingerprint,
}

/// A snapshot with the fingerprint it was read under.
#[derive(Debug)]
pub struct Watched {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    fingerprint: String,
}

/// Prepares a new control connection: no schema of a user can catch a name of the queries.
///
/// # Errors
/// The connection's or the server's.
pub async fn greet(connected: &mut Connected, deadline: Instant) -> Result<(), ReadError> {
    query(&mut connected.stream, GREET, deadline).await?;
    Ok(())
}

/// Reads the catalog as of one moment. The fingerprint is taken first: what changes in between shows as drift.
///
/// # Errors
/// See [`ReadError`].
pub async fn read(connected: &mut Connected, epoch: u64, deadline: Instant) -> Result<Watched, ReadError> {
    let fingerprint = fingerprint(connected, deadline).await?;
    query(&mut connected.stream, OPEN, deadline).await?;
    let mut answers = Vec::with_capacity(QUERIES.len());
    for part in &QUERIES {
        answers.push(query(&mut connected.stream, part.sql, deadline).await?.rows);
    }
    query(&mut connected.stream, CLOSE, deadline).await?;
    let snapshot = Arc::new(Snapshot::from_rows(&Rows(answers), epoch)?);
    Ok(Watched { snapshot, fingerprint })
}

/// Whether the catalog is another one than `watched`.
///
/// # Errors
/// See [`ReadError`].
pub async fn drifted(
    connected: &mut Connected,
    watched: &Watched,
    deadline: Instant,
) -> Result<bool, ReadError> {
    Ok(fingerprint(connected, deadline).await? != watched.fingerprint)
}

async fn fingerprint(connected: &mut Connected, deadline: Instant) -> Result<String, ReadError> {
    let answer = query(&mut connected.stream, FINGERPRINT, deadline).await?;
    match answer.rows.as_slice() {
        [row] => match row.as_slice() {
            [Some(value)] => Ok(value.clone()),
            _ => Err(ReadError::Fingerprint),
        },
        _ => Err(ReadError::Fingerprint),
    }
}
