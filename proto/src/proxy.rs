//! The header that a load balancer puts before a connection to say whose it is: PROXY protocol, version 2.
//!
//! Owns its framing, the addresses, the walk over its extensions (TLVs) and their checksum. It believes nothing: whether the
//! sender may say such a thing is the caller's to decide, before a byte is read. Version 1, a line of text without a length
//! or a checksum, is refused by name.
//!
//! ```text
//!   signature, 12 bytes │ version, command │ family, transport │ length │ addresses │ TLV… (type, length, value)
//!                                                              └──────── length bytes ────────┘
//! ```
//!
//! Fails at the first wrong byte: a client that speaks something else is not waited for. What is read never passes
//! [`PROXY_HEADER_BYTES_MAX`].
//!
//! Source: "The PROXY protocol, versions 1 & 2", HAProxy, doc/proxy-protocol.txt, sections 2.2 and 2.2.2 to 2.2.7.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{Malformed, PROXY_HEADER_BYTES_MAX, Reason, reader::Reader};

/// What every header begins with: no protocol that speaks first begins so.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes that say how long the header is.
pub const HEAD_BYTES: usize = 16;

/// The line of version 1 begins so.
const VERSION_1: &[u8] = b"PROXY";

const NAME: &str = "PROXY header";

/// Version 2, and the sender speaks for itself: a health check.
const LOCAL: u8 = 0x20;
/// Version 2, and the sender speaks for a client.
const PROXY: u8 = 0x21;
/// TCP over IPv4.
const TCP_4: u8 = 0x11;
/// TCP over IPv6.
const TCP_6: u8 = 0x21;

