//! Opening and closing the evidence of a gateway.
//!
//! Owns: the order of a start (lock, recovery, first records, writer) and of a stop. May not: go on with anything that
//! is not sound: each error names the command that explains or repairs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config;

use super::anchor::{self, Anchor, Signer, Signing};
use super::chain::Hash;
use super::clock;
use super::describe::hex;
use super::disk::{Directory, Disk};
use super::figures::Figures;
use super::held::Before;
use super::keys::MasterKey;
use super::limits::{
    LOCK_PATIENCE_MS, LOCK_PAUSE_MS, QUEUE_BYTES_DEFAULT, RECORD_BYTES_MAX, RESERVE_BYTES_DEFAULT,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, STALL_LIMIT_MS_DEFAULT,
    SYNC_INTERVAL_MS_DEFAULT,
};
use super::log::{Identity, Log, wall_ns};
use super::originals::AuditorKey;
use super::read::Bad;
use super::record::v1::{Checkpoint, GatewayStarted, GatewayStopped, KeyRotated, Recovered};
use super::record::{EncodeError, Entry, How, Stamp};
use super::recover::{self, Cut, Opened};
use super::ring::{Hub, Lane, Mark};
use super::session::{AppendError, Sealing, SessionLog};
use super::state::{State, Stopped};
use super::writer::{Pace, Writer};

/// Where and how evidence is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An existing directory of its own.
    pub directory: PathBuf,
    /// Size of a segment, bytes.
    pub segment_bytes: u64,
    /// Free disk below which new work is refused, bytes.
    pub reserve_bytes: u64,
    /// How long a session waits for a place in the queue, milliseconds.
    pub stall_limit_ms: u64,
    /// What all lanes together may hold that is not written yet, bytes.
    pub queue_bytes_max: u64,
    /// How long written records may stand unsynced when nobody waits for them, milliseconds.
    pub sync_interval_ms: u64,
    /// How checkpoints are signed; without it there are none.
    pub signing: Option<Signing>,
    /// The key that originals of masked values are sealed to; without it none is kept.
    pub sealing: Option<Arc<AuditorKey>>,
}

impl Settings {
    /// Settings with every number at its default.
    pub fn new(directory: PathBuf) -> Settings {
        Settings {
            directory,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            stall_limit_ms: STALL_LIMIT_MS_DEFAULT,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
            sync_interval_ms: SYNC_INTERVAL_MS_DEFAULT,
            signing: None,
            sealing: None,
        }
    }

    /// What the configuration file says; the key of the checkpoints is read by who starts the gateway.
    pub fn of(config: &config::Evidence) -> Settings {
        Settings {
            directory: config.directory.clone(),
            segment_bytes: config.segment_bytes,
            reserve_bytes: config.reserve_bytes,
            stall_limit_ms: config.stall_limit_ms,
            queue_bytes_max: config.queue_bytes_max,
            sync_interval_ms: SYNC_INTERVAL_MS_DEFAULT,
            signing: None,
            sealing: None,
        }
    }
}

/// What the first record of a run says.
#[derive(Clone, Debug)]
pub struct Run {
    /// Version of the program.
    pub version: String,
    /// blake3 of the configuration.
    pub configuration_hash: Hash,
    /// Hash of the policy.
    pub policy_hash: Hash,
}

