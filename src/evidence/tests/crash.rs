//! Crashes: no record that was said to be durable is ever lost, whatever a power cut, a kill or a failing disk leaves; and
//! what is left always opens again, unless somebody else changed it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::directory::KEY;
use super::samples;
use super::simulated::{Dice, Fault, Simulated};
use crate::evidence::chain::Hash;
use crate::evidence::disk::{Disk, Sequential};
use crate::evidence::format::{Flaw, RecordView, carried_hash};
use crate::evidence::keys::MasterKey;
use crate::evidence::log::{Identity, Log};
use crate::evidence::read::{EachRecord, Expected, Position, segment_index, segment_name, walk_segment};
use crate::evidence::record::v1::{Facts, GatewayStarted, Relation};
use crate::evidence::record::{Entry, How, Stamp};
use crate::evidence::recover::{self, Opened};
use crate::evidence::ring::{Hub, Lane, Mark};
use crate::evidence::writer::{Pace, Writer};
use crate::evidence::{AppendError, OpenError, SessionLog, State};

const SEGMENT_BYTES: u64 = 8 << 10;

fn identity() -> Identity {
    Identity {
        log_id: [3; 16],
        segment_bytes: SEGMENT_BYTES,
        binary_hash: [1; 32],
        configuration_hash: [2; 32],
        key_id: MasterKey::new(&KEY).id(),
    }
}

fn recovered(disk: &Simulated) -> Opened {
    recover::open(Arc::new(disk.clone()), identity(), &[]).map_err(|error| error.to_string()).unwrap()
}

/// A record of this number, and of a length that depends on it.
fn record(number: u64) -> Vec<u8> {
    let stamp = Stamp { lane: 0, stream: [1; 16], stream_sequence: number, wall_ns: number, monotonic_ns: 0 };
    let version = "v".repeat((number as usize * 37) % 700);
    let entry = Entry::GatewayStarted(GatewayStarted {
        version: &version,
        binary_hash: [0; 32],
        configuration_hash: [0; 32],
        policy_hash: [0; 32],
        key_id: "",
        host: "",
        process: 0,
        shards: 1,
    });
    entry.encode(&stamp, How::QUEUED, 0).unwrap()
}

/// Every record of a disk, by the reader; panics where anything is wrong.
pub(super) fn records(disk: &Simulated, log_id: Option<[u8; 16]>) -> Vec<Hash> {
    let mut hashes = Vec::new();
    let mut expected: Option<Expected> = None;
    let mut log_id = log_id;
    let mut indices: Vec<u64> = disk.list().unwrap().iter().filter_map(|name| segment_index(name)).collect();
    indices.sort_unstable();
    for index in indices {
        let file = disk.open(&segment_name(index)).unwrap();
        let walk = walk_segment(
            &mut Sequential::new(file.as_ref(), 0),
            index,
            expected.as_ref(),
            &mut EachRecord(|_: Position, record: &RecordView<'_>| {
                hashes.push(record.hash());
                Ok(())
            }),
        )
        .unwrap();
        assert_eq!(walk.bad, None);
        log_id = log_id.or(walk.header.map(|header| header.log_id));
        expected = walk.trailer.map(|previous| Expected {
            log_id: log_id.unwrap(),
            previous,
            next_sequence: walk.chain.next_sequence(),
        });
    }
    hashes
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_the_last_whole_record() {
    let disk = Simulated::new();
    let mut log = recovered(&disk).log;
    let mut hashes = Vec::new();
    let mut append = |log: &mut Log, number| {
        let mut record = record(number);
        hashes.push(carried_hash(&record));
        log.append(&mut record).unwrap();
    };
    (0..3).for_each(|number| append(&mut log, number));
    log.sync().unwrap();
    (3..6).for_each(|number| append(&mut log, number));
    log.flush().unwrap();
    let last = disk.last_pending_bytes(&segment_name(0));
    assert!(last > 400);
    // A tear among zeros leaves what no tear would: the last byte of a hash may be one.
    let as_torn_at = |at| disk.after_tear(at).content(&segment_name(0));
    let (bare, whole) = (as_torn_at(0), as_torn_at(last));
    let mut kept_most = 0;
    for at in 0..=last {
        let torn = disk.after_tear(at);
        let content = torn.content(&segment_name(0));
        let Opened { mut log, cut, .. } = recovered(&torn);
        let kept = records(&torn, Some([3; 16]));
        assert!(kept.len() >= 3, "torn at {at}: a durable record is gone");
        assert_eq!(kept, hashes[..kept.len()], "torn at {at}");
        assert_eq!(cut.is_some(), content != bare && content != whole, "torn at {at}: {cut:?}");
        assert!(kept.len() >= kept_most, "torn at {at}: fewer records than of a shorter tail");
        kept_most = kept.len();
        // And it goes on.
        let mut next = record(99);
        log.append(&mut next).unwrap();
        log.sync().unwrap();
        assert_eq!(records(&torn, Some([3; 16])).last(), Some(&carried_hash(&next)), "torn at {at}");
    }
    assert_eq!(kept_most, 6);
}

