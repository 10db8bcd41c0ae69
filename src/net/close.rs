//! The close of a client's socket behind last words.
//!
//! Owns: the order in which the two halves end. May not: write, or look at what it reads. Fails quietly: what goes wrong
//! here happens to a connection that is over.
//!
//! A socket that is closed with bytes unread answers them with a reset, and so does one that gets more behind its close:
//! the peer's next write fails, and many clients never read the message that says why. So our half ends first, what the
//! peer still sends is read and dropped, and the socket goes when the peer has closed its half or the time is over (RFC
//! 9112, section 9.6, tells servers of HTTP the same).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Longest time that a closed connection is still read, to let its last words arrive.
pub const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are read and dropped at once.
const DROPPED_BYTES: usize = 8 * 1024;

/// Ends our half, within `limit`; `false` where the peer did not let us, or was gone.
pub async fn end_our_half<S: AsyncWrite + Unpin>(stream: &mut S, limit: Duration) -> bool {
    match timeout(limit, stream.shutdown()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a socket was closed already");
            false
        }
        Err(_) => {
            tracing::debug!("a socket did not close in time");
            false
        }
    }
}

/// Ends our half, then drops what the peer sends until it ends its own or `limit` has passed twice.
pub async fn behind_last_words<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, limit: Duration) {
    if !end_our_half(&mut stream, limit).await {
        return;
    }
    let mut dropped = [0; DROPPED_BYTES];
    let rest = async {
        // An end and an error are the same here: the peer has nothing more to lose.
        while matches!(stream.read(&mut dropped).await, Ok(1..)) {}
    };
    if timeout(limit, rest).await.is_err() {
        tracing::debug!("a client went on sending behind its last words");
    }
}
