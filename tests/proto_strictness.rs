//! Holds the strictness of the frame readers against a real server: what it answers with a protocol violation, they
//! refuse; what they refuse, it refuses too, but for the differences named here. And every reply of the server is read
//! by the same crate, so a frame of a real server that does not parse fails the test as well.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic here is a failed test")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use pgturnstile_proto::{
    FrontendTag, Limits, Malformed, Reason,
    backend::{Fields, Header, Message},
    encode, frontend,
    startup::{self, ProtocolVersion},
};
use pgturnstile_tests::Postgres;

#[path = "../fuzz/bodies/mod.rs"]
#[expect(unreachable_pub, dead_code, reason = "fuzz targets and the replay use the rest")]
mod bodies;

use bodies::{
    mutations::{Random, mutated},
    seeds::{self, Seed},
};

/// SQLSTATE protocol_violation.
const VIOLATION: &str = "08P01";

/// Violations that are no matter of framing: the message is whole, but does not fit the statement that it names.
const OF_MEANING: [&str; 2] = ["bind message supplies", "bind message has"];

/// What a server made of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// No error.
    Accepted,
    /// A protocol violation.
    Violation,
    /// Another error: the framing passed, or was not reached.
    Error(String),
    /// The connection was closed without a word.
    Closed,
}

struct Session {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Session {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes an option");
        Self { stream, buffer: Vec::new() }
    }

    fn open(port: u16) -> Self {
        let mut session = Self::connect(port);
        let mut hello = Vec::new();
        encode::startup(&mut hello, ProtocolVersion::V3_0, [("user", "postgres"), ("database", "postgres")])
            .expect("it can be sent");
        assert_eq!(session.ask(&hello, 1), Answer::Accepted, "the superuser is trusted");
        session
    }

    /// The next frame of the server; `None` at the end of the stream.
    fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let header = Header::peek(&self.buffer, &Limits::default()).expect("a server's header is legal");
            if let Some(header) = header.filter(|header| header.len <= self.buffer.len()) {
                return Some(self.buffer.drain(..header.len).collect());
            }
            let mut chunk = [0; 8_192];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Sends bytes and reads until so many ReadyForQuery or the end; the first error is the answer.
    fn ask(&mut self, bytes: &[u8], ready: usize) -> Answer {
        let mut answer = None;
        if self.stream.write_all(bytes).is_err() {
            return Answer::Closed;
        }
        let mut seen = 0;
        while seen < ready {
            let Some(frame) = self.frame() else { return answer.unwrap_or(Answer::Closed) };
            let message =
                Message::parse(&frame).unwrap_or_else(|error| panic!("the server's own frame: {error}"));
            if let Message::ReadyForQuery { .. } = message {
                seen += 1;
            }
            if let Message::CopyInResponse(_) = message {
                self.stream.write_all(b"f\0\0\0\x05\0").expect("a COPY can be given up");
            }
            if let Message::ErrorResponse(fields) = message {
                answer.get_or_insert_with(|| judged(&fields));
            }
        }
        answer.unwrap_or(Answer::Accepted)
    }
}

fn judged(fields: &Fields<'_>) -> Answer {
    let text = String::from_utf8_lossy(fields.message().expect("an error has a message")).into_owned();
    let state = fields.sqlstate().expect("an error has an SQLSTATE");
    match state {
        VIOLATION if !OF_MEANING.iter().any(|start| text.starts_with(start)) => Answer::Violation,
        _ => Answer::Error(format!("{state} {text}")),
    }
}

/// A frame of this type and of right length.
fn framed(tag: FrontendTag, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("seeds are small");
    [&[tag.byte()][..], &length.to_be_bytes(), body].concat()
}

