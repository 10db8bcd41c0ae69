//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side (RFC 5802, RFC 7677; PostgreSQL protocol chapter, "SASL
//! Authentication"; src/backend/libpq/auth-scram.c).
//!
//! Own code over aws-lc-rs' HMAC and PBKDF2, because the library at hand starts from the password each time, and a
//! gateway logs in often: the keys derived from a password can be kept ([`super::keys`]), 4096 rounds are run once.
//!
//! Each step is a type that the next one consumes, so no step can be left out or taken twice:
//!
//! ```text
//! ClientFirst ── server-first ──▶ Challenge ── derived keys ──▶ AwaitFinal ── server-final ──▶ DerivedKeys proven
//! ```
//!
//! What is verified: the server's nonce extends ours, the iteration count is in bounds, no unknown part stands in its
//! messages, and its signature proves that it knows the password's verifier. What is proven to it: that we were not
//! kept from channel binding (`y`), or that we see the same certificate (`p`). Fails by a [`ScramError`]; nothing of a
//! server's message beyond numbers is quoted.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

use crate::backend::limits::{
    SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_MESSAGE_BYTES_MAX, SCRAM_NONCE_BYTES,
    SCRAM_SALT_BYTES_MAX,
};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Bytes of a SHA-256 digest.
const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// What the server did wrong, or that the password is not the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is not of the form the RFC gives.
    #[error("the server's SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The server's nonce is not ours with something behind it: a replay.
    #[error("the server's SCRAM nonce does not extend the gateway's")]
    Nonce,
    /// An iteration count out of bounds.
    #[error(
        "the server asks for {0} SCRAM iterations; between {SCRAM_ITERATIONS_MIN} and {SCRAM_ITERATIONS_MAX} are \
         accepted. Set scram_iterations there and set the role's password anew"
    )]
    Iterations(u64),
    /// The server ended the exchange with an error of the RFC's list.
    #[error("the server ended the SCRAM exchange: {0}")]
    Server(String),
    /// The server's signature is wrong: it does not know the password's verifier.
    #[error(
        "the server's SCRAM signature is wrong: it does not know this password, so it is not the right server"
    )]
    Signature,
    /// The operating system gave no randomness.
    #[error("no randomness for a SCRAM nonce")]
    Randomness,
}

/// Channel binding, from what was offered and what we can do (RFC 5802 section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// `n`: no TLS, or a certificate without a defined binding.
    Unsupported,
    /// `y`: we could, the server offered none. A server that did offer it then knows that someone stands between.
    NotOffered,
    /// `p=tls-server-end-point`: the hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Unsupported | Self::NotOffered => &[],
            Self::EndPoint(hash) => hash,
        }
    }
}

/// ClientKey and ServerKey of a password, a salt and a count (RFC 5802 section 3). Who has them can log in: they are
/// treated as the password is, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct DerivedKeys {
    client: Zeroizing<[u8; KEY_BYTES]>,
    server: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for DerivedKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DerivedKeys(..)")
    }
}

impl DerivedKeys {
    /// Runs the iterations; the caller keeps this off the shard's thread.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let password = normalize(password);
        let mut salted = Zeroizing::new([0_u8; KEY_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &password, &mut *salted);
        Self { client: mac(&*salted, b"Client Key"), server: mac(&*salted, b"Server Key") }
    }
}

/// SASLprep as the server does it: what is no UTF-8, or prohibited, is taken as it is (`pg_be_scram_build_secret`).
fn normalize(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(match prepared {
        Some(text) => text.into_owned().into_bytes(),
        None => password.to_vec(),
    })
}

fn mac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *byte = *from;
    }
    bytes
}

/// The first step: our nonce, and whether the channel is bound.
#[derive(Debug)]
pub struct ClientFirst {
    binding: Binding,
    nonce: String,
    bare: String,
}

