//! What the gateway's file is refused for, line by line; that its whole reference can be read; that secrets stay secret.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgturnstile_proto::startup::ProtocolVersion;
use pgturnstile_rules::document::{Diagnostic, Document, Severity};
use pgturnstile_rules::policy::Policy;
use secrecy::ExposeSecret;

use super::{
    Auth, Config, Files, Jwks, KeyFileError, Route, SECTIONS_README, TargetAddress, TargetTls,
    against_broken_policy, against_policy, broken_against_policy, load_or_create_digest_key, reference,
};

/// The least that is needed: everything else has a default.
const LEAST: &str = r#"version = 1

[[listener]]
address = "0.0.0.0:6432"
tls = { certificate = "gateway.crt", key = "gateway.key" }

[[issuer]]
name = "corp"
issuer = "https://id.example.com"
audiences = ["pgturnstile"]

[credential.crm-catalog]
user = "pgturnstile_catalog"
password = { file = "secrets/crm_catalog" }

[[target]]
name = "crm-prod"
address = "10.20.0.3:5432"
database = "crm"
tls = { mode = "verify-ca", ca = ["server-ca.pem"], name = "my-project:crm-prod" }
control = "crm-catalog"
"#;

fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    let document = Document::from_text("pgturnstile.toml", text);
    Config::from_document(Path::new("/etc/pgturnstile/pgturnstile.toml"), &document, Files::Skip)
}

fn lines(found: &[Diagnostic]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(found) => lines(&found),
    }
}

/// `LEAST` with one line replaced.
fn with(old: &str, new: &str) -> String {
    assert!(LEAST.contains(old), "{old}");
    LEAST.replacen(old, new, 1)
}

fn assert_fault(text: &str, line: usize, key: &str, part: &str) {
    let found = faults(text);
    let start = format!("pgturnstile.toml:{line}: {key}: ");
    assert!(
        found.iter().any(|fault| fault.starts_with(&start) && fault.contains(part)),
        "wanted {start}…{part}… in {found:#?}"
    );
}

#[test]
fn the_least_file_gets_the_documented_defaults() {
    let config = parse(LEAST).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.gateway.policy, Path::new("/etc/pgturnstile/policy.toml"));
    assert_eq!(config.gateway.state_directory, Path::new("/etc/pgturnstile/state"));
    assert_eq!(config.evidence.digest_key, Path::new("/etc/pgturnstile/state/digest.key"));
    assert_eq!(config.limits.login_deadline_ms, 10_000);
    assert_eq!(config.limits.statement_bytes_max, 262_144);
    assert_eq!(config.targets[0].statement_bytes_max, 262_144);
    assert_eq!(config.targets[0].sessions_max, 80);
    assert_eq!(config.issuers[0].jwks, Jwks::Discover);
    assert_eq!(config.issuers[0].algorithms, ["RS256", "ES256"]);
    assert_eq!(
        config.targets[0].tls,
        TargetTls::VerifyCa {
            ca: vec!["/etc/pgturnstile/server-ca.pem".into()],
            name: Some("my-project:crm-prod".to_owned())
        }
    );
    assert_eq!(config.targets[0].protocol, ProtocolVersion::V3_2);
    assert!(!config.targets[0].direct_tls);
    assert!(!config.listeners[0].tls().unwrap().direct);
    assert_eq!(config.gateway.shard_count(1), 1);
    assert_eq!(config.gateway.shard_count(8), 7);
}

