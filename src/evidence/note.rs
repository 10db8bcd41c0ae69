//! Signed notes (C2SP signed-note): a text that ends with a newline, an empty line, and lines of signatures.
//!
//! Owns: Ed25519 keys in the note's spelling, signing, and what counts as signed. May not: know what a text says. Source:
//! <https://c2sp.org/signed-note>; the spelling of keys is also that of Go's `golang.org/x/mod/sumdb/note`, so that other
//! tools read them. Fails by words for whoever made the file. Compiles without runtime, TLS and parser (README decision
//! 17): ed25519-dalek, sha2 and base64 are pure Rust.

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey as Secret, VerifyingKey as Public};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::describe::is_deceptive;

/// Longest note that is read, bytes: what the gateway writes is below 2 KiB.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most signatures that are looked at in one note.
const SIGNATURES_MAX: usize = 16;
/// What a key's 32 bytes begin with where its kind is Ed25519.
const ED25519: u8 = 1;
/// What stands before a private key.
const PRIVATE: &str = "PRIVATE+KEY+";
/// What begins a line with a signature: an em dash and a blank.
const DASH: &str = "\u{2014} ";

/// What is wrong with a key or a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteError(pub String);

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoteError {}

fn wrong<T>(what: impl Into<String>) -> Result<T, NoteError> {
    Err(NoteError(what.into()))
}

/// The first four bytes of SHA-256 over name, newline, kind and public key: they tell keys of one name apart.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', ED25519]);
    hash.update(public);
    let hash = hash.finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Whether a text may be the name of a key: not empty, printable, without blank and `+`.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|letter| !letter.is_whitespace() && !is_deceptive(letter) && letter != '+')
}

/// What public and private keys are spelled from.
struct Parts<'k> {
    name: &'k str,
    id: [u8; 4],
    key: Zeroizing<[u8; 32]>,
}

/// `NAME+ID+BASE64`; the base64 part holds the kind and 32 bytes.
fn split_key(text: &str) -> Result<Parts<'_>, NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return wrong("a key is spelled NAME+ID+BASE64");
    };
    let bytes = STANDARD.decode(key).map(Zeroizing::new);
    let Ok(bytes) = bytes else { return wrong("the key's last part is no base64") };
    let mut material = Zeroizing::new([0; 32]);
    match bytes.split_first() {
        Some((&ED25519, rest)) if rest.len() == 32 => material.copy_from_slice(rest),
        Some(_) | None => return wrong("it is no Ed25519 key"),
    }
    let id = u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8).map(u32::to_be_bytes);
    match id {
        Some(id) if is_name(name) => Ok(Parts { name, id, key: material }),
        Some(_) | None => wrong("the key's name or its eight hexadecimal digits are misspelled"),
    }
}

/// A public key: what an auditor holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: Public,
}

impl VerifierKey {
    /// Reads `NAME+ID+BASE64`; white space around it is no part of it.
    ///
    /// # Errors
    /// It is misspelled, no Ed25519 key, a weak one, or its id is not that of its name and bytes.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let Parts { name, id, key: bytes } = split_key(text.trim())?;
        let Ok(public) = Public::from_bytes(&bytes) else { return wrong("it is no point of Ed25519") };
        if public.is_weak() {
            return wrong("it is a weak key: anybody could sign for it");
        }
        if key_id(name, &bytes) != id {
            return wrong(
                "its eight hexadecimal digits are not those of its name and key: it was misspelled or changed",
            );
        }
        Ok(VerifierKey { name: name.to_owned(), id, public })
    }

    /// The name in the lines of its signatures.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.public.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), STANDARD.encode(key))
    }
}

/// A private key. Wiped when it is dropped; never printed by `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    secret: Secret,
    verifier: VerifierKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.verifier.name)
    }
}

impl SigningKey {
    /// The key of these 32 random bytes under a name.
    ///
    /// # Errors
    /// The name is empty, or holds a blank, a control character or `+`.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<SigningKey, NoteError> {
        if !is_name(name) {
            return wrong(format!("{name:?} cannot name a key: no blanks, no control characters, no `+`"));
        }
        let secret = Secret::from_bytes(seed);
        let public = secret.verifying_key();
        let id = key_id(name, public.as_bytes());
        Ok(SigningKey { secret, verifier: VerifierKey { name: name.to_owned(), id, public } })
    }

    /// Reads `PRIVATE+KEY+NAME+ID+BASE64`; white space around it is no part of it. Errors never quote it.
    ///
    /// # Errors
    /// It is misspelled, or its id is not that of its name and key.
    pub fn parse(text: &str) -> Result<SigningKey, NoteError> {
        let Some(rest) = text.trim().strip_prefix(PRIVATE) else {
            return wrong("a private key begins with PRIVATE+KEY+; `pgturnstile evidence new-key` makes one");
        };
        let Parts { name, id, key: seed } = split_key(rest)?;
        let key = SigningKey::new(name, &seed)?;
        if key.verifier.id != id {
            return wrong("its eight hexadecimal digits are not those of its name and key: it was changed");
        }
        Ok(key)
    }

    /// The key as [`SigningKey::parse`] reads it: a secret.
    pub fn spelled(&self) -> Zeroizing<String> {
        let mut seed = Zeroizing::new(vec![ED25519]);
        seed.extend_from_slice(self.secret.as_bytes());
        let id = u32::from_be_bytes(self.verifier.id);
        Zeroizing::new(format!(
            "{PRIVATE}{}+{id:08x}+{}",
            self.verifier.name,
            *Zeroizing::new(STANDARD.encode(&*seed))
        ))
    }

    /// Its public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text that ends with a newline: the whole note.
    pub fn sign(&self, text: &str) -> String {
        let mut signed = self.verifier.id.to_vec();
        signed.extend_from_slice(&self.secret.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{DASH}{} {}\n", self.verifier.name, STANDARD.encode(signed))
    }
}