/// Sends one frame behind a Parse of the unnamed statement, so that a Bind has something to bind.
fn ask_about(session: &mut Session, tag: FrontendTag, frame: &[u8]) -> Answer {
    let mut bytes = Vec::new();
    encode::parse(&mut bytes, "", "SELECT $1, $2", &[25, 25]).expect("it can be sent");
    bytes.extend_from_slice(frame);
    // a Query and a FunctionCall are answered with a ReadyForQuery of their own, a Sync is one
    if !matches!(tag, FrontendTag::Query | FrontendTag::FunctionCall | FrontendTag::Sync) {
        encode::sync(&mut bytes);
    }
    session.ask(&bytes, 1)
}

/// Refusals that the server does not share, each on purpose.
fn stricter_on_purpose(malformed: &Malformed) -> bool {
    // where the server reads the value at all, an unknown format is an error of another kind (22023) to it
    matches!(malformed.what, Reason::UnknownFormat { .. })
}

/// Typed seeds of messages that a server reads in an idle session, cut into type and body.
fn idle_seeds() -> Vec<(FrontendTag, String, Vec<u8>)> {
    let typed = |Seed { target, name, bytes }: Seed| {
        let tag = bytes.first().copied().and_then(FrontendTag::from_byte)?;
        let reads = match tag {
            FrontendTag::Bind
            | FrontendTag::Close
            | FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Flush
            | FrontendTag::FunctionCall
            | FrontendTag::Parse
            | FrontendTag::Query
            | FrontendTag::Sync => true,
            FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Password
            | FrontendTag::Terminate => false,
        };
        let first = frontend::Header::peek(&bytes, &Limits::default()).ok()??.len;
        let body = bytes.get(5..first)?.to_vec();
        (target == "frontend_frames" && reads).then_some((tag, name, body))
    };
    seeds::all().into_iter().filter_map(typed).collect()
}

/// One cluster for the three comparisons: making it takes longer than all of them.
#[test]
fn what_a_server_refuses_is_refused_here_and_nothing_else() {
    let server = Postgres::builder(21_000..21_080).start();
    frames_are_refused_where_a_server_sees_a_violation_and_nowhere_else(server.port());
    lengths_that_end_a_session_here_end_it_there(server.port());
    startup_packets_are_refused_where_a_server_refuses_them(server.port());
}

fn frames_are_refused_where_a_server_sees_a_violation_and_nowhere_else(port: u16) {
    let mut session = Session::open(port);
    let seeds = idle_seeds();
    let (mut violations, mut accepted) = (0, 0);
    for (index, (tag, name, seed)) in seeds.iter().enumerate() {
        let mut random = Random::new(index as u64);
        for round in 0..120 {
            let other = &seeds[random.below(seeds.len())].2;
            let mut body = if round == 0 { seed.clone() } else { mutated(&mut random, seed, other) };
            if let (FrontendTag::FunctionCall, Some(function)) = (tag, body.get_mut(..4)) {
                // textlen(text): no other function of the server is called with random bytes
                function.copy_from_slice(&1_317_u32.to_be_bytes());
            }
            let frame = framed(*tag, &body);
            let ours = frontend::Message::parse(&frame).map(|_| ());
            let theirs = ask_about(&mut session, *tag, &frame);
            let told = format!(
                "{name}, round {round}: ours {ours:?}, theirs {theirs:?}: b\"{}\"",
                frame.escape_ascii()
            );
            match (&theirs, &ours) {
                (Answer::Violation, Err(_)) => violations += 1,
                (Answer::Violation, Ok(())) => panic!("the server sees a violation: {told}"),
                (Answer::Accepted, Ok(())) => accepted += 1,
                (Answer::Accepted, Err(malformed)) => {
                    assert!(stricter_on_purpose(malformed), "the server takes it: {told}");
                }
                (Answer::Error(_), _) => {}
                (Answer::Closed, _) => panic!("the server is gone: {told}"),
            }
        }
    }
    assert!(violations > 1_000 && accepted > 200, "{violations} violations, {accepted} accepted");
}

fn lengths_that_end_a_session_here_end_it_there(port: u16) {
    for length in [0, 1, 3, -1, i32::MIN, i32::MAX] {
        let header = [&b"Q"[..], &length.to_be_bytes(), b"SELECT 1\0"].concat();
        assert!(frontend::Header::peek(&header, &Limits::default()).is_err());
        let answer = Session::open(port).ask(&header, 1);
        assert!(matches!(answer, Answer::Violation | Answer::Closed), "{length}: {answer:?}");
    }
}

