//! The allow-list, the splitter's use and the packet that results. The server's own reading is tested in `tests`.

use proptest::prelude::*;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<ClientSettings, ParameterRefused> {
    ClientSettings::read(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    read(pairs).unwrap().settings().to_vec()
}

fn guards(path: &[&str]) -> Guards {
    Guards { search_path: path.iter().map(|schema| (*schema).to_owned()).collect(), ..Guards::default() }
}

fn build(client: &ClientSettings, guards: &Guards) -> StartupParameters {
    StartupParameters::build("crm_reader", "crm", client, guards, "01JD3Z").unwrap()
}

#[test]
fn what_common_drivers_send_is_taken() {
    // pgjdbc
    let jdbc = read(&[
        ("user", "kim"),
        ("database", "crm"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "Europe/Berlin"),
        ("extra_float_digits", "2"),
    ])
    .unwrap();
    assert_eq!((jdbc.user.as_str(), jdbc.database.as_deref()), ("kim", Some("crm")));
    assert_eq!(jdbc.settings().len(), 3);
    // psql, asyncpg, npgsql
    assert_eq!(
        read(&[("application_name", "psql"), ("client_encoding", "utf-8")]).unwrap().application_name(),
        "psql"
    );
    assert_eq!(settings(&[("client_encoding", "'utf-8'")]), []);
    assert_eq!(
        settings(&[("client_encoding", "UNICODE"), ("timezone", "UTC")]),
        [("TimeZone", "UTC".into())]
    );
    assert_eq!(settings(&[("standard_conforming_strings", "on"), ("replication", "false")]), []);
    assert_eq!(read(&[("_pq_.wide", "1")]).unwrap().settings(), []);
}

#[test]
fn everything_else_is_refused_by_name() {
    let refused = |name: &str, value: &str| read(&[(name, value)]).unwrap_err();
    for name in
        ["search_path", "role", "session_replication_role", "row_security", "statement_timeout", "User", "x"]
    {
        assert_eq!(refused(name, "x"), ParameterRefused::NotAllowed { name: name.to_owned() });
    }
    for value in ["database", "true", "on", "1", "yes", "", "x"] {
        assert_eq!(refused("replication", value), ParameterRefused::Replication);
    }
    for value in ["LATIN1", "SQL_ASCII", "", "utf88", "utf8\u{e9}", "auto", "SJIS"] {
        assert!(matches!(refused("client_encoding", value), ParameterRefused::Encoding { .. }), "{value}");
    }
    assert!(matches!(refused("standard_conforming_strings", "off"), ParameterRefused::Fixed { .. }));
    assert!(matches!(refused("TimeZone", "U\nTC"), ParameterRefused::Value { .. }));
    assert!(matches!(refused("TimeZone", &"x".repeat(129)), ParameterRefused::Value { .. }));
    assert!(matches!(refused("options", "-c search_path=x"), ParameterRefused::NotAllowed { .. }));
    assert!(matches!(refused("options", "-c client_encoding=latin1"), ParameterRefused::Encoding { .. }));
    assert!(matches!(refused("options", "-d 5"), ParameterRefused::Options(_)));
    assert!(refused("options", "-d 5").to_string().contains("the switch \"-d\" is not allowed"));
    let twice = read(&[("user", "a"), ("user", "b")]).unwrap_err();
    assert_eq!(twice, ParameterRefused::Twice { name: "user".into() });
    let bytes = ClientSettings::read([(b"user".as_slice(), b"\xff".as_slice())]).unwrap_err();
    assert!(matches!(bytes, ParameterRefused::Value { .. }));
}

#[test]
fn parameters_win_over_options_as_in_the_server() {
    let given = settings(&[
        ("TimeZone", "UTC"),
        (
            "options",
            r"-c timezone=Asia/Tokyo --DateStyle=ISO,\ MDY -cintervalstyle=iso_8601 -c IntervalStyle=postgres",
        ),
    ]);
    assert_eq!(
        given,
        [
            ("TimeZone", "UTC".to_owned()),
            ("DateStyle", "ISO, MDY".to_owned()),
            ("IntervalStyle", "postgres".to_owned()),
        ]
    );
}

#[test]
fn the_packet_holds_ours_and_nothing_twice() {
    let client = read(&[("application_name", "psql"), ("TimeZone", "UTC")]).unwrap();
    let guards = Guards {
        read_only: true,
        statement_timeout_ms: Some(30_000),
        lock_timeout_ms: Some(2_000),
        idle_in_transaction_ms: Some(60_000),
        search_path: vec!["crm".into(), "Odd \"one\"".into()],
    };
    let packet = build(&client, &guards);
    let text: Vec<String> = packet.pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        text,
        [
            "user=crm_reader",
            "database=crm",
            "client_encoding=UTF8",
            "standard_conforming_strings=on",
            "search_path=\"crm\", \"Odd \"\"one\"\"\"",
            "application_name=psql pgt:01JD3Z",
            "default_transaction_read_only=on",
            "statement_timeout=30000",
            "lock_timeout=2000",
            "idle_in_transaction_session_timeout=60000",
            "TimeZone=UTC",
        ]
    );
    assert!(packet.read_only());
    let plain = build(&ClientSettings::default(), &Guards::default());
    assert_eq!(plain.value("application_name"), "pgt:01JD3Z");
    assert_eq!(plain.value("search_path"), "");
    assert_eq!(plain.pairs().len(), 6);
}