/// The evidence of one run on a simulated disk, without threads: the test turns the writer.
struct Bench {
    writer: Writer,
    lanes: Vec<Lane>,
}

impl Bench {
    fn start(disk: &Simulated) -> Bench {
        let log = recovered(disk).log;
        let hub = Hub::new(2, 100, 8 << 20, Log::record_bytes_max(SEGMENT_BYTES));
        let lanes = hub.rings().iter().map(|ring| Lane::new(Arc::clone(&hub), Arc::clone(ring))).collect();
        let pace = Pace { sync_interval: Duration::from_secs(3600), reserve_bytes: 1 };
        Bench { writer: Writer::new(hub, log, pace, Arc::new(AtomicBool::new(false)), None), lanes }
    }

    fn turn(&mut self) -> std::io::Result<bool> {
        let turned = self.writer.turn();
        if let Err(error) = &turned {
            // What the thread does.
            self.writer.hub().stop(&error.to_string());
        }
        turned
    }
}

/// What a run handed in, by lane, in order.
#[derive(Default)]
struct Handed {
    records: Vec<(usize, Mark, Hash)>,
    number: u64,
}

impl Handed {
    fn submit(&mut self, bench: &Bench, lane: usize, gated: bool) -> bool {
        let record = record(self.number);
        self.number += 1;
        let hash = carried_hash(&record);
        match bench.lanes[lane].try_submit(record, gated) {
            Ok(Ok(ticket)) => {
                self.records.push((lane, Mark::new(ticket, 0), hash));
                true
            }
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    fn durable(&self, bench: &Bench) -> Vec<Hash> {
        self.records
            .iter()
            .filter(|(lane, mark, _)| bench.lanes[*lane].durable(*mark))
            .map(|(_, _, hash)| *hash)
            .collect()
    }
}

/// Everything that was durable is there, and nothing is there that was never handed in.
fn check_kept(kept: &[Hash], before: &[Hash], handed: &Handed, durable: &[Hash], what: &str) {
    assert!(kept.starts_with(before), "{what}: the log lost an older run");
    let new = &kept[before.len()..];
    for hash in durable {
        assert!(new.contains(hash), "{what}: a durable record is gone");
    }
    for lane in 0..2 {
        let of_lane: Vec<&Hash> =
            handed.records.iter().filter(|(at, _, _)| *at == lane).map(|(_, _, hash)| hash).collect();
        let kept: Vec<&Hash> = new.iter().filter(|hash| of_lane.contains(hash)).collect();
        assert_eq!(kept, of_lane[..kept.len()], "{what}: a lane's order was not kept");
    }
    assert!(
        new.iter().all(|hash| handed.records.iter().any(|(_, _, handed)| handed == hash)),
        "{what}: invented"
    );
}

#[test]
fn nothing_durable_is_lost_over_many_power_cuts() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut disk = Simulated::new();
        let mut handed = Handed::default();
        for round in 0..6 {
            let before = records_after_recovery(&disk);
            handed.records.clear();
            let mut bench = Bench::start(&disk);
            for _ in 0..dice.below(60) {
                for _ in 0..dice.below(4) {
                    let gated = dice.below(5) == 0;
                    let lane = dice.below(2) as usize;
                    assert!(handed.submit(&bench, lane, gated));
                }
                bench.turn().unwrap();
            }
            let durable = handed.durable(&bench);
            disk = if dice.below(4) == 0 { disk.after_kill() } else { disk.after_power_cut(&mut dice) };
            let kept = records_after_recovery(&disk);
            check_kept(&kept, &before, &handed, &durable, &format!("seed {seed}, round {round}"));
        }
    }
}