#[test]
fn every_key_of_the_design_s_example_is_known_and_what_is_not_built_is_said() {
    let found = faults(include_str!("tests/example.toml"));
    let unknown: Vec<_> = found.iter().filter(|fault| fault.contains("unknown key")).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let expected = ["credential.crm-owner.password.gcp-secret"];
    let missing: Vec<_> = expected
        .iter()
        .filter(|key| !found.iter().any(|fault| fault.contains(&format!(" {key}: "))))
        .collect();
    assert!(missing.is_empty(), "{missing:?} not in {found:#?}");
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_admin_listener_is_off_by_default_and_in_clear_on_loopback_only() {
    assert!(parse(LEAST).unwrap().control.is_none());
    let on = |section: &str| format!("{LEAST}\n[control]\n{section}\n");
    let control = parse(&on("")).unwrap().control.unwrap();
    assert_eq!((control.address.to_string().as_str(), control.metrics), ("127.0.0.1:6480", true));
    assert!(parse(&on("address = \"[::1]:6480\"")).unwrap().control.is_some());
    let line = LEAST.lines().count() + 3;
    assert_fault(
        &on("address = \"0.0.0.0:6480\""),
        line,
        "control.address",
        "can be reached from other machines",
    );
    assert_fault(&on("address = \"localhost:6480\""), line, "control.address", "must be an IP address");
    // One error: what stands beside it is read all the same.
    let beside = on("address = \"127.0.0.1\"\nsocket = \"/run/pgturnstile/control\"");
    assert_eq!(faults(&beside).len(), 1, "{:?}", faults(&beside));
    let tls =
        on("address = \"0.0.0.0:6480\"\ntls = { certificate = \"a.crt\", key = \"a.key\" }\nmetrics = false");
    let control = parse(&tls).unwrap().control.unwrap();
    assert!(!control.metrics && control.tls.is_some());
    assert_fault(&on("tls = { certificate = \"a.crt\" }"), line, "control.tls.key", "is required");
}

#[test]
fn all_errors_come_in_one_run_with_their_lines() {
    let found = faults(
        "version = 1\n[gateway]\nshrads = 3\n[limits]\nlogin_deadline_s = 5\nconnections_max = 0\n\
         [[listener]]\naddress = \"here\"\n[[listener]]\naddress = \"0.0.0.0:1\"\ntls = { certificate = \"a\" }\n\
         [[target]]\nname = \"a b\"\naddress = \"db:0\"\ndatabase = \"d\"\ncontrol = \"c\"\n",
    );
    let starts: Vec<&str> =
        found.iter().map(|fault| fault.strip_prefix("pgturnstile.toml:").unwrap()).collect();
    let expected = [
        "1: issuer: is missing",
        "1: credential: is missing",
        "3: gateway.shrads: unknown key; did you mean `shards`?",
        "5: limits.login_deadline_s: unknown key; the unit is wrong: this key is `login_deadline_ms`",
        "6: limits.connections_max: must be a whole number of items between 1 and 1000000",
        "7: listener[0].tls: is required here",
        "8: listener[0].address: must be an IP address and a port",
        "11: listener[1].tls.key: is required here",
        "12: target[0].tls: is required for TCP",
        "13: target[0].name: `a b` is no name",
        "14: target[0].address: the port must be 1 to 65535",
    ];
    for (wanted, line) in expected.iter().zip(&starts) {
        assert!(line.starts_with(wanted), "wanted {wanted}, found {line}, of {found:#?}");
    }
    assert_eq!(starts.len(), expected.len(), "{found:#?}");
}

#[test]
fn tokens_are_never_asked_for_outside_tls() {
    let cleartext = with("key = \"gateway.key\" }", "key = \"gateway.key\", required = false }");
    assert_fault(&cleartext, 5, "listener[0].tls.required", "never asked for outside TLS");
    let none = with("tls = { certificate = \"gateway.crt\", key = \"gateway.key\" }\n", "");
    assert_fault(&none, 3, "listener[0].tls", "is required here");
}

const LISTENER: &str =
    "address = \"0.0.0.0:6432\"\ntls = { certificate = \"gateway.crt\", key = \"gateway.key\" }\n";

#[test]
fn a_unix_socket_is_closed_by_default_and_has_no_tls() {
    let unix = |rest: &str| with(LISTENER, &format!("address = \"/run/pgturnstile:6432\"\n{rest}"));
    let closed = parse(&unix("")).unwrap();
    let socket = closed.listeners[0].socket().unwrap();
    assert_eq!((socket.path.to_str(), socket.mode), (Some("/run/pgturnstile/.s.PGSQL.6432"), 0o600));
    assert_eq!(socket.group, None);
    assert!(closed.listeners[0].tls().is_none());
    let open = parse(&unix("socket = { mode = \"0660\", group = \"4711\" }\n")).unwrap();
    assert_eq!(
        open.listeners[0].socket().map(|socket| (socket.mode, socket.group)),
        Some((0o660, Some(4711)))
    );
    assert!(parse(&unix("socket = { group = \"root\" }\n")).is_ok());
    for (mode, key) in [("660 ", "mode"), ("1777", "mode"), ("rw", "mode"), ("0o660", "mode"), ("66", "mode")]
    {
        let text = unix(&format!("socket = {{ mode = \"{mode}\" }}\n"));
        assert_fault(&text, 5, &format!("listener[0].socket.{key}"), "octal");
    }
    assert_fault(&unix("socket = { group = \"no such\" }\n"), 5, "listener[0].socket.group", "no group");
    assert_fault(&unix("socket = { owner = \"root\" }\n"), 5, "listener[0].socket.owner", "unknown");
    let tls = unix("tls = { certificate = \"gateway.crt\", key = \"gateway.key\" }\n");
    assert_fault(&tls, 5, "listener[0].tls", "no TLS on a Unix socket");
    let tcp = with("[[issuer]]", "socket = { mode = \"0600\" }\n[[issuer]]");
    assert_fault(&tcp, 7, "listener[0].socket", "belongs to a Unix socket");
    for (address, part) in
        [("@pgturnstile:6432", "abstract"), ("/run/pgturnstile", "/DIRECTORY:PORT"), ("/run:0", "1 to 65535")]
    {
        assert_fault(&with("0.0.0.0:6432", address), 4, "listener[0].address", part);
    }
    assert_fault(&with("10.20.0.3:5432", "@pg:5432"), 18, "target[crm-prod].address", "abstract");
    let twice = unix("[[listener]]\naddress = \"/run/pgturnstile:6432\"\n");
    assert_fault(&twice, 6, "listener[1].address", "collides with /run/pgturnstile/.s.PGSQL.6432");
}

#[test]
fn a_proxy_is_believed_only_where_it_is_named() {
    let proxied = |value: &str| with("[[issuer]]", &format!("proxy_protocol = {value}\n[[issuer]]"));
    let believed =
        parse(&proxied("{ trusted = [\"10.0.0.5\", \"10.1.0.0/16\", \"2001:db8::/32\"] }")).unwrap();
    let proxies = believed.listeners[0].proxies().unwrap();
    for address in ["10.0.0.5", "::ffff:10.0.0.5", "10.1.255.255", "2001:db8::7"] {
        assert!(proxies.trusts(address.parse().unwrap()), "{address}");
    }
    for address in ["10.0.0.4", "10.2.0.0", "127.0.0.1", "2001:db9::", "::1"] {
        assert!(!proxies.trusts(address.parse().unwrap()), "{address}");
    }
    assert!(parse(LEAST).unwrap().listeners[0].proxies().is_none());
    let key = "listener[0].proxy_protocol";
    for (value, at, part) in [
        ("{ version = \"v1\", trusted = [\"10.0.0.5\"] }", ".version", "set the balancer to version 2"),
        ("{ version = \"v3\", trusted = [\"10.0.0.5\"] }", ".version", "v2"),
        ("{ version = \"v2\" }", ".trusted", "required"),
        ("{ trusted = [] }", ".trusted", "at least one"),
        ("{ trusted = [\"0.0.0.0/0\"] }", ".trusted", "everybody"),
        ("{ trusted = [\"::/0\"] }", ".trusted", "everybody"),
        ("{ trusted = [\"10.1.2.3/16\"] }", ".trusted", "write 10.1.0.0/16"),
        ("{ trusted = [\"lb.example.com\"] }", ".trusted", "neither an IP address"),
        ("{ trusted = [\"10.0.0.5\"], from = \"x\" }", ".from", "unknown"),
    ] {
        assert_fault(&proxied(value), 7, &format!("{key}{at}"), part);
    }
    let unix = with(LISTENER, "address = \"/run:6432\"\nproxy_protocol = { trusted = [\"10.0.0.5\"] }\n");
    assert_fault(&unix, 5, key, "for TCP");
}

#[test]
fn routes_and_server_names_belong_together_and_collide_with_none() {
    let routed = |routes: &str, names: &str| {
        with("[[issuer]]", &format!("routes = [{routes}]\n[[issuer]]"))
            .replace("database = \"crm\"", &format!("database = \"crm\"\nserver_names = [{names}]"))
    };
    assert_eq!(parse(LEAST).unwrap().listeners[0].routes, [Route::Database]);
    let all = "\"server-name\", \"user-suffix\", \"database\"";
    let read = parse(&routed(all, "\"CRM.example.com\", \"*.crm.example.com\"")).unwrap();
    assert_eq!(read.listeners[0].routes, [Route::ServerName, Route::UserSuffix, Route::Database]);
    assert_eq!(read.targets[0].server_names, ["crm.example.com", "*.crm.example.com"]);
    assert_eq!(read.warnings.len(), 0);
    let unused = parse(&routed("\"database\"", "\"crm.example.com\"")).unwrap();
    assert!(unused.warnings[0].message.contains("they lead nobody"), "{:?}", unused.warnings);
    assert_fault(&routed("\"server-name\"", ""), 3, "listener[0]", "no [[target]] has server_names");
    assert_fault(&routed("", ""), 7, "listener[0].routes", "at least one");
    assert_fault(&routed("\"servername\"", ""), 7, "listener[0].routes", "did you mean `server-name`?");
    for name in
        ["*", "*.com", "a.*.b", "*x.example.com", "x_y.example.com", "a..b", "-a.b", "10.0.0.1", "a.b."]
    {
        let text = routed(all, &format!("\"{name}\""));
        assert_fault(&text, 21, "target[crm-prod].server_names", "no DNS name");
    }
    assert_fault(
        &routed(all, "\"a.example.com\", \"A.example.com\""),
        21,
        "target[crm-prod].server_names",
        "taken",
    );
    let unix = with(LISTENER, "address = \"/run:6432\"\nroutes = [\"server-name\"]\n");
    assert_fault(&unix, 5, "listener[0].routes", "no server name");
}

#[test]
fn live_sessions_are_told_to_nobody_unless_a_control_socket_is_named() {
    let control = |rest: &str| format!("{LEAST}[control]\n{rest}\n");
    assert_eq!(parse(&control("")).unwrap().control.unwrap().socket, None);
    let named = parse(&control("socket = \"run/control\"")).unwrap().control.unwrap();
    assert_eq!(named.socket.as_deref(), Some(Path::new("/etc/pgturnstile/run/control")));
    let long = control(&format!("socket = \"/{}\"", "d".repeat(107)));
    assert_fault(&long, 23, "control.socket", "108 bytes");
}

#[test]
fn a_socket_in_a_folder_that_is_open_to_everybody_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display();
    let text = with(LISTENER, &format!("address = \"{shown}:6432\"\n"));
    let found = |mode: u32| {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let document = Document::from_text("pgturnstile.toml", &text);
        let found = Config::from_document(&folder.path().join("pgturnstile.toml"), &document, Files::Check);
        let found = found.unwrap_err();
        found
            .iter()
            .find(|fault| fault.key == "listener[0].address")
            .map(|fault| (fault.is_error(), fault.to_string()))
    };
    assert_eq!(found(0o755), None);
    let (error, message) = found(0o775).unwrap();
    assert!(!error && message.contains("by its group"), "{message}");
    for mode in [0o777, 0o1777] {
        let (error, message) = found(mode).unwrap();
        assert!(error && message.contains("everybody"), "{message}");
    }
}

