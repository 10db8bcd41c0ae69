//! Checkpoints: a signed sentence about how far the log had come, and with which chain value.
//!
//! Owns: the text of a checkpoint, and that of a key's rotation; reading both. May not: know files or keep keys. The form is
//! that of C2SP tlog-checkpoint (origin, size, root, further lines) inside a signed note; the root is this log's own chain
//! value, not the root of an RFC 6962 tree: witnesses of such trees cannot check its consistency, `pgturnstile verify` does.
//! Compiles without runtime, TLS and parser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chain::Hash;
use super::describe::hex;
use super::note::{Note, NoteError, VerifierKey};

/// What an origin begins with; the log's id follows, 32 hexadecimal digits.
pub const ORIGIN: &str = "pgturnstile.evidence.v1/";
/// The checkpoint that an ordered stop leaves beside the segments, over its very last record.
pub const LAST_NAME: &str = "last.checkpoint";
/// First line of a rotation's text.
pub const ROTATION: &str = "pgturnstile.evidence.v1 key rotation";

/// Why a checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The gateway started.
    Start,
    /// It stopped in order.
    Stop,
    /// A segment was closed.
    Rotation,
    /// So many records came since the last.
    Records,
    /// So much time went by since the last, with records or without.
    Interval,
}

impl Why {
    /// All, with their words.
    const WORDS: [(Why, &'static str); 5] = [
        (Why::Start, "start"),
        (Why::Stop, "stop"),
        (Why::Rotation, "rotation"),
        (Why::Records, "records"),
        (Why::Interval, "interval"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Why::Start => "start",
            Why::Stop => "stop",
            Why::Rotation => "rotation",
            Why::Records => "records",
            Why::Interval => "interval",
        }
    }

    fn of(word: &str) -> Option<Why> {
        Why::WORDS.iter().find(|(_, known)| *known == word).map(|(why, _)| *why)
    }
}

/// A place in the chain, behind a block or at a segment's start, at which everything before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Records before it, from the log's beginning.
    pub records: u64,
    /// The chain's value there.
    pub value: Hash,
    /// Segment it stands in.
    pub segment: u64,
    /// Where in that segment, bytes.
    pub offset: u64,
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// How far it had come.
    pub point: Point,
    /// When: nanoseconds since 1970, UTC, by the gateway's clock.
    pub time_ns: u64,
    /// Why it was made.
    pub why: Why,
    /// Whether the gateway also keeps its last checkpoint in a second place.
    pub second_place: bool,
    /// The key that signs it.
    pub key: VerifierKey,
}

fn wrong<T>(what: &str) -> Result<T, NoteError> {
    Err(NoteError(what.to_owned()))
}

impl Checkpoint {
    /// Its text, to be signed.
    pub fn text(&self) -> String {
        format!(
            "{ORIGIN}{}\n{}\n{}\ntime {}\nplace {} {}\nwhy {}\nsecond-place {}\nkey {}\n",
            hex(&self.log_id),
            self.point.records,
            STANDARD.encode(self.point.value),
            self.time_ns,
            self.point.segment,
            self.point.offset,
            self.why.word(),
            if self.second_place { "yes" } else { "no" },
            self.key,
        )
    }

    /// Reads a note whose text is a checkpoint, signed by the key that it names. Whether that key is the right one is the
    /// caller's question.
    ///
    /// # Errors
    /// It is no note, no checkpoint of this version, or not signed by the key that it names.
    pub fn open(note: &str) -> Result<Checkpoint, NoteError> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if note.is_signed_by(&checkpoint.key) {
            Ok(checkpoint)
        } else {
            wrong("its signature is not that of the key it names: it was changed, or somebody else made it")
        }
    }

    fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let mut lines = text.split('\n');
        let mut next = |prefix: &str| lines.next().and_then(|line| line.strip_prefix(prefix));
        let log_id = next(ORIGIN).and_then(unhex);
        let records = next("").and_then(decimal);
        let value = next("").and_then(|root| STANDARD.decode(root).ok()?.try_into().ok());
        let time_ns = next("time ").and_then(decimal);
        let place = next("place ").and_then(|place| place.split_once(' '));
        let why = next("why ").and_then(Why::of);
        let second_place = next("second-place ").and_then(|word| match word {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        });
        let key = next("key ").and_then(|key| VerifierKey::parse(key).ok());
        let place = place.and_then(|(segment, offset)| Some((decimal(segment)?, decimal(offset)?)));
        let (Some(log_id), Some(records), Some(value), Some(time_ns)) = (log_id, records, value, time_ns)
        else {
            return wrong("it is no checkpoint of pgturnstile's evidence, version 1");
        };
        let (Some((segment, offset)), Some(why), Some(second_place), Some(key)) =
            (place, why, second_place, key)
        else {
            return wrong("its further lines are not those of version 1");
        };
        let point = Point { records, value, segment, offset };
        let checkpoint = Checkpoint { log_id, point, time_ns, why, second_place, key };
        // One spelling only: what reads the same is the same, byte for byte.
        if checkpoint.text() == text {
            Ok(checkpoint)
        } else {
            wrong("it is spelled in another way than version 1 is")
        }
    }
}

