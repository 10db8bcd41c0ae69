//! Files of record version 1, as they were written once: they must read the same for ever, and what is written today must
//! be byte for byte the same.
//!
//! `PGTURNSTILE_WRITE_GOLDEN=1` writes them; that is right only while a version is not published.

use std::fs;
use std::path::{Path, PathBuf};

use super::directory::check;
use super::samples;
use crate::evidence::chain::Chain;
use crate::evidence::describe::describe;
use crate::evidence::format::{self, SegmentHeader, Trailer};
use crate::evidence::read::segment_name;
use crate::evidence::record::v1::*;
use crate::evidence::record::{self, Entry, How, Kind, Stamp};
use crate::evidence::verify::verify;

fn golden() -> PathBuf {
    folder("evidence_v1")
}

/// A folder of golden files.
pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Holds a golden file to what is made today.
pub(super) fn same(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    if std::env::var_os("PGTURNSTILE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(folder).unwrap();
        fs::write(&path, content).unwrap();
    }
    let found = fs::read(&path).unwrap_or_default();
    assert!(found == content, "{name} is not what is written today: a published version was changed");
}

/// Records of one run, each statement right behind its judged text, with every kind, every optional part once present and once absent.
pub(super) struct Script {
    pub(super) chain: Chain,
    pub(super) content: Vec<u8>,
    pub(super) stamp: Stamp,
    pub(super) kinds: Vec<Kind>,
}

impl Script {
    /// Begins a segment.
    pub(super) fn begin(header: &SegmentHeader) -> Script {
        let bytes = header.encode();
        let (_, hash) = SegmentHeader::parse(&bytes).unwrap();
        let stamp = Stamp {
            lane: 1,
            stream: [0; 16],
            stream_sequence: 0,
            wall_ns: header.created_ns,
            monotonic_ns: 0,
        };
        let chain = Chain::new(hash, header.first_sequence);
        Script { chain, content: bytes.to_vec(), stamp, kinds: Vec::new() }
    }

    pub(super) fn put(&mut self, stream: u8, number: u64, entry: &Entry<'_>, how: How) {
        self.put_judged(stream, number, entry, how, number.saturating_sub(1));
    }

    /// The same; a statement points to the judged text `judged`.
    pub(super) fn put_judged(&mut self, stream: u8, number: u64, entry: &Entry<'_>, how: How, judged: u64) {
        self.kinds.push(entry.kind());
        self.stamp.stream = [stream; 16];
        self.stamp.stream_sequence = number;
        self.stamp.wall_ns += 1_000_000;
        self.stamp.monotonic_ns += 1_000_000;
        let mut record = entry.encode(&self.stamp, how, judged).unwrap();
        format::set_sequence(&mut record, self.chain.next_sequence());
        self.chain.push(&format::carried_hash(&record));
        self.content.extend_from_slice(&record);
    }

    /// A statement of session 3, with its judged text before it.
    fn statement(&mut self, number: u64, entry: &Entry<'_>) {
        let Entry::Statement(statement) = entry else { panic!("{entry:?} is no statement") };
        self.put(3, number, &Entry::JudgedText(statement.shared()), How::QUEUED);
        self.put(3, number + 1, entry, How::GATED);
    }

    pub(super) fn seal(&mut self) {
        let seal = self.chain.seal(0);
        self.content.extend_from_slice(&format::encode_seal(&seal));
        self.chain.advance(&seal);
    }

    /// The content of a whole log of one segment, which ends here.
    pub(super) fn closed(mut self) -> Vec<u8> {
        let trailer = Trailer {
            first_sequence: 0,
            count: self.chain.next_sequence(),
            closed_ns: header().created_ns + 1,
            value: self.chain.value(),
        };
        self.content.extend_from_slice(&trailer.encode().0);
        self.content
    }
}

pub(super) fn gateway(script: &mut Script) {
    script.put(
        1,
        0,
        &Entry::GatewayStarted(GatewayStarted {
            version: "0.1.0",
            binary_hash: [11; 32],
            configuration_hash: [12; 32],
            policy_hash: [13; 32],
            key_id: "0f0f",
            host: "gateway-1",
            process: 4711,
            shards: 2,
        }),
        How::GATED,
    );
    script.put(
        1,
        1,
        &Entry::Recovered(Recovered {
            segment: 3,
            offset: 4096,
            bytes_cut: 77,
            next_sequence: 12,
            unsealed_kept: 1,
            flaw: "torn",
        }),
        How::GATED,
    );
    script.put(
        1,
        2,
        &Entry::DocumentLoaded(DocumentLoaded {
            document: Document::Policy,
            in_force: true,
            old_hash: None,
            new_hash: Some([14; 32]),
            by: "unattributed",
            detail: "policy.toml",
        }),
        How::GATED,
    );
    script.put(
        1,
        3,
        &Entry::DocumentLoaded(DocumentLoaded {
            document: Document::Configuration,
            in_force: false,
            old_hash: Some([14; 32]),
            new_hash: None,
            by: "unattributed",
            detail: "line 3: unknown key",
        }),
        How::GATED,
    );
    script.seal();
}