#[test]
fn what_is_not_built_and_unsafe_to_rely_on_is_refused() {
    let auth = with("[[issuer]]", "auth = \"client-certificate\"\n[[issuer]]");
    assert_fault(&auth, 7, "listener[0].auth", "not built yet");
    let matched = with("[[issuer]]", "[[listener.match]]\nauth = \"oauthbearer\"\n[[issuer]]");
    assert_fault(&matched, 7, "listener[0].match", "not built yet");
    let vault = with("{ file = \"secrets/crm_catalog\" }", "{ vault = \"x\" }");
    assert_fault(&vault, 14, "credential.crm-catalog.password.vault", "not built yet");
    let iam = with("{ file = \"secrets/crm_catalog\" }", "{ cloud-sql-iam = true }");
    assert_fault(&iam, 14, "credential.crm-catalog.password.cloud-sql-iam", "not built yet");
}

#[test]
fn a_listener_tells_where_tokens_come_from_by_one_issuer() {
    let bearer = with("[[issuer]]", "auth = \"oauthbearer\"\n[[issuer]]");
    let auth = |text: &str| parse(text).unwrap().listeners[0].auth.clone();
    assert_eq!(auth(&bearer), Auth::OauthBearer { issuer: None, scope: "openid".to_owned() });
    let said =
        bearer.replace("[[issuer]]", "oauth = { issuer = \"corp\", scope = \"openid db\" }\n[[issuer]]");
    let wanted = Auth::OauthBearer { issuer: Some("corp".to_owned()), scope: "openid db".to_owned() };
    assert_eq!(auth(&said), wanted);
    assert_fault(
        &said.replace("\"corp\", scope", "\"crop\", scope"),
        3,
        "listener[0]",
        "did you mean `corp`?",
    );
    let other = "[[issuer]]\nname = \"other\"\nissuer = \"https://other.example\"\naudiences = [\"pgturnstile\"]\n\
                 groups = \"groups\"\n";
    assert_fault(&format!("{bearer}\n{other}"), 3, "listener[0]", "there are several [[issuer]]");
    assert!(parse(&format!("{said}\n{other}")).is_ok());
    let stray = with("[[issuer]]", "oauth = { issuer = \"corp\" }\n[[issuer]]");
    assert_fault(&stray, 7, "listener[0].oauth", "belongs to auth = \"oauthbearer\"");
}

