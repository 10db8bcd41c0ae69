//! What is recorded: the kinds, and the entry that becomes a record.
//!
//! Owns: kind numbers, flags by kind, serialization into one buffer, checked access to payloads. May not: know lanes or
//! files. Compiles with std, blake3 and rkyv alone. Kinds are append-only: a number is never reused. A payload that fails
//! rkyv's checks is a [`Flaw`], never a panic.

mod anchored;
pub mod captured;
mod held;
pub mod sealed;
mod ticket;
pub mod v1;

use core::fmt;

use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::Arena;

use super::format::{
    self, FLAG_CLOSES, FLAG_EXPECTS, FLAG_GATED, FLAG_OPENS, FLAG_SETTLES, Flaw, REFERS_TO_NONE,
    RecordHeader, RecordView,
};
use super::limits::RECORD_BYTES_MAX;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $kind:ident($payload:ident) = $code:literal, $name:literal, flags: $flags:expr; )*) => {
        /// What a record is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $( $(#[$doc])* $kind, )* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[ $( Kind::$kind, )* ];

            /// Its number in a record's header.
            pub const fn code(self) -> u16 {
                match self { $( Kind::$kind => $code, )* }
            }

            /// Its name in output.
            pub const fn name(self) -> &'static str {
                match self { $( Kind::$kind => $name, )* }
            }

            /// Its place in [`Kind::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The kind of a number.
            pub const fn from_code(code: u16) -> Option<Kind> {
                match code { $( $code => Some(Kind::$kind), )* _ => None }
            }

            /// Flags that every record of this kind carries.
            pub const fn flags(self) -> u16 {
                match self { $( Kind::$kind => $flags, )* }
            }
        }

        /// What is to be recorded; it borrows from the session.
        #[derive(Clone, Copy, Debug)]
        pub enum Entry<'a> { $( $(#[$doc])* $kind(v1::$kind<'a>), )* }

        impl Entry<'_> {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self { $( Entry::$kind(_) => Kind::$kind, )* }
            }

            fn serialize(&self, judged: u64, buffer: Vec<u8>, arena: &mut Arena) -> Result<Vec<u8>, Failure> {
                let mut serializer = Serializer::new(buffer, arena.acquire(), ());
                let strategy = Strategy::<_, Failure>::wrap(&mut serializer);
                match self { $(
                    Entry::$kind(entry) => rkyv::api::serialize_using(&v1::$payload::of(entry, judged), strategy)?,
                )* };
                Ok(serializer.into_writer())
            }
        }

        /// A checked payload, in place.
        #[derive(Clone, Copy)]
        pub enum Payload<'b> { $( $(#[$doc])* $kind(&'b <v1::$payload<'b> as rkyv::Archive>::Archived), )* }

        impl<'b> Payload<'b> {
            fn access(kind: Kind, bytes: &'b [u8]) -> Result<Payload<'b>, Failure> {
                match kind { $(
                    Kind::$kind => rkyv::access::<<v1::$payload<'b> as rkyv::Archive>::Archived, Failure>(bytes)
                        .map(Payload::$kind),
                )* }
            }
        }
    };
}

/// The payload that an entry becomes: itself, or what is its own where texts are shared.
trait Of<'a, E> {
    fn of(entry: &'a E, judged: u64) -> Self;
}

impl<'a, P: Copy> Of<'a, P> for P {
    fn of(entry: &'a P, _judged: u64) -> P {
        *entry
    }
}

impl<'a> Of<'a, v1::Statement<'a>> for v1::JudgedStatement<'a> {
    fn of(entry: &'a v1::Statement<'a>, judged: u64) -> v1::JudgedStatement<'a> {
        entry.own(judged)
    }
}

