//! Body of `backend_frames`: any bytes as the stream of a server.
//!
//! Promises held: nothing panics; a view that exists re-encodes to exactly the bytes it was read from; one byte less or
//! more is refused; however the bytes arrive, the frames are the same; the fast hops over rows agree with the readers.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::ops::Range;

use pgturnstile_proto::{
    BackendTag, Format, HEADER_BYTES, Limits, Malformed, Reason,
    backend::{Authentication, CommandComplete, CopyResponse, Header, Message, Rows, check_rows, skip_rows},
    encode,
};

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    let limits = Limits::default();
    let (frames, end) = walk(data, data.len().max(1), &limits);
    for chunk in [1, 2, 3, 5, 64] {
        assert_eq!(
            walk(data, chunk, &limits),
            (frames.clone(), end),
            "chunks of {chunk} bytes change the frames"
        );
    }
    hops(data, &limits);
    for range in frames {
        // at most one hop over a run of rows: a run that was hopped from its start need not be hopped from inside
        whole_frame(data.get(range.clone()).expect("the walk stays inside"));
        if range.start < 512 {
            hops(data.get(range.start..).unwrap_or_default(), &limits);
        }
    }
    assert!(Message::parse(data).is_err() || data.len() >= HEADER_BYTES);
}

/// Frames of a stream that arrives in chunks, and the fault that ended it.
pub fn walk(data: &[u8], chunk: usize, limits: &Limits) -> (Vec<Range<usize>>, Option<Malformed>) {
    let (mut frames, mut start, mut filled) = (Vec::new(), 0, 0);
    while filled < data.len() {
        filled = data.len().min(filled + chunk);
        let buffer = data.get(..filled).expect("filled is within");
        loop {
            match Header::peek(buffer.get(start..).unwrap_or_default(), limits) {
                Err(malformed) => return (frames, Some(malformed)),
                Ok(Some(header)) if start + header.len <= filled => {
                    frames.push(start..start + header.len);
                    start += header.len;
                }
                Ok(Some(_) | None) => break,
            }
        }
    }
    (frames, None)
}

/// The fast paths against their naive twins, at one position.
fn hops(data: &[u8], limits: &Limits) {
    let (mut skipped, mut checked, mut outcome, mut first) = (Rows::default(), None, Ok(()), None);
    while let Ok(Some(header)) = Header::peek(data.get(skipped.bytes..).unwrap_or_default(), limits) {
        let row = matches!(header.tag, BackendTag::DataRow | BackendTag::CopyData);
        let Some(frame) = data.get(skipped.bytes..skipped.bytes + header.len) else { break };
        if !row || *first.get_or_insert(header.tag) != header.tag {
            break;
        }
        if let (None, Err(malformed)) = (checked, Message::parse(frame)) {
            (checked, outcome) = (Some(skipped), Err(malformed));
        }
        skipped = Rows { frames: skipped.frames + 1, bytes: skipped.bytes + header.len };
    }
    assert_eq!(skip_rows(data, limits), skipped);
    assert_eq!(check_rows(data, limits, None), (checked.unwrap_or(skipped), outcome));
}

fn whole_frame(frame: &[u8]) {
    match Message::parse(frame) {
        Ok(message) => {
            assert_eq!(Some(&message.tag().byte()), frame.first());
            let mut again = Vec::new();
            reencode(&mut again, &message);
            assert_eq!(again, frame, "{message:?} is not what was sent");
        }
        Err(malformed) => own_fault(&malformed, frame),
    }
    let longer = [frame, b"x"].concat();
    for other in [frame.split_last().map_or(frame, |(_, shorter)| shorter), &longer] {
        let what = Message::parse(other).expect_err("another length is another frame").what;
        assert!(matches!(what, Reason::NotOneFrame { .. }), "{what:?}");
    }
}

/// A fault that the peer is to blame for, told in a way that can be shown.
fn own_fault(malformed: &Malformed, frame: &[u8]) {
    assert!(malformed.offset <= frame.len(), "{malformed:?}");
    assert!(!matches!(malformed.what, Reason::NotOneFrame { .. } | Reason::WrongTag { .. }), "{malformed:?}");
    let told = malformed.to_string();
    assert!(told.len() < 200 && told.is_ascii(), "{told}");
}

