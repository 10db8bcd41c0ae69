//! Originals of masked values, sealed to an auditor's public key (kind 42), and their opening.
//!
//! Owns: the auditor's keys and their spelling, HPKE (RFC 9180, by rustls on aws-lc-rs), what binds a sealed record to its
//! place, and how values stand in it. May not: decide what is sealed, or read a file. The gateway holds the public key alone:
//! what it sealed it cannot open. Fails closed: what is not whole, not in its place or not of the key is no value at all.
//!
//! ```text
//!   (row, column, value)… ─► chunk, at most 256 KiB ─► HPKE to the key, bound to log, session, number, statement, columns ─► record
//! ```

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use super::format::RecordView;
use super::record::v1::{ArchivedSealed, ArchivedSealedOf, Sealed, SealedOf};

/// `info` of RFC 9180: the domain.
const INFO: &[u8] = b"pgturnstile evidence v1 sealed";
/// Domain of a key's id.
const CONTEXT_ID: &str = "pgturnstile evidence v1 auditor key id";
/// What begins the line of a public key, and of a private one.
const PUBLIC: &str = "pgturnstile-auditor";
const PRIVATE: &str = "PRIVATE-pgturnstile-auditor";
/// Bytes of a key of X25519.
const KEY_BYTES: usize = 32;
/// Bytes before a value: row, column, flags, length.
const HEAD_BYTES: usize = 16;
/// The value goes on in the next sealed record of its statement.
const GOES_ON: u16 = 1;
/// The value began in the sealed record before.
const WENT_ON: u16 = 2;

/// Why a key or a sealed record cannot be used, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SealError(pub String);

fn wrong<T>(what: impl Into<String>) -> Result<T, SealError> {
    Err(SealError(what.into()))
}

/// `WORD NAME BASE64`.
fn split<'t>(word: &str, text: &'t str) -> Result<(&'t str, Zeroizing<[u8; KEY_BYTES]>), SealError> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [first, name, key] = parts[..] else { return wrong(format!("it is spelled {word} NAME BASE64")) };
    if first == PRIVATE && word == PUBLIC {
        return wrong(
            "it is the auditor's PRIVATE key, which has no place here: give the gateway the line that `pgturnstile evidence \
             keygen` printed, and make a new key if others could read this one",
        );
    }
    if first != word {
        return wrong(format!("it is spelled {word} NAME BASE64"));
    }
    let bytes = STANDARD.decode(key).map(Zeroizing::new);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match bytes.as_deref().map(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice())) {
        Ok(Ok(bytes)) => *key = bytes,
        Ok(Err(_)) | Err(_) => return wrong("its last part is no base64 of 32 bytes"),
    }
    Ok((name, key))
}

/// Names a key without telling it.
fn key_id(public: &[u8]) -> [u8; 16] {
    let hash = blake3::derive_key(CONTEXT_ID, public);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

/// The public key of an auditor: what originals are sealed to.
#[derive(Clone, Debug)]
pub struct AuditorKey {
    name: String,
    id: [u8; 16],
    public: HpkePublicKey,
}

impl AuditorKey {
    /// Reads the line that `evidence keygen` prints.
    ///
    /// # Errors
    /// It is misspelled, a private key, or nothing can be sealed to it.
    pub fn parse(text: &str) -> Result<AuditorKey, SealError> {
        let (name, bytes) = split(PUBLIC, text)?;
        AuditorKey::of(name, bytes.to_vec())
    }

    fn of(name: &str, public: Vec<u8>) -> Result<AuditorKey, SealError> {
        let (id, public) = (key_id(&public), HpkePublicKey(public));
        // A point of low order is found when something is sealed, not before.
        match SUITE.seal(INFO, &[], &[], &public) {
            Ok(_) => Ok(AuditorKey { name: name.to_owned(), id, public }),
            Err(_) => wrong("nothing can be sealed to it: it is no public key of X25519"),
        }
    }

    /// Its id.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for AuditorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC} {} {}", self.name, STANDARD.encode(&self.public.0))
    }
}

/// The private key of an auditor.
pub struct AuditorSecret {
    key: AuditorKey,
    secret: HpkePrivateKey,
}

impl fmt::Debug for AuditorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditorSecret({})", self.key.name)
    }
}

