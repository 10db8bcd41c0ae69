//! NotificationResponse (`A`). Server: `NotifyMyFrontEnd` (async.c).

use super::open;
use crate::{BackendTag, Malformed};

/// A NOTIFY of any session on a channel that this one listens to. The payload is other people's data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Notification<'b> {
    process_id: u32,
    channel: &'b [u8],
    payload: &'b [u8],
}

impl<'b> Notification<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// An unterminated text, or bytes behind the payload.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::NotificationResponse)?;
        let process_id = reader.u32("process id")?;
        let channel = reader.text("channel")?;
        let payload = reader.last_text("payload")?;
        reader.finish(Self { process_id, channel, payload })
    }

    /// The process that notified.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The channel.
    pub fn channel(&self) -> &'b [u8] {
        self.channel
    }

    /// The payload, empty where none was given.
    pub fn payload(&self) -> &'b [u8] {
        self.payload
    }
}

impl std::fmt::Debug for Notification<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("process_id", &self.process_id)
            .field("channel", &self.channel.escape_ascii().to_string())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static FIXTURE: &[u8] = b"A\0\0\0\x0d\0\0\0\x07ch\0p\0";

    #[test]
    fn deconstruct() {
        let notification = Notification::parse(FIXTURE).unwrap();
        assert_eq!(notification.process_id(), 7);
        assert_eq!((notification.channel(), notification.payload()), (&b"ch"[..], &b"p"[..]));
        assert_eq!(
            format!("{notification:?}"),
            "Notification { process_id: 7, channel: \"ch\", payload_bytes: 1 }"
        );
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::notification_response(&mut frame, 7, "ch", "p").unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Notification::parse(frame).unwrap_err().what;
        assert_eq!(what(b"A\0\0\0\x06\0\0"), Reason::Truncated { field: "process id" });
        assert_eq!(what(b"A\0\0\0\x09\0\0\0\0a"), Reason::MissingNul { field: "channel" });
        assert_eq!(what(b"A\0\0\0\x0a\0\0\0\0a\0"), Reason::MissingNul { field: "payload" });
        assert_eq!(what(b"A\0\0\0\x0b\0\0\0\0\0\0\0"), Reason::NulInside { field: "payload" });
    }
}