/// What the server says to one whole startup packet and nothing behind it.
fn first_answer(port: u16, packet: &[u8]) -> Answer {
    let mut session = Session::connect(port);
    session.stream.write_all(packet).expect("a new connection takes bytes");
    session.stream.shutdown(Shutdown::Write).expect("a socket can be half closed");
    let mut answer = Vec::new();
    session.stream.read_to_end(&mut answer).expect("the server answers and closes");
    if answer.starts_with(b"EFATAL:") {
        // whoever speaks protocol 2 is answered in protocol 2, whose errors are bare text
        return Answer::Error(format!("0A000 {}", answer.escape_ascii()));
    }
    session.buffer = answer;
    let Some(frame) = session.frame() else { return Answer::Closed };
    let message = Message::parse(&frame).unwrap_or_else(|error| panic!("the server's own frame: {error}"));
    if let Message::ErrorResponse(fields) = message {
        return judged(&fields);
    }
    let accepted = matches!(message, Message::Authentication(_) | Message::NegotiateProtocolVersion(_));
    assert!(accepted, "{message:?} is no answer to a startup packet");
    Answer::Accepted
}

fn startup_packets_are_refused_where_a_server_refuses_them(port: u16) {
    let seeds: Vec<_> = seeds::all().into_iter().filter(|seed| seed.target == "startup").collect();
    let (mut refused, mut accepted) = (0, 0);
    for (index, seed) in seeds.iter().enumerate() {
        let mut random = Random::new(index as u64);
        for round in 0..12 {
            let other = &seeds[random.below(seeds.len())].bytes;
            let mut packet =
                if round == 0 { seed.bytes.clone() } else { mutated(&mut random, &seed.bytes, other) };
            if round % 2 == 1 && packet.len() >= 8 {
                // every other mutation with its length put right, so that it is the content that is judged
                let length = u32::try_from(packet.len()).expect("seeds are small");
                packet[..4].copy_from_slice(&length.to_be_bytes());
            }
            let Ok(Some(length)) = startup::peek(&packet) else { continue };
            let Some(packet) = packet.get(..length) else { continue };
            let ours = startup::parse(packet);
            if let Some(1234) = packet.get(4..6).map(|word| u16::from_be_bytes([word[0], word[1]])) {
                // requests are answered with a bare byte or not at all; their fixtures stand beside their reader
                continue;
            }
            let theirs = first_answer(port, packet);
            let told = format!("{}, round {round}: ours {ours:?}, theirs {theirs:?}", seed.name);
            match (&theirs, &ours) {
                (Answer::Violation, Err(_)) => refused += 1,
                (Answer::Violation, Ok(_)) => panic!("the server sees a violation: {told}"),
                (Answer::Accepted, Ok(_)) => accepted += 1,
                (
                    _,
                    Err(Malformed {
                        what: Reason::DuplicateParameter | Reason::TooManyParameters { .. },
                        ..
                    }),
                ) => {}
                (Answer::Accepted, Err(malformed)) => {
                    // the server takes any byte in the place of the last one for the terminator it expects there
                    let last = Reason::MissingNul { field: "parameter name" };
                    assert!(
                        malformed.what == last && malformed.offset + 1 == packet.len(),
                        "the server takes it: {told}"
                    );
                }
                (Answer::Error(error), Err(malformed)) => {
                    let version = matches!(malformed.what, Reason::UnsupportedVersion { .. });
                    assert_eq!(version, error.starts_with("0A000"), "{told}");
                }
                (Answer::Error(error), Ok(_)) => assert!(!error.starts_with("0A000"), "{told}"),
                (Answer::Closed, _) => panic!("no answer: {told}"),
            }
        }
    }
    assert!(refused > 20 && accepted > 5, "{refused} refused, {accepted} accepted");
}