/// Why evidence cannot be opened. The gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing or cannot be opened.
    #[error(
        "cannot open the evidence directory {path}: {error}; create it for the gateway's user: mkdir -m 700 {path}"
    )]
    Directory {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process writes there.
    #[error(
        "the evidence directory {0} is locked: another gateway writes there, and one directory belongs to one gateway; who it is: fuser -v {0}"
    )]
    Locked(PathBuf),
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The log was written with another digest key.
    #[error(
        "the evidence in {0} was written with another digest key: restore that key, or start with an empty evidence directory; going on would leave digests that no key opens"
    )]
    OtherKey(PathBuf),
    /// The log cannot be read.
    #[error("cannot read the evidence: {0}")]
    Read(io::Error),
    /// The log cannot be written.
    #[error("cannot write the evidence: {0}")]
    Write(io::Error),
    /// The first record cannot be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The log is damaged in a way that no crash leaves.
    #[error(
        "the evidence is inconsistent: segment {segment}, offset {offset}, record {sequence}: {flaw}; no crash leaves this; `pgturnstile verify DIR` shows what is wrong; keep the directory as it is and start with an empty one", 
        segment = .0.position.segment, offset = .0.position.offset, sequence = .0.position.sequence, flaw = .0.flaw
    )]
    Inconsistent(Bad),
    /// A note that should be a checkpoint of this log is none.
    #[error(
        "{file} holds no checkpoint of pgturnstile's evidence: {what}; `pgturnstile verify DIR` tells about the log itself; \
         restore the file, or move it away to go on without what it proves"
    )]
    NoCheckpoint {
        /// Where it stands.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The log does not reach the checkpoint that was kept.
    #[error(
        "the evidence is behind its checkpoint in {file}: that was signed over {held} records, here are {records}: its end was \
         cut off, or an older copy was put back; `pgturnstile verify DIR --checkpoint {file}` shows it; restore the evidence, \
         or keep both as they are and start with an empty directory and another second place"
    )]
    Behind {
        /// Where the checkpoint stands.
        file: PathBuf,
        /// The records that it was signed over.
        held: u64,
        /// The records that are there.
        records: u64,
    },
    /// The log is another history than the one that the checkpoint was signed over.
    #[error(
        "the evidence is not the one that the checkpoint in {file} was signed over: its first {held} records are others; \
         `pgturnstile verify DIR --checkpoint {file}` shows it; keep both as they are and start with an empty directory and \
         another second place"
    )]
    Forked {
        /// Where the checkpoint stands.
        file: PathBuf,
        /// The records that it was signed over.
        held: u64,
    },
    /// The checkpoint is another log's.
    #[error(
        "the checkpoint in {file} is of log {held}, the evidence of log {log}: restore the evidence directory, or name another \
         second place for this log", held = hex(held), log = hex(log_id)
    )]
    OtherLog {
        /// Where the checkpoint stands.
        file: PathBuf,
        /// Its log.
        held: [u8; 16],
        /// The log of the directory.
        log_id: [u8; 16],
    },
    /// The second place cannot be used.
    #[error(
        "the second place of the checkpoints cannot be used: {0}; it must be a file in a folder that exists and that the \
         gateway's user may write to"
    )]
    Head(String),
    /// The second place is empty although the last run kept a checkpoint there.
    #[error(
        "{file} is gone, although the last run of the gateway kept its checkpoint there: is its disk or share mounted? If it is \
         lost, `pgturnstile evidence checkpoint DIR --to {file}` verifies the evidence and puts its last checkpoint there"
    )]
    HeadGone {
        /// The second place.
        file: PathBuf,
    },
    /// Another key signed the log so far.
    #[error(
        "the checkpoints of this evidence were signed by {before}, the key is {now} now, and nothing certifies it: \
         `pgturnstile evidence rotate-key --old OLD-KEY --new NEW-KEY` makes the certificate that evidence.signing_key names \
         as `certificate`; without the old key, start with an empty directory"
    )]
    UncertifiedKey {
        /// The key of the last checkpoint.
        before: String,
        /// The key of the settings.
        now: String,
    },
}

/// The evidence of a running gateway.
#[derive(Debug)]
pub struct Evidence {
    hub: Arc<Hub>,
    keys: Arc<MasterKey>,
    gateway: Arc<tokio::sync::Mutex<SessionLog>>,
    finishing: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
    anchor: Option<Anchor>,
    recovered: Option<Cut>,
    log_id: [u8; 16],
    sealing: Option<Arc<AuditorKey>>,
}

impl core::fmt::Debug for Hub {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Hub({:?})", self.state())
    }
}

/// Opens the evidence of a directory: locks it, recovers it, records the start durably, starts the writer.
///
/// # Errors
/// See [`OpenError`]; nothing was changed then, but for a torn tail that was cut before a later step failed.
pub fn open(
    settings: &Settings,
    run: &Run,
    key: &[u8; 32],
    lanes: usize,
) -> Result<(Evidence, Vec<Lane>), OpenError> {
    check(settings)?;
    let directory = &settings.directory;
    let disk = lock(directory)?;
    let binary_hash = recover::file_hash(Path::new("/proc/self/exe")).map_err(OpenError::Read)?;
    open_on(Arc::new(disk), settings, run, lanes, MasterKey::new(key), binary_hash)
}

fn lock(directory: &Path) -> Result<Directory, OpenError> {
    let tries = LOCK_PATIENCE_MS / LOCK_PAUSE_MS;
    for _ in 0..tries {
        match Directory::lock(directory) {
            Ok(Some(disk)) => return Ok(disk),
            Ok(None) => std::thread::sleep(Duration::from_millis(LOCK_PAUSE_MS)),
            Err(error) => return Err(OpenError::Directory { path: directory.to_owned(), error }),
        }
    }
    Err(OpenError::Locked(directory.to_owned()))
}

