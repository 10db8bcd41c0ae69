//! Derived SCRAM keys, kept for minutes: a login that follows another costs no 4096 rounds.
//!
//! Owns a small map behind a lock that is held for a lookup only. Keys are found by credential, salt and iteration
//! count; salt and count are the server's word, so a password that was set anew there has another salt and finds
//! nothing. Keys enter it only after a server has accepted them and proven itself, leave it by age, by a failed login
//! ([`KeyCache::forget`]) and by a reload ([`KeyCache::clear`]), and are wiped with their last holder.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::limits::{DERIVED_KEYS_MAX, DERIVED_KEYS_S};
use crate::backend::scram::DerivedKeys;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Name {
    credential: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

struct Kept {
    keys: DerivedKeys,
    until: Instant,
}

/// The keys of all credentials, shared by all shards.
pub struct KeyCache {
    kept: Mutex<HashMap<Name, Kept>>,
    life: Duration,
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeyCache({} kept)", self.lock().len())
    }
}

impl Default for KeyCache {
    fn default() -> Self {
        Self::new(Duration::from_secs(DERIVED_KEYS_S))
    }
}

impl KeyCache {
    /// An empty cache whose keys live this long.
    pub fn new(life: Duration) -> Self {
        Self { kept: Mutex::new(HashMap::new()), life }
    }

    /// The keys for this challenge, where they are kept and not too old.
    pub fn get(&self, credential: &str, salt: &[u8], iterations: NonZeroU32) -> Option<DerivedKeys> {
        let name = Name { credential: credential.to_owned(), salt: salt.to_owned(), iterations };
        let mut kept = self.lock();
        let now = Instant::now();
        kept.retain(|_, entry| entry.until > now);
        kept.get(&name).map(|entry| entry.keys.clone())
    }

    /// Keeps keys that a server has accepted. Where the cache is full, the one that would end first makes room.
    pub fn put(&self, credential: &str, salt: Vec<u8>, iterations: NonZeroU32, keys: DerivedKeys) {
        let mut kept = self.lock();
        let now = Instant::now();
        kept.retain(|_, entry| entry.until > now);
        while kept.len() >= DERIVED_KEYS_MAX {
            let oldest = kept.iter().min_by_key(|(_, entry)| entry.until).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            kept.remove(&oldest);
        }
        let name = Name { credential: credential.to_owned(), salt, iterations };
        kept.insert(name, Kept { keys, until: now + self.life });
    }

    /// Drops all keys of a credential: a login with it has failed.
    pub fn forget(&self, credential: &str) {
        self.lock().retain(|name, _| name.credential != credential);
    }

    /// Drops everything: the configuration was reloaded.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// A thread that panicked while it held the lock has left a whole map behind: each change is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

    fn keys(password: &str) -> DerivedKeys {
        DerivedKeys::derive(password.as_bytes(), b"salt", NonZeroU32::MIN)
    }

    #[test]
    fn keys_are_found_by_all_three_parts() {
        let cache = KeyCache::default();
        cache.put("crm", b"salt".to_vec(), COUNT, keys("a"));
        assert_eq!(cache.get("crm", b"salt", COUNT), Some(keys("a")));
        assert_eq!(cache.get("other", b"salt", COUNT), None);
        assert_eq!(cache.get("crm", b"other", COUNT), None);
        assert_eq!(cache.get("crm", b"salt", NonZeroU32::MIN), None);
    }

    #[test]
    fn keys_leave_by_age_by_name_and_all_at_once() {
        let dead = KeyCache::new(Duration::ZERO);
        dead.put("crm", b"salt".to_vec(), COUNT, keys("a"));
        assert_eq!(dead.get("crm", b"salt", COUNT), None);
        assert_eq!(format!("{dead:?}"), "KeyCache(0 kept)");

        let cache = KeyCache::default();
        cache.put("a", b"salt".to_vec(), COUNT, keys("a"));
        cache.put("b", b"salt".to_vec(), COUNT, keys("b"));
        cache.forget("a");
        assert_eq!(cache.get("a", b"salt", COUNT), None);
        assert_eq!(cache.get("b", b"salt", COUNT), Some(keys("b")));
        cache.clear();
        assert_eq!(cache.get("b", b"salt", COUNT), None);
    }

    #[test]
    fn the_cache_is_bounded_and_the_oldest_makes_room() {
        let cache = KeyCache::default();
        let key = keys("a");
        for number in 0..=DERIVED_KEYS_MAX {
            cache.put("crm", number.to_be_bytes().to_vec(), COUNT, key.clone());
        }
        assert_eq!(cache.lock().len(), DERIVED_KEYS_MAX);
        assert!(cache.get("crm", &DERIVED_KEYS_MAX.to_be_bytes(), COUNT).is_some());
        assert!(cache.get("crm", &0_usize.to_be_bytes(), COUNT).is_none());
    }
}
