//! The PROXY header at the start of a connection: reading exactly it.
//!
//! Owns: how much is taken from the socket. May not: say who may send one, or bound the time; both are the caller's. What
//! stands behind the header is left in the socket, where TLS or the startup packet is read from. Fails at the first byte
//! that belongs to no header, so that a client that came without the proxy is not kept waiting.

use std::io;

use pgturnstile_proto::Malformed;
use pgturnstile_proto::proxy::{self, HEAD_BYTES, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// What came is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The socket failed, or ended in the middle.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Reads one header; `None` where the connection was closed before its first byte, as health checks do.
///
/// # Errors
/// [`Unread`].
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Header>, Unread> {
    let mut header = vec![0; HEAD_BYTES];
    let mut filled = 0;
    let length = loop {
        let free = header.get_mut(filled..).unwrap_or_default();
        match stream.read(free).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => filled += more,
        }
        if let Some(length) = proxy::peek(header.get(..filled).unwrap_or_default())? {
            break length;
        }
    };
    header.resize(length, 0);
    stream.read_exact(header.get_mut(HEAD_BYTES..).unwrap_or_default()).await?;
    Ok(Some(proxy::parse(&header)?))
}

#[cfg(test)]
mod tests {
    use pgturnstile_proto::Reason;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc6\x33\x64\x07\x0a\0\0\x05\x30\x39\x19\x20\x04\0\0";

    #[tokio::test]
    async fn exactly_the_header_is_taken_however_it_arrives() {
        for cut in 0..HEADER.len() {
            let (mut sender, mut receiver) = duplex(256);
            let (first, second) = HEADER.split_at(cut);
            let reading = tokio::spawn(async move {
                let header = read(&mut receiver).await;
                let mut behind = Vec::new();
                receiver.read_to_end(&mut behind).await.unwrap();
                (header, behind)
            });
            sender.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            sender.write_all(&[second, b"behind"].concat()).await.unwrap();
            drop(sender);
            let (header, behind) = reading.await.unwrap();
            let Ok(Some(Header::Proxied { source, .. })) = header else { panic!("{header:?}") };
            assert_eq!((source.to_string().as_str(), &behind[..]), ("198.51.100.7:12345", &b"behind"[..]));
        }
    }

    #[tokio::test]
    async fn an_end_is_nothing_at_first_and_a_fault_in_the_middle() {
        assert!(matches!(read(&mut &b""[..]).await, Ok(None)));
        for cut in 1..HEADER.len() {
            let outcome = read(&mut &HEADER[..cut]).await;
            assert!(matches!(outcome, Err(Unread::Socket(_))), "{cut}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_not_waited_for() {
        // The sender stays open: a reader that wanted sixteen bytes would never come back.
        let (mut sender, mut receiver) = duplex(256);
        sender.write_all(b"\0\0\0\x08").await.unwrap();
        let outcome = read(&mut receiver).await;
        let Err(Unread::Malformed(fault)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(fault.what, Reason::NoProxyHeader);
    }
}
