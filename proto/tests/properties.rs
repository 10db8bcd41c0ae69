//! Properties over generated streams: whatever is encoded is read back, however it is cut; whatever is broken is
//! refused without a panic. The promises themselves are the bodies of the fuzz targets, so the two cannot drift apart.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a panic here is a failed test")]

use pgturnstile_proto::{
    BackendTag, Format, FrontendTag, Limits,
    backend::{self, FieldDescription, TransactionStatus},
    encode,
    frontend::{self, ObjectKind},
    proxy,
    startup::{self, ProtocolVersion},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

#[path = "../../fuzz/bodies/backend_frames.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets include the same file")]
mod backend_body;
#[path = "../../fuzz/bodies/frontend_frames.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets include the same file")]
mod frontend_body;
#[path = "../../fuzz/bodies/proxy_header.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets include the same file")]
mod proxy_body;
#[path = "../../fuzz/bodies/startup.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets include the same file")]
mod startup_body;

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..12)
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 1..12)
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..24)
}

fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    vec(option::of(data()), 0..5)
}

fn format() -> impl Strategy<Value = Format> {
    select(vec![Format::Text, Format::Binary])
}

fn formats() -> impl Strategy<Value = Vec<Format>> {
    vec(format(), 0..5)
}

/// No formats, one, or one for each.
fn values_with_formats() -> impl Strategy<Value = (Vec<Option<Vec<u8>>>, Vec<Format>)> {
    values().prop_flat_map(|values| {
        let each = values.len();
        (Just(values), prop_oneof![vec(format(), 0..=1), vec(format(), each)])
    })
}

fn borrowed(values: &[Option<Vec<u8>>]) -> Vec<Option<&[u8]>> {
    values.iter().map(Option::as_deref).collect()
}

fn made(write: impl FnOnce(&mut Vec<u8>) -> Result<(), encode::Unencodable>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

fn frontend_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = || select(vec![ObjectKind::Portal, ObjectKind::Statement]);
    prop_oneof![
        text().prop_map(|text| made(|out| encode::query(out, &text))),
        (text(), text(), vec(any::<u32>(), 0..4))
            .prop_map(|(name, text, types)| made(|out| encode::parse(out, &name, &text, &types))),
        (text(), text(), values_with_formats(), formats()).prop_map(
            |(portal, name, (values, each), results)| {
                made(|out| encode::bind(out, &portal, &name, &each, &borrowed(&values), &results))
            }
        ),
        (kind(), text()).prop_map(|(kind, name)| made(|out| encode::describe(out, kind, &name))),
        (kind(), text()).prop_map(|(kind, name)| made(|out| encode::close(out, kind, &name))),
        (text(), any::<i32>()).prop_map(|(portal, limit)| made(|out| encode::execute(out, &portal, limit))),
        data().prop_map(|data| made(|out| encode::copy_data(out, &data))),
        text().prop_map(|reason| made(|out| encode::copy_fail(out, &reason))),
        (any::<u32>(), values_with_formats(), format()).prop_map(|(function, (values, each), result)| {
            made(|out| encode::function_call(out, function, &each, &borrowed(&values), result))
        }),
        text().prop_map(|password| made(|out| encode::password(out, &password))),
        (text(), option::of(data())).prop_map(|(mechanism, data)| {
            made(|out| encode::sasl_initial_response(out, &mechanism, data.as_deref()))
        }),
        select(vec![&b"S\0\0\0\x04"[..], b"H\0\0\0\x04", b"X\0\0\0\x04", b"c\0\0\0\x04"])
            .prop_map(<[u8]>::to_vec),
    ]
}

fn field() -> impl Strategy<Value = (Vec<u8>, [u32; 2], [i16; 2], i32, Format)> {
    (text(), any::<[u32; 2]>(), any::<[i16; 2]>(), any::<i32>(), format())
}

fn row_description() -> impl Strategy<Value = Vec<u8>> {
    vec(field(), 0..4).prop_map(|fields| {
        let described: Vec<_> = fields
            .iter()
            .map(|(name, oids, numbers, type_modifier, format)| FieldDescription {
                name,
                table_oid: oids[0],
                attribute: numbers[0],
                type_oid: oids[1],
                type_length: numbers[1],
                type_modifier: *type_modifier,
                format: *format,
            })
            .collect();
        made(|out| encode::row_description(out, &described))
    })
}

