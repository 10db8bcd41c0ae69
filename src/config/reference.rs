//! Every key of pgturnstile.toml, and the reference rendered from it.
//!
//! Owns the descriptions only; reading is done by the modules beside it, through `keys`. The tables in this
//! folder's README are [`markdown`]'s output, and a test keeps them so.

use std::fmt::Write as _;

use super::keys::{Absent, Key, Kind, Section, State};
use super::preset;

mod evidence;
mod holds;
pub use evidence::{DIGEST_KEY, EVIDENCE, HEAD, SEALING_KEY, SIGNING_KEY};
pub use holds::{HOLDS, PERSON};

/// A key that is built.
const fn key(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, state: State::Built, meaning }
}

/// A key whose machinery is missing and whose presence is refused.
const fn refused(name: &'static str, kind: Kind, why: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, state: State::Refused(why), meaning }
}

const fn integer(low: u64, high: u64, default: u64) -> Kind {
    Kind::Integer { low, high, default: Some(default) }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The top of the file.
pub const ROOT: Section = Section {
    header: "top of the file",
    meaning: "The sections below; `version` comes first.",
    keys: &[
        key(
            "version",
            Kind::Integer { low: 1, high: 1, default: None },
            "Version of this file's format: 1. It must be there.",
        ),
        key("gateway", Kind::Table(Absent::Optional), "The process."),
        key("listener", Kind::Table(Absent::Required), "Where clients connect; at least one."),
        key(
            "control",
            Kind::Table(Absent::Optional),
            "Health and metrics; without it nothing listens there.",
        ),
        key(
            "limits",
            Kind::Table(Absent::Optional),
            "Bounds of everything a peer can make the gateway hold or wait for.",
        ),
        key(
            "issuer",
            Kind::Table(Absent::Required),
            "Identity providers whose tokens are accepted; at least one.",
        ),
        key("holds", Kind::Table(Absent::Optional), "Statements that wait for people."),
        key("person", Kind::Table(Absent::Optional), "The same human under several issuers."),
        key(
            "credential",
            Kind::Table(Absent::Required),
            "Logins at targets; at least the control credential of each target.",
        ),
        key("target", Kind::Table(Absent::Required), "Databases behind the gateway; at least one."),
        key("evidence", Kind::Table(Absent::Optional), "The chained record of everything."),
    ],
};

/// `[gateway]`.
pub const GATEWAY: Section = Section {
    header: "[gateway]",
    meaning: "The process.",
    keys: &[
        key("policy", Kind::Path(Absent::Default("policy.toml")), "The policy file."),
        key(
            "policy_signers",
            Kind::Strings(Absent::Optional),
            "Public keys, as `pgturnstile evidence new-key` prints them, of who may vouch for the policy. Where any is named, a policy comes into force only with their signatures (`pgturnstile policy sign`), and the evidence says whose; otherwise it says \"unattributed\". Changing it takes a restart.",
        ),
        key("policy_signatures_min", integer(1, 16, 1), "How many of `policy_signers` must have signed."),
        key(
            "state_dir",
            Kind::Path(Absent::Default("state")),
            "Folder of the gateway's own state; created with mode 0700 at the first start. Must not be the evidence folder or lie inside it.",
        ),
        key("shards", integer(0, 1024, 0), "Session threads; 0 means one per core, less one."),
        key("drain_deadline_s", integer(0, 86_400, 30), "How long sessions may go on after SIGTERM."),
    ],
};

/// `[[listener]]`.
pub const LISTENER: Section = Section {
    header: "[[listener]]",
    meaning: "Where clients connect. A token is never asked for outside TLS, but on a Unix socket, which no network carries: TCP needs `tls`, a Unix socket has none.",
    keys: &[
        key(
            "address",
            Kind::Text(Absent::Required),
            "`ADDRESS:PORT`, an IP address (`[::]:6432` for IPv6), or `/DIRECTORY:PORT` for the Unix socket `/DIRECTORY/.s.PGSQL.PORT`. The directory must not be open to everybody; abstract sockets are refused.",
        ),
        key("tls", Kind::Table(Absent::Optional), "Its certificate and key, see below; required for TCP."),
        key(
            "socket",
            Kind::Table(Absent::Optional),
            "Who may connect to the Unix socket, see below; the gateway's own user when absent.",
        ),
        key(
            "proxy_protocol",
            Kind::Table(Absent::Optional),
            "The listener is reached through load balancers only, which say whose each connection is, see below. TCP only. Absent: a PROXY header is refused like any other bytes that are no startup packet.",
        ),
        key(
            "auth",
            Kind::Word {
                words: &["token-password", "oauthbearer", "client-certificate"],
                default: Some("token-password"),
            },
            "`token-password`: an OIDC token in the password field, which every driver can send. `oauthbearer`: the same token by SASL (RFC 7628), as libpq 18 and pgx 5.9 send it. A listener has one of them, as drivers expect of a server. `client-certificate` is not built yet and refused.",
        ),
        key(
            "oauth",
            Kind::Table(Absent::Optional),
            "What a client without a token is told, see below; with `oauthbearer` only.",
        ),
        key(
            "routes",
            Kind::Strings(Absent::Default("database")),
            "What names a session's target: `database` (the target's name as the database), `server-name` (of the TLS handshake, by `server_names` of the target), `user-suffix` (`USER@TARGET`; a user that holds an `@` for another reason is refused then). Names that lead to different targets are refused. Where another way names the target, the database may be absent, the target's name or its own database.",
        ),
        refused(
            "match",
            Kind::Table(Absent::Optional),
            "choosing `auth` by match is not built yet and would not be applied; give each way to authenticate its own listener",
            "Another `auth` for some clients.",
        ),
    ],
};

/// `listener.tls`.
pub const LISTENER_TLS: Section = Section {
    header: "listener.tls",
    meaning: "The listener's side of TLS 1.2 and 1.3.",
    keys: &[
        key("certificate", Kind::Path(Absent::Required), "Certificate chain in PEM, own certificate first."),
        key("key", Kind::Path(Absent::Required), "Private key in PEM, readable by the gateway's user only."),
        key(
            "required",
            Kind::Boolean { default: true },
            "Must stay true: a token is asked for inside TLS only.",
        ),
        key(
            "direct",
            Kind::Boolean { default: false },
            "Also takes TLS without SSLRequest (libpq's `sslnegotiation=direct`), with ALPN `postgresql`; otherwise such clients are refused.",
        ),
    ],
};

/// `listener.oauth`.
pub const LISTENER_OAUTH: Section = Section {
    header: "listener.oauth",
    meaning: "A client that comes without a token, or with one that is not believed, is told where tokens come from: the discovery document of an issuer, and a scope (RFC 7628, section 3.2.2). libpq takes an `https` document only.",
    keys: &[
        key(
            "issuer",
            Kind::Text(Absent::Optional),
            "Name of the `[[issuer]]` that it is sent to. Required where there are several; tokens of the others are taken all the same.",
        ),
        key(
            "scope",
            Kind::Text(Absent::Default("openid")),
            "The scope that it is to ask for, words with a space between.",
        ),
    ],
};

/// `listener.proxy_protocol`.
pub const PROXY_PROTOCOL: Section = Section {
    header: "listener.proxy_protocol",
    meaning: "Every connection begins with a header of the PROXY protocol, in clear, before TLS. Its address is what limits, evidence and log go by, the balancer's beside it. It is believed for what it is: the word of whoever may connect from these addresses.",
    keys: &[
        key(
            "version",
            Kind::Word { words: &["v2", "v1"], default: Some("v2") },
            "`v2`. `v1`, a line of text without length or checksum, is refused.",
        ),
        key(
            "trusted",
            Kind::Strings(Absent::Required),
            "Addresses and networks (`10.1.0.0/16`) of the balancers; any other peer is refused, with a header or without.",
        ),
    ],
};

/// `listener.socket`.
pub const LISTENER_SOCKET: Section = Section {
    header: "listener.socket",
    meaning: "The Unix socket's file. Whoever may write to it may connect, and then still needs a token. A socket that the service manager hands over must not be more open than this.",
    keys: &[
        key("mode", Kind::Text(Absent::Default("0600")), "Its permission bits, octal, in quotes."),
        key(
            "group",
            Kind::Text(Absent::Optional),
            "The group that owns it, a name of /etc/group or a number; the gateway must be in it.",
        ),
    ],
};

/// `[control]`.
pub const CONTROL: Section = Section {
    header: "[control]",
    meaning: "The admin listener, HTTP/1.1: `/live`, `/ready` (503 names what is missing) and `/metrics`. Absent: it does not listen.",
    keys: &[
        key(
            "address",
            Kind::Text(Absent::Default("127.0.0.1:6480")),
            "`ADDRESS:PORT`, an IP address. Whoever reaches it may read: without `tls` it must be loopback.",
        ),
        key("metrics", Kind::Boolean { default: true }, "Whether `/metrics` is offered."),
        key(
            "socket",
            Kind::Path(Absent::Optional),
            "The control socket, a Unix socket of mode 0600: the same pages for the gateway's own user and root, and `/sessions`, which `pgturnstile top` shows. Absent: nobody is told of live sessions.",
        ),
        key(
            "tls",
            Kind::Table(Absent::Optional),
            "`certificate` and `key` as in `listener.tls`: HTTPS, mandatory where the address is not loopback.",
        ),
    ],
};

/// `control.tls`.
pub const CONTROL_TLS: Section = Section {
    header: "control.tls",
    meaning: "The admin listener's side of TLS 1.2 and 1.3.",
    keys: &[
        key("certificate", Kind::Path(Absent::Required), "Certificate chain in PEM, own certificate first."),
        key("key", Kind::Path(Absent::Required), "Private key in PEM, readable by the gateway's user only."),
    ],
};

/// `[limits]`.
pub const LIMITS: Section = Section {
    header: "[limits]",
    meaning: "Bounds of everything a peer can make the gateway hold or wait for. COPY data streams: a message of it may be as long as \
              the server takes, 1 GiB.",
    keys: &[
        key("connections_max", integer(1, 1_000_000, 5_000), "Client connections of the whole gateway."),
        key(
            "connections_per_address_max",
            integer(1, 1_000_000, 200),
            "Client connections from one address.",
        ),
        key(
            "login_deadline_ms",
            integer(100, 600_000, 10_000),
            "From accept to ReadyForQuery, the target's login included.",
        ),
        key(
            "dial_deadline_ms",
            integer(100, 600_000, 8_000),
            "From connect to the target's first ReadyForQuery.",
        ),
        key("token_bytes_max", integer(256, MIB, 65_536), "Longest token."),
        key(
            "statement_bytes_max",
            integer(1_024, 64 * MIB, 262_144),
            "Longest SQL text; a target may set its own.",
        ),
        key(
            "row_bytes_max",
            integer(8_192, GIB, 64 * MIB),
            "Longest row of a result or of COPY TO STDOUT, and from 1 MiB on longest error or notice; a longer one ends the session.",
        ),
        key(
            "held_bytes_max",
            integer(65_536, GIB, 16 * MIB),
            "Most bytes of a session that wait for a verdict or for the evidence.",
        ),
        key("keepalive_s", integer(10, 7_200, 60), "Silence after which TCP keepalive probes a peer."),
    ],
};

/// `[[issuer]]`.
pub const ISSUER: Section = Section {
    header: "[[issuer]]",
    meaning: "An identity provider whose tokens are accepted.",
    keys: &[
        key("name", Kind::Text(Absent::Required), "The name that the policy uses; unique."),
        key(
            "issuer",
            Kind::Text(Absent::Optional),
            "The `iss` claim, byte for byte; unique. https, or http on loopback for development. Required, unless the preset has one.",
        ),
        key(
            "preset",
            Kind::Word { words: preset::WORDS, default: Some("generic") },
            "A known provider: it stands in for `issuer`, `algorithms`, `groups`, `person` and `keep` where they are absent, and refuses \
             audiences and groups that its tokens make unsafe.",
        ),
        key("audiences", Kind::Strings(Absent::Required), "Audiences of ours; a token names at least one."),
        key(
            "trusted_audiences",
            Kind::Strings(Absent::Optional),
            "Audiences that a token may name beside ours; any other is refused.",
        ),
        key(
            "authorized_parties",
            Kind::Strings(Absent::Optional),
            "Accepted `azp` claims. A token with several audiences needs one of them.",
        ),
        key(
            "jwks",
            Kind::Text(Absent::Default("discover")),
            "Where the keys are: `discover` (OpenID Connect Discovery), an https URL (http on loopback only), or a file.",
        ),
        key(
            "ca",
            Kind::Paths(Absent::Optional),
            "Certificate authorities of the provider's HTTPS server in PEM; the public roots when absent.",
        ),
        key(
            "algorithms",
            Kind::Strings(Absent::Default("RS256, ES256")),
            "Accepted signature algorithms, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.",
        ),
        key(
            "types",
            Kind::Strings(Absent::Default("jwt")),
            "Accepted `typ` headers beside an absent one; with `at+jwt` also RFC 9068 access tokens.",
        ),
        key("clock_skew_s", integer(0, 300, 30), "Tolerance for clocks that differ."),
        key(
            "token_age_s_max",
            integer(60, 604_800, 86_400),
            "Oldest token that opens a session, since `iat`.",
        ),
        key(
            "groups",
            Kind::Text(Absent::Optional),
            "Claim path of the group list; missing or overflowing means refused where a rule needs it.",
        ),
        key("person", Kind::Text(Absent::Optional), "Claim path of the person behind the token."),
        key(
            "keep",
            Kind::Strings(Absent::Optional),
            "Claim paths copied into the evidence as verified claims.",
        ),
    ],
};

/// `[credential.NAME]`.
pub const CREDENTIAL: Section = Section {
    header: "[credential.NAME]",
    meaning: "A login at a target. Clients never see it.",
    keys: &[
        key("user", Kind::Text(Absent::Required), "The role that logs in; at most 63 bytes."),
        key(
            "password",
            Kind::Table(Absent::Optional),
            "Where the password comes from, see below; absent where the target asks for none.",
        ),
        key(
            "certificate",
            Kind::Path(Absent::Optional),
            "Certificate chain in PEM, own certificate first, shown inside TLS to a target that asks for one. Read at each login.",
        ),
        key(
            "key",
            Kind::Path(Absent::Optional),
            "Its private key in PEM, mode 0600, or 0640 where root owns it, as libpq demands.",
        ),
    ],
};

/// `credential.NAME.password`.
pub const PASSWORD: Section = Section {
    header: "credential.NAME.password",
    meaning: "Exactly one source. The password itself never stands in this file.",
    keys: &[
        key("file", Kind::Path(Absent::Optional), "A file; one trailing line end is dropped."),
        key("env", Kind::Text(Absent::Optional), "An environment variable of the gateway."),
        key(
            "command",
            Kind::Strings(Absent::Optional),
            "A program with its arguments, no shell; the first line it prints.",
        ),
        key("timeout_ms", integer(100, 60_000, 5_000), "How long `command` may run."),
        refused(
            "gcp-secret",
            Kind::Text(Absent::Optional),
            "GCP Secret Manager is not built yet; use `command` with the provider's own tool, or a file",
            "A secret version of GCP Secret Manager.",
        ),
        refused(
            "vault",
            Kind::Text(Absent::Optional),
            "Vault is not built yet; use `command`, or the file of a Vault agent",
            "A secret of HashiCorp Vault.",
        ),
        refused(
            "cloud-sql-iam",
            Kind::Boolean { default: false },
            "Cloud SQL IAM logins are not built yet; use a password",
            "An IAM login at Cloud SQL.",
        ),
    ],
};

/// `[[target]]`.
pub const TARGET: Section = Section {
    header: "[[target]]",
    meaning: "A database behind the gateway. Clients name it as their database.",
    keys: &[
        key("name", Kind::Text(Absent::Required), "The name that clients and the policy use; unique."),
        key(
            "address",
            Kind::Text(Absent::Required),
            "`HOST:PORT`, or `/DIRECTORY:PORT` for the Unix socket `/DIRECTORY/.s.PGSQL.PORT`.",
        ),
        key("database", Kind::Text(Absent::Required), "The database there; at most 63 bytes."),
        key(
            "server_names",
            Kind::Strings(Absent::Optional),
            "DNS names that lead here on listeners that route by `server-name`; `*.db.example.com` stands for one label. An exact name comes before a wildcard. The listener's certificate must carry them.",
        ),
        key(
            "tls",
            Kind::Table(Absent::Optional),
            "How the connection is protected, see below; required for TCP.",
        ),
        key(
            "max_protocol_version",
            Kind::Word { words: &["3.0", "3.2"], default: Some("3.2") },
            "The newest protocol version to ask for, as libpq's key. Servers before 18 step down to 3.0 by themselves; what refuses 3.2 instead is asked for 3.0 by itself, and `3.0` spares that attempt.",
        ),
        key(
            "control",
            Kind::Text(Absent::Required),
            "Name of the credential that reads the catalog snapshot.",
        ),
        key(
            "sessions_max",
            integer(1, 100_000, 80),
            "Sessions opened there at a time; beyond it 53300. One more connection is the gateway's own.",
        ),
        key(
            "statement_bytes_max",
            Kind::Integer { low: 1_024, high: 64 * MIB, default: None },
            "Longest SQL text for this target; the value of `limits` when absent.",
        ),
    ],
};

/// `target.tls`.
pub const TARGET_TLS: Section = Section {
    header: "target.tls",
    meaning: "The target's side. There is no mode that falls back.",
    keys: &[
        key(
            "mode",
            Kind::Word { words: &["disable", "require", "verify-ca", "verify-full"], default: None },
            "As libpq's sslmode. `require` accepts any certificate and protects against listening only.",
        ),
        key(
            "ca",
            Kind::Paths(Absent::Optional),
            "Certificate authorities in PEM; required with verify-ca and verify-full.",
        ),
        key(
            "name",
            Kind::Text(Absent::Optional),
            "With verify-ca: the exact name in the certificate (Cloud SQL's `project:instance`). With verify-full: the host name to expect, where it differs from the address.",
        ),
        key(
            "direct",
            Kind::Boolean { default: false },
            "TLS from the first byte, without SSLRequest (libpq's `sslnegotiation=direct`), with ALPN `postgresql`: saves a round trip. PostgreSQL 17 or later; never tried by itself, and never given up for SSLRequest.",
        ),
    ],
};

/// All sections, in the order of the reference.
pub const SECTIONS: [&Section; 22] = [
    &ROOT,
    &GATEWAY,
    &LISTENER,
    &LISTENER_TLS,
    &LISTENER_OAUTH,
    &LISTENER_SOCKET,
    &PROXY_PROTOCOL,
    &CONTROL,
    &CONTROL_TLS,
    &LIMITS,
    &HOLDS,
    &ISSUER,
    &PERSON,
    &CREDENTIAL,
    &PASSWORD,
    &TARGET,
    &TARGET_TLS,
    &EVIDENCE,
    &SIGNING_KEY,
    &SEALING_KEY,
    &HEAD,
    &DIGEST_KEY,
];

/// The reference as Markdown tables.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::new();
    for section in SECTIONS {
        // Writing to a String cannot fail.
        let _ = write!(page, "### {}\n\n{}\n\n", section.header, section.meaning);
        if section.keys.is_empty() {
            continue;
        }
        page.push_str("| key | value | when absent | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let (value, absent) = describe(&key.kind);
            // What is refused is never required, whatever it will hold.
            let absent = if matches!(key.state, State::Refused(_)) { "–".to_owned() } else { absent };
            let built = match key.state {
                State::Built => "",
                State::Refused(_) => " **Not built yet: refused.**",
            };
            let _ = writeln!(page, "| `{}` | {value} | {absent} | {}{built} |", key.name, key.meaning);
        }
        page.push('\n');
    }
    page
}

fn describe(kind: &Kind) -> (String, String) {
    let absent = |absent: &Absent| match absent {
        Absent::Required => "required".to_owned(),
        Absent::Optional => "–".to_owned(),
        Absent::Default(default) => format!("`{default}`"),
    };
    match kind {
        Kind::Integer { low, high, default } => {
            (format!("{} to {}", grouped(*low), grouped(*high)), default.map_or("–".to_owned(), grouped))
        }
        Kind::Boolean { default } => ("true or false".to_owned(), default.to_string()),
        Kind::Text(default) => ("string".to_owned(), absent(default)),
        Kind::Path(default) => ("path".to_owned(), absent(default)),
        Kind::Word { words, default } => (
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            default.map_or("required".to_owned(), |word| format!("`{word}`")),
        ),
        Kind::Strings(default) => ("array of strings".to_owned(), absent(default)),
        Kind::Paths(default) => ("array of paths".to_owned(), absent(default)),
        Kind::Table(default) => ("table".to_owned(), absent(default)),
    }
}

/// 10000 as `10_000`, the way TOML lets operators write it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}
