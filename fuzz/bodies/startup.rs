//! Body of `startup`: any bytes as the first packet of a connection.
//!
//! Promises held: nothing panics; the first four bytes decide the length, however they arrive; a packet that exists
//! re-encodes to exactly the bytes it was read from; one byte less or more is refused; names are unique.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::collections::BTreeSet;

use pgturnstile_proto::{
    Reason, STARTUP_BYTES_MAX, STARTUP_PARAMETERS_MAX, encode,
    startup::{Packet, ProtocolVersion, Startup, VERSION_3_0, is_direct_tls, parse, peek},
};

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    let measured = peek(data);
    for cut in 0..data.len().min(16) {
        let early = peek(data.get(..cut).expect("a cut is within"));
        assert!(
            early == measured || (cut < 4 && early == Ok(None)),
            "{early:?} at {cut}, {measured:?} at the end"
        );
    }
    match measured {
        Ok(Some(length)) => {
            assert!((8..=STARTUP_BYTES_MAX + 4).contains(&length));
            if let Some(packet) = data.get(..length) {
                whole_packet(packet);
            }
        }
        Ok(None) => assert!(data.len() < 4),
        Err(malformed) => {
            let tls = data.first().copied().is_some_and(is_direct_tls);
            assert_eq!(tls, malformed.what == Reason::DirectTls);
            assert!(malformed.to_string().is_ascii());
        }
    }
    assert!(parse(data).is_err() || measured == Ok(Some(data.len())));
}

fn whole_packet(packet: &[u8]) {
    let mut again = Vec::new();
    match parse(packet) {
        Ok(Packet::SslRequest) => encode::ssl_request(&mut again),
        Ok(Packet::GssEncRequest) => encode::gssenc_request(&mut again),
        Ok(Packet::Cancel(cancel)) => encode::cancel_request(&mut again, cancel.process_id(), cancel.key())
            .expect("what was read can be written"),
        Ok(Packet::Startup(startup)) => {
            unique(&startup);
            encode::startup(&mut again, ProtocolVersion::V3_0, startup.parameters().iter())
                .expect("what was read can be written");
            let minor = again.get_mut(6..8).expect("a startup packet has a version");
            minor.copy_from_slice(&startup.minor().to_be_bytes());
        }
        Err(malformed) => {
            assert!(malformed.offset <= packet.len(), "{malformed:?}");
            assert!(!matches!(malformed.what, Reason::NotOneFrame { .. }), "{malformed:?}");
            assert!(malformed.to_string().is_ascii());
            again.extend_from_slice(packet);
        }
    }
    assert_eq!(again, packet);
    let longer = [packet, b"x"].concat();
    for other in [packet.split_last().map_or(packet, |(_, shorter)| shorter), &longer] {
        assert!(parse(other).is_err(), "another length is another packet");
    }
}

fn unique(startup: &Startup<'_>) {
    let mut names = BTreeSet::new();
    for (name, value) in startup.parameters().iter() {
        assert!(!name.is_empty() && names.insert(name));
        assert_eq!(startup.parameters().get(name), Some(value));
    }
    assert!(names.len() <= STARTUP_PARAMETERS_MAX);
    let extensions = names.iter().filter(|name| name.starts_with(b"_pq_.")).count();
    assert_eq!(startup.extensions().count(), extensions);
    // What is negotiated is never beyond what was asked for, nor beyond what is spoken.
    let asked = VERSION_3_0 | u32::from(startup.minor());
    match startup.negotiate() {
        Some(word) => assert!(word <= asked && word <= ProtocolVersion::V3_2.word()),
        None => assert!(extensions == 0 && asked <= ProtocolVersion::V3_2.word()),
    }
}