fn check(settings: &Settings) -> Result<(), OpenError> {
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&settings.segment_bytes) {
        return Err(OpenError::Setting(format!(
            "segment_bytes = {} is not within {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
            settings.segment_bytes
        )));
    }
    Ok(())
}

/// The same on any disk: what tests drive.
pub(crate) fn open_on(
    disk: Arc<dyn Disk>,
    settings: &Settings,
    run: &Run,
    lanes: usize,
    keys: MasterKey,
    binary_hash: Hash,
) -> Result<(Evidence, Vec<Lane>), OpenError> {
    let identity = Identity {
        log_id: random_id()?,
        segment_bytes: settings.segment_bytes,
        binary_hash,
        configuration_hash: run.configuration_hash,
        key_id: keys.id(),
    };
    let before = Before::read(settings, disk.as_ref())?;
    let Opened { mut log, cut, key_id_before, last_note } =
        recover::open(Arc::clone(&disk), identity, before.held())?;
    if key_id_before.is_some_and(|before| before != keys.id()) {
        return Err(OpenError::OtherKey(settings.directory.clone()));
    }
    let rotation = before.judge(settings, last_note.as_deref())?;
    let head = before.into_head();
    let mut signer = settings.signing.clone().map(|signing| {
        let end = log.point();
        Signer::new(signing, log.log_id(), disk, head, end)
    });
    let record_bytes_max = Log::record_bytes_max(settings.segment_bytes).min(RECORD_BYTES_MAX as u64);
    let hub = Hub::new(lanes, settings.stall_limit_ms, settings.queue_bytes_max, record_bytes_max);
    let id = random_id()?;
    let mut first = First { log: &mut log, stream: id, next: 0 };
    first.started(&hub, run, binary_hash, &keys)?;
    first.recovered(cut.as_ref())?;
    first.signed(signer.as_mut(), rotation.as_deref())?;
    let next = first.next;
    let log_id = log.log_id();
    let lanes: Vec<Lane> =
        hub.rings().iter().map(|ring| Lane::new(Arc::clone(&hub), Arc::clone(ring))).collect();
    let finishing = Arc::new(AtomicBool::new(false));
    let pace = Pace {
        sync_interval: Duration::from_millis(settings.sync_interval_ms),
        reserve_bytes: settings.reserve_bytes,
    };
    let stream = Lane::new(Arc::clone(&hub), Arc::clone(&hub.rings()[0]));
    let gateway = SessionLog::new(stream, id, keys.session(&id), next, true);
    let gateway = Arc::new(tokio::sync::Mutex::new(gateway));
    let watch = signer.as_ref().map(|signer| Arc::clone(signer.watch()));
    let mut writer = Writer::new(Arc::clone(&hub), log, pace, Arc::clone(&finishing), watch);
    // The first look at the disk comes before the first session.
    writer.turn().map_err(OpenError::Write)?;
    let writer = std::thread::Builder::new()
        .name("evidence-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(OpenError::Write)?;
    let mut evidence = Evidence {
        hub,
        keys: Arc::new(keys),
        gateway,
        finishing,
        writer: Some(writer),
        anchor: None,
        recovered: cut,
        log_id,
        sealing: settings.sealing.clone(),
    };
    let gateway = Arc::clone(&evidence.gateway);
    evidence.anchor = signer.map(|signer| signer.spawn(gateway)).transpose().map_err(OpenError::Write)?;
    Ok((evidence, lanes))
}

/// The first records of a run, written durably by the same path that every record takes.
struct First<'l> {
    log: &'l mut Log,
    stream: [u8; 16],
    next: u64,
}

