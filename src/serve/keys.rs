//! The cancel keys that clients hold.
//!
//! Owns: process ids and secrets of our own, each tied to one live session. May not: send anything to a target. A target's
//! own key never reaches a client. Fails closed: a request that matches nothing does nothing, and says nothing.
//!
//! Source: PostgreSQL documentation, "Canceling Requests in Progress"; `src/backend/postmaster/postmaster.c`.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgturnstile_proto::CANCEL_KEY_BYTES_MIN;
use pgturnstile_proto::startup::ProtocolVersion;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::backend::settings::Credential;
use crate::backend::{CancelKey, Target};
use crate::session::Control;

/// Bytes of a secret in protocol 3.2, of the 256 that it allows: what a server of 18 makes, and more than anybody guesses.
pub const LONG_SECRET_BYTES: usize = 32;

/// The length of the secret is the version's and no secret.
fn secret_bytes(protocol: ProtocolVersion) -> usize {
    match protocol {
        ProtocolVersion::V3_0 => CANCEL_KEY_BYTES_MIN,
        ProtocolVersion::V3_2 => LONG_SECRET_BYTES,
    }
}

type Secret = Zeroizing<Vec<u8>>;

/// What a matching request reaches.
#[derive(Debug, Clone)]
pub struct Cancellable {
    /// The session's id, for the record.
    pub session: [u8; 16],
    /// Whether anything is in flight.
    pub control: Arc<Control>,
    /// Where its target is.
    pub target: Arc<Target>,
    /// The login, whose certificate a cancel request shows.
    pub credential: Credential,
    /// The target's own key.
    pub key: CancelKey,
}

struct Entry {
    secret: Secret,
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
    secret: Secret,
}

impl Keys {
    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        // Entries are put in and taken out by single calls: a panic leaves the map whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key for a session, as long as its protocol has them.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn register(
        self: &Arc<Self>,
        protocol: ProtocolVersion,
        cancellable: Cancellable,
    ) -> io::Result<Registered> {
        let fill =
            |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
        let mut secret = Zeroizing::new(vec![0; secret_bytes(protocol)]);
        fill(&mut secret)?;
        let mut entries = self.entries();
        loop {
            let mut random = [0; 4];
            fill(&mut random)?;
            // Positive, as process ids are: some clients read it as a signed number.
            let process_id = u32::from_be_bytes(random) & 0x7FFF_FFFF;
            if process_id == 0 || entries.contains_key(&process_id) {
                continue;
            }
            entries.insert(process_id, Entry { secret: secret.clone(), cancellable });
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
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.keys.entries().remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::settings::{TargetSettings, TlsSettings};

    fn cancellable() -> Cancellable {
        let settings = TargetSettings {
            name: "crm".into(),
            address: "127.0.0.1:5432".parse().unwrap(),
            database: "crm".into(),
            tls: TlsSettings::disabled(),
            protocol: ProtocolVersion::V3_2,
        };
        Cancellable {
            session: [7; 16],
            control: Arc::new(Control::default()),
            target: Arc::new(Target::new(&settings).unwrap()),
            credential: Credential {
                name: "crm".into(),
                user: "crm".into(),
                password: None,
                certificate: None,
            },
            key: CancelKey::new(4_711, vec![1, 2, 3, 4]),
        }
    }

    #[test]
    fn a_key_is_as_long_as_its_protocol_has_it_and_only_the_whole_of_it_matches() {
        let keys = Arc::new(Keys::default());
        for (protocol, bytes) in [(ProtocolVersion::V3_0, 4), (ProtocolVersion::V3_2, 32)] {
            let registered = keys.register(protocol, cancellable()).unwrap();
            let (process_id, secret) = (registered.process_id(), registered.secret().to_vec());
            assert_eq!(secret.len(), bytes);
            assert!(i32::try_from(process_id).unwrap() > 0);
            assert!(keys.find(process_id, &secret).is_some());
            assert!(keys.find(process_id ^ 1, &secret).is_none());
            for cut in 0..bytes {
                assert!(keys.find(process_id, &secret[..cut]).is_none(), "{cut} bytes of {bytes}");
                let mut other = secret.clone();
                other[cut] ^= 1;
                assert!(keys.find(process_id, &other).is_none(), "byte {cut} of {bytes}");
            }
            for longer in [bytes + 1, 256] {
                let mut other = secret.clone();
                other.resize(longer, 0);
                assert!(keys.find(process_id, &other).is_none(), "{longer} bytes");
            }
            drop(registered);
            assert!(keys.find(process_id, &secret).is_none(), "its session has ended");
        }
    }
}