kinds! {
    /// The gateway started; opens the run's stream.
    GatewayStarted(GatewayStarted) = 1, "gateway-started", flags: FLAG_OPENS;
    /// The gateway stopped in order.
    GatewayStopped(GatewayStopped) = 2, "gateway-stopped", flags: FLAG_CLOSES;
    /// Configuration or policy was loaded or refused.
    DocumentLoaded(DocumentLoaded) = 3, "document-loaded", flags: 0;
    /// A torn tail was cut at the start.
    Recovered(Recovered) = 4, "recovered", flags: 0;
    /// A checkpoint was signed.
    Checkpoint(Checkpoint) = 5, "checkpoint", flags: 0;
    /// Another key signs the checkpoints.
    KeyRotated(KeyRotated) = 6, "key-rotated", flags: 0;
    /// What the machine's clocks said.
    Clock(Clock) = 7, "clock", flags: 0;
    /// A client connected; opens the session's stream.
    SessionOpened(SessionOpened) = 16, "session-opened", flags: FLAG_OPENS;
    /// A client proved who it is.
    Authenticated(Authenticated) = 17, "authenticated", flags: 0;
    /// A client could not prove who it is.
    AuthenticationDenied(AuthenticationDenied) = 18, "authentication-denied", flags: 0;
    /// The session got its target and login.
    TargetChosen(TargetChosen) = 19, "target-chosen", flags: 0;
    /// A statement was judged.
    Statement(JudgedStatement) = 20, "statement", flags: 0;
    /// What came back for it.
    StatementResult(StatementResult) = 21, "result", flags: 0;
    /// What a refused client was told.
    Refusal(Refusal) = 22, "refusal", flags: 0;
    /// A cancel request came.
    CancelRequested(CancelRequested) = 23, "cancel-requested", flags: 0;
    /// A guarded setting moved.
    SettingMoved(SettingMoved) = 24, "setting-moved", flags: 0;
    /// A peer broke the protocol.
    ProtocolViolation(ProtocolViolation) = 25, "protocol-violation", flags: 0;
    /// The session ended.
    SessionClosed(SessionClosed) = 26, "session-closed", flags: FLAG_CLOSES;
    /// The text, facts and verdict that statements share.
    JudgedText(JudgedText) = 27, "judged-text", flags: 0;
    /// What was masked of a statement's result.
    Masked(Masked) = 28, "masked", flags: 0;
    /// The connection came by a load balancer that said whose it is.
    Proxied(Proxied) = 29, "proxied", flags: 0;
    /// How the session's target was named.
    Routed(Routed) = 30, "routed", flags: 0;
    /// How much is recorded of statements and results.
    Recording(Recording) = 31, "recording", flags: 0;
    /// What the client says of itself.
    Stated(Stated) = 32, "stated", flags: 0;
    /// The exact text of a statement.
    StatementText(StatementText) = 33, "statement-text", flags: 0;
    /// What is bound to a statement's parameters.
    Parameters(Parameters) = 34, "parameters", flags: 0;
    /// The columns of results.
    RowDescription(RowDescription) = 35, "row-description", flags: 0;
    /// Rows as they left.
    Rows(Rows) = 36, "rows", flags: 0;
    /// Data of a COPY.
    CopyData(CopyData) = 37, "copy-data", flags: 0;
    /// Where and why capture ended.
    CaptureEnded(CaptureEnded) = 38, "capture-ended", flags: 0;
    /// An error or a notice as it left.
    Report(Report) = 39, "report", flags: 0;
    /// A notification as it left.
    Notification(Notification) = 40, "notification", flags: 0;
    /// All data of a COPY from the client, by digest.
    CopiedIn(CopiedIn) = 41, "copied-in", flags: 0;
    /// Originals of masked values, sealed to an auditor's key.
    Sealed(Sealed) = 42, "sealed", flags: 0;
    /// Sealed originals are opened: of a log that `evidence unseal` keeps.
    Unsealed(Unsealed) = 43, "unsealed", flags: 0;
    /// A statement waits for approval.
    HoldOpened(HoldOpened) = 44, "hold-opened", flags: 0;
    /// Somebody decided on it.
    HoldDecided(HoldDecided) = 45, "hold-decided", flags: 0;
    /// It waits no longer.
    HoldEnded(HoldEnded) = 46, "hold-ended", flags: 0;
    /// A statement became a ticket.
    TicketOpened(TicketOpened) = 47, "ticket-opened", flags: 0;
    /// Somebody decided on it.
    TicketDecided(TicketDecided) = 48, "ticket-decided", flags: 0;
    /// It lets its statement pass.
    TicketUsed(TicketUsed) = 49, "ticket-used", flags: 0;
    /// Nothing comes of it any more.
    TicketEnded(TicketEnded) = 50, "ticket-ended", flags: 0;
}

