//! Lanes under load: every waiter is woken, order is kept, memory is bounded, ends are orderly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::directory::{KEY, block_on, check, run, settings, start};
use super::samples;
use super::simulated::Simulated;
use crate::evidence::keys::MasterKey;
use crate::evidence::open::open_on;
use crate::evidence::record::How;
use crate::evidence::record::v1::Totals;
use crate::evidence::ring::{Hub, Lane};
use crate::evidence::{AppendError, SessionLog, Settings, State};

fn keys() -> crate::evidence::keys::SessionKeys {
    MasterKey::new(&KEY).session(&[1; 16])
}

#[test]
fn a_record_is_settled_once_and_what_comes_later_belongs_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let (evidence, lanes) = start(directory.path(), 1);
    block_on(async {
        let mut session = evidence.session(&lanes[0], [1; 16]);
        session.append(samples::opened(), How::GATED).await.unwrap();
        let facts = samples::facts();
        let statement = session.append(samples::statement(&facts), How::GATED).await.unwrap();
        let answering = How::QUEUED.answering(statement.stream_sequence);
        session.append(samples::result(), answering).await.unwrap();
        session.append(samples::result(), answering).await.unwrap();
        assert!(session.try_append(&samples::result(), answering).unwrap().is_some());
        session.close(samples::closed(&Totals::default())).await.unwrap();
    });
    drop(lanes);
    drop(evidence);
    check(directory.path());
}

#[test]
fn many_sessions_on_many_runtimes_are_all_woken() {
    let directory = tempfile::tempdir().unwrap();
    let (evidence, lanes) = start(directory.path(), 3);
    let evidence = Arc::new(evidence);
    let shards: Vec<_> = (0_u8..)
        .zip(lanes)
        .map(|(shard, lane)| {
            let evidence = Arc::clone(&evidence);
            std::thread::spawn(move || {
                block_on(async {
                    let sessions: Vec<_> = (0_u8..40)
                        .map(|number| {
                            let mut id = [shard; 16];
                            id[0] = number;
                            let mut session = evidence.session(&lane, id);
                            let lane = lane.clone();
                            tokio::spawn(async move {
                                let facts = samples::facts();
                                session.append(samples::opened(), How::GATED).await.unwrap();
                                for statement in 0..10 {
                                    // Queued ones are waited for, too: waiting asks for the sync.
                                    let how =
                                        if (statement + number) % 3 == 0 { How::QUEUED } else { How::GATED };
                                    let mark = session.append(samples::statement(&facts), how).await.unwrap();
                                    lane.until_durable(mark).await.unwrap();
                                    assert!(lane.durable(mark));
                                    session
                                        .append(
                                            samples::result(),
                                            How::QUEUED.answering(mark.stream_sequence),
                                        )
                                        .await
                                        .unwrap();
                                }
                                session.close(samples::closed(&Totals::default())).await.unwrap();
                            })
                        })
                        .collect();
                    for session in sessions {
                        session.await.unwrap();
                    }
                });
            })
        })
        .collect();
    shards.into_iter().for_each(|shard| shard.join().unwrap());
    block_on(Arc::into_inner(evidence).unwrap().stop("test")).unwrap();
    let report = check(directory.path());
    assert_eq!(report.bad, None);
    assert_eq!((report.sessions_closed, report.records), (120, 2 + 120 * 23));
}

#[test]
fn waiters_that_are_dropped_leave_the_others_woken() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let (evidence, lanes) = start(directory.path(), 1);
        let mut session = evidence.session(&lanes[0], [1; 16]);
        for _ in 0..50 {
            let mark = session.append(samples::opened(), How::QUEUED).await.unwrap();
            let waiting = tokio::spawn({
                let lane = lanes[0].clone();
                async move { lane.until_durable(mark).await }
            });
            // Registered first, so that it is the one the writer wakes; then dropped.
            let dropped = tokio::time::timeout(Duration::ZERO, lanes[0].until_durable(mark)).await;
            drop(dropped);
            waiting.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_full_lane_refuses_after_the_stall_limit_and_drops_nothing() {
    // No writer turns: credits run out.
    let hub = Hub::new(1, 20, 1 << 20, 1 << 20);
    let lane = Lane::new(Arc::clone(&hub), Arc::clone(&hub.rings()[0]));
    let mut session = SessionLog::new(lane, [1; 16], keys(), 0, true);
    let facts = samples::facts();
    block_on(async {
        let mut taken = 0;
        let error = loop {
            match session.append(samples::statement(&facts), How::QUEUED).await {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        // The judged text took one.
        assert_eq!(taken, (1 << 20) / 1024 - 1);
        assert!(matches!(error, AppendError::Stalled { waited_ms: 20 }), "{error}");
        assert_eq!(error.sqlstate(), "53000");
        let mut popped = 0;
        while let Some(queued) = hub.rings()[0].pop() {
            popped += 1;
            hub.rings()[0].return_credits(queued.charge as usize);
        }
        assert_eq!(popped, taken + 1);
        session.append(samples::statement(&facts), How::QUEUED).await.unwrap();
    });
}

#[test]
fn everybody_who_waits_learns_that_evidence_stopped() {
    let hub = Hub::new(1, 60_000, 1 << 20, 1 << 20);
    let lane = Lane::new(Arc::clone(&hub), Arc::clone(&hub.rings()[0]));
    block_on(async {
        let told = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn({
            let (lane, told) = (lane.clone(), Arc::clone(&told));
            async move {
                lane.stopped().await;
                told.store(true, Ordering::SeqCst);
            }
        });
        let waiting = tokio::spawn({
            let lane = lane.clone();
            async move {
                let mut session = SessionLog::new(lane.clone(), [1; 16], keys(), 0, true);
                let mark = session.append(samples::opened(), How::GATED).await.unwrap();
                lane.until_durable(mark).await
            }
        });
        let starving = tokio::spawn({
            let lane = lane.clone();
            async move {
                let mut session = SessionLog::new(lane.clone(), [2; 16], keys(), 0, true);
                loop {
                    if let Err(error) = session.append(samples::opened(), How::QUEUED).await {
                        return error;
                    }
                }
            }
        });
        tokio::task::yield_now().await;
        hub.stop("the disk is gone");
        assert_eq!(waiting.await.unwrap().unwrap_err().reason.as_ref(), "the disk is gone");
        assert!(matches!(starving.await.unwrap(), AppendError::Stopped(_)));
        watching.await.unwrap();
        assert!(told.load(Ordering::SeqCst));
        assert!(matches!(lane.state(), State::Stopped(_)));
    });
}

#[test]
fn what_was_queued_before_an_ordered_stop_is_durable() {
    let disk = Simulated::new();
    let settings = Settings { segment_bytes: 256 << 10, ..settings(std::path::Path::new("unused")) };
    let (evidence, lanes) =
        open_on(Arc::new(disk.clone()), &settings, &run(), 2, MasterKey::new(&KEY), [1; 32]).unwrap();
    block_on(async {
        for number in 0..50 {
            samples::session(
                evidence.session(&lanes[usize::from(number % 2)], [number + 1; 16]),
                5,
                How::QUEUED,
            )
            .await;
        }
        evidence.stop("test").await.unwrap();
    });
    // A power cut right behind it takes nothing.
    let cut = disk.after_power_cut(&mut super::simulated::Dice(2));
    let count = |disk: &Simulated| -> usize { super::crash::records(disk, None).len() };
    assert_eq!(count(&cut), count(&disk));
    assert_eq!(count(&disk), 2 + 50 * 13);
}