impl AuditorSecret {
    /// The key of 32 random bytes.
    ///
    /// # Errors
    /// The name is empty or holds white space.
    pub fn new(name: &str, seed: &[u8; KEY_BYTES]) -> Result<AuditorSecret, SealError> {
        if name.is_empty() || name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return wrong("the key's name must be printable, without white space");
        }
        let private = aws_lc_rs::agreement::PrivateKey::from_private_key(&aws_lc_rs::agreement::X25519, seed);
        let public = private.and_then(|private| Ok(private.compute_public_key()?.as_ref().to_vec()));
        match public {
            Ok(public) => Ok(AuditorSecret {
                key: AuditorKey::of(name, public)?,
                secret: HpkePrivateKey::from(seed.to_vec()),
            }),
            Err(_) => wrong("it is no private key of X25519"),
        }
    }

    /// Reads what [`Self::spelled`] wrote.
    ///
    /// # Errors
    /// It is misspelled.
    pub fn parse(text: &str) -> Result<AuditorSecret, SealError> {
        let (name, seed) = split(PRIVATE, text)?;
        AuditorSecret::new(name, &seed)
    }

    /// As its file holds it.
    pub fn spelled(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(STANDARD.encode(self.secret.secret_bytes()));
        Zeroizing::new(format!("{PRIVATE} {} {}", self.key.name, secret.as_str()))
    }

    /// Its public half.
    pub fn key(&self) -> &AuditorKey {
        &self.key
    }

    /// Opens a sealed record of this log: its values.
    ///
    /// # Errors
    /// It is sealed to another key, was changed, cut or moved.
    pub fn open(
        &self,
        log_id: &[u8; 16],
        record: &RecordView<'_>,
        sealed: &ArchivedSealed<'_>,
    ) -> Result<Opened, SealError> {
        if sealed.key_id != self.key.id {
            return wrong("it is sealed to another key");
        }
        let header = record.header();
        let columns: Vec<u16> = sealed.columns.get().iter().map(|column| column.to_native()).collect();
        let place = Place {
            log_id,
            session: &header.stream,
            number: header.stream_sequence,
            refers: header.refers,
            what: what_of(&sealed.what),
        };
        let bound = place.bound(sealed.values.to_native(), &columns);
        let encapsulated = EncapsulatedSecret(sealed.encapsulated.to_vec());
        let plain = SUITE.open(&encapsulated, INFO, &bound, sealed.ciphertext.get(), &self.secret);
        match plain {
            Ok(plain) => Ok(Opened { plain: Zeroizing::new(plain) }),
            Err(_) => wrong("it was changed, cut, or sealed for another place"),
        }
    }
}

/// The same word, out of a record.
pub(super) fn what_of(what: &ArchivedSealedOf) -> SealedOf {
    match what {
        ArchivedSealedOf::Rows => SealedOf::Rows,
        ArchivedSealedOf::CopyToClient => SealedOf::CopyToClient,
        ArchivedSealedOf::Text => SealedOf::Text,
        ArchivedSealedOf::Parameters => SealedOf::Parameters,
        ArchivedSealedOf::Report => SealedOf::Report,
        ArchivedSealedOf::Notification => SealedOf::Notification,
    }
}

/// Where a sealed record stands: opened anywhere else, it is nothing.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Identity of the log.
    pub log_id: &'p [u8; 16],
    /// The session.
    pub session: &'p [u8; 16],
    /// The record's number in it.
    pub number: u64,
    /// The statement's number, all ones for none.
    pub refers: u64,
    /// Of what.
    pub what: SealedOf,
}

impl Place<'_> {
    /// The additional data of RFC 9180.
    fn bound(&self, values: u64, columns: &[u16]) -> Vec<u8> {
        let mut bound = Vec::with_capacity(57 + 2 * columns.len());
        bound.extend_from_slice(self.log_id);
        bound.extend_from_slice(self.session);
        bound.extend_from_slice(&self.number.to_le_bytes());
        bound.extend_from_slice(&self.refers.to_le_bytes());
        bound.push(self.what as u8);
        bound.extend_from_slice(&values.to_le_bytes());
        for column in columns {
            bound.extend_from_slice(&column.to_le_bytes());
        }
        bound
    }
}

