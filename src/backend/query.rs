//! Short queries of the gateway's own, on connections of its own: the catalog, the pooler check.
//!
//! By the simple protocol, text in and text out. Never on a session that a client has: what is injected there is the
//! session's business. Bounded in rows and bytes; every frame that does not belong to a query's answer is refused.

use pgturnstile_proto::backend::{DataRow, Message, TransactionStatus};
use pgturnstile_proto::encode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::backend::dial::in_time;
use crate::backend::error::{Failure, Step};
use crate::backend::frames::{Frames, Share, rejected};
use crate::backend::limits::{QUERY_BYTES_MAX, QUERY_ROWS_MAX};

/// What a query returned: the rows of all its statements, values as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether a transaction is open behind it.
    pub status: TransactionStatus,
}

/// Runs a text of one or more statements and reads to the ReadyForQuery behind it.
///
/// # Errors
/// The server's own error ([`Failure::Rejected`], the stream is usable after it), or a broken connection or protocol
/// (it is not).
pub async fn query<S>(stream: &mut S, text: &str, deadline: Instant) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(deadline, Step::Query, run(stream, text)).await
}

async fn run<S>(stream: &mut S, text: &str) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let share = Share { frames: QUERY_ROWS_MAX, bytes: QUERY_BYTES_MAX };
    let mut rows = Vec::new();
    let mut strange = false;
    let mut take = |row: &DataRow<'_>| {
        let values: Result<Vec<Option<String>>, _> = row
            .columns()
            .iter()
            .map(|value| value.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).transpose())
            .collect();
        match values {
            Ok(values) => rows.push(values),
            Err(_) => strange = true,
        }
    };
    let status = exchange(stream, text, share, &mut take).await?;
    if strange {
        return Err(Failure::Nonsense { step: Step::Query, what: "a value that is not UTF-8" });
    }
    Ok(Answer { rows, status })
}

/// Runs a text and hands each row over as it comes, in whatever encoding its values are; no row is kept. Bounded by
/// `bytes_max` over all of them.
///
/// # Errors
/// As [`query`]. Rows that came before an error were handed over.
pub async fn each_row<S>(
    stream: &mut S,
    text: &str,
    bytes_max: usize,
    deadline: Instant,
    take: &mut (dyn FnMut(&DataRow<'_>) + Send),
) -> Result<TransactionStatus, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let share = Share { frames: usize::MAX, bytes: bytes_max };
    in_time(deadline, Step::Query, exchange(stream, text, share, take)).await
}

/// Sends frames that end with one Query or one Sync, and hands every message of their answer over, errors too, to the
/// ReadyForQuery behind them; bounded as [`each_row`]. Nothing may be copied in either direction.
///
/// # Errors
/// A broken connection or protocol: the stream is not usable any more.
pub async fn converse<S>(
    stream: &mut S,
    request: &[u8],
    bytes_max: usize,
    deadline: Instant,
    take: &mut (dyn FnMut(&Message<'_>) + Send),
) -> Result<TransactionStatus, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let share = Share { frames: usize::MAX, bytes: bytes_max };
    in_time(deadline, Step::Query, answers(stream, request, share, true, take)).await
}

/// Sends a text and reads to the ReadyForQuery behind it.
async fn exchange<S>(
    stream: &mut S,
    text: &str,
    share: Share,
    take: &mut (dyn FnMut(&DataRow<'_>) + Send),
) -> Result<TransactionStatus, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    encode::query(&mut request, text)?;
    let mut failed = None;
    let mut each = |message: &Message<'_>| {
        if let Message::DataRow(row) = message {
            take(row);
        } else if let Message::ErrorResponse(fields) = message {
            // The first error is the reason; a second one can only follow from it.
            failed.get_or_insert_with(|| rejected(Step::Query, fields));
        }
    };
    let status = answers(stream, &request, share, false, &mut each).await?;
    failed.map_or(Ok(status), Err)
}

/// Sends frames and hands over what comes to the ReadyForQuery behind them; `extended`: of the extended protocol, too.
async fn answers<S>(
    stream: &mut S,
    request: &[u8],
    share: Share,
    extended: bool,
    take: &mut (dyn FnMut(&Message<'_>) + Send),
) -> Result<TransactionStatus, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let step = Step::Query;
    let mut frames = Frames::new(stream, step, share);
    frames.send(request).await?;
    loop {
        let message = frames.next().await?;
        let tag = message.tag();
        match &message {
            Message::ReadyForQuery { status } => return Ok(*status),
            Message::ParseComplete | Message::BindComplete if extended => {}
            Message::DataRow(_)
            | Message::ErrorResponse(_)
            | Message::RowDescription(_)
            | Message::CommandComplete(_)
            | Message::EmptyQueryResponse
            | Message::NoticeResponse(_)
            | Message::NotificationResponse(_)
            | Message::ParameterStatus(_) => take(&message),
            Message::Authentication(_)
            | Message::BackendKeyData(_)
            | Message::BindComplete
            | Message::CloseComplete
            | Message::CopyData(_)
            | Message::CopyDone
            | Message::CopyInResponse(_)
            | Message::CopyOutResponse(_)
            | Message::CopyBothResponse(_)
            | Message::FunctionCallResponse(_)
            | Message::NegotiateProtocolVersion(_)
            | Message::NoData
            | Message::ParameterDescription(_)
            | Message::ParseComplete
            | Message::PortalSuspended => return Err(Failure::Unexpected { step, tag }),
        }
    }
}
