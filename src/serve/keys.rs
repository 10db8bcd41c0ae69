//! The cancel keys that clients hold.
//!
//! Owns: process ids and secrets of our own, each tied to one live session. May not: send anything to a target. A target's
//! own key never reaches a client. Fails closed: a request that matches nothing does nothing, and says nothing.
//!
//! Source: PostgreSQL documentation, "Canceling Requests in Progress"; `src/backend/postmaster/postmaster.c`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq;

use crate::backend::{CancelKey, Target};
use crate::session::Control;

/// Bytes of the secret: what protocol 3.0 has.
pub const SECRET_BYTES: usize = 4;

/// What a matching request reaches.
#[derive(Debug, Clone)]
pub struct Cancellable {
    /// The session's id, for the record.
    pub session: [u8; 16],
    /// Whether anything is in flight.
    pub control: Arc<Control>,
    /// Where its target is.
    pub target: Arc<Target>,
    /// The target's own key.
    pub key: CancelKey,
}

struct Entry {
    secret: [u8; SECRET_BYTES],
    cancellable: Cancellable,
}

/// See the module.
#[derive(Default)]
pub struct Keys {
    entries: Mutex<HashMap<u32, Entry>>,
}

/// A session's key; forgotten when this is dropped.
pub struct Registered {
    keys: Arc<Keys>,
    process_id: u32,
    secret: [u8; SECRET_BYTES],
}

impl Keys {
    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        // Entries are put in and taken out by single calls: a panic leaves the map whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key for a session.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn register(self: &Arc<Self>, cancellable: Cancellable) -> io::Result<Registered> {
        let mut entries = self.entries();
        loop {
            let mut random = [0; 4 + SECRET_BYTES];
            getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
            let [a, b, c, d, secret @ ..] = random;
            // Positive, as process ids are: some clients read it as a signed number.
            let process_id = u32::from_be_bytes([a, b, c, d]) & 0x7FFF_FFFF;
            if process_id == 0 || entries.contains_key(&process_id) {
                continue;
            }
            entries.insert(process_id, Entry { secret, cancellable });
            return Ok(Registered { keys: Arc::clone(self), process_id, secret });
        }
    }

    /// The session that a request names; compared in constant time.
    pub fn find(&self, process_id: u32, secret: &[u8]) -> Option<Cancellable> {
        let entries = self.entries();
        let entry = entries.get(&process_id)?;
        bool::from(entry.secret.as_slice().ct_eq(secret)).then(|| entry.cancellable.clone())
    }
}

impl Registered {
    /// What the client is told.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// What the client is told.
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.keys.entries().remove(&self.process_id);
    }
}