#[test]
fn references_and_duplicates_are_checked() {
    assert_fault(
        &with("control = \"crm-catalog\"", "control = \"crm-catalgo\""),
        21,
        "target[crm-prod].control",
        "did you mean `crm-catalog`?",
    );
    let twice = format!(
        "{LEAST}{}",
        LEAST.split_once("[[target]]").map(|(_, target)| format!("[[target]]{target}")).unwrap()
    );
    assert_fault(&twice, 23, "target[crm-prod].name", "taken already at pgturnstile.toml:17");
    let colliding = with(
        "[[issuer]]",
        "[[listener]]\naddress = \"127.0.0.1:6432\"\ntls = { certificate = \"a\", key = \"b\" }\n[[issuer]]",
    );
    assert_fault(&colliding, 8, "listener[1].address", "collides with 0.0.0.0:6432");
    let issuers = with(
        "[credential",
        "[[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\naudiences = [\"a\"]\n[credential",
    );
    assert_fault(&issuers, 13, "issuer[corp].name", "taken already");
    assert_fault(&issuers, 14, "issuer[corp].issuer", "taken already");
}

#[test]
fn issuers_are_reached_safely_or_not_at_all() {
    assert_fault(
        &with("https://id.example.com", "http://id.example.com"),
        9,
        "issuer[corp].issuer",
        "loopback only",
    );
    assert_fault(
        &with("https://id.example.com", "https://user@id.example.com"),
        9,
        "issuer[corp].issuer",
        "without user name",
    );
    assert_fault(
        &with("https://id.example.com", "http://127.0.0.1.evil.example"),
        9,
        "issuer[corp].issuer",
        "loopback only",
    );
    assert_fault(
        &with("audiences = [\"pgturnstile\"]", "audiences = []"),
        10,
        "issuer[corp].audiences",
        "at least one",
    );
    for (name, part) in [("none", "unsigned"), ("HS256", "shared"), ("ES265", "did you mean \"ES256\"")] {
        let text =
            with("audiences = [\"pgturnstile\"]", &format!("audiences = [\"a\"]\nalgorithms = [\"{name}\"]"));
        assert_fault(&text, 11, "issuer[corp].algorithms", part);
    }
    let local = parse(&with("https://id.example.com", "http://127.0.0.1:9000")).unwrap();
    assert_eq!(local.warnings.len(), 1);
    assert_eq!(local.warnings[0].severity, Severity::Warning);
}

