//! Facts by exact text.
//!
//! Owns: [`Cache`], one for each shard, unshared. May not: normalise: the key is the text's exact bytes, since texts that
//! differ in a literal differ in meaning (facts.md 3.2 on fingerprints). Facts depend on the text alone, so an entry is
//! never stale; what depends on catalog or policy is cached elsewhere. Bounded in bytes; evicts by CLOCK, which keeps what
//! was used since the hand last passed. A text that takes more than an eighth of the budget is not kept.

use std::collections::HashMap;
use std::sync::Arc;

use super::facts::{NameUse, StatementFacts, TextFacts};

/// Facts of the texts seen lately.
pub struct Cache {
    index: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
}

struct Slot {
    text: Arc<[u8]>,
    facts: Arc<TextFacts>,
    bytes: usize,
    /// Used since the hand last passed.
    used: bool,
}

impl Cache {
    /// An empty cache that keeps at most `bytes_max` bytes of texts and facts.
    pub fn new(bytes_max: usize) -> Cache {
        Cache { index: HashMap::new(), slots: Vec::new(), hand: 0, bytes: 0, bytes_max }
    }

    /// Facts of exactly these bytes.
    #[inline]
    pub fn get(&mut self, text: &[u8]) -> Option<&Arc<TextFacts>> {
        let slot = self.slots.get_mut(*self.index.get(text)?)?;
        slot.used = true;
        Some(&slot.facts)
    }

    /// Keeps facts of a text, evicting others where the budget asks for it.
    pub fn insert(&mut self, text: &[u8], facts: Arc<TextFacts>) {
        let bytes = footprint(text, &facts);
        if bytes > self.bytes_max / 8 {
            return;
        }
        if let Some(slot) = self.index.get(text).and_then(|i| self.slots.get_mut(*i)) {
            self.bytes = self.bytes - slot.bytes + bytes;
            slot.facts = facts;
            slot.bytes = bytes;
            return;
        }
        while self.bytes + bytes > self.bytes_max && !self.slots.is_empty() {
            self.evict();
        }
        let text: Arc<[u8]> = Arc::from(text);
        self.index.insert(Arc::clone(&text), self.slots.len());
        self.slots.push(Slot { text, facts, bytes, used: false });
        self.bytes += bytes;
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves the hand to the first entry that was not used since it last passed, and drops it.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            if !std::mem::replace(&mut slot.used, false) {
                break;
            }
            self.hand += 1;
        }
        let gone = self.slots.swap_remove(self.hand);
        self.index.remove(&gone.text);
        self.bytes -= gone.bytes;
        // The last entry took the place of the one that went.
        if let Some(moved) = self.slots.get(self.hand) {
            self.index.insert(Arc::clone(&moved.text), self.hand);
        }
    }
}

/// Heap bytes that an entry takes, near enough for a budget.
fn footprint(text: &[u8], facts: &TextFacts) -> usize {
    let statements: usize = facts.statements.iter().map(statement_bytes).sum();
    128 + text.len() + facts.lifted.len() + size_of::<TextFacts>() + statements
}

fn statement_bytes(s: &StatementFacts) -> usize {
    let name = |n: &NameUse| {
        let part = |p: &Option<String>| p.as_ref().map_or(0, String::capacity);
        size_of::<NameUse>() + part(&n.catalog) + part(&n.schema) + n.name.capacity()
    };
    let constants = |c: &[Option<String>]| -> usize {
        c.iter().map(|c| 24 + c.as_ref().map_or(0, String::capacity)).sum()
    };
    size_of::<StatementFacts>()
        + s.acts.iter().map(|a| 64 + a.object.as_ref().map_or(0, name)).sum::<usize>()
        + s.relations.iter().map(|r| 64 + name(&r.name)).sum::<usize>()
        + s.functions.iter().map(|f| 64 + name(&f.name) + constants(&f.constants)).sum::<usize>()
        + s.operators.iter().map(|o| 64 + o.name.capacity()).sum::<usize>()
        + s.types.iter().map(name).sum::<usize>()
        + s.attributes.iter().map(|a| 24 + a.capacity()).sum::<usize>()
        + s.settings.iter().map(|s| 64 + s.value.as_ref().map_or(0, String::capacity)).sum::<usize>()
        + s.outline.footprint()
        + s.prepared.as_deref().map_or(0, statement_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mark: usize) -> Arc<TextFacts> {
        Arc::new(TextFacts {
            digest: [0; 32],
            text_bytes: mark,
            statements: Vec::new(),
            lifted: Arc::from(""),
        })
    }

    fn text(i: usize) -> Vec<u8> {
        format!("select {i}").into_bytes()
    }

    #[test]
    fn only_exact_bytes_match() {
        let mut cache = Cache::new(1 << 20);
        cache.insert(b"select 1", facts(1));
        assert_eq!(cache.get(b"select 1").map(|f| f.text_bytes), Some(1));
        for other in [&b"select 2"[..], b"select 1 ", b"SELECT 1", b"select  1", b""] {
            assert!(cache.get(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn budget_holds_and_every_entry_answers_for_itself() {
        let mut cache = Cache::new(16 * 1024);
        for i in 0..10_000 {
            cache.insert(&text(i), facts(i));
            assert!(cache.bytes() <= 16 * 1024);
            assert_eq!(cache.get(&text(i)).map(|f| f.text_bytes), Some(i));
        }
        assert!(cache.len() > 8);
        let kept: Vec<usize> =
            (0..10_000).filter(|i| cache.get(&text(*i)).is_some_and(|f| f.text_bytes == *i)).collect();
        assert_eq!(kept.len(), cache.len());
        assert_eq!(cache.bytes(), kept.iter().map(|i| footprint(&text(*i), &facts(*i))).sum::<usize>());
    }

    #[test]
    fn what_is_used_stays() {
        let mut cache = Cache::new(16 * 1024);
        cache.insert(b"hot", facts(7));
        for i in 0..10_000 {
            assert!(cache.get(b"hot").is_some(), "evicted before text {i}");
            cache.insert(&text(i), facts(i));
        }
    }

    #[test]
    fn a_text_too_large_for_the_budget_is_not_kept() {
        let mut cache = Cache::new(16 * 1024);
        cache.insert(b"small", facts(1));
        cache.insert(&vec![b'x'; 4096], facts(2));
        assert_eq!(cache.len(), 1);
        assert!(cache.get(b"small").is_some());
    }

    #[test]
    fn a_second_insert_replaces() {
        let mut cache = Cache::new(1 << 20);
        cache.insert(b"a", facts(1));
        cache.insert(b"a", facts(2));
        assert_eq!((cache.len(), cache.get(b"a").map(|f| f.text_bytes)), (1, Some(2)));
    }
}
