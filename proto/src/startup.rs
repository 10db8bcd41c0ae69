//! The packets before the session is set up, which carry no type byte: SSLRequest, GSSENCRequest, CancelRequest,
//! StartupMessage. Owns their framing, their version check and the sniff for a TLS record.
//!
//! Nothing here is authenticated. The readers therefore stop at the first wrong byte, never read more than
//! [`STARTUP_BYTES_MAX`] and never hold more than [`STARTUP_PARAMETERS_MAX`] parameters in view.
//!
//! Server: `ProcessStartupPacket` and `ProcessCancelRequestPacket` (backend_startup.c; postmaster.c before 17).

use std::str::Utf8Error;

use crate::{
    CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN, Malformed, Reason, STARTUP_BYTES_MAX, STARTUP_PARAMETERS_MAX,
    reader::Reader,
};

/// The version word of protocol 3.0.
pub const VERSION_3_0: u32 = 3 << 16;
/// The version word of protocol 3.2 (PostgreSQL 18).
pub const VERSION_3_2: u32 = 3 << 16 | 2;
/// The request word of CancelRequest.
pub const CANCEL_REQUEST: u32 = 1234 << 16 | 5678;
/// The request word of SSLRequest.
pub const SSL_REQUEST: u32 = 1234 << 16 | 5679;
/// The request word of GSSENCRequest.
pub const GSSENC_REQUEST: u32 = 1234 << 16 | 5680;

/// The versions that differ in what they say. Minor version 1 was never used for anything: a server of 18 takes it, and
/// speaks 3.0 by another name (`src/include/libpq/pqcomm.h`; documentation, "Protocol Versions").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// Every server since 7.4. Cancel keys have 4 bytes.
    #[default]
    V3_0,
    /// PostgreSQL 18 and later. Cancel keys have 4 to 256 bytes; servers of 18 make 32.
    V3_2,
}

impl ProtocolVersion {
    /// What is spoken with a client that asks for 3.`minor`: what it asks for, or the newest that there is.
    pub fn for_client(minor: u16) -> Self {
        if minor >= 2 { Self::V3_2 } else { Self::V3_0 }
    }

    /// As the startup packet and NegotiateProtocolVersion write it.
    pub fn word(self) -> u32 {
        match self {
            Self::V3_0 => VERSION_3_0,
            Self::V3_2 => VERSION_3_2,
        }
    }
}

/// The first byte of a TLS record that holds a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

const NAME: &str = "startup packet";

/// A client that starts TLS without an SSLRequest (`sslnegotiation=direct`, libpq 17 and later) begins with a TLS
/// record; no startup packet can begin so, because its length would be over 350 MB.
pub fn is_direct_tls(first_byte: u8) -> bool {
    first_byte == TLS_HANDSHAKE
}

/// Measures the next startup packet from its first four bytes: its whole length, length word included. `Ok(None)`:
/// fewer than four bytes are there.
///
/// # Errors
/// [`Reason::DirectTls`] on a TLS record (already at one byte), or a length that no startup packet can have.
pub fn peek(buf: &[u8]) -> Result<Option<usize>, Malformed> {
    if buf.first().copied().is_some_and(is_direct_tls) {
        return Err(Malformed { frame: NAME, what: Reason::DirectTls, offset: 0 });
    }
    let Some((length, _)) = buf.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let declared = i32::from_be_bytes(*length);
    match usize::try_from(declared) {
        Ok(length) if length >= 8 => {
            if length - 4 > STARTUP_BYTES_MAX {
                let what = Reason::OverLimit { declared: length - 4, limit: STARTUP_BYTES_MAX };
                return Err(Malformed { frame: NAME, what, offset: 0 });
            }
            Ok(Some(length))
        }
        Ok(_) | Err(_) => {
            Err(Malformed { frame: NAME, what: Reason::LengthTooSmall { declared, least: 8 }, offset: 0 })
        }
    }
}

