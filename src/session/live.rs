//! What an operator may see of a running session: its state in numbers.
//!
//! Owns: the numbers, moved by the session's own task and read by anybody. May not: hold a text, a value, a name of the
//! client's, or anything else that it sent. Cheap: a few relaxed stores in each turn of the session, and a look at the clock
//! where its state changes. A reader may see numbers of two neighbouring turns.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use pgturnstile_rules::class::Class;

use super::control::Phase;
use crate::evidence::record::v1::Totals;

/// What a session waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    /// Its client.
    #[default]
    Client,
    /// Its target.
    Target,
    /// Its target, and the client's next frame waits behind it: it may not be read before that answer.
    Barrier,
    /// A record that has to be on disk.
    Evidence,
    /// People, who have to decide on its statement.
    Approval,
}

impl Waits {
    /// All.
    pub const ALL: [Waits; 5] =
        [Waits::Client, Waits::Target, Waits::Barrier, Waits::Evidence, Waits::Approval];

    /// As pages name it.
    pub fn name(self) -> &'static str {
        match self {
            Waits::Client => "client",
            Waits::Target => "target",
            Waits::Barrier => "barrier",
            Waits::Evidence => "evidence",
            Waits::Approval => "approval",
        }
    }
}

/// What a turn of a session has come to.
pub(super) struct Turn<'t> {
    pub(super) phase: Phase,
    pub(super) waits: Waits,
    /// The running statement: its class, when it was forwarded (nanoseconds since 1970), its rows so far.
    pub(super) running: Option<(Option<Class>, u64, u64)>,
    pub(super) totals: &'t Totals,
}

/// The numbers of one session.
#[derive(Debug, Default)]
pub(super) struct Live {
    phase: AtomicU8,
    waits: AtomicU8,
    /// The class of the running or last statement, from 1; 0: none yet.
    class: AtomicU8,
    /// When the running statement was forwarded, or else the state began; milliseconds since 1970.
    since_ms: AtomicU64,
    statements: AtomicU64,
    refused: AtomicU64,
    rows: AtomicU64,
    client_bytes: AtomicU64,
    target_bytes: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it does.
    pub phase: Phase,
    /// What it waits for.
    pub waits: Waits,
    /// Class of the running statement, or of the last one.
    pub class: Option<Class>,
    /// When the running statement was forwarded, or else the state began; milliseconds since 1970, 0 before the first turn.
    pub since_ms: u64,
    /// Statements judged.
    pub statements: u64,
    /// Of them refused.
    pub refused: u64,
    /// Rows that came for the client.
    pub rows: u64,
    /// Bytes read from the client.
    pub client_bytes: u64,
    /// Bytes read from the target.
    pub target_bytes: u64,
}

impl Live {
    /// What it does now.
    pub(super) fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Idle)
    }

    /// Shows a turn; `now_ms` is asked where the state changed and no statement runs.
    pub(super) fn show(&self, turn: &Turn<'_>, now_ms: impl FnOnce() -> u64) {
        let before = self.phase.swap(turn.phase as u8, Ordering::Relaxed);
        self.waits.store(turn.waits as u8, Ordering::Relaxed);
        match turn.running {
            Some((class, started_ns, _)) => {
                let number = class.and_then(|class| u8::try_from(class as usize + 1).ok());
                self.class.store(number.unwrap_or(0), Ordering::Relaxed);
                self.since_ms.store(started_ns / 1_000_000, Ordering::Relaxed);
            }
            None if before != turn.phase as u8 || self.since_ms.load(Ordering::Relaxed) == 0 => {
                self.since_ms.store(now_ms(), Ordering::Relaxed);
            }
            None => {}
        }
        let Totals { statements, refused, rows, client_bytes, server_bytes } = *turn.totals;
        self.statements.store(statements, Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
        self.rows.store(rows + turn.running.map_or(0, |(_, _, rows)| rows), Ordering::Relaxed);
        self.client_bytes.store(client_bytes, Ordering::Relaxed);
        self.target_bytes.store(server_bytes, Ordering::Relaxed);
    }

    /// As it stands.
    pub(super) fn seen(&self) -> Seen {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let waits = usize::from(self.waits.load(Ordering::Relaxed));
        let class = usize::from(self.class.load(Ordering::Relaxed));
        Seen {
            phase: self.phase(),
            waits: Waits::ALL.get(waits).copied().unwrap_or_default(),
            class: class.checked_sub(1).and_then(|index| Class::ALL.get(index).copied()),
            since_ms: get(&self.since_ms),
            statements: get(&self.statements),
            refused: get(&self.refused),
            rows: get(&self.rows),
            client_bytes: get(&self.client_bytes),
            target_bytes: get(&self.target_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_seen_as_it_was_and_the_class_stays_when_the_statement_is_over() {
        let live = Live::default();
        let totals = Totals { statements: 2, refused: 1, rows: 3, client_bytes: 4, server_bytes: 5 };
        let turn = |phase, waits, running| Turn { phase, waits, running, totals: &totals };
        live.show(&turn(Phase::Idle, Waits::Client, None), || 7);
        assert_eq!((live.seen().since_ms, live.seen().class), (7, None));
        // The state is the same: the clock is not looked at.
        live.show(&turn(Phase::Idle, Waits::Client, None), || panic!("no change"));
        for class in Class::ALL {
            let running = Some((Some(*class), 9_000_000, 10));
            live.show(&turn(Phase::Active, Waits::Barrier, running), || panic!("its own time"));
            assert_eq!(
                live.seen(),
                Seen {
                    phase: Phase::Active,
                    waits: Waits::Barrier,
                    class: Some(*class),
                    since_ms: 9,
                    statements: 2,
                    refused: 1,
                    rows: 13,
                    client_bytes: 4,
                    target_bytes: 5,
                }
            );
        }
        live.show(&turn(Phase::Idle, Waits::Client, None), || 12);
        let seen = live.seen();
        assert_eq!((seen.class, seen.since_ms, seen.rows), (Class::ALL.last().copied(), 12, 3));
    }

    #[test]
    fn every_number_has_its_name() {
        for (index, waits) in Waits::ALL.iter().enumerate() {
            assert_eq!((*waits as usize, waits.name().is_empty()), (index, false));
        }
        assert!(Class::ALL.len() < usize::from(u8::MAX));
    }
}