#[test]
fn application_name_keeps_the_session_id_whole() {
    let named = |client: &[u8]| {
        let client = ClientSettings::read([(b"application_name".as_slice(), client)]).unwrap();
        build(&client, &Guards::default()).value("application_name").to_owned()
    };
    assert_eq!(named("caf\u{e9}\n".as_bytes()), "caf??? pgt:01JD3Z");
    assert_eq!(named(b"   "), "pgt:01JD3Z");
    let long = named(&[b'x'; 500]);
    assert_eq!(long.len(), NAME_BYTES_MAX);
    assert!(long.ends_with("x pgt:01JD3Z"));
}

#[test]
fn what_the_server_would_change_is_not_sent() {
    let client = ClientSettings::default();
    let failed = |user: &str, path: &[&str], session: &str| {
        StartupParameters::build(user, "crm", &client, &guards(path), session).unwrap_err().to_string()
    };
    assert!(failed(&"u".repeat(64), &[], "s").contains("longer than 63 bytes"));
    assert!(failed("", &[], "s").contains("is empty"));
    assert!(failed("u", &[""], "s").contains("is empty"));
    assert!(failed("u", &["$user"], "s").contains("name the schema"));
    assert!(failed("u", &[&"s".repeat(64)], "s").contains("truncates"));
    assert!(failed("u", &[], "").contains("session id"));
    assert!(failed("u", &[], "two words").contains("session id"));
    let guards = Guards { lock_timeout_ms: Some(u32::MAX), ..Guards::default() };
    let error = StartupParameters::build("u", "d", &client, &guards, "s").unwrap_err();
    assert!(error.to_string().contains("lock_timeout"));
}

proptest! {
    #[test]
    fn no_parameters_panic_and_none_gets_past_the_list(
        pairs in prop::collection::vec(("[a-zA-Z_.]{0,12}", prop::collection::vec(any::<u8>(), 0..80)), 0..6),
    ) {
        let given = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        if let Ok(client) = ClientSettings::read(given) {
            let packet = build(&client, &Guards::default());
            prop_assert!(packet.value("application_name").len() <= NAME_BYTES_MAX);
            prop_assert!(packet.value("application_name").ends_with("pgt:01JD3Z"));
            for (name, value) in packet.pairs() {
                prop_assert!(!value.contains('\0'));
                prop_assert_eq!(packet.pairs().iter().filter(|(other, _)| other == name).count(), 1);
            }
        }
    }
}