#[test]
fn a_preset_fills_in_what_its_issuer_leaves_out() {
    let preset = |of: &str| with("issuer = \"https://id.example.com\"", of);
    let github = parse(&preset("preset = \"github-actions\"")).unwrap().issuers.remove(0);
    assert_eq!(github.issuer, "https://token.actions.githubusercontent.com");
    assert_eq!((github.algorithms, github.groups), (vec!["RS256".to_owned()], None));
    assert_eq!(github.person.as_deref(), Some("actor_id"));
    assert!(github.keep.iter().any(|claim| claim == "repository_id"));
    let own = "preset = \"github-actions\"\nissuer = \"https://ghe.example.com/_services/token\"\n\
               algorithms = [\"ES256\"]\nperson = \"actor\"\nkeep = []";
    let own = parse(&preset(own)).unwrap().issuers.remove(0);
    assert_eq!(own.issuer, "https://ghe.example.com/_services/token");
    assert_eq!((own.algorithms, own.keep), (vec!["ES256".to_owned()], Vec::new()));
    assert_eq!(own.person.as_deref(), Some("actor"));
    let generic = parse(&preset("preset = \"generic\"\nissuer = \"https://id.example.com\"")).unwrap();
    assert!(generic.issuers[0].preset.is_none());
}

#[test]
fn a_preset_refuses_what_its_tokens_make_unsafe() {
    let preset = |of: &str| with("issuer = \"https://id.example.com\"", of);
    assert_fault(&preset("preset = \"okta\""), 7, "issuer[corp].issuer", "ORGANIZATION.okta.com");
    assert_fault(&preset(""), 7, "issuer[corp].issuer", "must be there");
    assert_fault(&preset("preset = \"octa\""), 9, "issuer[corp].preset", "did you mean");
    let common = "preset = \"entra\"\nissuer = \"https://login.microsoftonline.com/common/v2.0\"";
    assert_fault(&preset(common), 10, "issuer[corp].issuer", "tenants of everybody");
    let default =
        preset("preset = \"github-actions\"").replace("\"pgturnstile\"]", "\"https://github.com/acme\"]");
    assert_fault(&default, 10, "issuer[corp].audiences", "every workflow of that owner");

    let config = parse(&preset("preset = \"github-actions\"")).unwrap();
    let found = |entry: &str| {
        let text = format!(
            "version = 1\n[group.ci]\nany = [{{ issuer = \"corp\", {entry} }}]\n\
             [[access]]\nid = \"a\"\ngroups = [\"ci\"]\ntargets = [\"crm-prod\"]\nlogin = \"crm-catalog\"\n\
             mode = \"read\"\nguards = {{ search_path = [] }}\n"
        );
        let policy =
            Policy::from_text("policy.toml", &text, None).unwrap_or_else(|found| panic!("{found:#?}"));
        lines(&against_policy(&config, policy.model()))
    };
    assert_eq!(found("repository_id = \"4711\", repository = \"acme/crm\""), Vec::<String>::new());
    let [fault] = &found("repository = \"acme/crm\"")[..] else { panic!("one fault") };
    assert!(
        fault.starts_with("policy.toml:2: group.ci: an entry for github-actions tokens must name"),
        "{fault}"
    );
}

#[test]
fn target_addresses_and_modes() {
    let unix =
        parse(&with("address = \"10.20.0.3:5432\"", "address = \"/var/run/postgresql:5433\"").replace(
            "tls = { mode = \"verify-ca\", ca = [\"server-ca.pem\"], name = \"my-project:crm-prod\" }\n",
            "",
        ))
        .unwrap();
    assert_eq!(
        unix.targets[0].address,
        TargetAddress::Unix { directory: "/var/run/postgresql".into(), port: 5433 }
    );
    assert_eq!(unix.targets[0].address.socket().unwrap(), Path::new("/var/run/postgresql/.s.PGSQL.5433"));
    assert_eq!(unix.targets[0].tls, TargetTls::Disable);
    let six = parse(&with("10.20.0.3:5432", "[2001:db8::1]:5432")).unwrap();
    assert_eq!(six.targets[0].address.to_string(), "[2001:db8::1]:5432");
    for wrong in ["10.20.0.3", "db:65536", "a b:5432", "[db]:5432", ":5432", "2001:db8::1:x"] {
        assert_fault(&with("10.20.0.3:5432", wrong), 18, "target[crm-prod].address", "");
    }
    assert_fault(
        &with("\"verify-ca\", ca = [\"server-ca.pem\"]", "\"verify-full\""),
        20,
        "target[crm-prod].tls.ca",
        "required",
    );
    assert_fault(&with("\"verify-ca\"", "\"prefer\""), 20, "target[crm-prod].tls.mode", "is not known");
    assert_fault(&with("\"verify-ca\"", "\"require\""), 20, "target[crm-prod].tls.ca", "would not be used");
    let loose = parse(&with(
        "{ mode = \"verify-ca\", ca = [\"server-ca.pem\"], name = \"my-project:crm-prod\" }",
        "{ mode = \"require\" }",
    ))
    .unwrap();
    assert!(loose.warnings[0].message.contains("any certificate"), "{:?}", loose.warnings);
    let direct = |tls: &str| {
        with("{ mode = \"verify-ca\", ca = [\"server-ca.pem\"], name = \"my-project:crm-prod\" }", tls)
    };
    assert!(parse(&direct("{ mode = \"require\", direct = true }")).unwrap().targets[0].direct_tls);
    let clear = direct("{ mode = \"disable\", direct = true }");
    assert_fault(&clear, 20, "target[crm-prod].tls.direct", "no use without TLS");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let text = format!(
        "{LEAST}[limits]\nlogin_deadline_ms = 1_000\ndial_deadline_ms = 2_000\nheld_bytes_max = 65_536\n"
    );
    assert_fault(&text, 24, "limits.dial_deadline_ms", "covers the dial");
    assert_fault(&text, 22, "limits.statement_bytes_max", "could never be judged");
    let target = format!("{LEAST}statement_bytes_max = 33_554_432\n");
    assert_fault(&target, 22, "target[crm-prod].statement_bytes_max", "raise that too");
}