fn backend_frame() -> impl Strategy<Value = Vec<u8>> {
    let status =
        select(vec![TransactionStatus::Idle, TransactionStatus::InTransaction, TransactionStatus::Failed]);
    let bare = select(vec![b"1", b"2", b"3", b"n", b"s", b"I", b"c"]);
    prop_oneof![
        4 => values().prop_map(|values| made(|out| encode::data_row(out, &borrowed(&values)))),
        2 => data().prop_map(|data| made(|out| encode::copy_data(out, &data))),
        1 => row_description(),
        1 => vec(any::<u32>(), 0..4).prop_map(|types| made(|out| encode::parameter_description(out, &types))),
        1 => vec((1..=u8::MAX, text()), 0..4).prop_map(|fields| made(|out| encode::error_response(out, &fields))),
        1 => vec((1..=u8::MAX, text()), 0..4).prop_map(|fields| made(|out| encode::notice_response(out, &fields))),
        1 => text().prop_map(|tag| made(|out| encode::command_complete(out, &tag))),
        1 => (text(), text()).prop_map(|(name, value)| made(|out| encode::parameter_status(out, &name, &value))),
        1 => (any::<u32>(), text(), text()).prop_map(|(process, channel, payload)| {
            made(|out| encode::notification_response(out, process, &channel, &payload))
        }),
        1 => (any::<u32>(), vec(any::<u8>(), 4..=256))
            .prop_map(|(process, key)| made(|out| encode::backend_key_data(out, process, &key))),
        1 => vec(word(), 0..3).prop_map(|names| made(|out| encode::authentication_sasl(out, &names))),
        1 => data().prop_map(|data| made(|out| encode::authentication_sasl_continue(out, &data))),
        1 => (any::<u32>(), vec(text(), 0..3))
            .prop_map(|(version, options)| made(|out| encode::negotiate_protocol_version(out, version, &options))),
        1 => (format(), formats()).prop_map(|(overall, columns)| made(|out| encode::copy_out_response(out, overall, &columns))),
        1 => option::of(data()).prop_map(|value| made(|out| encode::function_call_response(out, value.as_deref()))),
        1 => status.prop_map(|status| { let mut out = Vec::new(); encode::ready_for_query(&mut out, status); out }),
        1 => bare.prop_map(|tag| [&tag[..], &[0, 0, 0, 4]].concat()),
    ]
}

/// A frame of a real type and of right length, but of any content.
fn plausible(tags: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    (select(tags), vec(prop_oneof![3 => Just(0_u8), 2 => any::<u8>()], 0..48)).prop_map(|(tag, body)| {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), &body].concat()
    })
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn edited(mut stream: Vec<u8>, edits: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in edits.iter().filter(|_| !stream.is_empty()).cloned().collect::<Vec<_>>() {
        let at = at.index(stream.len());
        stream[at] = byte;
    }
    stream
}

