//! What a session stands on: the policy of tests/conversation, a catalog from definitions, evidence in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgturnstile::approval::{self, Holds, People};
use pgturnstile::backend::catalog::Unavailable;
use pgturnstile::evidence::record::v1::SessionOpened;
use pgturnstile::evidence::record::{Entry, How};
use pgturnstile::evidence::{self, Evidence, Lane, Settings};
use pgturnstile::net::stream::Stream;
use pgturnstile::session::{
    Account, Control, Durability, Judge, Parts, Pinned, Relay, ShardMemory, Source, Tally, World,
};
use pgturnstile_proto::Limits;
use pgturnstile_rules::catalog::{Definitions, Snapshot};
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::policy::Policy;
use pgturnstile_rules::policy::principal::Principal;
use pgturnstile_rules::statement::{Done, Unparsable};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::target::GUARDED;

/// The tables of tests/conversation/ground.rs.
const SCHEMA: &str = "
CREATE SCHEMA shop;
CREATE TABLE shop.kv (k int PRIMARY KEY, v text);
CREATE TABLE shop.late (k int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE shop.trap (k int);
CREATE FUNCTION shop.spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER spring BEFORE INSERT ON shop.trap FOR EACH ROW EXECUTE FUNCTION shop.spring();
";
const POLICY: &str = include_str!("../../../tests/conversation/policy.toml");
/// Longest statement, bytes: the gateway's default.
const STATEMENT_BYTES_MAX: usize = 256 * 1024;
/// Size of a segment, bytes.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// What the server reports at login of what may not move.
const REPORTED: [(&str, &str); 5] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("session_authorization", "app_login"),
    ("is_superuser", "off"),
    ("default_transaction_read_only", "off"),
];

/// One policy and one catalog for ever.
struct Fixed {
    policy: Arc<Policy>,
    snapshot: Arc<Snapshot>,
    covered: watch::Sender<u64>,
}

impl Source for Fixed {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    fn policy_generation(&self) -> u64 {
        1
    }

    fn catalog(&self) -> Result<Arc<Snapshot>, Unavailable> {
        Ok(Arc::clone(&self.snapshot))
    }

    fn look(&self) -> u64 {
        1
    }

    fn define(&self, _look: u64) {}

    fn defined(&self) -> u64 {
        0
    }

    fn covered(&self) -> watch::Receiver<u64> {
        self.covered.subscribe()
    }

    fn login_user(&self, _credential: &str) -> String {
        "app_login".into()
    }

    fn parse(&self, _text: Arc<[u8]>, _principal: u64, _done: Done) -> Result<(), Unparsable> {
        Err(Unparsable::Busy)
    }
}

/// The policy holds nothing.
fn no_holds() -> approval::Settings {
    approval::Settings {
        open_max: 0,
        open_per_requester_max: 0,
        bytes_max: 0,
        notice_every: Duration::from_secs(5),
        people: People::default(),
        tickets: approval::Bounds { live_max: 0, per_requester_max: 0, bytes_max: 0 },
    }
}

/// See the module.
pub struct Rig {
    evidence: Evidence,
    lane: Lane,
    memory: Arc<ShardMemory>,
    world: Arc<World>,
    sessions: AtomicU64,
    _folder: TempDir,
}

/// A folder's name begins with this and the number of its process.
const PREFIX: &str = "pgturnstile-fuzz-";

/// Evidence is synced for each statement: in memory, where the machine has a folder for it. What processes that are gone
/// have left there goes first: nothing of a process runs behind its last input.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    for entry in std::fs::read_dir(memory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another process may have been faster.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    TempDir::with_prefix_in(&prefix, memory).or_else(|_| TempDir::with_prefix(&prefix)).expect("a folder")
}

impl Rig {
    /// With a log of its own.
    pub fn new() -> Self {
        let folder = folder();
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES,
            reserve_bytes: 1024 * 1024,
            ..Settings::new(folder.path().to_owned())
        };
        let policy = Policy::from_text("policy.toml", POLICY, None).expect("a policy");
        let run =
            evidence::Run { version: "fuzz".into(), configuration_hash: [0; 32], policy_hash: policy.hash() };
        let (evidence, mut lanes) = evidence::open(&settings, &run, &[7; 32], 1).expect("evidence");
        let catalog = Definitions::from_text(SCHEMA, Path::new("schema.sql")).expect("a catalog");
        let source = Fixed {
            policy: Arc::new(policy),
            snapshot: Arc::new(catalog.snapshot),
            covered: watch::Sender::new(u64::MAX),
        };
        let principal = Principal {
            issuer: "dev".into(),
            issuer_url: "https://id.example.com".into(),
            subject: "app-7".into(),
            groups: Some(vec!["app".into()]),
            person: None,
            claims: serde_json::Map::new(),
            kept: Vec::new(),
            token_thumbprint: "0".repeat(32),
            token_id: None,
            issued_at_s: 0,
            expires_at_s: i64::MAX,
        };
        let world = World::new(Arc::new(source), principal, "gate".into(), Some("app".into()));
        Self {
            evidence,
            lane: lanes.pop().expect("a lane"),
            memory: Arc::new(ShardMemory::new(Arc::new(Tally::new()))),
            world: Arc::new(world),
            sessions: AtomicU64::new(0),
            _folder: folder,
        }
    }

    /// Ends the log in order.
    pub async fn stop(self) {
        let Self { evidence, lane, .. } = self;
        drop(lane);
        evidence.stop("another log is begun").await.expect("the log ends in order");
    }

    /// A session behind its login.
    pub async fn relay(&self, client: UnixStream, backend: UnixStream, durability: Durability) -> Relay {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sessions.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mut log = self.evidence.session(&self.lane, id);
        let opened = SessionOpened { peer: "fuzz", listener: "fuzz", tls: "none" };
        log.append(Entry::SessionOpened(opened), How::QUEUED).await.expect("a record");
        let ground = self.world.ground().expect("an access entry");
        let unreported = GUARDED.iter().map(|value| Some(Box::from(value.as_bytes()))).collect();
        Relay::new(Parts {
            client: Stream::Unix(client),
            client_rest: Vec::new(),
            backend: Stream::Unix(backend),
            greeting: Vec::new(),
            limits: Limits { statement_bytes_max: STATEMENT_BYTES_MAX, ..Limits::default() },
            pinned: Pinned::new(REPORTED.into_iter(), unreported),
            judge: Judge::new(
                Arc::clone(&self.world),
                Arc::clone(&self.memory),
                Arc::new(ground),
                STATEMENT_BYTES_MAX,
            ),
            account: Account::new(log, durability, Arc::clone(self.memory.tally())),
            token_key: TokenKey::derive(&[7; 32]),
            control: Arc::new(Control::default()),
            application_name: String::new(),
            holds: Arc::new(Holds::new(no_holds())),
        })
    }
}