fn denied(script: &mut Script) {
    script.put(2, 0, &samples::opened(), How::QUEUED);
    script.put(
        2,
        1,
        &Entry::Proxied(Proxied { proxy: "10.0.0.5:3331", destination: "203.0.113.9:5432" }),
        How::QUEUED,
    );
    script.put(
        2,
        2,
        &Entry::Routed(Routed {
            target: "crm-prod",
            by: &[Text { text: "server-name" }, Text { text: "database" }],
            server_name: Some("crm.db.example.com"),
            user: "kim",
            database: None,
        }),
        How::QUEUED,
    );
    script.put(
        2,
        3,
        &Entry::AuthenticationDenied(AuthenticationDenied {
            method: "token-password",
            told: "the token has expired",
            reason: "exp 1 is before now 2",
            sqlstate: "28000",
            claimed_user: "kim",
            claimed_database: "crm",
            token_thumbprint: Some("aa"),
        }),
        How::QUEUED,
    );
    script.put(
        2,
        4,
        &Entry::ProtocolViolation(ProtocolViolation {
            side: "frontend",
            what: "Query: length 3 is below 4",
            offset: 1,
        }),
        How::QUEUED,
    );
    let totals = Totals::default();
    script.put(
        2,
        5,
        &Entry::SessionClosed(SessionClosed { reason: "denied", by: "client", totals: &totals }),
        How::QUEUED,
    );
}

pub(super) fn login(script: &mut Script) {
    script.put(3, 0, &samples::opened(), How::GATED);
    script.put(
        3,
        1,
        &Entry::Authenticated(Authenticated {
            method: "token-password",
            issuer: "corp",
            issuer_url: "https://id.example.com",
            subject: "u-17",
            person: Some("kim@example.com"),
            groups_known: true,
            groups: &[Text { text: "analysts" }, Text { text: "dba" }],
            claims: &[Claim { path: "email", json: "\"kim@example.com\"" }],
            token_thumbprint: "00112233445566778899aabbccddeeff",
            token_id: None,
            issued_at_s: 1_795_000_000,
            expires_at_s: 1_795_003_600,
        }),
        How::GATED,
    );
    script.put(
        3,
        2,
        &Entry::TargetChosen(TargetChosen {
            target: "crm-prod",
            endpoint: "10.20.0.3:5432",
            database: "crm",
            tls: "TLSv1.3 verify-full",
            access: "analysts",
            login: "crm-reader",
            user: "crm_reader",
            mode: "read",
            durability: "gated",
            search_path: &[Text { text: "crm" }, Text { text: "mart" }],
            server_version: "15.20",
            application_name: "psql pgturnstile:03030303",
            backend_process: 99,
            policy_hash: [13; 32],
            catalog_epoch: 5,
        }),
        How::GATED,
    );
}

fn statements(script: &mut Script) {
    let facts = vec![Facts {
        class: "write.delete".into(),
        tag: "DELETE".into(),
        relations: vec![Relation {
            name: "crm.customers".into(),
            access: "write.delete".into(),
            what: "table".into(),
            blind: true,
        }],
        functions: vec!["crm.f".into()],
        acts: vec!["session.lock crm.customers".into()],
        settings: vec!["set search_path".into()],
        unproven: Some("it writes".into()),
    }];
    script.statement(3, &samples::statement(&samples::facts()));
    script.put(3, 5, &samples::result(), How::QUEUED.answering(4));
    script.statement(
        6,
        &Entry::Statement(Statement {
            protocol: Protocol::Execute,
            name: "s1",
            portal: "p1",
            text: TextHeld::Withheld("syntax error"),
            text_bytes: 9,
            text_commitment: [8; 32],
            parameters: 2,
            parameter_digest: Some([6; 32]),
            facts: &facts,
            action: Action::Refuse,
            rule: "any.blind-write",
            policy_hash: [13; 32],
            catalog_epoch: 5,
        }),
    );
    script.put(
        3,
        8,
        &Entry::Refusal(Refusal {
            sqlstate: "42501",
            rule: "any.blind-write",
            message: "refused",
            how: "local",
        }),
        How::QUEUED.answering(7),
    );
}

