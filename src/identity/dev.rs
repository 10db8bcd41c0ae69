//! A development identity provider: a key in a folder, tokens signed with it.
//!
//! For development, demonstrations and tests ONLY: whoever reads the folder is anybody. Owns: the folder's three files,
//! each readable by its owner alone: `dev-idp.key` (PKCS #8, DER), `jwks.json` (public), `dev-idp.json` (issuer, key
//! id, audience). May not: be reached by the gateway's data path; the gateway knows such an issuer only as one more
//! `[[issuer]]` that an operator wrote down. Refuses a key that others can read.

pub mod server;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

const KEY_FILE: &str = "dev-idp.key";
const KEY_SET_FILE: &str = "jwks.json";
const STATE_FILE: &str = "dev-idp.json";
/// Longest file of the state folder that is read, in bytes.
const FILE_BYTES_MAX: u64 = 65_536;
/// Longest life of a development token, in seconds: a day, the age that verifiers accept by default.
pub const TTL_S_MAX: u32 = 86_400;
/// Claims that the provider writes itself.
pub const RESERVED_CLAIMS: [&str; 6] = ["iss", "sub", "aud", "iat", "exp", "groups"];

/// What goes wrong with a development identity provider. At fault: its user.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file of the state folder.
    #[error("{path}: {what}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What failed and what next.
        what: String,
    },
    /// The cryptographic library refused.
    #[error("the signing key failed: {0}")]
    Key(&'static str),
    /// A claim that cannot be asked for.
    #[error("claim {0:?} cannot be set this way; it has its own option")]
    Reserved(String),
    /// Two claims of one place.
    #[error("claim {0:?} is set twice, or below a claim that is no object; set it once")]
    Clash(String),
    /// An address that others can reach.
    #[error(
        "{0} is not a loopback address; a provider that signs anything for anybody listens on 127.0.0.1 or ::1 only"
    )]
    NotLoopback(std::net::SocketAddr),
    /// An address that cannot be listened on.
    #[error("cannot listen on {0}: {1}; choose another port, or 0 for any free one")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The output or the runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A life that is not sensible.
    #[error("a token may live for 1 to {TTL_S_MAX} s, not {0} s")]
    Ttl(u32),
}

impl DevError {
    /// Whether the machine did not cooperate, as opposed to a wish that cannot stand.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        match self {
            DevError::Listen(..) | DevError::Io(_) | DevError::Key(_) => true,
            DevError::File { .. }
            | DevError::Reserved(_)
            | DevError::Clash(_)
            | DevError::NotLoopback(_)
            | DevError::Ttl(_) => false,
        }
    }
}

/// A provider's identity: its issuer URL and its key. No `Debug`: it can sign.
pub struct DevIdentity {
    key: EcdsaKeyPair,
    /// What the folder says besides.
    pub state: DevState,
}

/// The public part of a provider's state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevState {
    /// What it is, for whoever finds the file.
    pub warning: String,
    /// `iss` of its tokens.
    pub issuer: String,
    /// Where its key set is served.
    pub jwks_uri: String,
    /// `aud` of its tokens where none is asked for.
    pub audience: String,
    /// The key's id: its RFC 7638 thumbprint.
    pub kid: String,
}

/// What a token shall say.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `sub`.
    pub subject: String,
    /// `groups`.
    pub groups: Vec<String>,
    /// `aud`; empty: the provider's own.
    pub audiences: Vec<String>,
    /// Seconds from `iat` to `exp`.
    pub ttl_s: u32,
    /// Any other claims.
    pub claims: Map<String, Value>,
}

impl DevIdentity {
    /// Takes the key in `folder`, or makes one, and writes issuer and key set down.
    ///
    /// # Errors
    /// A folder or file that cannot be written, or a key file that others can read.
    pub fn set_up(folder: &Path, issuer: &str, audience: &str) -> Result<DevIdentity, DevError> {
        make_folder(folder)?;
        let key = match load_key(folder)? {
            Some(key) => key,
            None => make_key(folder)?,
        };
        let state = DevState {
            warning: "development only: whoever can read this folder can be anybody".to_owned(),
            issuer: issuer.to_owned(),
            jwks_uri: format!("{issuer}/jwks.json"),
            audience: audience.to_owned(),
            kid: key_id(&key)?,
        };
        let identity = DevIdentity { key, state };
        write_file(&folder.join(KEY_SET_FILE), pretty(&identity.key_set()?)?.as_bytes())?;
        let state = serde_json::to_value(&identity.state).map_err(|_| DevError::Key("state is not JSON"))?;
        // Last: whoever waits for this file finds the others.
        write_file(&folder.join(STATE_FILE), pretty(&state)?.as_bytes())?;
        Ok(identity)
    }

    /// Takes what [`DevIdentity::set_up`] left in `folder`.
    ///
    /// # Errors
    /// A folder without a provider, files of another shape, or a key file that others can read.
    pub fn load(folder: &Path) -> Result<DevIdentity, DevError> {
        let path = folder.join(STATE_FILE);
        let missing = || DevError::File {
            path: folder.to_owned(),
            what: "holds no development identity provider; run `pgturnstile dev-idp --state DIR` first"
                .to_owned(),
        };
        let text = read_file(&path)?.ok_or_else(missing)?;
        let state: DevState = serde_json::from_slice(&text).map_err(|error| DevError::File {
            path: path.clone(),
            what: format!("is not what dev-idp writes ({error}); remove the folder and run dev-idp again"),
        })?;
        let key = load_key(folder)?.ok_or_else(missing)?;
        if key_id(&key)? != state.kid {
            let what =
                "names another key than the folder's; remove the folder and run dev-idp again".to_owned();
            return Err(DevError::File { path, what });
        }
        Ok(DevIdentity { key, state })
    }