/// Recovers a disk (which changes it) and reads it.
fn records_after_recovery(disk: &Simulated) -> Vec<Hash> {
    drop(recovered(disk));
    records(disk, Some([3; 16]))
}

#[test]
fn whatever_call_fails_nothing_is_acknowledged_that_is_not_there() {
    let faults = [
        Fault::Error(std::io::ErrorKind::StorageFull),
        Fault::Error(std::io::ErrorKind::Other),
        Fault::Short(0),
        Fault::Short(1),
        Fault::Short(300),
    ];
    for fault in faults {
        let mut nth = 0;
        loop {
            let disk = Simulated::new();
            let mut bench = Bench::start(&disk);
            let mut handed = Handed::default();
            disk.fail(nth, fault);
            let mut stopped = false;
            for step in 0..40 {
                let gated = step % 3 == 0;
                if !handed.submit(&bench, step % 2, gated) || bench.turn().is_err() {
                    stopped = true;
                    break;
                }
            }
            let Some(call) = disk.fault_met() else { break };
            let what = format!("{fault:?} in call {nth}, {call}");
            let fatal = matches!(fault, Fault::Error(_)) || (fault == Fault::Short(0) && call == "write");
            // The claim of the next segment may fail without harm, and a short write is continued.
            let claims = ["create", "claim", "remove"].contains(&call);
            assert_eq!(stopped, fatal && !claims || stopped && claims, "{what}");
            if stopped {
                assert!(matches!(bench.lanes[0].state(), State::Stopped(_)), "{what}");
                assert!(!handed.submit(&bench, 0, true), "{what}: it takes records although it stopped");
            }
            let durable = handed.durable(&bench);
            let mut dice = Dice(nth);
            for _ in 0..3 {
                let cut = disk.after_power_cut(&mut dice);
                check_kept(&records_after_recovery(&cut), &[], &handed, &durable, &what);
            }
            nth += 1;
        }
        assert!(nth > 40, "the scenario made only {nth} calls");
    }
}

#[test]
fn a_failed_sync_is_final() {
    let disk = Simulated::new();
    let mut bench = Bench::start(&disk);
    let mut handed = Handed::default();
    handed.submit(&bench, 0, true);
    bench.turn().unwrap();
    assert_eq!(handed.durable(&bench).len(), 1);
    handed.submit(&bench, 0, true);
    // Write, then sync.
    disk.fail(1, Fault::Error(std::io::ErrorKind::Other));
    assert!(bench.turn().is_err());
    assert_eq!(disk.fault_met(), Some("sync"));
    assert_eq!(handed.durable(&bench).len(), 1);
    assert!(matches!(bench.lanes[1].state(), State::Stopped(_)));
}