/// Version of every payload that this program writes.
pub const KIND_VERSION: u16 = 1;

/// Whether a session waits for its record to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The writer syncs the batch that holds it.
    Gated,
    /// It is written in order; a later sync covers it.
    Queued,
}

/// How a record stands among the others of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Whether it asks for a sync.
    pub durability: Durability,
    /// Stream sequence of the record it answers or belongs to.
    pub refers: Option<u64>,
    /// It is the last answer to that record.
    pub settles: bool,
    /// Another record, on which the session waits for both, comes right behind: the writer is not woken for this one.
    pub followed: bool,
}

impl How {
    /// Asks for a sync.
    pub const GATED: How =
        How { durability: Durability::Gated, refers: None, settles: false, followed: false };
    /// Leaves the sync to the interval.
    pub const QUEUED: How =
        How { durability: Durability::Queued, refers: None, settles: false, followed: false };

    /// The same, belonging to an earlier record (an Execute to its Parse, one of several results to its statement).
    pub const fn belonging_to(self, stream_sequence: u64) -> How {
        How { refers: Some(stream_sequence), ..self }
    }

    /// The same, where another record comes right behind it.
    pub const fn followed(self) -> How {
        How { followed: true, ..self }
    }

    /// Whether the writer is woken for it.
    pub const fn wakes(self) -> bool {
        matches!(self.durability, Durability::Gated) && !self.followed
    }

    /// The same, as the last answer to an earlier record.
    pub const fn answering(self, stream_sequence: u64) -> How {
        How { refers: Some(stream_sequence), settles: true, ..self }
    }
}

/// What a record's header says beyond its entry.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The lane it goes through.
    pub lane: u32,
    /// The stream it belongs to.
    pub stream: [u8; 16],
    /// Its number there.
    pub stream_sequence: u64,
    /// Nanoseconds since 1970, UTC.
    pub wall_ns: u64,
    /// Nanoseconds since the gateway's start.
    pub monotonic_ns: u64,
}

/// Why an entry could not become a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// It is longer than a record may be, bytes.
    TooLong(usize),
    /// rkyv could not serialize it (an offset that does not fit 32 bits).
    Serialize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong(bytes) => {
                write!(f, "the record would be {bytes} bytes long, over {RECORD_BYTES_MAX}")
            }
            EncodeError::Serialize => f.write_str("the record's payload cannot be serialized"),
        }
    }
}

impl std::error::Error for EncodeError {}

