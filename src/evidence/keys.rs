//! Commitments: keyed digests of what must not be recorded itself.
//!
//! Owns: what is derived from the master key for a session, and which key makes which digest. May not: read files (the
//! configuration's `digest_key` does), nor write anything into the evidence. The key's file stands outside the evidence
//! directory: who holds only the evidence cannot guess a value from its digest, who holds both can prove that a text or a
//! result is the one recorded. Nothing here can fail.

use zeroize::Zeroizing;

use super::chain::Hash;

/// Bytes of a master key.
const MASTER_KEY_BYTES: usize = 32;

const CONTEXT_ID: &str = "pgturnstile evidence v1 commitment key id";
const CONTEXT_TEXT: &str = "pgturnstile evidence v1 commitment text";
const CONTEXT_PARAMETERS: &str = "pgturnstile evidence v1 commitment parameters";
const CONTEXT_RESULT: &str = "pgturnstile evidence v1 commitment result";

/// The key that all session keys come from.
pub struct MasterKey {
    key: Zeroizing<[u8; MASTER_KEY_BYTES]>,
}

impl core::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// The key of these bytes, as the configuration's digest key file holds them.
    pub fn new(bytes: &[u8; MASTER_KEY_BYTES]) -> MasterKey {
        MasterKey { key: Zeroizing::new(*bytes) }
    }

    /// Names the key without telling it.
    pub fn id(&self) -> [u8; 16] {
        let hash = blake3::derive_key(CONTEXT_ID, self.key.as_slice());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id
    }

    /// Keys of one session.
    pub fn session(&self, session: &[u8; 16]) -> SessionKeys {
        let mut material = Zeroizing::new([0; MASTER_KEY_BYTES + 16]);
        material[..MASTER_KEY_BYTES].copy_from_slice(self.key.as_slice());
        material[MASTER_KEY_BYTES..].copy_from_slice(session);
        let derive = |context| Zeroizing::new(blake3::derive_key(context, material.as_slice()));
        SessionKeys {
            text: derive(CONTEXT_TEXT),
            parameters: derive(CONTEXT_PARAMETERS),
            result: derive(CONTEXT_RESULT),
        }
    }
}

/// The keys of one session, one for each use.
#[derive(Clone)]
pub struct SessionKeys {
    text: Zeroizing<Hash>,
    parameters: Zeroizing<Hash>,
    result: Zeroizing<Hash>,
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SessionKeys(…)")
    }
}

impl SessionKeys {
    /// Commitment to the exact bytes of a text.
    pub fn text(&self, text: &[u8]) -> Hash {
        *blake3::keyed_hash(&self.text, text).as_bytes()
    }

    /// Digest of the parameters of one Bind: `bytes` holds the format code of each in order (i16, the one in effect, however few
    /// the Bind sends), then for each its length (i32, -1 for NULL) and its bytes, big-endian as on the wire. Neither count stands
    /// in it: every length does, so it is unambiguous.
    pub fn parameters(&self, bytes: &[u8]) -> Hash {
        *blake3::keyed_hash(&self.parameters, bytes).as_bytes()
    }

    /// A running digest of the same use: over the CopyData frames of one copy, as received.
    pub fn parameters_hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.parameters)
    }

    /// A running digest over the frames of one result, as sent.
    pub fn result(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.result)
    }

    /// The same for a result whose frames stand in one piece: cheaper than the running one.
    pub fn result_at_once(&self, frames: &[u8]) -> Hash {
        *blake3::keyed_hash(&self.result, frames).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_uses_and_masters_do_not_share_digests() {
        let (one, other) = (MasterKey::new(&[1; 32]), MasterKey::new(&[2; 32]));
        let digests = [
            one.session(&[1; 16]).text(b"123-45-6789"),
            one.session(&[2; 16]).text(b"123-45-6789"),
            one.session(&[1; 16]).parameters(b"123-45-6789"),
            one.session(&[1; 16]).result_at_once(b"123-45-6789"),
            other.session(&[1; 16]).text(b"123-45-6789"),
            *blake3::hash(b"123-45-6789").as_bytes(),
        ];
        for (i, left) in digests.iter().enumerate() {
            assert!(digests[i + 1..].iter().all(|right| left != right));
        }
        assert_ne!(one.id(), other.id());
        let mut running = one.session(&[1; 16]).result();
        running.update(b"123-").update(b"45-6789");
        assert_eq!(*running.finalize().as_bytes(), digests[3]);
        assert_eq!(format!("{one:?} {:?}", one.session(&[1; 16])), "MasterKey(…) SessionKeys(…)");
    }
}
