//! Body of `frontend_frames`: any bytes as the stream of a client behind its startup packet.
//!
//! Promises held: nothing panics; a view that exists re-encodes to exactly the bytes it was read from, so what is judged
//! is what is sent; one byte less or more is refused; however the bytes arrive, the frames are the same.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::ops::Range;

use pgturnstile_proto::{
    Format, Formats, HEADER_BYTES, Limits, Malformed, Reason, encode,
    frontend::{Header, Message, Password},
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
    for range in frames {
        whole_frame(data.get(range).expect("the walk stays inside"));
    }
    // a body without a header is no frame, but must not hurt either
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
    let list = |formats: Formats<'_>| formats.iter().collect::<Vec<Format>>();
    let done = match message {
        Message::Bind(bind) => {
            let parameters: Vec<_> = bind.parameters().iter().collect();
            assert_eq!(bind.typed_parameters().map(|(_, value)| value).collect::<Vec<_>>(), parameters);
            let (formats, results) = (list(bind.formats()), list(bind.results()));
            encode::bind(out, bind.portal(), bind.statement(), &formats, &parameters, &results)
        }
        Message::Close(object) => encode::close(out, object.kind(), object.name()),
        Message::CopyData(copy) => encode::copy_data(out, copy.data()),
        Message::CopyDone => return encode::copy_done(out),
        Message::CopyFail(fail) => encode::copy_fail(out, fail.reason()),
        Message::Describe(object) => encode::describe(out, object.kind(), object.name()),
        Message::Execute(execute) => encode::execute(out, execute.portal(), execute.row_limit_word()),
        Message::Flush => return encode::flush(out),
        Message::FunctionCall(call) => {
            let arguments: Vec<_> = call.arguments().iter().collect();
            encode::function_call(out, call.function(), &list(call.formats()), &arguments, call.result())
        }
        Message::Parse(parse) => {
            encode::parse(out, parse.name(), parse.text(), &parse.types().collect::<Vec<_>>())
        }
        Message::Password(password) => {
            readings(password);
            encode::sasl_response(out, password.body())
        }
        Message::Query(query) => encode::query(out, query.text()),
        Message::Sync => return encode::sync(out),
        Message::Terminate => return encode::terminate(out),
    };
    done.expect("what was read can be written");
}

/// The two structured readings of a password frame are as exact as any view.
fn readings(password: &Password<'_>) {
    let (mut raw, mut again) = (Vec::new(), Vec::new());
    encode::sasl_response(&mut raw, password.body()).expect("what was read can be written");
    if let Ok(text) = password.password() {
        encode::password(&mut again, text).expect("what was read can be written");
        assert_eq!(again, raw);
    }
    again.clear();
    if let Ok(initial) = password.sasl_initial_response() {
        encode::sasl_initial_response(&mut again, initial.mechanism(), initial.data())
            .expect("what was read can be written");
        assert_eq!(again, raw);
    }
}