impl First<'_> {
    fn append(&mut self, entry: Entry<'_>) -> Result<(), OpenError> {
        let stamp = Stamp {
            lane: 0,
            stream: self.stream,
            stream_sequence: self.next,
            wall_ns: wall_ns(),
            monotonic_ns: 0,
        };
        let mut record = entry.encode(&stamp, How::GATED, 0)?;
        self.log.append(&mut record).map_err(OpenError::Write)?;
        self.next += 1;
        Ok(())
    }

    fn started(
        &mut self,
        hub: &Hub,
        run: &Run,
        binary_hash: Hash,
        keys: &MasterKey,
    ) -> Result<(), OpenError> {
        // Linux alone names it there; elsewhere the record says so.
        let host =
            std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "unknown".to_owned());
        self.append(Entry::GatewayStarted(GatewayStarted {
            version: &run.version,
            binary_hash,
            configuration_hash: run.configuration_hash,
            policy_hash: run.policy_hash,
            key_id: &hex(&keys.id()),
            host: host.trim_end(),
            process: std::process::id(),
            shards: u32::try_from(hub.rings().len()).unwrap_or(u32::MAX),
        }))
    }

    fn recovered(&mut self, cut: Option<&Cut>) -> Result<(), OpenError> {
        let Some(cut) = cut else { return Ok(()) };
        tracing::warn!(
            segment = cut.position.segment,
            offset = cut.position.offset,
            bytes = cut.bytes,
            "the evidence ended in a torn write: it was cut, and that is recorded"
        );
        self.append(Entry::Recovered(Recovered {
            segment: cut.position.segment,
            offset: cut.position.offset,
            bytes_cut: cut.bytes,
            next_sequence: cut.position.sequence,
            unsealed_kept: cut.unsealed_kept,
            flaw: &cut.flaw.to_string(),
        }))
    }

    /// Makes what was recorded durable; then, where there is a key, the clocks, its certificate, the first checkpoint.
    fn signed(&mut self, signer: Option<&mut Signer>, rotation: Option<&str>) -> Result<(), OpenError> {
        if let Some(signer) = signer {
            let source = clock::source();
            self.append(Entry::Clock(anchor::clock_entry("start", &signer.clock(), 0, &source)))?;
            if let Some(note) = rotation {
                self.append(Entry::KeyRotated(KeyRotated { note }))?;
            }
            self.log.sync().map_err(OpenError::Write)?;
            let note = signer.start(self.log.point()).map_err(OpenError::Head)?;
            self.append(Entry::Checkpoint(Checkpoint { note: &note }))?;
            self.log.sync().map_err(OpenError::Write)?;
            signer.watch().durable(self.log.point());
            return Ok(());
        }
        self.log.sync().map_err(OpenError::Write)
    }
}

fn random_id() -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| OpenError::Read(io::Error::other(error.to_string())))?;
    Ok(id)
}

impl Evidence {
    /// A stream for a session: `id` is random and never used again. The first record must be its opening.
    pub fn session(&self, lane: &Lane, id: [u8; 16]) -> SessionLog {
        let mut log = SessionLog::new(lane.clone(), id, self.keys.session(&id), 0, false);
        log.sealing = self.sealing.clone().map(|key| Sealing { key, log_id: self.log_id });
        log
    }

    /// Records an event of the gateway itself (a reload), and waits until it is on disk.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn record(&self, entry: Entry<'_>) -> Result<(), AppendError> {
        let mut gateway = self.gateway.lock().await;
        let mark = gateway.append(entry, How::GATED).await?;
        gateway.lane().until_durable(mark).await?;
        Ok(())
    }

    /// What the start cut off, if anything.
    pub fn recovered(&self) -> Option<&Cut> {
        self.recovered.as_ref()
    }

    /// Identity of the log.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Whether evidence can be written.
    pub fn state(&self) -> State {
        self.hub.state()
    }

    /// The numbers of this moment.
    pub fn figures(&self) -> Figures {
        let second_place_age_s = self.anchor.as_ref().and_then(Anchor::kept_ago_s);
        Figures { second_place_age_s, ..self.hub.figures() }
    }

    /// Waits until evidence has stopped.
    pub async fn stopped(&self) -> Stopped {
        self.hub.stopped().await
    }

    /// The ordered end, after every session was closed: records it, makes all durable, ends the writer.
    ///
    /// # Errors
    /// The stop could not be recorded or not everything is durable.
    pub async fn stop(mut self, reason: &str) -> Result<(), AppendError> {
        let unclosed = self.hub.unclosed();
        if unclosed > 0 {
            // Whoever reads that the run ended in order may rely on every session's close.
            tracing::error!(
                unclosed,
                "sessions could not be closed in the evidence: the run's end is not recorded as one in order"
            );
            self.finish_writer();
            return Ok(());
        }
        let mark: Mark = {
            let mut gateway = self.gateway.lock().await;
            gateway.append_last(Entry::GatewayStopped(GatewayStopped { reason }), How::GATED).await?
        };
        let durable = {
            let gateway = self.gateway.lock().await;
            gateway.lane().until_durable(mark).await
        };
        self.finish_writer();
        Ok(durable?)
    }

    fn finish_writer(&mut self) {
        self.finishing.store(true, Ordering::SeqCst);
        self.hub.wake_writer();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the evidence writer panicked");
        }
        if let Some(signer) = self.anchor.take().and_then(Anchor::finish)
            && self.hub.finished_in_order()
        {
            signer.stop();
        }
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        // Without an ordered stop the run's stream stays open, which `verify` reports; what was queued is still written.
        self.finish_writer();
    }
}