/// Values on their way into one sealed record.
#[derive(Default)]
pub struct Chunk {
    plain: Zeroizing<Vec<u8>>,
    columns: Vec<u16>,
    values: u64,
}

impl Chunk {
    /// How many values begin in it.
    pub fn values(&self) -> u64 {
        self.values
    }

    /// Bytes of its values, with what stands before each.
    pub fn bytes(&self) -> usize {
        self.plain.len()
    }

    fn push(&mut self, row: u64, column: u16, flags: u16, value: &[u8]) {
        self.plain.extend_from_slice(&row.to_le_bytes());
        self.plain.extend_from_slice(&column.to_le_bytes());
        self.plain.extend_from_slice(&flags.to_le_bytes());
        self.plain.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.plain.extend_from_slice(value);
        self.values += u64::from(flags & WENT_ON == 0);
        if let Err(at) = self.columns.binary_search(&column) {
            self.columns.insert(at, column);
        }
    }

    /// Seals it for its place.
    ///
    /// # Errors
    /// The library failed: nothing of it may be told to anybody.
    pub fn seal(&self, key: &AuditorKey, place: &Place<'_>) -> Result<Ciphertext<'_>, SealError> {
        let bound = place.bound(self.values, &self.columns);
        let sealed = SUITE.seal(INFO, &bound, &self.plain, &key.public);
        let Ok((EncapsulatedSecret(encapsulated), bytes)) = sealed else {
            return wrong("the library could not seal it");
        };
        match <[u8; 32]>::try_from(encapsulated) {
            Ok(encapsulated) => {
                Ok(Ciphertext { what: place.what, chunk: self, key_id: key.id, encapsulated, bytes })
            }
            Err(_) => wrong("the library made another key than X25519's"),
        }
    }
}

/// A sealed chunk.
pub struct Ciphertext<'c> {
    what: SealedOf,
    chunk: &'c Chunk,
    key_id: [u8; 16],
    encapsulated: [u8; 32],
    bytes: Vec<u8>,
}

impl Ciphertext<'_> {
    /// What its record says; `rest`: why further ones of the result are left out.
    pub fn entry<'e>(&'e self, rest: Option<&'e str>) -> Sealed<'e> {
        Sealed {
            what: self.what,
            rest,
            values: self.chunk.values,
            key_id: &self.key_id,
            columns: &self.chunk.columns,
            encapsulated: &self.encapsulated,
            ciphertext: &self.bytes,
        }
    }
}

/// A value on its way: row, column, bytes.
pub type Valued<'v> = (u64, u16, &'v [u8]);

/// Cuts values into chunks of at most so many bytes; one that is longer goes on in the next.
pub struct Chunks<'v> {
    values: &'v [Valued<'v>],
    begun: Option<(u64, u16, u16, &'v [u8])>,
    bytes_max: usize,
}

impl<'v> Chunks<'v> {
    /// Of these values, in order.
    pub fn new(values: &'v [Valued<'v>], bytes_max: usize) -> Self {
        Self { values, begun: None, bytes_max: bytes_max.max(2 * HEAD_BYTES) }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.begun.is_none()
    }
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let mut chunk = Chunk::default();
        loop {
            let next = self.begun.take().or_else(|| {
                let ((row, column, value), behind) = self.values.split_first()?;
                self.values = behind;
                Some((*row, *column, 0, *value))
            });
            let Some((row, column, flags, value)) = next else { break };
            let room = self.bytes_max.checked_sub(chunk.bytes() + HEAD_BYTES);
            if room.is_some_and(|room| value.len() <= room) {
                chunk.push(row, column, flags, value);
            } else if chunk.bytes() > 0 {
                self.begun = Some((row, column, flags, value));
                break;
            } else {
                let (here, rest) = value.split_at(room.unwrap_or_default());
                chunk.push(row, column, flags | GOES_ON, here);
                self.begun = Some((row, column, WENT_ON, rest));
                break;
            }
        }
        (chunk.bytes() > 0).then_some(chunk)
    }
}

/// The values of one sealed record.
pub struct Opened {
    plain: Zeroizing<Vec<u8>>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original<'o> {
    /// Row of the result, from 0.
    pub row: u64,
    /// Its column, or parameter, from 0.
    pub column: u16,
    /// It began in the sealed record before.
    pub went_on: bool,
    /// It goes on in the next.
    pub goes_on: bool,
    /// Its bytes.
    pub value: &'o [u8],
}