/// A header for a client, and what it says. An address is its first bytes, then its port.
fn proxied(
    source: &[u8; 18],
    destination: &[u8; 18],
    six: bool,
    extensions: &[(u8, Vec<u8>)],
    checksum: bool,
) -> (Vec<u8>, proxy::Header) {
    let bytes = if six { 16 } else { 4 };
    let port = |side: &[u8; 18]| u16::from_be_bytes([side[16], side[17]]);
    let address = |side: &[u8; 18]| match <[u8; 4]>::try_from(&side[..bytes]) {
        Ok(four) => (four, port(side)).into(),
        Err(_) => (<[u8; 16]>::try_from(&side[..bytes]).unwrap(), port(side)).into(),
    };
    let mut rest = [&source[..bytes], &destination[..bytes], &source[16..], &destination[16..]].concat();
    for (kind, value) in extensions {
        rest.extend([&[*kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat());
    }
    if checksum {
        rest.extend(b"\x03\0\x04\0\0\0\0");
    }
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let transport = if six { 0x21 } else { 0x11 };
    let mut header = [&proxy::SIGNATURE[..], &[0x21, transport], &length, &rest].concat();
    if checksum {
        let at = header.len() - 4;
        let sum = proxy::checksum(&header, at).to_be_bytes();
        header.splice(at.., sum);
    }
    (header, proxy::Header::Proxied { source: address(source), destination: address(destination) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_stream_is_read_back_whole_at_every_cut(frames in vec(frontend_frame(), 0..6)) {
        let (stream, limits) = (frames.concat(), Limits::default());
        frontend_body::run(&stream);
        for frame in &frames {
            prop_assert!(frontend::Message::parse(frame).is_ok(), "{}", frame.escape_ascii());
        }
        for cut in 0..=stream.len() {
            let (mut found, mut start) = (Vec::new(), 0);
            for filled in [cut, stream.len()] {
                while let Some(header) = frontend::Header::peek(&stream[start..filled], &limits).unwrap() {
                    if start + header.len > filled {
                        break;
                    }
                    found.push(stream[start..start + header.len].to_vec());
                    start += header.len;
                }
            }
            prop_assert_eq!(&found, &frames, "cut at {}", cut);
        }
    }

    #[test]
    fn a_server_stream_is_read_back_whole_at_every_cut(frames in vec(backend_frame(), 0..8)) {
        let (stream, limits) = (frames.concat(), Limits::default());
        backend_body::run(&stream);
        for frame in &frames {
            prop_assert!(backend::Message::parse(frame).is_ok(), "{}", frame.escape_ascii());
        }
        for cut in 0..=stream.len() {
            let (mut found, mut start) = (Vec::new(), 0);
            for filled in [cut, stream.len()] {
                // as a relay does: a run of rows in one hop, everything else frame by frame
                loop {
                    let rows = backend::skip_rows(&stream[start..filled], &limits);
                    start += rows.bytes;
                    found.push(stream[start - rows.bytes..start].to_vec());
                    match backend::Header::peek(&stream[start..filled], &limits).unwrap() {
                        Some(header) if start + header.len <= filled => {
                            found.push(stream[start..start + header.len].to_vec());
                            start += header.len;
                        }
                        Some(_) | None => break,
                    }
                }
            }
            prop_assert_eq!(start, stream.len(), "cut at {}", cut);
            prop_assert_eq!(found.concat(), &stream[..], "cut at {}", cut);
        }
    }

    #[test]
    fn a_startup_packet_is_read_back(parameters in vec((word(), text()), 0..8), tail in data()) {
        let mut out = Vec::new();
        encode::startup(&mut out, ProtocolVersion::V3_0, parameters.iter().map(|(name, value)| (name, value))).unwrap();
        let names: std::collections::BTreeSet<_> = parameters.iter().map(|(name, _)| name).collect();
        match startup::parse(&out) {
            Ok(startup::Packet::Startup(view)) => {
                let read: Vec<_> =
                    view.parameters().iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(read, parameters);
            }
            other => prop_assert!(names.len() < parameters.len() && other.is_err(), "{:?}", other),
        }
        startup_body::run(&out);
        out.extend(tail);
        startup_body::run(&out);
    }

    #[test]
    fn a_broken_client_stream_is_refused_in_order(frames in vec(frontend_frame(), 1..6), edits in edits()) {
        frontend_body::run(&edited(frames.concat(), &edits));
    }

    #[test]
    fn a_broken_server_stream_is_refused_in_order(frames in vec(backend_frame(), 1..8), edits in edits()) {
        backend_body::run(&edited(frames.concat(), &edits));
    }

    #[test]
    fn a_broken_startup_packet_is_refused_in_order(parameters in vec((word(), text()), 0..6), edits in edits()) {
        let packet = made(|out| encode::startup(out, ProtocolVersion::V3_0, parameters));
        startup_body::run(&edited(packet, &edits));
    }

    #[test]
    fn a_proxy_header_is_read_back_and_a_broken_one_is_refused(
        (source, destination, six) in (any::<[u8; 18]>(), any::<[u8; 18]>(), any::<bool>()),
        extensions in vec((any::<u8>().prop_filter("no checksum", |kind| *kind != 3), data()), 0..4),
        checksum in any::<bool>(),
        edits in edits(),
    ) {
        let (header, expected) = proxied(&source, &destination, six, &extensions, checksum);
        prop_assert_eq!(proxy::peek(&header), Ok(Some(header.len())));
        prop_assert_eq!(proxy::parse(&header), Ok(expected));
        proxy_body::run(&header);
        proxy_body::run(&edited(header, &edits));
    }

    #[test]
    fn frames_of_any_content_keep_the_promises(
        frontend in vec(plausible(FrontendTag::ALL.iter().map(|tag| tag.byte()).collect()), 1..5),
        backend in vec(plausible(BackendTag::ALL.iter().map(|tag| tag.byte()).collect()), 1..5),
    ) {
        frontend_body::run(&frontend.concat());
        backend_body::run(&backend.concat());
    }

    #[test]
    fn any_bytes_keep_the_promises(bytes in vec(any::<u8>(), 0..96)) {
        frontend_body::run(&bytes);
        backend_body::run(&bytes);
        startup_body::run(&bytes);
        proxy_body::run(&bytes);
        proxy_body::run(&[&proxy::SIGNATURE[..], &bytes].concat());
    }

    #[test]
    fn a_header_admits_a_length_within_its_limit_and_no_other(
        tag in select(FrontendTag::ALL.to_vec()),
        declared in prop_oneof![any::<i32>(), -8..2_000],
        most in 0_usize..2_000,
    ) {
        let limits = Limits {
            statement_bytes_max: most,
            bind_bytes_max: most,
            password_bytes_max: most,
            function_call_bytes_max: most,
            copy_in_bytes_max: most,
            control_bytes_max: most,
            ..Limits::default()
        };
        let header = [&[tag.byte()][..], &declared.to_be_bytes()].concat();
        let legal = (4..=i64::try_from(limits.frontend(tag)).unwrap() + 4).contains(&i64::from(declared));
        let read = frontend::Header::peek(&header, &limits);
        prop_assert_eq!(read.is_ok(), legal);
        if let Ok(read) = read {
            prop_assert_eq!(read.map(|header| header.len), usize::try_from(declared).ok().map(|length| length + 1));
        }
    }
}