/// `PP2_TYPE_CRC32C`: a checksum over the whole header, its own four bytes as zeros.
const TLV_CHECKSUM: u8 = 0x03;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The sender's own. What else the header says is not to be looked at.
    Local,
    /// A client's.
    Proxied {
        /// The client, as the sender saw it.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// Measures the header from what has come of it: its whole length. `Ok(None)`: fewer than [`HEAD_BYTES`] are there, and
/// all of them fit.
///
/// # Errors
/// The bytes begin no header of version 2, or one that is longer than is read.
pub fn peek(buf: &[u8]) -> Result<Option<usize>, Malformed> {
    let fail = |what, offset| Err(Malformed { frame: NAME, what, offset });
    if let Some(offset) = buf.iter().zip(&SIGNATURE).position(|(found, wanted)| found != wanted) {
        let what = if is_version_1(buf) { Reason::ProxyVersion1 } else { Reason::NoProxyHeader };
        return fail(what, offset);
    }
    if let Some(byte) = buf.get(SIGNATURE.len()).copied().filter(|byte| !matches!(*byte, LOCAL | PROXY)) {
        return fail(Reason::UnknownProxyCommand { byte }, SIGNATURE.len());
    }
    let Some((head, _)) = buf.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [.., high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let limit = PROXY_HEADER_BYTES_MAX - HEAD_BYTES;
    if length > limit {
        return fail(Reason::OverLimit { declared: length, limit }, HEAD_BYTES - 2);
    }
    Ok(Some(HEAD_BYTES + length))
}

/// Whether the first byte, and what else has come, begin the line of version 1.
fn is_version_1(buf: &[u8]) -> bool {
    !buf.is_empty() && buf.iter().zip(VERSION_1).all(|(found, wanted)| found == wanted)
}

/// Reads exactly one whole header, as [`peek`] measured it.
///
/// # Errors
/// [`Malformed`] says what is wrong: a family or transport other than TCP, addresses or an extension that are cut off, a
/// checksum that does not fit.
pub fn parse(header: &[u8]) -> Result<Header, Malformed> {
    let declared = peek(header)?;
    let (Some(declared), Some((head, rest))) = (declared, header.split_first_chunk::<HEAD_BYTES>()) else {
        let what = Reason::NotOneFrame { given: header.len(), declared: declared.unwrap_or(HEAD_BYTES) };
        return Err(Malformed { frame: NAME, what, offset: 0 });
    };
    if declared != header.len() {
        let what = Reason::NotOneFrame { given: header.len(), declared };
        return Err(Malformed { frame: NAME, what, offset: 0 });
    }
    let [.., command, transport, _, _] = *head;
    if command == LOCAL {
        return Ok(Header::Local);
    }
    let mut reader = Reader::over(NAME, header, rest);
    let (source, destination) = match transport {
        TCP_4 => (v4(&mut reader, "source address")?, v4(&mut reader, "destination address")?),
        TCP_6 => (v6(&mut reader, "source address")?, v6(&mut reader, "destination address")?),
        byte => {
            let what = Reason::UnknownProxyTransport { byte };
            return Err(Malformed { frame: NAME, what, offset: HEAD_BYTES - 3 });
        }
    };
    let source_port = reader.u16("source port")?;
    let destination_port = reader.u16("destination port")?;
    extensions(&mut reader, header)?;
    reader.finish(Header::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn v4(reader: &mut Reader<'_>, field: &'static str) -> Result<IpAddr, Malformed> {
    reader.array::<4>(field).map(|bytes| Ipv4Addr::from(bytes).into())
}

fn v6(reader: &mut Reader<'_>, field: &'static str) -> Result<IpAddr, Malformed> {
    reader.array::<16>(field).map(|bytes| Ipv6Addr::from(bytes).into())
}

/// Walks over the extensions to the end. None of them is used; a checksum is held against the header.
fn extensions(reader: &mut Reader<'_>, header: &[u8]) -> Result<(), Malformed> {
    let mut checked = false;
    while reader.left() > 0 {
        let kind = reader.u8("extension type")?;
        let length = reader.u16("extension length")?;
        let at = header.len() - reader.left();
        let value = reader.bytes("extension", usize::from(length))?;
        if kind != TLV_CHECKSUM {
            continue;
        }
        let Ok(carried) = <[u8; 4]>::try_from(value) else {
            return Err(reader.fault(Reason::ProxyChecksumLength { length: value.len() }));
        };
        if checked {
            return Err(reader.fault(Reason::ProxyChecksumTwice));
        }
        checked = true;
        if u32::from_be_bytes(carried) != checksum(header, at) {
            return Err(reader.fault(Reason::ProxyChecksum));
        }
    }
    Ok(())
}

/// CRC32C (Castagnoli, RFC 3720 appendix B.4) of a header whose four bytes from `at` on count as zeros. Bit by bit: a
/// connection pays for it once, and no header is long.
pub fn checksum(header: &[u8], at: usize) -> u32 {
    let bytes = header.iter().enumerate();
    let zeroed =
        bytes.map(|(index, byte)| if (at..at.saturating_add(4)).contains(&index) { 0 } else { *byte });
    !zeroed.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let reduced = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            (crc >> 1) ^ reduced
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static V4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\x0a\0\0\x05\x30\x39\x19\x20";

    fn header(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap();
        [&SIGNATURE[..], &[command, transport], &length.to_be_bytes(), rest].concat()
    }

    /// `V4` with extensions behind its addresses.
    fn extended(extensions: &[u8]) -> Vec<u8> {
        header(PROXY, TCP_4, &[&V4[HEAD_BYTES..], extensions].concat())
    }

    /// The same, with its checksum behind them.
    fn summed(extensions: &[u8]) -> Vec<u8> {
        let mut header = extended(&[extensions, b"\x03\0\x04\0\0\0\0"].concat());
        let at = header.len() - 4;
        let sum = checksum(&header, at);
        header[at..].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn what(header: &[u8]) -> Reason {
        parse(header).unwrap_err().what
    }

    #[test]
    fn deconstruct() {
        let (source, destination) = ("198.51.100.7:12345", "10.0.0.5:6432");
        let expected =
            Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        assert_eq!((peek(V4), parse(V4)), (Ok(Some(28)), Ok(expected)));
        let mut six = vec![0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        let expected =
            Header::Proxied { source: "[::1]:3".parse().unwrap(), destination: "[::2]:4".parse().unwrap() };
        assert_eq!(parse(&header(PROXY, TCP_6, &six)), Ok(expected));
    }

    #[test]
    fn what_a_sender_says_of_itself_is_not_looked_at() {
        assert_eq!(parse(&header(LOCAL, 0, b"")), Ok(Header::Local));
        assert_eq!(parse(&header(LOCAL, 0x77, b"anything")), Ok(Header::Local));
    }

    #[test]
    fn extensions_are_walked_over_and_a_checksum_is_checked() {
        // ALPN, a unique id, no-operation of no bytes, and an unknown one.
        let sound = b"\x01\0\x02h2\x05\0\x03abc\x04\0\0\xf0\0\x01x";
        assert!(parse(&extended(sound)).is_ok());
        let good = summed(sound);
        assert!(parse(&good).is_ok());
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(checksum(&[0; 32], 32), 0x8a91_36aa);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Another command has nothing to be checked, and another type is no checksum.
            let unchecked = bad[12] == LOCAL || bit / 8 == good.len() - 7;
            assert!(unchecked || parse(&bad).is_err(), "bit {bit}");
        }
        assert_eq!(what(&extended(b"\x03\0\x03abc")), Reason::ProxyChecksumLength { length: 3 });
        assert_eq!(what(&extended(b"\x03\0\x04abcd")), Reason::ProxyChecksum);
        let mut twice = summed(sound);
        let sum = twice[twice.len() - 7..].to_vec();
        twice.extend_from_slice(&sum);
        twice[15] += 7;
        assert!(matches!(what(&twice), Reason::ProxyChecksum | Reason::ProxyChecksumTwice));
        assert_eq!(
            what(&extended(b"\x01\0\x02h")),
            Reason::LengthBeyondFrame { field: "extension", length: 2, left: 1 }
        );
        assert_eq!(what(&extended(b"\x01\0")), Reason::Truncated { field: "extension length" });
    }

    #[test]
    fn what_is_no_tcp_or_cut_off_is_refused() {
        for (transport, rest) in [(0x00, 0), (0x12, 12), (0x22, 36), (0x31, 216), (0x10, 12), (0xff, 12)] {
            let header = header(PROXY, transport, &vec![0; rest]);
            assert_eq!(what(&header), Reason::UnknownProxyTransport { byte: transport });
        }
        for cut in 0..12 {
            let header = header(PROXY, TCP_4, &V4[HEAD_BYTES..HEAD_BYTES + cut]);
            assert!(matches!(what(&header), Reason::Truncated { .. }), "{cut}");
        }
        assert!(matches!(what(&[V4, b"x"].concat()), Reason::NotOneFrame { .. }));
    }

    #[test]
    fn anything_else_is_refused_at_its_first_wrong_byte() {
        assert_eq!(peek(b""), Ok(None));
        for cut in 1..HEAD_BYTES {
            assert_eq!(peek(&V4[..cut]), Ok(None), "{cut}");
        }
        let fault = |bytes: &[u8]| peek(bytes).map_err(|fault| (fault.what, fault.offset)).unwrap_err();
        // SSLRequest, a TLS record, a probe of HTTP.
        for other in [&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], b"\x16\x03\x01", b"GET / HTTP"] {
            assert_eq!(fault(other), (Reason::NoProxyHeader, 0));
            assert_eq!(fault(&other[..1]), (Reason::NoProxyHeader, 0));
        }
        for cut in 1..8 {
            assert_eq!(fault(&b"PROXY TCP4 192.0.2.7"[..cut]).0, Reason::ProxyVersion1, "{cut}");
        }
        assert_eq!(fault(b"\r\n\r\nx"), (Reason::NoProxyHeader, 4));
        for byte in [0x11, 0x22, 0x2f, 0x31, 0x00] {
            let header = header(byte, TCP_4, b"");
            assert_eq!(fault(&header), (Reason::UnknownProxyCommand { byte }, 12));
            assert_eq!(fault(&header[..13]), (Reason::UnknownProxyCommand { byte }, 12));
        }
        let longest = PROXY_HEADER_BYTES_MAX - HEAD_BYTES;
        assert_eq!(peek(&header(LOCAL, 0, &vec![0; longest])), Ok(Some(PROXY_HEADER_BYTES_MAX)));
        let over = Reason::OverLimit { declared: longest + 1, limit: longest };
        assert_eq!(fault(&header(LOCAL, 0, &vec![0; longest + 1])), (over, 14));
    }
}