impl Entry<'_> {
    /// Whether another record of the stream must answer this one.
    pub fn expects_answer(&self) -> bool {
        match self {
            Entry::Statement(statement) => match (statement.action, statement.protocol) {
                // A permitted Parse runs nothing: its Executes bring their own records.
                (v1::Action::Allow, v1::Protocol::Parse) => false,
                (
                    v1::Action::Allow,
                    v1::Protocol::Simple | v1::Protocol::Execute | v1::Protocol::Injected,
                )
                | (v1::Action::Hold | v1::Action::Refuse, _) => true,
            },
            Entry::GatewayStarted(_)
            | Entry::GatewayStopped(_)
            | Entry::DocumentLoaded(_)
            | Entry::Recovered(_)
            | Entry::Checkpoint(_)
            | Entry::KeyRotated(_)
            | Entry::Clock(_)
            | Entry::SessionOpened(_)
            | Entry::Authenticated(_)
            | Entry::AuthenticationDenied(_)
            | Entry::TargetChosen(_)
            | Entry::StatementResult(_)
            | Entry::Refusal(_)
            | Entry::CancelRequested(_)
            | Entry::SettingMoved(_)
            | Entry::ProtocolViolation(_)
            | Entry::JudgedText(_)
            | Entry::Masked(_)
            | Entry::Proxied(_)
            | Entry::Routed(_)
            | Entry::Recording(_)
            | Entry::Stated(_)
            | Entry::StatementText(_)
            | Entry::Parameters(_)
            | Entry::RowDescription(_)
            | Entry::Rows(_)
            | Entry::CopyData(_)
            | Entry::CaptureEnded(_)
            | Entry::Report(_)
            | Entry::Notification(_)
            | Entry::CopiedIn(_)
            | Entry::Sealed(_)
            | Entry::Unsealed(_)
            | Entry::HoldOpened(_)
            | Entry::HoldDecided(_)
            | Entry::HoldEnded(_)
            | Entry::TicketOpened(_)
            | Entry::TicketDecided(_)
            | Entry::TicketUsed(_)
            | Entry::TicketEnded(_)
            | Entry::SessionClosed(_) => false,
        }
    }

    /// Whether it begins new work, which is refused while the disk is constrained; what ends work never is.
    pub fn begins_work(&self) -> bool {
        matches!(self.kind(), Kind::SessionOpened | Kind::Statement)
    }

    /// The finished record, but for its global sequence: header, payload, hash.
    ///
    /// `judged` is, for a statement, the stream sequence of its [`v1::JudgedText`]; other entries ignore it.
    pub fn encode(&self, stamp: &Stamp, how: How, judged: u64) -> Result<Vec<u8>, EncodeError> {
        let mut flags = self.kind().flags();
        if how.durability == Durability::Gated {
            flags |= FLAG_GATED;
        }
        if how.settles {
            flags |= FLAG_SETTLES;
        }
        if self.expects_answer() {
            flags |= FLAG_EXPECTS;
        }
        let header = RecordHeader {
            kind: self.kind().code(),
            kind_version: KIND_VERSION,
            flags,
            payload_bytes: 0,
            lane: stamp.lane,
            stream: stamp.stream,
            stream_sequence: stamp.stream_sequence,
            refers: how.refers.unwrap_or(REFERS_TO_NONE),
            wall_ns: stamp.wall_ns,
            monotonic_ns: stamp.monotonic_ns,
        };
        // One allocation for ordinary records: head, fixed part and short strings fit, what is long is added.
        let mut buffer = Vec::with_capacity(384 + self.long_bytes());
        format::begin_record(&mut buffer, &header);
        let mut buffer = rkyv::util::with_arena(|arena| self.serialize(judged, buffer, arena))
            .map_err(|_: Failure| EncodeError::Serialize)?;
        format::finish_record(&mut buffer).map_err(EncodeError::TooLong)?;
        Ok(buffer)
    }

    fn long_bytes(&self) -> usize {
        if let Entry::JudgedText(v1::JudgedText { text: v1::TextHeld::Lifted(text), .. }) = self {
            512 + text.len()
        } else if let Entry::StatementText(v1::StatementText {
            text: v1::TextKept::Whole(text) | v1::TextKept::Masked(text),
        }) = self
        {
            text.len()
        } else if let Entry::Rows(v1::Rows { frames, .. }) | Entry::CopyData(v1::CopyData { frames, .. }) =
            self
        {
            frames.len()
        } else if let Entry::Sealed(v1::Sealed { ciphertext, .. }) = self {
            ciphertext.len()
        } else {
            0
        }
    }
}

/// The kind of a record.
pub fn kind(record: &RecordView<'_>) -> Result<Kind, Flaw> {
    let header = record.header();
    let Some(kind) = Kind::from_code(header.kind) else {
        return Err(Flaw::Payload(format!("kind {} is not known to this program", header.kind)));
    };
    if header.kind_version != KIND_VERSION {
        return Err(Flaw::Payload(format!(
            "version {} of kind {} is not known to this program",
            header.kind_version,
            kind.name()
        )));
    }
    Ok(kind)
}

/// The checked payload of a record.
pub fn payload<'b>(record: &RecordView<'b>) -> Result<(Kind, Payload<'b>), Flaw> {
    let kind = kind(record)?;
    let payload = Payload::access(kind, record.payload())
        .map_err(|_: Failure| Flaw::Payload(format!("the payload is no {}", kind.name())))?;
    Ok((kind, payload))
}