impl ClientFirst {
    /// Begins an exchange with a fresh nonce. The user name stays empty: the server takes the startup packet's.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(binding: Binding) -> Result<Self, ScramError> {
        let mut random = [0_u8; SCRAM_NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|_| ScramError::Randomness)?;
        Ok(Self::with_nonce(binding, "", STANDARD.encode(random)))
    }

    fn with_nonce(binding: Binding, user: &str, nonce: String) -> Self {
        let bare = format!("n={user},r={nonce}");
        Self { binding, nonce, bare }
    }

    /// The mechanism that this exchange belongs to.
    pub fn mechanism(&self) -> &'static str {
        match self.binding {
            Binding::Unsupported | Binding::NotOffered => SCRAM_SHA_256,
            Binding::EndPoint(_) => SCRAM_SHA_256_PLUS,
        }
    }

    /// client-first-message.
    pub fn message(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// Takes server-first-message: `r=nonce,s=salt,i=iterations`. A mandatory extension (`m=`), an unknown optional
    /// one and anything behind are refused, as libpq does.
    ///
    /// # Errors
    /// A malformed message, a foreign nonce, a count out of bounds.
    pub fn server_first(self, message: &[u8]) -> Result<Challenge, ScramError> {
        let message = printable(message)?;
        let mut parts = message.split(',');
        let nonce = attribute(parts.next(), "r=", "the nonce is missing")?;
        let salt = attribute(parts.next(), "s=", "the salt is missing")?;
        let iterations = attribute(parts.next(), "i=", "the iteration count is missing")?;
        if parts.next().is_some() {
            return Err(ScramError::Malformed("something stands behind the iteration count"));
        }
        match nonce.strip_prefix(self.nonce.as_str()) {
            Some(own) if !own.is_empty() => {}
            Some(_) | None => return Err(ScramError::Nonce),
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed("the salt is no base64"))?;
        if salt.is_empty() || salt.len() > SCRAM_SALT_BYTES_MAX {
            return Err(ScramError::Malformed("the salt is empty or over 1024 bytes"));
        }
        let iterations = count(iterations)?;
        let without_proof = format!(
            "c={},r={nonce}",
            STANDARD.encode([self.binding.header().as_bytes(), self.binding.data()].concat())
        );
        let signed = format!("{},{message},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, signed })
    }
}

/// The second step: what the keys must be derived from.
#[derive(Debug)]
pub struct Challenge {
    /// The salt, decoded.
    pub salt: Vec<u8>,
    /// The count, in bounds.
    pub iterations: NonZeroU32,
    without_proof: String,
    signed: String,
}

impl Challenge {
    /// client-final-message, and what the server must answer.
    pub fn answer(self, keys: &DerivedKeys) -> (String, AwaitFinal) {
        let stored = digest::digest(&digest::SHA256, &*keys.client);
        let signature = mac(stored.as_ref(), self.signed.as_bytes());
        let mut proof = Zeroizing::new([0_u8; KEY_BYTES]);
        for ((byte, key), signature) in proof.iter_mut().zip(keys.client.iter()).zip(signature.iter()) {
            *byte = key ^ signature;
        }
        let message = format!("{},p={}", self.without_proof, STANDARD.encode(proof.as_slice()));
        (message, AwaitFinal { expected: mac(&*keys.server, self.signed.as_bytes()) })
    }
}

/// The third step: the server has to prove itself.
pub struct AwaitFinal {
    expected: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for AwaitFinal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AwaitFinal(..)")
    }
}

impl AwaitFinal {
    /// Takes server-final-message: `v=signature`, or `e=error`.
    ///
    /// # Errors
    /// A malformed message, the server's error, a wrong signature.
    pub fn server_final(self, message: &[u8]) -> Result<(), ScramError> {
        let message = printable(message)?;
        if let Some(error) = message.strip_prefix("e=") {
            // The RFC's list: words of letters and hyphens. Anything else is not quoted.
            let word: String = error
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '-')
                .take(40)
                .collect();
            return Err(ScramError::Server(word));
        }
        let signature = attribute(Some(message), "v=", "neither signature nor error")?;
        let signature =
            STANDARD.decode(signature).map_err(|_| ScramError::Malformed("the signature is no base64"))?;
        constant_time::verify_slices_are_equal(&signature, &*self.expected).map_err(|_| ScramError::Signature)
    }
}

