//! Cancelling what a target runs: a CancelRequest over a connection of its own (PostgreSQL protocol chapter, "Canceling
//! Requests in Progress").
//!
//! The connection is encrypted and verified as the target's sessions are, because the key in it is a secret; it shows the
//! session's certificate, because what stands before a server may ask everybody for one. The server
//! answers nothing and closes; whether something was cancelled shows in the session alone.

use pgturnstile_proto::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::backend::dial::{connect, in_time};
use crate::backend::error::{DialError, Failure, Step};
use crate::backend::limits::CANCEL_LINGER;
use crate::backend::login::CancelKey;
use crate::backend::settings::Credential;
use crate::backend::target::Target;

/// Sends a cancel request and waits until the server has taken it, which it shows by closing.
///
/// # Errors
/// Where the request could not be delivered by `deadline`. A server that only fails to close its end has it.
pub async fn cancel(
    target: &Target,
    credential: &Credential,
    key: &CancelKey,
    deadline: Instant,
) -> Result<(), DialError> {
    let sent = async {
        let (mut stream, _) = connect(target, credential, deadline).await?;
        let mut packet = Zeroizing::new(Vec::with_capacity(512));
        encode::cancel_request(&mut packet, key.process_id(), key.secret())?;
        let sent = async {
            stream.write_all(&packet).await?;
            stream.flush().await
        };
        let step = Step::Cancel;
        let delivered = async { sent.await.map_err(|error| Failure::Io { step, error }) };
        in_time(deadline, step, delivered).await?;
        Ok(stream)
    };
    let mut stream = sent.await.map_err(|failure| DialError { target: target.name().to_owned(), failure })?;
    // The postmaster signals the session before it closes (`ProcessCancelRequest`): who waits for the close has the
    // cancel behind it, and one that comes late hits no later statement. Not closing is no failure of the request.
    let mut byte = [0_u8; 1];
    let until = deadline.min(Instant::now() + CANCEL_LINGER);
    drop(tokio::time::timeout_at(until, stream.read(&mut byte)).await);
    Ok(())
}