#[test]
fn without_space_new_work_is_refused_and_old_work_ends() {
    let disk = Simulated::new();
    let mut bench = Bench::start(&disk);
    let keys = MasterKey::new(&KEY).session(&[1; 16]);
    let mut session = SessionLog::new(bench.lanes[0].clone(), [1; 16], keys, 0, false);
    let facts = samples::facts();
    session.try_append(&samples::opened(), How::GATED).unwrap().unwrap();
    let asked = session.try_append(&samples::statement(&facts), How::GATED).unwrap().unwrap();
    bench.turn().unwrap();
    disk.set_free_bytes(0);
    bench.writer.forget_space_check();
    bench.turn().unwrap();
    let error = session.try_append(&samples::statement(&facts), How::GATED).unwrap_err();
    assert!(matches!(error, AppendError::Constrained { .. }), "{error}");
    assert_eq!(error.sqlstate(), "53100");
    assert!(error.client_text().contains("nearly full"), "{}", error.client_text());
    let keys = MasterKey::new(&KEY).session(&[2; 16]);
    let mut other = SessionLog::new(bench.lanes[0].clone(), [2; 16], keys, 0, false);
    assert!(matches!(other.try_append(&samples::opened(), How::GATED), Err(AppendError::Constrained { .. })));
    // What ends work is recorded, and made durable.
    let answered =
        session.try_append(&samples::result(), How::GATED.answering(asked.stream_sequence)).unwrap();
    bench.turn().unwrap();
    assert!(bench.lanes[0].durable(answered.unwrap()));
    disk.set_free_bytes(1 << 30);
    bench.writer.forget_space_check();
    bench.turn().unwrap();
    session.try_append(&samples::statement(&facts), How::GATED).unwrap().unwrap();
}

#[test]
fn a_record_that_no_segment_takes_is_refused_before_it_is_queued() {
    let disk = Simulated::new();
    let bench = Bench::start(&disk);
    let keys = MasterKey::new(&KEY).session(&[1; 16]);
    let mut session = SessionLog::new(bench.lanes[0].clone(), [1; 16], keys, 0, false);
    let relation = |number| Relation {
        name: format!("crm.t{number}"),
        access: "read.select".into(),
        what: "table".into(),
        blind: false,
    };
    let facts = vec![Facts { relations: (0..1000).map(relation).collect(), ..Facts::default() }];
    session.try_append(&samples::opened(), How::QUEUED).unwrap().unwrap();
    let error = session.try_append(&samples::statement(&facts), How::GATED).unwrap_err();
    assert_eq!(error.sqlstate(), "54000");
    // Its numbers were not spent: text 1, statement 2.
    assert_eq!(
        session
            .try_append(&samples::statement(&samples::facts()), How::GATED)
            .unwrap()
            .unwrap()
            .stream_sequence,
        2
    );
}

#[test]
fn what_no_crash_leaves_refuses_the_start() {
    let disk = Simulated::new();
    let mut log = recovered(&disk).log;
    for number in 0..40 {
        log.append(&mut record(number)).unwrap();
        if number % 4 == 3 {
            log.sync().unwrap();
        }
    }
    log.finish().unwrap();
    let segments = disk.list().unwrap().len() as u64;
    assert!(segments > 1);
    let last = segment_name(segments - 1);
    let content = disk.content(&last).unwrap();
    // A flipped byte in what later seals prove durable, at any place.
    for at in (0..content.len() - 112).step_by(7) {
        let damaged = disk.after_kill();
        let mut bytes = content.clone();
        bytes[at] ^= 4;
        damaged.replace(&last, bytes);
        match recover::open(Arc::new(damaged), identity(), &[]) {
            Err(OpenError::Inconsistent(_)) => {}
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at} was cut away as if a crash had torn it"),
        }
    }
    // A missing segment, and one of another log.
    let damaged = disk.after_kill();
    damaged.remove(&segment_name(0)).unwrap();
    assert!(matches!(recover::open(Arc::new(damaged), identity(), &[]), Err(OpenError::Inconsistent(_))));
    let damaged = disk.after_kill();
    let mut cut = damaged.content(&segment_name(segments - 2)).unwrap();
    cut.truncate(cut.len() - 16);
    damaged.replace(&segment_name(segments - 2), cut);
    assert!(matches!(recover::open(Arc::new(damaged), identity(), &[]), Err(OpenError::Inconsistent(_))));
}

#[test]
fn a_flaw_that_no_crash_leaves_is_none_that_is_torn() {
    assert!(
        Flaw::RecordHash.torn_looking() && Flaw::SealCheck.torn_looking() && Flaw::BehindEnd.torn_looking()
    );
    assert!(
        !Flaw::BlockValue.torn_looking() && !Flaw::Previous.torn_looking() && !Flaw::NoTrailer.torn_looking()
    );
}
