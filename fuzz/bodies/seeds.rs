//! The named seed corpora of the frame targets: what a seed is called and which bytes it has.
//!
//! The files under `fuzz/corpus` are written from here (`PGTURNSTILE_WRITE_SEEDS=1`, see fuzz/README.md) and the replay
//! holds them against it, so that a seed that fails to be what its name says is noticed. Seeds that a fuzzer found are
//! files only; they need no entry here.
#![allow(clippy::expect_used, reason = "a seed that cannot be made is a failed test")]

use pgturnstile_proto::{
    Format, PROXY_HEADER_BYTES_MAX, STARTUP_PARAMETERS_MAX,
    backend::{FieldDescription, TransactionStatus, field},
    encode,
    frontend::ObjectKind,
    proxy,
    startup::{CANCEL_REQUEST, ProtocolVersion, VERSION_3_0},
};

/// One seed.
pub struct Seed {
    /// Target, and so folder.
    pub target: &'static str,
    /// File name.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut collect = |target: &'static str, named: Vec<(&str, Vec<u8>)>| {
        seeds.extend(named.into_iter().map(|(name, bytes)| Seed { target, name: name.to_owned(), bytes }));
    };
    collect("frontend_frames", frontend_sound());
    collect("frontend_frames", frontend_malformed());
    collect("backend_frames", backend_login());
    collect("backend_frames", backend_results());
    collect("backend_frames", backend_malformed());
    collect("proxy_header", proxy_headers());
    collect("startup", startup_sound());
    collect("startup", startup_malformed());
    seeds
}

/// Bytes that an encoder appends.
fn made(write: impl FnOnce(&mut Vec<u8>) -> Result<(), encode::Unencodable>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).expect("a seed can be encoded");
    out
}

/// Bytes that an infallible encoder appends.
fn plain(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A frame whose body is given as it is.
fn raw(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("seeds are small");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A header that declares `length`, and a few bytes behind it.
fn declares(tag: u8, length: i32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), b"SELECT 1\0"].concat()
}

/// A startup packet with a version word, whose length is right.
fn packet(version: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).expect("seeds are small");
    [&length.to_be_bytes()[..], &version.to_be_bytes(), rest].concat()
}