/// Digits without sign or leading zero.
fn decimal(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text)
}

/// Lower-case hexadecimal digits of exactly `N` bytes.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    (hex(&bytes) == text).then_some(bytes)
}

/// Text that passes the signing on to a new key; the old key signs it.
pub fn rotation_text(old: &VerifierKey, new: &VerifierKey) -> String {
    format!("{ROTATION}\nold {old}\nnew {new}\n")
}

/// Reads a rotation that its old key signed: old and new key.
///
/// # Errors
/// It is no note, no rotation, or not signed by the key that it calls the old one.
pub fn open_rotation(note: &str) -> Result<(VerifierKey, VerifierKey), NoteError> {
    let note = Note::parse(note)?;
    let mut lines = note.text().split('\n');
    let first = lines.next() == Some(ROTATION);
    let mut key =
        |prefix: &str| lines.next().and_then(|line| line.strip_prefix(prefix)).map(VerifierKey::parse);
    let (Some(old), Some(new)) = (key("old "), key("new ")) else { return wrong("it is no key rotation") };
    let (old, new) = (old?, new?);
    if !first || rotation_text(&old, &new) != note.text() {
        return wrong("it is no key rotation of version 1");
    }
    if note.is_signed_by(&old) { Ok((old, new)) } else { wrong("its old key did not sign it") }
}

#[cfg(test)]
mod tests {
    use super::super::note::SigningKey;
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::new("gateway-1", &[seed; 32]).unwrap()
    }

    fn checkpoint(key: &SigningKey) -> Checkpoint {
        Checkpoint {
            log_id: [0xab; 16],
            point: Point { records: 74, value: [9; 32], segment: 1, offset: 27_088 },
            time_ns: 1_795_000_000_000_000_000,
            why: Why::Rotation,
            second_place: true,
            key: key.verifier().clone(),
        }
    }

    #[test]
    fn a_checkpoint_is_signed_and_read_back_and_every_changed_byte_shows() {
        let key = key(1);
        let checkpoint = checkpoint(&key);
        let note = key.sign(&checkpoint.text());
        assert!(note.starts_with("pgturnstile.evidence.v1/abab"), "{note}");
        assert_eq!(Checkpoint::open(&note).unwrap(), checkpoint);
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(Checkpoint::open(&changed).is_err(), "byte {at}: {changed}");
        }
    }

    #[test]
    fn another_key_and_another_spelling_are_refused() {
        let (one, other) = (key(1), key(2));
        assert!(Checkpoint::open(&other.sign(&checkpoint(&one).text())).unwrap_err().0.contains("signature"));
        for (from, to) in [
            ("\n74\n", "\n074\n"),
            ("why rotation", "why fun"),
            ("place 1 ", "place 01 "),
            ("abab", "ABAB"),
            ("yes", "maybe"),
        ] {
            let text = checkpoint(&one).text().replacen(from, to, 1);
            assert!(Checkpoint::open(&one.sign(&text)).is_err(), "{to}");
        }
        let longer = format!("{}more\n", checkpoint(&one).text());
        assert!(Checkpoint::open(&one.sign(&longer)).is_err());
    }

    #[test]
    fn a_rotation_is_the_old_key_s_to_sign() {
        let (old, new) = (key(1), key(2));
        let text = rotation_text(old.verifier(), new.verifier());
        let keys = open_rotation(&old.sign(&text)).unwrap();
        assert_eq!(keys, (old.verifier().clone(), new.verifier().clone()));
        assert!(open_rotation(&new.sign(&text)).is_err());
        assert!(open_rotation(&old.sign(&checkpoint(&old).text())).is_err());
        assert!(Checkpoint::open(&old.sign(&text)).is_err());
    }
}