#[test]
fn a_password_has_exactly_one_source_and_never_stands_in_the_file() {
    let two = with("{ file = \"secrets/crm_catalog\" }", "{ file = \"a\", env = \"B\" }");
    assert_fault(&two, 14, "credential.crm-catalog.password", "exactly one");
    let inline = with("{ file = \"secrets/crm_catalog\" }", "\"hunter2\"");
    let found = parse(&inline).unwrap_err();
    let rendered: String = found.iter().map(Diagnostic::render).collect();
    assert!(
        rendered.contains("must be a table, not a string") && !rendered.contains("hunter2"),
        "{rendered}"
    );
    let none = parse(&with("password = { file = \"secrets/crm_catalog\" }\n", "")).unwrap();
    assert!(none.credentials[0].password.is_none());
}

#[test]
fn the_digest_key_never_lies_inside_the_evidence() {
    let inside = format!("{LEAST}[evidence]\ndigest_key = {{ file = \"evidence/../evidence/k\" }}\n");
    assert_fault(&inside, 23, "evidence.digest_key", "inside the evidence folder");
    let state = format!("{LEAST}[gateway]\nstate_dir = \"evidence/state\"\n");
    assert_fault(&state, 1, "evidence.directory", "inside the evidence folder");
}

#[test]
fn names_of_both_files_must_resolve() {
    let config = parse(LEAST).unwrap();
    let policy = |text: &str| {
        Policy::from_text("policy.toml", text, None).unwrap_or_else(|found| panic!("{found:#?}"))
    };
    let sound = policy(
        "version = 1\n[group.all]\nany = [{ issuer = \"corp\", groups = [\"a\"] }]\n\
         [[access]]\nid = \"a\"\ngroups = [\"all\"]\ntargets = [\"crm-prod\"]\nlogin = \"crm-catalog\"\n\
         mode = \"read\"\nguards = { search_path = [] }\n",
    );
    assert_eq!(lines(&against_policy(&config, sound.model())), Vec::<String>::new());
    let wrong = policy(
        "version = 1\n[group.all]\nany = [{ issuer = \"crop\", groups = [\"a\"] }]\n\
         [[access]]\nid = \"a\"\ngroups = [\"all\"]\ntargets = [\"crm-test\"]\nlogin = \"crm-catalgo\"\n\
         mode = \"read\"\nguards = { search_path = [] }\n",
    );
    let found = lines(&against_policy(&config, wrong.model()));
    let expected = [
        "policy.toml:2: group.all: no [[issuer]] named crop in /etc/pgturnstile/pgturnstile.toml; did you mean `corp`?",
        "policy.toml:5: access[a].login: no [credential.crm-catalgo] in /etc/pgturnstile/pgturnstile.toml; did you mean `crm-catalog`?",
        "policy.toml:5: access[a].targets: can never match",
        "pgturnstile.toml:16: warning: target[crm-prod]: no [[access]] entry",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(expected) {
        assert!(found.starts_with(wanted), "{found} is not {wanted}");
    }
}

#[test]
fn a_hold_that_nobody_can_decide_is_said() {
    let policy = |quorum: u32, approvers: &str, tickets: &str| {
        let text = format!(
            "version = 1\n[group.all]\nany = [{{ issuer = \"corp\", groups = [\"a\"] }}]\n\
             [group.dba]\nany = [{{ issuer = \"{approvers}\", groups = [\"d\"] }}]\n\
             [[access]]\nid = \"a\"\ngroups = [\"all\"]\ntargets = [\"crm-prod\"]\nlogin = \"crm-catalog\"\n\
             mode = \"read\"\nguards = {{ search_path = [] }}\n\
             [[restrict]]\nid = \"r\"\ngroups = [\"all\"]\ntargets = [\"*\"]\nclasses = [\"read\"]\non = [\"*\"]\nthen = \"hold\"\n\
             hold = {{ approvers = [\"dba\"], quorum = {quorum}, ttl_s = 1, in_transaction_ttl_s = 1{tickets} }}\n"
        );
        Policy::from_text("policy.toml", &text, None).unwrap_or_else(|found| panic!("{found:#?}"))
    };
    let other = LEAST.replacen("[[issuer]]", "[[issuer]]\nname = \"other\"\nissuer = \"https://o.example.com\"\naudiences = [\"p\"]\njwks = \"discover\"\n[[issuer]]", 1);
    let with_socket = format!("{other}[control]\nsocket = \"/run/control\"\n");
    let person = format!("{with_socket}[[person]]\ncorp = \"kim\"\nother = \"k\"\n");
    let said = |config: &str, quorum, approvers| {
        let config = parse(config).unwrap_or_else(|found| panic!("{found:#?}"));
        let found = lines(&against_policy(&config, policy(quorum, approvers, "").model()));
        found.into_iter().filter(|line| line.contains("restrict[r].hold")).collect::<Vec<_>>()
    };
    assert!(said(&other, 1, "corp")[0].contains("nobody can decide"));
    assert_eq!(said(&with_socket, 1, "corp"), Vec::<String>::new());
    assert!(said(&with_socket, 1, "other")[0].contains("two must approve"));
    assert_eq!(said(&with_socket, 2, "other"), Vec::<String>::new());
    assert_eq!(said(&person, 1, "other"), Vec::<String>::new());
    // Tickets outlive the gateway: where they are kept is named.
    let tickets = policy(1, "corp", ", ticket_ttl_s = 1");
    let found = |config: &str| against_policy(&parse(config).unwrap(), tickets.model());
    let unnamed: Vec<_> = found(&with_socket).into_iter().filter(Diagnostic::is_error).collect();
    assert!(
        matches!(&unnamed[..], [one] if one.to_string().starts_with("policy.toml:") && one.to_string().contains("state_dir")),
        "{unnamed:#?}"
    );
    assert!(!found(&format!("{with_socket}[gateway]\nstate_dir = \"s\"\n")).iter().any(Diagnostic::is_error));
}

#[test]
fn an_error_of_the_policy_hides_no_name_that_does_not_resolve() {
    let config = parse(LEAST).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    // The class does not exist; neither does the login, and no target has this name.
    let text = "version = 1\n[group.all]\nany = [{ issuer = \"corp\", groups = [\"a\"] }]\n\
         [[access]]\nid = \"a\"\ngroups = [\"all\"]\ntargets = [\"crm-test\"]\nlogin = \"ghost\"\n\
         mode = \"read\"\nguards = { search_path = [] }\n\
         [[permit]]\nid = \"p\"\ngroups = [\"all\"]\ntargets = [\"crm-prod\"]\n\
         classes = [\"raed\"]\non = [\"crm.*\"]\n";
    std::fs::write(&path, text).unwrap();
    assert!(Policy::load(&path).is_err());
    let both = |found: Vec<Diagnostic>| {
        let found = lines(&found);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("access[a].login: no [credential.ghost]"), "{found:#?}");
        assert!(found[1].contains("access[a].targets: can never match"), "{found:#?}");
    };
    both(against_broken_policy(&config, &path));
    // Nor does one of the configuration, unless names that the policy uses may be missing by it.
    let broken = folder.path().join("pgturnstile.toml");
    let credential = "[credential.more]\nuser = \"u\"\npassword = { env = \"MORE\" }\nnothing = 1\n";
    for (line, hidden) in [
        ("[limits]\nnothing = 1\n", false),
        (credential, false),
        ("[credential.more]\nuser = 1\n", true),
        ("[[target]]\nnothing = 1\n", true),
        ("[[tagret]]\nname = \"crm-test\"\n", true),
    ] {
        std::fs::write(&broken, format!("{LEAST}\n{line}")).unwrap();
        let faults = Config::load_with(&broken, Files::Skip).unwrap_err();
        let found = broken_against_policy(&broken, &faults, &path);
        if hidden { assert!(found.is_empty(), "{found:#?}") } else { both(found) }
    }
}