/// A whole, checked startup packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'b> {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel what another connection runs.
    Cancel(CancelRequest<'b>),
    /// Starts a session.
    Startup(Startup<'b>),
}

/// Reads exactly one whole packet, as [`peek`] measured it.
///
/// # Errors
/// [`Malformed`] names what breaks the protocol; [`Reason::UnsupportedVersion`] names protocol 2 and everything that
/// is not 3.x.
pub fn parse(packet: &[u8]) -> Result<Packet<'_>, Malformed> {
    let declared = peek(packet)?;
    let (Some(declared), Some((word, rest))) =
        (declared, packet.get(4..).and_then(<[u8]>::split_first_chunk::<4>))
    else {
        let what = Reason::NotOneFrame { given: packet.len(), declared: declared.unwrap_or(8) };
        return Err(Malformed { frame: NAME, what, offset: 0 });
    };
    if declared != packet.len() {
        let what = Reason::NotOneFrame { given: packet.len(), declared };
        return Err(Malformed { frame: NAME, what, offset: 0 });
    }
    let [major_high, major_low, minor_high, minor_low] = *word;
    let (major, minor) =
        (u16::from_be_bytes([major_high, major_low]), u16::from_be_bytes([minor_high, minor_low]));
    match (major, minor) {
        (1234, 5678) => CancelRequest::read(Reader::over("CancelRequest", packet, rest)).map(Packet::Cancel),
        (1234, 5679) => Reader::over("SSLRequest", packet, rest).finish(Packet::SslRequest),
        (1234, 5680) => Reader::over("GSSENCRequest", packet, rest).finish(Packet::GssEncRequest),
        (1234, code) => Err(Malformed { frame: NAME, what: Reason::UnknownRequestCode { code }, offset: 6 }),
        (3, minor) => Startup::read(Reader::over("StartupMessage", packet, rest), minor).map(Packet::Startup),
        (major, minor) => {
            Err(Malformed { frame: NAME, what: Reason::UnsupportedVersion { major, minor }, offset: 4 })
        }
    }
}

/// Names a session to interrupt. Protocol 3.0 keys have 4 bytes; 3.2 keys have up to 256. Which of the two lengths is
/// right depends on what the gateway handed out, so both are read and the comparison decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelRequest<'b> {
    process_id: u32,
    key: &'b [u8],
}

impl<'b> CancelRequest<'b> {
    fn read(mut reader: Reader<'b>) -> Result<Self, Malformed> {
        let process_id = reader.u32("process id")?;
        let length = reader.left();
        if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&length) {
            return Err(reader.fault(Reason::KeyLength { length }));
        }
        let key = reader.take_rest();
        reader.finish(Self { process_id, key })
    }

    /// The process id of BackendKeyData.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The key of BackendKeyData: 4 to 256 bytes. Compare in constant time.
    pub fn key(&self) -> &'b [u8] {
        self.key
    }
}

impl std::fmt::Debug for CancelRequest<'_> {
    /// The key is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest")
            .field("process_id", &self.process_id)
            .field("key_bytes", &self.key.len())
            .finish()
    }
}

/// Starts a session of protocol 3.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup<'b> {
    minor: u16,
    parameters: Parameters<'b>,
}

impl<'b> Startup<'b> {
    fn read(mut reader: Reader<'b>, minor: u16) -> Result<Self, Malformed> {
        let start = reader.rest();
        let mut count = 0;
        loop {
            if reader.left() == 0 {
                return Err(reader.fault(Reason::MissingTerminator { field: "parameter list" }));
            }
            let before = Parameters { bytes: reader.walked(start) };
            let name = reader.text("parameter name")?;
            if name.is_empty() {
                return reader.finish(Self { minor, parameters: before });
            }
            if count == STARTUP_PARAMETERS_MAX {
                return Err(reader.fault(Reason::TooManyParameters { limit: STARTUP_PARAMETERS_MAX }));
            }
            if before.get(name).is_some() {
                return Err(reader.fault(Reason::DuplicateParameter));
            }
            reader.text("parameter value")?;
            count += 1;
        }
    }

    /// Minor version asked for.
    pub fn minor(&self) -> u16 {
        self.minor
    }

    /// The version word of NegotiateProtocolVersion, where one must be sent: the client asks for a minor version beyond
    /// the newest that is spoken, or for extensions. As in a server of 18, the word is the version asked for or the
    /// newest, whichever is less (`ProcessStartupPacket`).
    pub fn negotiate(&self) -> Option<u32> {
        let newest = ProtocolVersion::V3_2.word();
        let asked = VERSION_3_0 | u32::from(self.minor);
        (asked > newest || self.extensions().next().is_some()).then(|| asked.min(newest))
    }

    /// The parameters in order, names unique.
    pub fn parameters(&self) -> Parameters<'b> {
        self.parameters
    }

    /// The value of a parameter, where sent.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.parameters.get(name.as_bytes())
    }

    /// The value of a parameter as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn get_str(&self, name: &str) -> Result<Option<&'b str>, Utf8Error> {
        self.get(name).map(str::from_utf8).transpose()
    }

    /// Names with the prefix `_pq_.`: protocol extensions asked for. None is spoken; each must be named in
    /// NegotiateProtocolVersion.
    pub fn extensions(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.parameters.iter().map(|(name, _)| name).filter(|name| name.starts_with(b"_pq_."))
    }
}

/// A checked list of startup parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parameters<'b> {
    bytes: &'b [u8],
}

