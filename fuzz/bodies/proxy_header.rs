//! Body of `proxy_header`: any bytes at the start of a connection that must come by a load balancer.
//!
//! Promises held: nothing panics; what is wrong is found at its first wrong byte, however the bytes arrive, and 16 bytes
//! decide the length; one byte less or more is refused; the addresses are those that a naive reader finds; a header with a
//! checksum is refused with any bit of it turned.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::net::SocketAddr;

use pgturnstile_proto::{
    PROXY_HEADER_BYTES_MAX, Reason,
    proxy::{HEAD_BYTES, Header, SIGNATURE, parse, peek},
};

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    let measured = peek(data);
    let head = data.get(..HEAD_BYTES).unwrap_or(data);
    for cut in 0..=head.len() {
        let early = peek(head.get(..cut).expect("a cut is within"));
        match &early {
            Ok(None) => assert!(cut < HEAD_BYTES),
            Ok(Some(_)) => assert_eq!((early, cut), (measured, HEAD_BYTES)),
            Err(fault) => {
                assert!(fault.offset < cut, "{fault} is found in what has come");
                assert!(measured.is_err(), "what was wrong stays wrong");
            }
        }
    }
    match measured {
        Ok(Some(length)) => {
            assert!((HEAD_BYTES..=PROXY_HEADER_BYTES_MAX).contains(&length));
            assert!(data.starts_with(&SIGNATURE));
            if let Some(header) = data.get(..length) {
                whole(header);
            }
        }
        Ok(None) => assert!(data.len() < HEAD_BYTES && SIGNATURE.iter().zip(data).all(|(a, b)| a == b)),
        Err(fault) => assert!(fault.to_string().is_ascii()),
    }
    assert!(parse(data).is_err() || measured == Ok(Some(data.len())));
}

fn whole(header: &[u8]) {
    match parse(header) {
        Ok(Header::Local) => assert_eq!(header[12], 0x20),
        Ok(Header::Proxied { source, destination }) => {
            assert_eq!(naive(header), Some((source, destination)));
            if has_checksum(header) {
                turned(header);
            }
        }
        Err(fault) => {
            assert!(fault.offset <= header.len(), "{fault:?}");
            assert!(!matches!(fault.what, Reason::NotOneFrame { .. }), "{fault:?}");
            assert!(fault.to_string().is_ascii());
        }
    }
    let longer = [header, b"x"].concat();
    for other in [header.split_last().map_or(header, |(_, shorter)| shorter), &longer] {
        assert!(parse(other).is_err(), "another length is another header");
    }
}

/// The addresses by their offsets.
fn naive(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    match header.get(13)? {
        0x11 => {
            let address = |at: usize| <[u8; 4]>::try_from(header.get(at..at + 4)?).ok();
            Some(((address(16)?, port(24)?).into(), (address(20)?, port(26)?).into()))
        }
        0x21 => {
            let address = |at: usize| <[u8; 16]>::try_from(header.get(at..at + 16)?).ok();
            Some(((address(16)?, port(48)?).into(), (address(32)?, port(50)?).into()))
        }
        _ => None,
    }
}

fn has_checksum(header: &[u8]) -> bool {
    let mut rest = header.get(if header[13] == 0x11 { 28 } else { 52 }..).unwrap_or_default();
    while let [kind, high, low, behind @ ..] = rest {
        if *kind == 3 {
            return true;
        }
        rest = behind.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    false
}

/// One bit of every byte is turned; what follows from that is told by the checksum, if not before.
fn turned(header: &[u8]) {
    for at in 0..header.len() {
        let mut other = header.to_vec();
        other[at] ^= 1 << (at % 8);
        let outcome = parse(&other);
        assert!(
            outcome.is_err() || other[12] == 0x20 || !has_checksum(&other),
            "byte {at} was turned, and nobody noticed"
        );
    }
}