#[test]
fn a_permit_for_groups_without_a_login_is_worth_knowing() {
    let config = parse(LEAST).unwrap();
    let of = |group: &str| {
        let text = format!(
            "version = 1\n[group.in]\nany = [{{ issuer = \"corp\", groups = [\"a\"] }}]\n\
             [group.out]\nany = [{{ issuer = \"corp\", groups = [\"b\"] }}]\n\
             [[access]]\nid = \"a\"\ngroups = [\"in\"]\ntargets = [\"crm-*\"]\nlogin = \"crm-catalog\"\n\
             mode = \"read\"\nguards = {{ search_path = [] }}\n\
             [[permit]]\nid = \"p\"\ngroups = [\"{group}\"]\ntargets = [\"crm-prod\"]\n\
             classes = [\"read.select\"]\non = [\"crm.*\"]\n"
        );
        let policy =
            Policy::from_text("policy.toml", &text, None).unwrap_or_else(|found| panic!("{found:#?}"));
        lines(&against_policy(&config, policy.model()))
    };
    assert_eq!(of("in"), Vec::<String>::new());
    assert_eq!(of("*"), Vec::<String>::new());
    let found = of("out");
    let [found] = found.as_slice() else { panic!("{found:#?}") };
    let wanted = "policy.toml:14: warning: permit[p].groups: no [[access]] entry gives these groups a login";
    assert!(found.starts_with(wanted), "{found}");
}