fn session_end(script: &mut Script) {
    let counts = [
        MaskCount { place: "column 2".into(), by: "detector card".into(), count: 3 },
        MaskCount { place: "error".into(), by: "detector email".into(), count: 1 },
    ];
    script.put(3, 9, &Entry::Masked(Masked { counts: &counts }), How::QUEUED.belonging_to(7));
    script.put(
        3,
        10,
        &Entry::CancelRequested(CancelRequested { peer: "192.0.2.9:1", outcome: "idle" }),
        How::QUEUED,
    );
    script.put(
        3,
        11,
        &Entry::SettingMoved(SettingMoved { name: "role", expected: "none", seen: "dba", how: "re-read" }),
        How::QUEUED,
    );
    let totals = Totals { statements: 2, refused: 1, rows: 1, client_bytes: 100, server_bytes: 200 };
    script.put(
        3,
        12,
        &Entry::SessionClosed(SessionClosed {
            reason: "a guarded setting moved",
            by: "client",
            totals: &totals,
        }),
        How::QUEUED,
    );
    script.put(1, 4, &Entry::GatewayStopped(GatewayStopped { reason: "signal" }), How::GATED);
    script.seal();
}

/// The header of a log's first golden segment.
pub(super) fn header() -> SegmentHeader {
    SegmentHeader {
        log_id: [7; 16],
        index: 0,
        first_sequence: 0,
        previous: [0; 32],
        created_ns: 1_795_000_000_000_000_000,
        segment_bytes: 1 << 20,
        binary_hash: [11; 32],
        configuration_hash: [12; 32],
        key_id: [15; 16],
    }
}

/// The golden segment, made anew.
fn made() -> Vec<u8> {
    let mut script = Script::begin(&header());
    gateway(&mut script);
    denied(&mut script);
    login(&mut script);
    statements(&mut script);
    session_end(&mut script);
    // What came with the checkpoints, with the capture of rows, with sealed originals, with holds and with tickets, has golden files of its own.
    let later = |kind: &Kind| matches!(kind.code(), 5..=7 | 31..=50);
    let made = |kind: &&Kind| script.kinds.contains(kind) || later(kind);
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !made(kind)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in the golden file");
    script.closed()
}

#[test]
fn version_1_is_written_byte_for_byte_as_it_was_published() {
    same(&golden(), &segment_name(0), &made());
}

#[test]
fn version_1_reads_as_it_was_published() {
    let report = check(&golden());
    assert_eq!(report.bad, None);
    assert_eq!((report.sessions_closed, report.records), (2, 24));
    same(&golden(), "records.txt", told(&golden()).as_bytes());
}

/// Every record of a directory, as the reader tells it.
pub(super) fn told(directory: &Path) -> String {
    let mut told = String::new();
    verify(directory, &mut |_, _| {}, &mut |position, record| {
        let (kind, payload) = record::payload(record).unwrap();
        told.push_str(&format!("{position:?} {} {:?}\n", kind.name(), record.header()));
        for (name, value) in describe(&payload) {
            told.push_str(&format!("    {name}: {value:?}\n"));
        }
    })
    .unwrap();
    told
}

/// README decision 17: the reader's half needs std, blake3, rkyv and pure code for signatures alone.
#[test]
fn the_reader_needs_no_runtime_no_tls_and_no_parser() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/evidence");
    let reader = [
        "ahead",
        "chain",
        "checkpoint",
        "delivered",
        "describe",
        "diagnose",
        "format",
        "limits",
        "note",
        "read",
        "record/anchored",
        "record/captured",
        "record/mod",
        "record/sealed",
        "record/v1",
        "signed",
        "streams",
        "value",
        "verify",
    ];
    for module in reader {
        let text = fs::read_to_string(folder.join(format!("{module}.rs"))).unwrap();
        for line in text
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("use ") || line.starts_with("pub use "))
        {
            let path = line.split("use ").nth(1).unwrap();
            let root = path.split("::").next().unwrap();
            let allowed = match root {
                "std" | "core" | "blake3" | "rkyv" | "ed25519_dalek" | "sha2" | "base64" | "zeroize" => true,
                // Of their tests.
                "proptest" => true,
                "super" | "crate" => {
                    let rest = path.trim_start_matches("super::").trim_start_matches("crate::evidence::");
                    let first = rest.split(['{', ':', ';']).find(|part| !part.is_empty()).unwrap();
                    ["record", "anchored", "captured", "sealed", "held", "ticket", "super", "*"]
                        .contains(&first)
                        || reader.contains(&first)
                }
                _ => false,
            };
            assert!(allowed, "{module}.rs: {line}");
        }
        for word in ["tokio", "rustls", "pg_query", "pgturnstile_rules", "crossbeam", "thiserror", "tracing"]
        {
            assert!(!text.contains(&format!("{word}::")), "{module}.rs names {word}");
        }
    }
}