/// All of SCRAM's messages are printable ASCII here: nonce, base64, digits and attribute names.
fn printable(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > SCRAM_MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("it is over 8192 bytes"));
    }
    if !message.iter().all(u8::is_ascii_graphic) {
        return Err(ScramError::Malformed("it holds other than printable ASCII"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is no text"))
}

fn attribute<'m>(
    part: Option<&'m str>,
    name: &'static str,
    missing: &'static str,
) -> Result<&'m str, ScramError> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed(missing))
}

/// `posit-number` of the RFC: digits, no leading zero, no sign.
fn count(text: &str) -> Result<NonZeroU32, ScramError> {
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ScramError::Malformed("the iteration count is no positive number"));
    }
    let wide = text.parse::<u64>().unwrap_or(u64::MAX);
    match u32::try_from(wide)
        .ok()
        .filter(|count| (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(count))
    {
        Some(count) => NonZeroU32::new(count).ok_or(ScramError::Iterations(wide)),
        None => Err(ScramError::Iterations(wide)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exchange printed in RFC 7677 section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn first() -> ClientFirst {
        ClientFirst::with_nonce(Binding::Unsupported, "user", NONCE.to_owned())
    }

    fn keys(challenge: &Challenge) -> DerivedKeys {
        DerivedKeys::derive(b"pencil", &challenge.salt, challenge.iterations)
    }

    fn refused(message: &[u8]) -> ScramError {
        first().server_first(message).unwrap_err()
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let first = first();
        assert_eq!(first.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = first.server_first(SERVER_FIRST).unwrap();
        let keys = keys(&challenge);
        let (message, last) = challenge.answer(&keys);
        assert_eq!(
            message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(last.server_final(SERVER_FINAL), Ok(()));
    }

    #[test]
    fn a_server_without_the_verifier_is_found_out() {
        let answer = || {
            let challenge = first().server_first(SERVER_FIRST).unwrap();
            let keys = keys(&challenge);
            challenge.answer(&keys).1
        };
        let wrong = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=";
        assert!(matches!(
            answer().server_final(wrong),
            Err(ScramError::Signature | ScramError::Malformed(_))
        ));
        assert_eq!(answer().server_final(b"v="), Err(ScramError::Signature));
        assert_eq!(answer().server_final(b"v=AAAA"), Err(ScramError::Signature));
        assert_eq!(answer().server_final(b"v=!"), Err(ScramError::Malformed("the signature is no base64")));
        assert_eq!(answer().server_final(b""), Err(ScramError::Malformed("neither signature nor error")));
        assert_eq!(
            answer().server_final(b"e=invalid-proof"),
            Err(ScramError::Server("invalid-proof".into()))
        );
        assert_eq!(answer().server_final(b"e=<b>"), Err(ScramError::Server(String::new())));
        let mut behind = SERVER_FINAL.to_vec();
        behind.extend_from_slice(b",x=1");
        assert_eq!(answer().server_final(&behind), Err(ScramError::Malformed("the signature is no base64")));
    }

    #[test]
    fn each_flaw_of_the_first_message_is_named() {
        let malformed = |message: &str| {
            let error = refused(message.as_bytes());
            let ScramError::Malformed(what) = error else { panic!("{message}: {error:?}") };
            what
        };
        assert_eq!(malformed(""), "the nonce is missing");
        assert_eq!(malformed(&format!("m=ext,r={NONCE}x,s=AAAA,i=4096")), "the nonce is missing");
        assert_eq!(malformed(&format!("r={NONCE}x")), "the salt is missing");
        assert_eq!(malformed(&format!("r={NONCE}x,s=AAAA")), "the iteration count is missing");
        assert_eq!(malformed(&format!("r={NONCE}x,s=A,i=4096")), "the salt is no base64");
        assert_eq!(malformed(&format!("r={NONCE}x,s=,i=4096")), "the salt is empty or over 1024 bytes");
        for count in ["", "0", "04096", "+4096", "-1", "4096 ", "0x1000"] {
            let message = format!("r={NONCE}x,s=AAAA,i={count}");
            assert!(malformed(&message).contains("printable") || malformed(&message).contains("no positive"));
        }
        assert!(malformed(&format!("r={NONCE}x,s=AAAA,i=4096,x=1")).contains("behind"));
        assert!(malformed(&"r".repeat(9_000)).contains("8192"));
        assert!(malformed("r=\u{e9}").contains("printable"));
    }

    #[test]
    fn nonce_and_count_are_bounded() {
        assert_eq!(refused(b"r=other,s=AAAA,i=4096"), ScramError::Nonce);
        assert_eq!(refused(format!("r={NONCE},s=AAAA,i=4096").as_bytes()), ScramError::Nonce);
        let iterations =
            |count: &str| first().server_first(format!("r={NONCE}x,s=AAAA,i={count}").as_bytes());
        assert!(iterations("4096").is_ok() && iterations("1000000").is_ok());
        assert_eq!(iterations("4095").unwrap_err(), ScramError::Iterations(4_095));
        assert_eq!(iterations("1000001").unwrap_err(), ScramError::Iterations(1_000_001));
        assert_eq!(iterations("99999999999999999999999").unwrap_err(), ScramError::Iterations(u64::MAX));
    }

    #[test]
    fn the_binding_is_said_and_signed() {
        for (binding, header, mechanism) in [
            (Binding::Unsupported, "n,,", SCRAM_SHA_256),
            (Binding::NotOffered, "y,,", SCRAM_SHA_256),
            (Binding::EndPoint(vec![1, 2, 3]), "p=tls-server-end-point,,", SCRAM_SHA_256_PLUS),
        ] {
            let data = binding.data().to_vec();
            let first = ClientFirst::with_nonce(binding, "", NONCE.to_owned());
            assert_eq!(first.mechanism(), mechanism);
            assert!(first.message().starts_with(header));
            let challenge = first.server_first(SERVER_FIRST).unwrap();
            let keys = keys(&challenge);
            let (message, _) = challenge.answer(&keys);
            let bound = STANDARD.encode([header.as_bytes(), &data].concat());
            assert!(message.starts_with(&format!("c={bound},r=")), "{message}");
        }
    }

    #[test]
    fn passwords_are_prepared_as_the_server_does() {
        // RFC 4013's examples: soft hyphen to nothing, roman numeral nine to its letters, feminine ordinal to its letter.
        assert_eq!(normalize("I\u{ad}X".as_bytes()).as_slice(), b"IX");
        assert_eq!(normalize("\u{2168}".as_bytes()).as_slice(), b"IX");
        assert_eq!(normalize("\u{aa}".as_bytes()).as_slice(), b"a");
        // Prohibited, and no UTF-8: as they are.
        assert_eq!(normalize(b"\x07").as_slice(), b"\x07");
        assert_eq!(normalize(b"\xff\xfe").as_slice(), b"\xff\xfe");
    }

    #[test]
    fn nonces_differ_and_secrets_do_not_print() {
        let one = ClientFirst::new(Binding::Unsupported).unwrap();
        let two = ClientFirst::new(Binding::Unsupported).unwrap();
        assert_ne!(one.nonce, two.nonce);
        assert_eq!(one.nonce.len(), 24);
        let challenge = first().server_first(SERVER_FIRST).unwrap();
        assert_eq!(format!("{:?}", keys(&challenge)), "DerivedKeys(..)");
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[rsimve=,0-9A-Za-z+/]{0,80}") {
            drop(first().server_first(&bytes));
            drop(first().server_first(text.as_bytes()));
            drop(first().server_first(format!("r={NONCE}{text}").as_bytes()));
            let last = AwaitFinal { expected: Zeroizing::new([7; KEY_BYTES]) };
            prop_assert!(last.server_final(&bytes).is_err());
        }
    }
}