/// Encodes a view again.
pub fn reencode(out: &mut Vec<u8>, message: &Message<'_>) {
    let done = match message {
        Message::Authentication(authentication) => reencode_authentication(out, authentication),
        Message::BackendKeyData(key) => encode::backend_key_data(out, key.process_id(), key.key()),
        Message::BindComplete => return encode::bind_complete(out),
        Message::CloseComplete => return encode::close_complete(out),
        Message::CommandComplete(complete) => {
            rows_of(complete);
            encode::command_complete(out, complete.tag())
        }
        Message::CopyData(copy) => encode::copy_data(out, copy.data()),
        Message::CopyDone => return encode::copy_done(out),
        Message::CopyInResponse(copy) => encode::copy_in_response(out, copy.overall(), &columns(copy)),
        Message::CopyOutResponse(copy) => encode::copy_out_response(out, copy.overall(), &columns(copy)),
        Message::CopyBothResponse(copy) => encode::copy_both_response(out, copy.overall(), &columns(copy)),
        Message::DataRow(row) => encode::data_row(out, &row.columns().iter().collect::<Vec<_>>()),
        Message::EmptyQueryResponse => return encode::empty_query_response(out),
        Message::ErrorResponse(fields) => encode::error_response(out, &fields.iter().collect::<Vec<_>>()),
        Message::FunctionCallResponse(response) => encode::function_call_response(out, response.value()),
        Message::NegotiateProtocolVersion(negotiate) => {
            encode::negotiate_protocol_version(out, negotiate.version(), negotiate.options())
        }
        Message::NoData => return encode::no_data(out),
        Message::NoticeResponse(fields) => encode::notice_response(out, &fields.iter().collect::<Vec<_>>()),
        Message::NotificationResponse(notification) => {
            let (channel, payload) = (notification.channel(), notification.payload());
            encode::notification_response(out, notification.process_id(), channel, payload)
        }
        Message::ParameterDescription(parameters) => {
            encode::parameter_description(out, &parameters.types().collect::<Vec<_>>())
        }
        Message::ParameterStatus(status) => encode::parameter_status(out, status.name(), status.value()),
        Message::ParseComplete => return encode::parse_complete(out),
        Message::PortalSuspended => return encode::portal_suspended(out),
        Message::ReadyForQuery { status } => return encode::ready_for_query(out, *status),
        Message::RowDescription(row) => {
            assert_eq!(row.iter().count(), row.len());
            encode::row_description(out, &row.iter().collect::<Vec<_>>())
        }
    };
    done.expect("what was read can be written");
}

fn columns(copy: &CopyResponse<'_>) -> Vec<Format> {
    copy.columns().iter().collect()
}

/// Rows are read only from a tag whose last word is that number.
fn rows_of(complete: &CommandComplete<'_>) {
    if let Some(rows) = complete.rows() {
        let tag = complete.tag_str().expect("a tag with rows is ASCII");
        assert_eq!(tag.rsplit(' ').next().and_then(|word| word.parse().ok()), Some(rows));
    }
}

/// Kinds that the gateway never sends are written by hand.
fn reencode_authentication(
    out: &mut Vec<u8>,
    authentication: &Authentication<'_>,
) -> Result<(), encode::Unencodable> {
    let mut by_hand = |kind: u32, data: &[u8]| {
        let length = u32::try_from(8 + data.len()).expect("read from a frame");
        out.extend_from_slice(b"R");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(data);
    };
    match authentication {
        Authentication::Ok => encode::authentication_ok(out),
        Authentication::KerberosV5 => by_hand(2, &[]),
        Authentication::CleartextPassword => encode::authentication_cleartext_password(out),
        Authentication::Md5Password { salt } => encode::authentication_md5_password(out, *salt),
        Authentication::Gss => by_hand(7, &[]),
        Authentication::GssContinue(data) => by_hand(8, data),
        Authentication::Sspi => by_hand(9, &[]),
        Authentication::Sasl(mechanisms) => return encode::authentication_sasl(out, mechanisms.iter()),
        Authentication::SaslContinue(data) => return encode::authentication_sasl_continue(out, data),
        Authentication::SaslFinal(data) => return encode::authentication_sasl_final(out, data),
    }
    Ok(())
}