impl Opened {
    /// In order.
    ///
    /// # Errors
    /// What was sealed is no such list: another program wrote it.
    pub fn values(&self) -> Result<Vec<Original<'_>>, SealError> {
        let mut rest = self.plain.as_slice();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() else {
                return wrong("a value without its place");
            };
            let [r0, r1, r2, r3, r4, r5, r6, r7, c0, c1, f0, f1, l0, l1, l2, l3] = *head;
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
            let Some((value, behind)) = behind.split_at_checked(length) else {
                return wrong("a value that is cut off");
            };
            let flags = u16::from_le_bytes([f0, f1]);
            values.push(Original {
                row: u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
                column: u16::from_le_bytes([c0, c1]),
                went_on: flags & WENT_ON != 0,
                goes_on: flags & GOES_ON != 0,
                value,
            });
            rest = behind;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_reads_as_it_is_spelled_and_the_private_one_is_no_public_one() {
        let secret = AuditorSecret::new("audit-2027", &[7; 32]).unwrap();
        let again = AuditorSecret::parse(&secret.spelled()).unwrap();
        assert_eq!(again.key().to_string(), secret.key().to_string());
        let public = AuditorKey::parse(&format!("{}\n", secret.key())).unwrap();
        assert_eq!((public.id(), public.name()), (secret.key().id(), "audit-2027"));
        let mixed_up = AuditorKey::parse(&secret.spelled()).unwrap_err().to_string();
        assert!(mixed_up.contains("PRIVATE"), "{mixed_up}");
        assert!(!mixed_up.contains(secret.spelled().rsplit(' ').next().unwrap()));
        assert_eq!(format!("{secret:?}"), "AuditorSecret(audit-2027)");
        for wrong in ["", "pgturnstile-auditor x", "pgturnstile-auditor x AAAA", "ssh-ed25519 x AAAA"] {
            assert!(AuditorKey::parse(wrong).is_err(), "{wrong}");
        }
        // All zeros is a point of low order: everybody would know what is agreed on.
        let weak = format!("pgturnstile-auditor x {}", STANDARD.encode([0; 32]));
        assert!(AuditorKey::parse(&weak).is_err());
        assert!(AuditorSecret::new("two words", &[7; 32]).is_err());
    }

    proptest! {
        /// Whatever is cut comes together again, no chunk is longer than it may be, and each value begins once.
        #[test]
        fn chunks_hold_every_value(
            values in proptest::collection::vec((0u64..9, 0u16..4, proptest::collection::vec(any::<u8>(), 0..90)), 0..20),
            bytes_max in 40usize..120,
        ) {
            let given: Vec<Valued<'_>> =
                values.iter().map(|(row, column, value)| (*row, *column, value.as_slice())).collect();
            let chunks: Vec<Chunk> = Chunks::new(&given, bytes_max).collect();
            let mut found: Vec<(u64, u16, Vec<u8>)> = Vec::new();
            let mut goes_on = false;
            for chunk in &chunks {
                prop_assert!(chunk.bytes() <= bytes_max && chunk.bytes() > 0);
                let opened = Opened { plain: chunk.plain.clone() };
                for Original { row, column, went_on, goes_on: on, value } in opened.values().unwrap() {
                    prop_assert_eq!(went_on, goes_on);
                    prop_assert!(chunk.columns.contains(&column));
                    goes_on = on;
                    match found.last_mut().filter(|_| went_on) {
                        Some((_, _, begun)) => begun.extend_from_slice(value),
                        None => found.push((row, column, value.to_vec())),
                    }
                }
            }
            prop_assert!(!goes_on);
            prop_assert_eq!(chunks.iter().map(Chunk::values).sum::<u64>(), values.len() as u64);
            prop_assert_eq!(found, values);
        }

        /// What is no list of values is an error, never a panic.
        #[test]
        fn anything_opened_reads_or_is_an_error(plain in proptest::collection::vec(any::<u8>(), 0..80)) {
            let opened = Opened { plain: Zeroizing::new(plain.clone()) };
            if let Ok(values) = opened.values() {
                prop_assert_eq!(values.iter().map(|value| HEAD_BYTES + value.value.len()).sum::<usize>(), plain.len());
            }
        }
    }
}
