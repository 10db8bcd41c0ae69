//! Packets that the gateway sends to a server before the session is set up.

use super::{Frame, Unencodable};
use crate::{
    STARTUP_BYTES_MAX,
    startup::{CANCEL_REQUEST, GSSENC_REQUEST, ProtocolVersion, SSL_REQUEST},
};

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    request(out, SSL_REQUEST);
}

/// Appends a GSSENCRequest. The gateway never sends one; tests of its answer do.
pub fn gssenc_request(out: &mut Vec<u8>) {
    request(out, GSSENC_REQUEST);
}

fn request(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&8_u32.to_be_bytes());
    out.extend_from_slice(&word.to_be_bytes());
}

/// Appends a CancelRequest.
///
/// # Errors
/// A key shorter than 4 or longer than 256 bytes.
pub fn cancel_request(out: &mut Vec<u8>, process_id: u32, key: &[u8]) -> Result<(), Unencodable> {
    let mut frame = Frame::untyped(out, "CancelRequest");
    frame.bytes(&CANCEL_REQUEST.to_be_bytes());
    frame.bytes(&process_id.to_be_bytes());
    frame.key(key)?;
    frame.finish()
}

/// Appends a StartupMessage that asks for this version. Names must be unique; the server's last would win.
///
/// # Errors
/// An empty name, a NUL inside a text, or more bytes than a server reads.
pub fn startup<N, V>(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (N, V)>,
) -> Result<(), Unencodable>
where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut frame = Frame::untyped(out, "StartupMessage");
    frame.bytes(&version.word().to_be_bytes());
    for (name, value) in parameters {
        frame.element("parameter name", name.as_ref())?;
        frame.text("parameter value", value.as_ref())?;
    }
    frame.bytes(&[0]);
    let bytes = frame.out.len().saturating_sub(frame.length_at + 4);
    if bytes > STARTUP_BYTES_MAX {
        let (frame, field, limit) = (frame.name, "parameters", STARTUP_BYTES_MAX);
        return Err(Unencodable::TooLong { frame, field, bytes, limit });
    }
    frame.finish()
}