impl<'b> Parameters<'b> {
    /// Names and values in order, without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + Clone + use<'b> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || Some((string(&mut rest)?, string(&mut rest)?)))
    }

    /// The value of a parameter, where sent.
    pub fn get(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

/// Takes the next string of a list whose strings are all terminated.
fn string<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = memchr::memchr(0, rest)?;
    let (string, behind) = (rest.get(..end)?, rest.get(end + 1..)?);
    *rest = behind;
    Some(string)
}

impl std::fmt::Debug for Parameters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static STARTUP: &[u8] = b"\0\0\0\x21\0\x03\0\0user\0alice\0database\0app\0\0";
    static CANCEL: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x30\x39\x01\x02\x03\x04";
    static SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    static GSS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

    fn what(packet: &[u8]) -> Reason {
        parse(packet).unwrap_err().what
    }

    /// A packet of version 3.0 with the given bytes behind the version.
    fn startup(rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap();
        [&length.to_be_bytes()[..], &VERSION_3_0.to_be_bytes(), rest].concat()
    }

    #[test]
    fn deconstruct() {
        let Ok(Packet::Startup(view)) = parse(STARTUP) else { panic!("no startup") };
        assert_eq!(view.minor(), 0);
        assert_eq!(
            view.parameters().iter().collect::<Vec<_>>(),
            [(&b"user"[..], &b"alice"[..]), (b"database", b"app")]
        );
        assert_eq!((view.get("user"), view.get("alice"), view.get("use")), (Some(&b"alice"[..]), None, None));
        assert_eq!(view.get_str("database"), Ok(Some("app")));
        let Ok(Packet::Cancel(cancel)) = parse(CANCEL) else { panic!("no cancel") };
        assert_eq!((cancel.process_id(), cancel.key()), (12_345, &[1, 2, 3, 4][..]));
        assert_eq!(format!("{cancel:?}"), "CancelRequest { process_id: 12345, key_bytes: 4 }");
        assert_eq!((parse(SSL), parse(GSS)), (Ok(Packet::SslRequest), Ok(Packet::GssEncRequest)));
    }

    #[test]
    fn construct() {
        let mut packets = Vec::new();
        encode::startup(&mut packets, ProtocolVersion::V3_0, [("user", "alice"), ("database", "app")])
            .unwrap();
        encode::cancel_request(&mut packets, 12_345, &[1, 2, 3, 4]).unwrap();
        encode::ssl_request(&mut packets);
        assert_eq!(packets, [STARTUP, CANCEL, SSL].concat());
    }

    #[test]
    fn an_empty_value_is_a_value_and_an_empty_list_is_a_list() {
        let packet = startup(b"user\0\0options\0-c a=b\0\0");
        let Ok(Packet::Startup(view)) = parse(&packet) else { panic!("no startup") };
        assert_eq!((view.get("user"), view.get("options")), (Some(&b""[..]), Some(&b"-c a=b"[..])));
        assert_eq!(view.parameters().iter().count(), 2);
        let packet = startup(b"\0");
        let Ok(Packet::Startup(view)) = parse(&packet) else { panic!("no startup") };
        assert_eq!(view.parameters().iter().count(), 0);
    }

    #[test]
    fn newer_minor_versions_and_extensions_are_read_so_that_they_can_be_negotiated_down() {
        let mut packet = startup(b"_pq_.report_parameters\0x\0user\0u\0\0");
        packet[7] = 2;
        let Ok(Packet::Startup(view)) = parse(&packet) else { panic!("no startup") };
        assert_eq!(view.minor(), 2);
        assert_eq!(view.extensions().collect::<Vec<_>>(), [b"_pq_.report_parameters"]);
    }

    #[test]
    fn what_a_client_asks_for_decides_what_is_spoken_and_what_is_negotiated() {
        let negotiated = |minor: u16, rest: &[u8]| {
            let mut packet = startup(rest);
            packet[6..8].copy_from_slice(&minor.to_be_bytes());
            let Ok(Packet::Startup(view)) = parse(&packet) else { panic!("no startup") };
            (ProtocolVersion::for_client(minor), view.negotiate())
        };
        let (plain, extended) = (&b"user\0u\0\0"[..], &b"user\0u\0_pq_.x\0y\0\0"[..]);
        assert_eq!(negotiated(0, plain), (ProtocolVersion::V3_0, None));
        assert_eq!(negotiated(1, plain), (ProtocolVersion::V3_0, None));
        assert_eq!(negotiated(2, plain), (ProtocolVersion::V3_2, None));
        assert_eq!(negotiated(3, plain), (ProtocolVersion::V3_2, Some(VERSION_3_2)));
        assert_eq!(negotiated(9_999, plain), (ProtocolVersion::V3_2, Some(VERSION_3_2)));
        assert_eq!(negotiated(u16::MAX, plain), (ProtocolVersion::V3_2, Some(VERSION_3_2)));
        assert_eq!(negotiated(0, extended), (ProtocolVersion::V3_0, Some(VERSION_3_0)));
        assert_eq!(negotiated(1, extended), (ProtocolVersion::V3_0, Some(VERSION_3_0 | 1)));
        assert_eq!(negotiated(2, extended), (ProtocolVersion::V3_2, Some(VERSION_3_2)));
    }

    #[test]
    fn other_versions_and_codes_are_named() {
        let with = |version: [u8; 4]| what(&[&b"\0\0\0\x09"[..], &version, b"\0"].concat());
        assert_eq!(with([0, 2, 0, 0]), Reason::UnsupportedVersion { major: 2, minor: 0 });
        assert_eq!(with([0, 1, 0, 0]), Reason::UnsupportedVersion { major: 1, minor: 0 });
        assert_eq!(with([0, 4, 0, 7]), Reason::UnsupportedVersion { major: 4, minor: 7 });
        assert_eq!(with([0x04, 0xd2, 0, 1]), Reason::UnknownRequestCode { code: 1 });
        let told = parse(b"\0\0\0\x09\0\x02\0\0\0").unwrap_err().to_string();
        assert_eq!(
            told,
            "malformed startup packet at byte 4: protocol 2.0 is not supported: 3.0 and 3.2 are spoken (a newer 3.x is \
             negotiated down)"
        );
    }

    #[test]
    fn impossible_lengths() {
        assert_eq!((peek(b""), peek(b"\0\0\0")), (Ok(None), Ok(None)));
        assert_eq!(peek(b"\0\0\0\x08"), Ok(Some(8)));
        assert_eq!(peek(&10_004_u32.to_be_bytes()), Ok(Some(10_004)));
        let peeked = |length: i32| peek(&length.to_be_bytes()).unwrap_err().what;
        assert_eq!(peeked(10_005), Reason::OverLimit { declared: 10_001, limit: 10_000 });
        assert_eq!(peeked(i32::MAX), Reason::OverLimit { declared: 0x7fff_fffb, limit: 10_000 });
        assert_eq!(peeked(7), Reason::LengthTooSmall { declared: 7, least: 8 });
        assert_eq!(peeked(-1), Reason::LengthTooSmall { declared: -1, least: 8 });
        assert_eq!(peek(b"\x16\x03\x01").unwrap_err().what, Reason::DirectTls);
        assert_eq!(what(b"\0\0\0\x09\x04\xd2\x16\x2f\0"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"\0\0\0\x09\x04\xd2\x16\x2f"), Reason::NotOneFrame { given: 8, declared: 9 });
        assert_eq!(what(b"\0\0\0\x08\0"), Reason::NotOneFrame { given: 5, declared: 8 });
        assert_eq!(what(b"\0\0"), Reason::NotOneFrame { given: 2, declared: 8 });
    }

    #[test]
    fn cancel_keys_have_4_to_256_bytes() {
        let of = |length: usize| {
            let declared = u32::try_from(12 + length).unwrap();
            let packet =
                [&declared.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &[0; 4], &vec![7; length]]
                    .concat();
            parse(&packet).map(|_| ()).map_err(|malformed| malformed.what)
        };
        assert_eq!((of(4), of(32), of(256)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(of(3), Err(Reason::KeyLength { length: 3 }));
        assert_eq!(of(257), Err(Reason::KeyLength { length: 257 }));
        assert_eq!(what(b"\0\0\0\x0a\x04\xd2\x16\x2e\0\0"), Reason::Truncated { field: "process id" });
    }

    #[test]
    fn a_parameter_list_ends_at_the_last_byte_of_its_packet() {
        assert_eq!(what(&startup(b"")), Reason::MissingTerminator { field: "parameter list" });
        assert_eq!(what(&startup(b"user\0u\0")), Reason::MissingTerminator { field: "parameter list" });
        assert_eq!(what(&startup(b"user\0u\0\0x")), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(&startup(b"user\0u\0\0\0")), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(&startup(b"user")), Reason::MissingNul { field: "parameter name" });
        assert_eq!(what(&startup(b"user\0")), Reason::MissingNul { field: "parameter value" });
        assert_eq!(what(&startup(b"user\0a\0user\0b\0\0")), Reason::DuplicateParameter);
    }

    #[test]
    fn no_more_parameters_than_the_limit() {
        let list = |count: usize| {
            let mut rest: Vec<u8> = (0..count).flat_map(|n| format!("n{n}\0v\0").into_bytes()).collect();
            rest.push(0);
            startup(&rest)
        };
        assert!(parse(&list(STARTUP_PARAMETERS_MAX)).is_ok());
        let limit = STARTUP_PARAMETERS_MAX;
        assert_eq!(what(&list(limit + 1)), Reason::TooManyParameters { limit });
    }
}
