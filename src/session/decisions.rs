//! What a shard remembers of texts: facts by exact text, decisions by exact text and ground.
//!
//! Owns: two caches, bounded in bytes, shared by the sessions of one shard. May not: decide. The locks are the shard's
//! own: its sessions run on one thread, so they are never waited for, and nothing is awaited under them. A decision is
//! found only under the number of the ground it was made on; what is no longer asked for ages out in two generations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgturnstile_rules::statement::facts::TextFacts;
use pgturnstile_rules::statement::{self, Unparsable};

use super::judge::Decision;
use super::tally::Tally;
use super::world::Ground;
use crate::evidence::record::v1;

/// Facts that a shard remembers, bytes of texts and their facts as the cache counts them.
pub const FACTS_BYTES_MAX: usize = 16 << 20;
/// Texts of decisions that a shard remembers, bytes in each of two generations.
pub const DECISIONS_BYTES_MAX: usize = 8 << 20;
/// What one decision is charged beside its text, bytes: an estimate of facts, summary and tables.
const DECISION_CHARGE_BYTES: usize = 1_024;
/// What is charged for each name that it holds, bytes: facts, summary and judgement each hold it with its schema and class.
const NAME_CHARGE_BYTES: usize = 384;

type Texts = HashMap<Box<[u8]>, Arc<Decision>>;

#[derive(Default)]
struct Decisions {
    young: HashMap<u128, Texts>,
    old: HashMap<u128, Texts>,
    young_bytes: usize,
}

/// See the module.
pub struct ShardMemory {
    facts: Mutex<statement::Cache>,
    decisions: Mutex<Decisions>,
    tally: Arc<Tally>,
}

/// A panic under one of these locks leaves a cache that is still whole: entries are put in by one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardMemory {
    /// Empty caches, counted by `tally`.
    pub fn new(tally: Arc<Tally>) -> Self {
        Self {
            facts: Mutex::new(statement::Cache::new(FACTS_BYTES_MAX)),
            decisions: Mutex::new(Decisions::default()),
            tally,
        }
    }

    /// What the shard counts.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What was decided of exactly this text on exactly this ground.
    pub fn decision(&self, ground: &Ground, text: &[u8]) -> Option<Arc<Decision>> {
        let found = self.find_decision(ground, text);
        self.tally.decision(found.is_some());
        found
    }

    fn find_decision(&self, ground: &Ground, text: &[u8]) -> Option<Arc<Decision>> {
        let mut decisions = lock(&self.decisions);
        if let Some(found) = decisions.young.get(&ground.number).and_then(|texts| texts.get(text)) {
            return Some(Arc::clone(found));
        }
        let (text, found) = decisions.old.get_mut(&ground.number)?.remove_entry(text)?;
        decisions.put(ground.number, text, &found);
        Some(found)
    }

    /// Remembers a decision.
    pub fn remember(&self, ground: &Ground, text: &[u8], decision: &Arc<Decision>) {
        lock(&self.decisions).put(ground.number, text.into(), decision);
    }

    /// Facts of exactly this text.
    pub fn facts(&self, text: &str) -> Option<Arc<TextFacts>> {
        let found = lock(&self.facts).get(text.as_bytes()).map(Arc::clone);
        self.tally.facts(found.is_some());
        found
    }

    /// Remembers facts.
    pub fn remember_facts(&self, text: &str, facts: &Arc<TextFacts>) {
        lock(&self.facts).insert(text.as_bytes(), Arc::clone(facts));
    }

    /// Parses on this thread, which the shard entered as a parser thread.
    ///
    /// # Errors
    /// As the parser's.
    pub fn parse_here(&self, text: &str) -> Result<TextFacts, Unparsable> {
        statement::facts_here(text.as_bytes(), &statement::Limits::default())
    }
}

impl Decisions {
    fn put(&mut self, ground: u128, text: Box<[u8]>, decision: &Arc<Decision>) {
        let names = |facts: &v1::Facts| facts.relations.len() + facts.functions.len() + facts.settings.len();
        let names: usize = decision.summary.iter().map(names).sum();
        let bytes = text.len() + DECISION_CHARGE_BYTES + names * NAME_CHARGE_BYTES;
        if self.young_bytes + bytes > DECISIONS_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.entry(ground).or_default().insert(text, Arc::clone(decision));
    }
}