    /// A provider that lives in memory only, for tests.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn in_memory(issuer: &str, audience: &str) -> Result<DevIdentity, DevError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| DevError::Key("no key could be made"))?;
        let state = DevState {
            warning: "development only".to_owned(),
            issuer: issuer.to_owned(),
            jwks_uri: format!("{issuer}/jwks.json"),
            audience: audience.to_owned(),
            kid: key_id(&key)?,
        };
        Ok(DevIdentity { key, state })
    }

    /// The discovery document (OpenID Connect Discovery 1.0, section 3).
    #[must_use]
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.state.issuer,
            "jwks_uri": self.state.jwks_uri,
            "token_endpoint": format!("{}/token", self.state.issuer),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti", "groups"],
        })
    }

    /// The key set (RFC 7517) with the one public key.
    ///
    /// # Errors
    /// A key that is not the point it should be.
    pub fn key_set(&self) -> Result<Value, DevError> {
        let (x, y) = point(&self.key)?;
        Ok(json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.state.kid, "x": x, "y": y,
        }] }))
    }

    /// Signs a token as wished, valid from `now_s`.
    ///
    /// # Errors
    /// A wish for a reserved claim or a life that is not sensible.
    pub fn mint(&self, wish: &Wish, now_s: i64) -> Result<SecretString, DevError> {
        if let Some(name) = wish.claims.keys().find(|name| RESERVED_CLAIMS.contains(&name.as_str())) {
            return Err(DevError::Reserved(name.clone()));
        }
        if wish.ttl_s == 0 || wish.ttl_s > TTL_S_MAX {
            return Err(DevError::Ttl(wish.ttl_s));
        }
        let audience = match wish.audiences.as_slice() {
            [] => Value::from(self.state.audience.as_str()),
            [one] => Value::from(one.as_str()),
            several => Value::from(several.to_vec()),
        };
        let mut claims = wish.claims.clone();
        claims.insert("iss".to_owned(), self.state.issuer.clone().into());
        claims.insert("sub".to_owned(), wish.subject.clone().into());
        claims.insert("aud".to_owned(), audience);
        claims.insert("groups".to_owned(), wish.groups.clone().into());
        claims.insert("iat".to_owned(), now_s.into());
        claims.insert("exp".to_owned(), now_s.saturating_add(i64::from(wish.ttl_s)).into());
        if !claims.contains_key("jti") {
            claims.insert("jti".to_owned(), random_id()?.into());
        }
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.state.kid });
        self.sign(&header, &Value::Object(claims))
    }

    /// Signs any header and claims as they stand, for tests of what must be refused.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<SecretString, DevError> {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// The same for bytes that need not be JSON.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> Result<SecretString, DevError> {
        let mut token =
            Zeroizing::new(format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)));
        let signature = self
            .key
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| DevError::Key("it could not sign"))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(SecretString::from(token.as_str()))
    }
}

fn random_id() -> Result<String, DevError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| DevError::Key("the system gave no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The public point's coordinates, base64url. SEC 1: 0x04, x, y.
fn point(key: &EcdsaKeyPair) -> Result<(String, String), DevError> {
    match key.public_key().as_ref() {
        [4, coordinates @ ..] if coordinates.len() == 64 => {
            let (x, y) = coordinates.split_at(32);
            Ok((URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)))
        }
        _ => Err(DevError::Key("its public point has an unknown form")),
    }
}

/// RFC 7638: the members in this order, without white space.
fn key_id(key: &EcdsaKeyPair) -> Result<String, DevError> {
    let (x, y) = point(key)?;
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Ok(URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())))
}

fn make_folder(folder: &Path) -> Result<(), DevError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| DevError::File { path: folder.to_owned(), what: error.to_string() })
}

fn make_key(folder: &Path) -> Result<EcdsaKeyPair, DevError> {
    let failed = |_| DevError::Key("no key could be made");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
    let document = key.to_pkcs8v1().map_err(failed)?;
    write_file(&folder.join(KEY_FILE), document.as_ref())?;
    Ok(key)
}

fn load_key(folder: &Path) -> Result<Option<EcdsaKeyPair>, DevError> {
    let path = folder.join(KEY_FILE);
    let Some(document) = read_file(&path)? else { return Ok(None) };
    let mode = std::fs::metadata(&path)
        .map_err(|error| DevError::File { path: path.clone(), what: error.to_string() })?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let what = format!(
            "has mode {:03o}: others can read the key and be anybody; `chmod 600` it, or remove it for a new one",
            mode & 0o777
        );
        return Err(DevError::File { path, what });
    }
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document).map(Some).map_err(|error| {
        DevError::File {
            path,
            what: format!("is no P-256 key in PKCS #8 ({error}); remove it for a new one"),
        }
    })
}

fn read_file(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, DevError> {
    let failed = |error: std::io::Error| DevError::File { path: path.to_owned(), what: error.to_string() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Writes beside and renames: a reader sees the old file or the whole new one.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DevError> {
    let failed = |error: std::io::Error| DevError::File { path: path.to_owned(), what: error.to_string() };
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn pretty(value: &Value) -> Result<String, DevError> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|_| DevError::Key("state is not JSON"))
}