#[test]
fn named_files_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgturnstile.toml");
    fs::write(&path, LEAST).unwrap();
    let found = lines(&Config::load(&path).unwrap_err());
    for part in [
        "gateway.crt cannot be read",
        "gateway.key cannot be read",
        "crm_catalog cannot be read",
        "server-ca.pem cannot be read",
        "install -d -m 0700",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part} not in {found:#?}");
    }

    // Opening a pipe would wait for who writes into it.
    let pipe = folder.path().join("jwks.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(&path, LEAST.replace("[\"pgturnstile\"]", "[\"pgturnstile\"]\njwks = \"jwks.json\"")).unwrap();
    let found = lines(&Config::load(&path).unwrap_err());
    assert!(found.iter().any(|fault| fault.contains("jwks.json is not a regular file")), "{found:#?}");

    let pair = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    let put = |name: &str, text: &str, mode: u32| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(folder.path().join("secrets")).unwrap();
    put("gateway.crt", &pair.cert.pem(), 0o644);
    put("server-ca.pem", &pair.cert.pem(), 0o644);
    put("gateway.key", &pair.signing_key.serialize_pem(), 0o640);
    put("secrets/crm_catalog", "pw\n", 0o600);
    put("pgturnstile.toml", LEAST, 0o644);
    let evidence = folder.path().join("evidence");
    fs::create_dir(&evidence).unwrap();
    fs::set_permissions(&evidence, fs::Permissions::from_mode(0o777)).unwrap();
    let found = lines(&Config::load(&path).unwrap_err());
    assert!(found.iter().any(|fault| fault.contains("writable by everybody")), "{found:#?}");

    fs::set_permissions(&evidence, fs::Permissions::from_mode(0o700)).unwrap();
    let config = Config::load(&path).unwrap();
    let warnings = lines(&config.warnings);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("gateway.key is open to others (mode 0640)"), "{warnings:?}");

    put("gateway.key", &pair.cert.pem(), 0o600);
    put("gateway.crt", "nothing", 0o600);
    let found = lines(&Config::load(&path).unwrap_err());
    assert!(found.iter().any(|fault| fault.contains("holds no private key")), "{found:#?}");
    assert!(found.iter().any(|fault| fault.contains("holds no certificate")), "{found:#?}");
}

#[test]
fn the_digest_key_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/digest.key");
    let first = load_or_create_digest_key(&path).unwrap();
    let again = load_or_create_digest_key(&path).unwrap();
    assert_eq!(first.expose_secret(), again.expose_secret());
    assert_ne!(first.expose_secret(), &[0; 32]);
    let shown = format!("{first:?}");
    assert!(
        shown.contains("REDACTED") && !shown.contains(&format!("{:?}", &first.expose_secret()[..3])[1..])
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(load_or_create_digest_key(&path), Err(KeyFileError::Open { mode: 0o640, .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for content in ["", "abc", &"g".repeat(64), &"0".repeat(65), &"0".repeat(63)] {
        fs::write(&path, content).unwrap();
        assert!(matches!(load_or_create_digest_key(&path), Err(KeyFileError::Content { .. })), "{content}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "an existing file is never changed");
    }
}

#[test]
fn starts_at_once_agree_on_one_digest_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digest.key");
    let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| *load_or_create_digest_key(&path).unwrap().expose_secret()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn the_printed_reference_is_the_code_s() {
    let rendered = format!("{}{}", SECTIONS_README, reference::markdown());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/README.md");
    let stored = fs::read_to_string(&path).unwrap_or_default();
    if stored != rendered && std::env::var_os("PGTURNSTILE_REGENERATE").is_some() {
        fs::write(&path, &rendered).unwrap();
        return;
    }
    assert!(
        stored == rendered,
        "README.md is stale: PGTURNSTILE_REGENERATE=1 cargo nextest run --release -p pgturnstile reference"
    );
}

#[test]
fn every_described_default_is_within_its_own_bounds() {
    for section in reference::SECTIONS {
        let mut names = BTreeSet::new();
        for key in section.keys {
            assert!(names.insert(key.name), "{} twice in {}", key.name, section.header);
            if let super::Kind::Integer { low, high, default: Some(default) } = key.kind {
                assert!(low <= default && default <= high, "{} of {}", key.name, section.header);
            }
        }
    }
}

proptest::proptest! {
    /// The example with one line dropped, repeated, or one of its words replaced: read or refused, never a panic, and a
    /// refusal always has an error with a line.
    #[test]
    fn a_damaged_file_is_refused_with_a_place(line in 0_usize..80, damage in 0_usize..4, word in "[a-z0-9_\"\\[\\]{}=.-]{0,8}") {
        let mut lines: Vec<String> = LEAST.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        match damage {
            0 => drop(lines.remove(line)),
            1 => lines.insert(line, lines[line].clone()),
            2 => lines[line].push_str(&word),
            _ => lines[line] = word.clone(),
        }
        if let Err(found) = parse(&lines.join("\n")) {
            proptest::prop_assert!(found.iter().any(|fault| fault.is_error() && fault.line > 0), "{found:?}");
            proptest::prop_assert!(found.iter().all(|fault| !fault.message.contains('\n')), "{found:?}");
        }
    }
}