/// A note whose form was checked, not its signatures.
#[derive(Clone, Debug)]
pub struct Note<'n> {
    text: &'n str,
    signatures: Vec<(&'n str, Vec<u8>)>,
}

impl<'n> Note<'n> {
    /// Takes a note apart.
    ///
    /// # Errors
    /// It is no signed note.
    pub fn parse(note: &'n str) -> Result<Note<'n>, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return wrong(format!("it is longer than {NOTE_BYTES_MAX} bytes"));
        }
        if note.chars().any(|letter| letter.is_control() && letter != '\n') {
            return wrong("it holds control characters");
        }
        let Some(end) = note.rfind("\n\n") else {
            return wrong("it is no signed note: no empty line before signatures");
        };
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        let Some(lines) = lines.strip_suffix('\n') else {
            return wrong("it does not end with a newline");
        };
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            let parts = line.strip_prefix(DASH).and_then(|line| line.split_once(' '));
            let Some((name, signature)) = parts else {
                return wrong("a line behind its text is no signature");
            };
            let bytes = STANDARD.decode(signature).ok().filter(|bytes| bytes.len() >= 5);
            match bytes {
                Some(bytes) if is_name(name) && signatures.len() < SIGNATURES_MAX => {
                    signatures.push((name, bytes))
                }
                Some(_) | None => return wrong("a signature of it is misspelled, or there are too many"),
            }
        }
        Ok(Note { text, signatures })
    }

    /// What was signed.
    pub fn text(&self) -> &'n str {
        self.text
    }

    /// Whether this key signed it. Signatures of other keys do not matter.
    pub fn is_signed_by(&self, key: &VerifierKey) -> bool {
        self.signatures.iter().any(|(name, bytes)| {
            *name == key.name
                && bytes[..4] == key.id
                && Signature::from_slice(&bytes[4..])
                    .is_ok_and(|signature| key.public.verify_strict(self.text.as_bytes(), &signature).is_ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of <https://c2sp.org/signed-note>.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_example_of_the_specification_verifies_and_no_other() {
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!((key.to_string().as_str(), key.name()), (KEY, "PeterNeumann"));
        let note = Note::parse(NOTE).unwrap();
        assert!(note.is_signed_by(&key) && note.text().ends_with("problem is.\n"));
        let changed = NOTE.replace("don't", "do");
        assert!(!Note::parse(&changed).unwrap().is_signed_by(&key));
        let other = SigningKey::new("PeterNeumann", &[1; 32]).unwrap();
        assert!(!note.is_signed_by(other.verifier()));
        assert!(Note::parse(&other.sign("a\n")).unwrap().is_signed_by(other.verifier()));
        assert!(!Note::parse(&other.sign("a\n")).unwrap().is_signed_by(&key));
    }

    #[test]
    fn keys_are_spelled_one_way_and_never_shown() {
        let key = SigningKey::new("gateway-1", &[7; 32]).unwrap();
        let again = SigningKey::parse(&format!(" {}\n", *key.spelled())).unwrap();
        assert_eq!(again.verifier(), key.verifier());
        assert_eq!(VerifierKey::parse(&key.verifier().to_string()).unwrap(), *key.verifier());
        assert_eq!(format!("{key:?}"), "SigningKey(gateway-1, …)");
        let renamed = key.spelled().replace("gateway-1", "gateway-2");
        assert!(SigningKey::parse(&renamed).unwrap_err().0.contains("was changed"));
        for text in ["", "PRIVATE+KEY+a", "a+b+c", "a b+00000000+AQ=="] {
            assert!(SigningKey::parse(text).is_err() && VerifierKey::parse(text).is_err(), "{text}");
        }
        assert!(SigningKey::new("two words", &[1; 32]).is_err() && SigningKey::new("a+b", &[1; 32]).is_err());
        // The point of order one: every message has a signature for it.
        let mut weak = [0; 32];
        weak[0] = 1;
        let spelled = format!(
            "w+{:08x}+{}",
            u32::from_be_bytes(key_id("w", &weak)),
            STANDARD.encode([&[1][..], &weak].concat())
        );
        assert!(VerifierKey::parse(&spelled).unwrap_err().0.contains("weak"));
    }

    #[test]
    fn what_is_no_note_is_named() {
        let key = SigningKey::new("k", &[7; 32]).unwrap();
        let good = key.sign("text\n");
        for bad in [
            "",
            "text\n",
            "text\n\n",
            &good[..good.len() - 1],
            &good.replace("\u{2014}", "-"),
            &good.replace('t', "\t"),
        ] {
            assert!(Note::parse(bad).is_err(), "{bad:?}");
        }
        let twice = format!("{good}{}", &good["text\n\n".len()..]);
        assert!(Note::parse(&twice).unwrap().is_signed_by(key.verifier()));
    }
}
