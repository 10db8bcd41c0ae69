//! Frames of a target before and beside the relay: read one at a time, exactly, under limits.
//!
//! Owns a buffer of one frame. Never takes a byte behind the frame it reads: what follows the first ReadyForQuery is
//! still in the socket when the relay takes over, and is judged there. Memory grows with the bytes that came, not with
//! the length that was declared. Fails on end of stream, a malformed frame, and more than the step's share.

use pgturnstile_proto::backend::{Fields, Header, Message};
use pgturnstile_proto::{HEADER_BYTES, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::backend::error::{Failure, Rejection, Step};

/// Most characters of a server's message that an error of ours repeats.
const MESSAGE_CHARS_MAX: usize = 500;

/// Frames and bytes that a step may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) frames: usize,
    pub(super) bytes: usize,
}

/// A stream seen as frames, for one step after another.
pub(super) struct Frames<'s, S> {
    stream: &'s mut S,
    frame: Vec<u8>,
    limits: Limits,
    share: Share,
    left: Share,
    step: Step,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Frames<'s, S> {
    pub(super) fn new(stream: &'s mut S, step: Step, share: Share) -> Self {
        // No frame can be larger than what all of them may take together.
        let limits = Limits {
            control_bytes_max: Limits::default().control_bytes_max.min(share.bytes),
            row_bytes_max: share.bytes,
            description_bytes_max: share.bytes,
            report_bytes_max: share.bytes,
            ..Limits::default()
        };
        Self { stream, frame: Vec::new(), limits, share, left: share, step }
    }

    /// What errors call the present step.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    pub(super) fn enter(&mut self, step: Step) {
        self.step = step;
    }

    /// Sends bytes and sees them leave.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let step = self.step;
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| Failure::Io { step, error })
    }

    /// The next frame, whole.
    pub(super) async fn next(&mut self) -> Result<Message<'_>, Failure> {
        let step = self.step;
        self.frame.clear();
        self.fill(HEADER_BYTES).await?;
        let malformed = |malformed| Failure::Malformed { step, malformed };
        let header = Header::peek(&self.frame, &self.limits).map_err(malformed)?;
        let len = header.map_or(HEADER_BYTES, |header| header.len);
        match (self.left.frames.checked_sub(1), self.left.bytes.checked_sub(len)) {
            (Some(frames), Some(bytes)) => self.left = Share { frames, bytes },
            (None, _) => return Err(self.too_much(format!("{} frames", self.share.frames))),
            (Some(_), None) => return Err(self.too_much(format!("{} bytes", self.share.bytes))),
        }
        self.fill(len).await?;
        Message::parse(&self.frame).map_err(malformed)
    }

    async fn fill(&mut self, len: usize) -> Result<(), Failure> {
        let step = self.step;
        while let Some(missing) = len.checked_sub(self.frame.len()).filter(|missing| *missing > 0) {
            let most = u64::try_from(missing).unwrap_or(u64::MAX);
            let read = (&mut *self.stream).take(most).read_buf(&mut self.frame).await;
            match read {
                Ok(0) => return Err(Failure::Closed(step)),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(Failure::Closed(step)); // TLS ended without close_notify
                }
                Err(error) => return Err(Failure::Io { step, error }),
            }
        }
        Ok(())
    }

    fn too_much(&self, limit: String) -> Failure {
        Failure::TooMuch { step: self.step, limit }
    }
}

/// A server's error as an error of ours.
pub(super) fn rejected(step: Step, fields: &Fields<'_>) -> Failure {
    let text = String::from_utf8_lossy(fields.message().unwrap_or(b"(no message)")).into_owned();
    let message: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(MESSAGE_CHARS_MAX)
        .collect();
    let sqlstate = fields.sqlstate().unwrap_or("XX000").to_owned();
    Failure::Rejected { step, rejection: Rejection { sqlstate, message } }
}
