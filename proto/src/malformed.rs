//! Why a frame was refused. Owns the error of every reader in this crate.
//!
//! A [`Reason`] carries numbers, bytes and names of fields, never content that a peer sent beyond a single byte or a
//! single integer: its `Display` is safe to log and to show.

use thiserror::Error;

/// A frame that breaks the protocol: which one, where in it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed {frame} at byte {offset}: {what}")]
pub struct Malformed {
    /// The message's name as the protocol chapter spells it, or "frontend frame" / "backend frame" while the tag is
    /// not known.
    pub frame: &'static str,
    /// What is wrong with it.
    pub what: Reason,
    /// Where reading stopped, in bytes from the first byte of the frame (its tag; for a startup packet, its length).
    pub offset: usize,
}

/// What exactly is wrong with a frame. `field` is the protocol chapter's name of the part being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// The first byte is no message type of this direction.
    #[error("unknown message type 0x{byte:02x}")]
    UnknownTag {
        /// The byte found.
        byte: u8,
    },
    /// The declared length is negative or does not even cover itself and what the message must hold.
    #[error("declared length {declared} is less than {least}")]
    LengthTooSmall {
        /// As read from the wire, signed.
        declared: i32,
        /// The least legal value.
        least: usize,
    },
    /// The declared length is over the limit that [`crate::Limits`] sets for this message.
    #[error("{declared} bytes exceed the limit of {limit} bytes")]
    OverLimit {
        /// Bytes declared, without the four of the length itself.
        declared: usize,
        /// The limit on the same count.
        limit: usize,
    },
    /// A fixed-size field is cut off by the end of the frame.
    #[error("the frame ends inside {field}")]
    Truncated {
        /// The field being read.
        field: &'static str,
    },
    /// A string is not terminated within the frame.
    #[error("{field} has no terminating NUL")]
    MissingNul {
        /// The field being read.
        field: &'static str,
    },
    /// A string that must fill the rest of the frame holds a NUL before its end.
    #[error("{field} holds a NUL before its end")]
    NulInside {
        /// The field being read.
        field: &'static str,
    },
    /// A list lacks the zero byte that ends it.
    #[error("{field} lacks the terminating zero byte")]
    MissingTerminator {
        /// The list being read.
        field: &'static str,
    },
    /// The frame goes on behind its last field.
    #[error("{count} bytes follow the last field")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A count is negative.
    #[error("the number of {field} is {count}, which is negative")]
    NegativeCount {
        /// What is counted.
        field: &'static str,
        /// As read.
        count: i32,
    },
    /// A count promises more elements than the frame has bytes for.
    #[error("the number of {field} is {count}, but only {left} bytes are left in the frame")]
    CountBeyondFrame {
        /// What is counted.
        field: &'static str,
        /// As read.
        count: usize,
        /// Bytes left behind the count.
        left: usize,
    },
    /// A value's length is negative and not −1 (NULL).
    #[error("the length of {field} is {length}, which is negative and not NULL")]
    NegativeLength {
        /// The field being read.
        field: &'static str,
        /// As read.
        length: i32,
    },
    /// A value's length reaches over the end of the frame.
    #[error("the length of {field} is {length}, but only {left} bytes are left in the frame")]
    LengthBeyondFrame {
        /// The field being read.
        field: &'static str,
        /// As read.
        length: usize,
        /// Bytes left behind the length.
        left: usize,
    },
    /// More than one format code, but not one for each value (`exec_bind_message` answers 08P01).
    #[error("{formats} format codes for {values} values")]
    FormatCountMismatch {
        /// Format codes sent.
        formats: usize,
        /// Values sent.
        values: usize,
    },
    /// A format code other than 0 (text) and 1 (binary).
    #[error("{field} is {code}, which is neither 0 (text) nor 1 (binary)")]
    UnknownFormat {
        /// The field being read.
        field: &'static str,
        /// As read.
        code: i16,
    },
    /// Describe or Close of something that is neither `S` (statement) nor `P` (portal).
    #[error("0x{byte:02x} is neither 'S' (prepared statement) nor 'P' (portal)")]
    UnknownObjectKind {
        /// As read.
        byte: u8,
    },
    /// ReadyForQuery with a status other than `I`, `T` and `E`.
    #[error("0x{byte:02x} is no transaction status")]
    UnknownTransactionStatus {
        /// As read.
        byte: u8,
    },
    /// An authentication request of an unknown kind.
    #[error("{code} is no kind of authentication request")]
    UnknownAuthentication {
        /// As read.
        code: u32,
    },
    /// A cancel request's key is shorter than 4 or longer than 256 bytes (protocol 3.0 has 4; 3.2 allows 4 to 256).
    #[error("a cancel key of {length} bytes; protocol 3.0 has 4, protocol 3.2 has 4 to 256")]
    KeyLength {
        /// Bytes found.
        length: usize,
    },
    /// A startup packet for a protocol that is not spoken here.
    #[error(
        "protocol {major}.{minor} is not supported: 3.0 and 3.2 are spoken (a newer 3.x is negotiated down)"
    )]
    UnsupportedVersion {
        /// Upper half of the version word.
        major: u16,
        /// Lower half.
        minor: u16,
    },
    /// A startup packet with the request prefix 1234 and an unknown code.
    #[error("1234.{code} is no request code (5678 cancels, 5679 asks for TLS, 5680 for GSSAPI encryption)")]
    UnknownRequestCode {
        /// Lower half of the request word.
        code: u16,
    },
    /// The bytes are a TLS record, not a startup packet: the peer begins TLS without asking first.
    #[error(
        "this is a TLS record, not a startup packet: the client starts TLS directly (sslnegotiation=direct)"
    )]
    DirectTls,
    /// A listener that takes connections by a proxy only, and the connection does not begin with a PROXY header.
    #[error("the connection does not begin with a PROXY header")]
    NoProxyHeader,
    /// The header is the text of version 1.
    #[error("this is a PROXY header of version 1; version 2 is read")]
    ProxyVersion1,
    /// A version other than 2, or a command other than LOCAL and PROXY.
    #[error("0x{byte:02x} is neither 0x20 (version 2, LOCAL) nor 0x21 (version 2, PROXY)")]
    UnknownProxyCommand {
        /// As read.
        byte: u8,
    },
    /// The header names no TCP connection.
    #[error("0x{byte:02x} is neither 0x11 (TCP over IPv4) nor 0x21 (TCP over IPv6)")]
    UnknownProxyTransport {
        /// As read.
        byte: u8,
    },
    /// A checksum that is not of four bytes.
    #[error("a checksum of {length} bytes; CRC32C has 4")]
    ProxyChecksumLength {
        /// As declared.
        length: usize,
    },
    /// Two checksums: one of them would be over the other.
    #[error("a second checksum")]
    ProxyChecksumTwice,
    /// The checksum is not that of the header.
    #[error("the checksum does not fit")]
    ProxyChecksum,
    /// More startup parameters than are read.
    #[error("more than {limit} startup parameters")]
    TooManyParameters {
        /// The limit.
        limit: usize,
    },
    /// The same startup parameter twice: the two ends could read it differently.
    #[error("a startup parameter is given twice")]
    DuplicateParameter,
    /// A row has another number of columns than the row description in force.
    #[error("{found} columns where {described} were described")]
    ColumnCount {
        /// In the row.
        found: usize,
        /// In the row description.
        described: usize,
    },
    /// The caller passed something else than one whole frame: a bug of the gateway, not of the peer.
    #[error("given {given} bytes for a frame of {declared}: the caller must pass exactly one whole frame")]
    NotOneFrame {
        /// Bytes passed.
        given: usize,
        /// Bytes the frame has by its own length.
        declared: usize,
    },
    /// The caller asked for another message than the frame holds: a bug of the gateway, not of the peer.
    #[error("message type 0x{found:02x} where 0x{expected:02x} was asked for")]
    WrongTag {
        /// Asked for.
        expected: u8,
        /// In the frame.
        found: u8,
    },
}