fn frontend_sound() -> Vec<(&'static str, Vec<u8>)> {
    let one = |out: &mut Vec<u8>, name: &str, text: &str| {
        encode::parse(out, name, text, &[])?;
        encode::bind(out, "", name, &[], &[Some(b"1")], &[])?;
        encode::describe(out, ObjectKind::Portal, "")?;
        encode::execute(out, "", 0)
    };
    vec![
        ("query", made(|out| encode::query(out, "SELECT 1"))),
        ("query-empty", made(|out| encode::query(out, ""))),
        ("query-several-statements", made(|out| encode::query(out, "BEGIN; SELECT 1; COMMIT"))),
        ("query-utf8", made(|out| encode::query(out, "SELECT 'gr\u{fc}\u{df} \u{1f980}'"))),
        ("query-not-utf8", made(|out| encode::query(out, b"SELECT '\x81\x5c'"))),
        ("parse-untyped", made(|out| encode::parse(out, "", "SELECT $1", &[]))),
        ("parse-typed", made(|out| encode::parse(out, "s1", "SELECT $1, $2", &[23, 0]))),
        ("bind-no-parameters", made(|out| encode::bind(out, "", "s1", &[], &[], &[]))),
        (
            "bind-text-and-null",
            made(|out| encode::bind(out, "p", "s", &[], &[Some(b"42"), None, Some(b"")], &[])),
        ),
        (
            "bind-binary-for-all",
            made(|out| {
                encode::bind(out, "", "", &[Format::Binary], &[Some(&[0, 0, 0, 1]), None], &[Format::Binary])
            }),
        ),
        (
            "bind-format-each",
            made(|out| {
                let formats = [Format::Text, Format::Binary];
                encode::bind(out, "", "", &formats, &[Some(b"1"), Some(&[0, 1])], &formats)
            }),
        ),
        ("describe-statement", made(|out| encode::describe(out, ObjectKind::Statement, "s1"))),
        ("describe-portal", made(|out| encode::describe(out, ObjectKind::Portal, ""))),
        ("close-statement", made(|out| encode::close(out, ObjectKind::Statement, "s1"))),
        ("close-portal", made(|out| encode::close(out, ObjectKind::Portal, "p1"))),
        ("execute-all-rows", made(|out| encode::execute(out, "", 0))),
        ("execute-row-limit", made(|out| encode::execute(out, "p1", 100))),
        ("execute-negative-limit", made(|out| encode::execute(out, "", -1))),
        ("sync", plain(encode::sync)),
        ("flush", plain(encode::flush)),
        ("terminate", plain(encode::terminate)),
        ("copy-data", made(|out| encode::copy_data(out, b"1\tone\n2\t\\N\n"))),
        ("copy-data-empty", made(|out| encode::copy_data(out, b""))),
        ("copy-done", plain(encode::copy_done)),
        ("copy-fail", made(|out| encode::copy_fail(out, "client gave up"))),
        (
            "function-call",
            made(|out| encode::function_call(out, 1317, &[Format::Text], &[Some(b"abc")], Format::Text)),
        ),
        ("password", made(|out| encode::password(out, b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"))),
        (
            "sasl-initial",
            made(|out| encode::sasl_initial_response(out, "SCRAM-SHA-256", Some(b"n,,n=,r=abc"))),
        ),
        ("sasl-initial-without-data", made(|out| encode::sasl_initial_response(out, "OAUTHBEARER", None))),
        ("sasl-response", made(|out| encode::sasl_response(out, b"c=biws,r=abcdef,p=AAAA"))),
        (
            "pipeline",
            made(|out| {
                one(out, "", "SELECT $1")?;
                one(out, "s2", "UPDATE t SET v = $1 WHERE id = 1")?;
                encode::sync(out);
                encode::query(out, "COMMIT")
            }),
        ),
        (
            "barrier-attack",
            made(|out| {
                encode::parse(out, "", "SELECT set_config($1, $2, false)", &[])?;
                let parameters: [Option<&[u8]>; 2] = [Some(b"standard_conforming_strings"), Some(b"off")];
                encode::bind(out, "", "", &[], &parameters, &[])?;
                encode::execute(out, "", 0)?;
                encode::flush(out);
                encode::parse(out, "", "SELECT 'a\\''; DELETE FROM t; --'", &[])
            }),
        ),
        (
            "copy-in",
            plain(|out| {
                out.extend(raw(b'Q', b"COPY t FROM STDIN\0"));
                out.extend(raw(b'd', b"1\n"));
                out.extend(raw(b'd', b"2\n"));
                encode::copy_done(out);
            }),
        ),
    ]
}

fn frontend_malformed() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bad-tag", raw(b'Z', b"I")),
        ("bad-tag-zero", raw(0, b"")),
        ("bad-length-3", declares(b'Q', 3)),
        ("bad-length-0", declares(b'Q', 0)),
        ("bad-length-minus-1", declares(b'Q', -1)),
        ("bad-length-max", declares(b'Q', i32::MAX)),
        ("bad-length-beyond", declares(b'Q', 1_000)),
        ("bad-length-short", declares(b'Q', 12)),
        ("bad-query-no-nul", raw(b'Q', b"SELECT 1")),
        ("bad-query-nul-inside", raw(b'Q', b"SELECT 1\0; DROP TABLE t\0")),
        ("bad-query-bytes-behind-nul", raw(b'Q', b"SELECT 1\0Q\0\0\0\x04")),
        ("bad-query-empty-body", raw(b'Q', b"")),
        ("bad-parse-count-beyond", raw(b'P', b"\0SELECT\0\0\x02\0\0\0\x17")),
        ("bad-parse-trailing", raw(b'P', b"\0SELECT\0\0\0\0")),
        ("bad-bind-formats-beyond", raw(b'B', b"\0\0\xff\xff\0\0")),
        ("bad-bind-format-2", raw(b'B', b"\0\0\0\x01\0\x02\0\0\0\0")),
        ("bad-bind-format-mismatch", raw(b'B', b"\0\0\0\x02\0\0\0\x01\0\x01\0\0\0\x01x\0\0")),
        ("bad-bind-count-beyond", raw(b'B', b"\0\0\0\0\xff\xff\0\0")),
        ("bad-bind-length-beyond", raw(b'B', b"\0\0\0\0\0\x01\0\0\0\x05abc\0\0")),
        ("bad-bind-length-negative", raw(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0")),
        ("bad-bind-trailing", raw(b'B', b"\0\0\0\0\0\0\0\0\0")),
        ("bad-describe-kind", raw(b'D', b"x\0")),
        ("bad-close-nul-inside", raw(b'C', b"Sa\0b\0")),
        ("bad-execute-short", raw(b'E', b"\0\0\0\0")),
        ("bad-sync-body", raw(b'S', b"\0")),
        ("bad-copy-fail-no-nul", raw(b'f', b"why")),
        ("bad-password-trailing", raw(b'p', b"secret\0\0")),
        ("bad-sasl-length-beyond", raw(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,")),
        ("bad-function-call-short", raw(b'F', b"\0\0\x05\x25\0\0\0\0")),
        ("incomplete-header", b"Q\0\0\0".to_vec()),
    ]
}

fn backend_login() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("authentication-ok", plain(encode::authentication_ok)),
        ("authentication-kerberos", raw(b'R', &2_u32.to_be_bytes())),
        ("authentication-cleartext", plain(encode::authentication_cleartext_password)),
        ("authentication-md5", plain(|out| encode::authentication_md5_password(out, *b"salt"))),
        ("authentication-gss", raw(b'R', &7_u32.to_be_bytes())),
        ("authentication-gss-continue", raw(b'R', b"\0\0\0\x08data")),
        ("authentication-sspi", raw(b'R', &9_u32.to_be_bytes())),
        (
            "authentication-sasl",
            made(|out| encode::authentication_sasl(out, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        ),
        (
            "authentication-sasl-continue",
            made(|out| encode::authentication_sasl_continue(out, b"r=a,s=b,i=4096")),
        ),
        ("authentication-sasl-final", made(|out| encode::authentication_sasl_final(out, b"v=AAAA"))),
        ("backend-key-data-3.0", made(|out| encode::backend_key_data(out, 4_711, b"abcd"))),
        ("backend-key-data-3.2", made(|out| encode::backend_key_data(out, 4_711, &[7; 32]))),
        (
            "negotiate-protocol-version",
            made(|out| encode::negotiate_protocol_version(out, VERSION_3_0, ["_pq_.one", "_pq_.two"])),
        ),
        ("parameter-status", made(|out| encode::parameter_status(out, "client_encoding", "UTF8"))),
        (
            "login",
            made(|out| {
                encode::authentication_ok(out);
                encode::parameter_status(out, "server_version", "15.20")?;
                encode::backend_key_data(out, 1, b"abcd")?;
                encode::ready_for_query(out, TransactionStatus::Idle);
                Ok(())
            }),
        ),
    ]
}

fn backend_results() -> Vec<(&'static str, Vec<u8>)> {
    let id = FieldDescription {
        name: b"id",
        table_oid: 16_384,
        attribute: 1,
        type_oid: 23,
        type_length: 4,
        type_modifier: -1,
        format: Format::Text,
    };
    let expression = FieldDescription {
        name: b"?column?",
        table_oid: 0,
        attribute: 0,
        type_oid: 25,
        type_length: -1,
        type_modifier: -1,
        format: Format::Binary,
    };
    let rows = |out: &mut Vec<u8>| {
        encode::row_description(out, &[id, expression])?;
        encode::data_row(out, &[Some(b"1"), None])?;
        encode::data_row(out, &[Some(b"22"), Some(b"")])?;
        encode::data_row(out, &[Some(b"333"), Some(b"three")])?;
        encode::command_complete(out, "SELECT 3")?;
        encode::ready_for_query(out, TransactionStatus::Idle);
        Ok(())
    };
    let error = [
        (field::SEVERITY, "ERROR"),
        (field::SEVERITY_NONLOCALIZED, "ERROR"),
        (field::SQLSTATE, "23505"),
        (field::MESSAGE, "duplicate key value violates unique constraint \"t_pkey\""),
        (field::DETAIL, "Key (id)=(1) already exists."),
        (field::SCHEMA, "public"),
        (field::TABLE, "t"),
        (field::CONSTRAINT, "t_pkey"),
    ];
    vec![
        ("simple-query", made(rows)),
        ("row-description-empty", made(|out| encode::row_description(out, &[]))),
        ("data-row-empty", made(|out| encode::data_row(out, &[]))),
        ("data-row-nulls", made(|out| encode::data_row(out, &[None, None, Some(b"")]))),
        ("insert", made(|out| encode::command_complete(out, "INSERT 0 5"))),
        ("create-table", made(|out| encode::command_complete(out, "CREATE TABLE"))),
        ("ready-in-transaction", plain(|out| encode::ready_for_query(out, TransactionStatus::InTransaction))),
        ("ready-failed", plain(|out| encode::ready_for_query(out, TransactionStatus::Failed))),
        ("error", made(|out| encode::error_response(out, &error))),
        ("error-without-fields", made(|out| encode::error_response::<&str>(out, &[]))),
        (
            "notice",
            made(|out| encode::notice_response(out, &[(field::SEVERITY, "NOTICE"), (b'?', "unknown")])),
        ),
        ("notification", made(|out| encode::notification_response(out, 7, "channel", "payload"))),
        ("parameter-description", made(|out| encode::parameter_description(out, &[23, 25]))),
        (
            "extended-replies",
            plain(|out| {
                encode::parse_complete(out);
                encode::bind_complete(out);
                encode::no_data(out);
                encode::portal_suspended(out);
                encode::close_complete(out);
                encode::empty_query_response(out);
            }),
        ),
        (
            "copy-out",
            made(|out| {
                encode::copy_out_response(out, Format::Text, &[Format::Text; 2])?;
                encode::copy_data(out, b"1\tone\n")?;
                encode::copy_data(out, b"2\ttwo\n")?;
                encode::copy_done(out);
                encode::command_complete(out, "COPY 2")
            }),
        ),
        ("copy-in-response", made(|out| encode::copy_in_response(out, Format::Binary, &[Format::Binary]))),
        ("copy-both-response", made(|out| encode::copy_both_response(out, Format::Text, &[]))),
        ("function-call-response", made(|out| encode::function_call_response(out, Some(b"x")))),
        ("function-call-response-null", made(|out| encode::function_call_response(out, None))),
    ]
}

fn backend_malformed() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bad-tag", raw(b'Q', b"SELECT 1\0")),
        ("bad-length-3", declares(b'D', 3)),
        ("bad-length-minus-1", declares(b'D', -1)),
        ("bad-length-max", declares(b'D', i32::MAX)),
        ("bad-authentication-kind", raw(b'R', &6_u32.to_be_bytes())),
        ("bad-authentication-trailing", raw(b'R', b"\0\0\0\0\0")),
        ("bad-md5-short", raw(b'R', b"\0\0\0\x05sal")),
        ("bad-sasl-unterminated", raw(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0")),
        ("bad-key-short", raw(b'K', b"\0\0\0\x01abc")),
        ("bad-key-long", raw(b'K', &[7; 4 + 257])),
        ("bad-negotiate-negative", raw(b'v', b"\0\x03\0\0\xff\xff\xff\xff")),
        ("bad-negotiate-huge", raw(b'v', b"\0\x03\0\0\x7f\xff\xff\xff")),
        ("bad-row-count-beyond", raw(b'D', b"\xff\xff\0\0\0\x01a")),
        ("bad-row-length-beyond", raw(b'D', b"\0\x01\0\0\0\x05abc")),
        ("bad-row-length-negative", raw(b'D', b"\0\x01\xff\xff\xff\xfe")),
        ("bad-row-trailing", raw(b'D', b"\0\x01\0\0\0\x01ab")),
        (
            "bad-row-in-run",
            [raw(b'D', b"\0\x01\0\0\0\x01a"), raw(b'D', b"\0\x02\0\0\0\x01a"), raw(b'D', b"\0\0")].concat(),
        ),
        (
            "bad-row-description-format",
            raw(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x02"),
        ),
        (
            "bad-row-description-count",
            raw(b'T', b"\0\x02a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"),
        ),
        ("bad-error-unterminated", raw(b'E', b"SERROR\0C42501\0")),
        ("bad-error-trailing", raw(b'E', b"SERROR\0\0\0")),
        ("bad-ready-status", raw(b'Z', b"X")),
        ("bad-ready-empty", raw(b'Z', b"")),
        ("bad-status-no-value", raw(b'S', b"client_encoding\0")),
        ("bad-complete-nul-inside", raw(b'C', b"SELECT\x001\0")),
        ("bad-copy-format", raw(b'H', b"\x02\0\0")),
        ("bad-copy-columns-beyond", raw(b'G', b"\0\0\x05\0\0")),
        ("bad-parse-complete-body", raw(b'1', b"\0")),
        ("bad-parameter-count", raw(b't', b"\0\x02\0\0\0\x17")),
        ("bad-function-value-trailing", raw(b'V', b"\xff\xff\xff\xffx")),
        ("incomplete-row", b"D\0\0\0\x20\0\x01\0\0\0\x10abc".to_vec()),
    ]
}

/// A PROXY header whose length is right.
fn proxy_header(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("seeds are small");
    [&proxy::SIGNATURE[..], &[command, transport], &length.to_be_bytes(), rest].concat()
}

fn proxy_headers() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = *b"\xc6\x33\x64\x07\x0a\0\0\x05\x30\x39\x19\x20";
    let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 27], &[1, 0x30, 0x39, 0x19, 0x20]].concat();
    let extended = |extensions: &[u8]| proxy_header(0x21, 0x11, &[&v4, extensions].concat());
    let mut summed = extended(b"\x01\0\x02h2\x05\0\x02id\x03\0\x04\0\0\0\0");
    let at = summed.len() - 4;
    let sum = proxy::checksum(&summed, at).to_be_bytes();
    summed.splice(at.., sum);
    vec![
        ("ipv4", proxy_header(0x21, 0x11, &v4)),
        ("ipv6", proxy_header(0x21, 0x21, &v6)),
        ("local", proxy_header(0x20, 0, b"")),
        ("local-with-a-block", proxy_header(0x20, 0x31, &[7; 216])),
        ("extensions", extended(b"\x01\0\x02h2\x04\0\0\xea\0\x05\x01abcd\xf0\0\x01x")),
        ("checksum", summed),
        ("checksum-wrong", extended(b"\x03\0\x04abcd")),
        ("checksum-of-three-bytes", extended(b"\x03\0\x03abc")),
        ("extension-cut-off", extended(b"\x01\0\x09h2")),
        ("unspecified", proxy_header(0x21, 0, b"")),
        ("datagram", proxy_header(0x21, 0x12, &v4)),
        ("unix", proxy_header(0x21, 0x31, &[0; 216])),
        ("addresses-cut-off", proxy_header(0x21, 0x11, &v4[..7])),
        ("longest", proxy_header(0x20, 0, &vec![0; PROXY_HEADER_BYTES_MAX - proxy::HEAD_BYTES])),
        ("too-long", [&proxy::SIGNATURE[..], b"\x21\x11\xff\xff"].concat()),
        ("version-1", b"PROXY TCP4 198.51.100.7 10.0.0.5 12345 6432\r\n".to_vec()),
        ("ssl-request", plain(encode::ssl_request)),
        ("cut-in-the-signature", proxy::SIGNATURE[..7].to_vec()),
    ]
}

fn startup_sound() -> Vec<(&'static str, Vec<u8>)> {
    let psql = [
        ("user", "alice"),
        ("database", "app"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
        ("options", "-c search_path=public -c statement_timeout=5s"),
    ];
    let many = (0..STARTUP_PARAMETERS_MAX).map(|number| (format!("n{number}"), "v"));
    vec![
        ("ssl-request", plain(encode::ssl_request)),
        ("gssenc-request", plain(encode::gssenc_request)),
        ("cancel-3.0", made(|out| encode::cancel_request(out, 4_711, b"abcd"))),
        ("cancel-3.2", made(|out| encode::cancel_request(out, 4_711, &[7; 32]))),
        ("cancel-longest", made(|out| encode::cancel_request(out, 4_711, &[7; 256]))),
        ("user-only", made(|out| encode::startup(out, ProtocolVersion::V3_0, [("user", "alice")]))),
        ("psql", made(|out| encode::startup(out, ProtocolVersion::V3_0, psql))),
        (
            "replication",
            made(|out| {
                encode::startup(out, ProtocolVersion::V3_0, [("user", "alice"), ("replication", "database")])
            }),
        ),
        ("no-parameters", packet(VERSION_3_0, b"\0")),
        ("empty-value", packet(VERSION_3_0, b"user\0\0\0")),
        ("version-3.2", packet(VERSION_3_0 | 2, b"user\0alice\0_pq_.command_tag_format\0x\0\0")),
        ("version-3.9999", packet(VERSION_3_0 | 9_999, b"user\0alice\0_pq_.test_protocol_negotiation\0\0\0")),
        ("as-many-parameters-as-allowed", made(|out| encode::startup(out, ProtocolVersion::V3_0, many))),
        (
            "ssl-request-and-more",
            made(|out| {
                encode::ssl_request(out);
                encode::startup(out, ProtocolVersion::V3_0, [("user", "alice")])
            }),
        ),
    ]
}

fn startup_malformed() -> Vec<(&'static str, Vec<u8>)> {
    let mut many: Vec<u8> =
        (0..=STARTUP_PARAMETERS_MAX).flat_map(|number| format!("n{number}\0v\0").into_bytes()).collect();
    many.push(0);
    vec![
        ("bad-version-2", packet(2 << 16, b"\0")),
        ("bad-version-4", packet(4 << 16, b"\0")),
        ("bad-request-code", packet(1234 << 16 | 1, b"")),
        ("bad-length-7", b"\0\0\0\x07\0\x03\0".to_vec()),
        ("bad-length-minus-1", b"\xff\xff\xff\xff\0\x03\0\0".to_vec()),
        ("bad-length-10005", b"\0\0\x27\x15\0\x03\0\0".to_vec()),
        ("bad-http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("bad-tls-record", b"\x16\x03\x01\x02\0\x01".to_vec()),
        ("bad-ssl-request-trailing", packet(1234 << 16 | 5679, b"x")),
        ("bad-cancel-key-short", packet(CANCEL_REQUEST, b"\0\0\0\x01abc")),
        ("bad-cancel-key-long", packet(CANCEL_REQUEST, &[7; 4 + 257])),
        ("bad-cancel-no-key", packet(CANCEL_REQUEST, b"\0\0\0\x01")),
        ("bad-no-terminator", packet(VERSION_3_0, b"user\0alice\0")),
        ("bad-no-value", packet(VERSION_3_0, b"user\0")),
        ("bad-no-nul", packet(VERSION_3_0, b"user")),
        ("bad-empty", packet(VERSION_3_0, b"")),
        ("bad-early-terminator", packet(VERSION_3_0, b"user\0alice\0\0replication\0true\0\0")),
        ("bad-duplicate", packet(VERSION_3_0, b"user\0alice\0user\0postgres\0\0")),
        ("bad-too-many-parameters", packet(VERSION_3_0, &many)),
        ("incomplete", b"\0\0".to_vec()),
    ]
}
