//! Where an issuer's keys come from: discovery, a URL, or a file.
//!
//! Owns: one reading of the source, without memory of earlier ones. The cache decides when it is read.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use openidconnect::url::Url;
use serde_json::Value;

use super::denied::Flaw;
use super::http::{Client, FetchError};
use super::json;
use super::jwks::{BadKeySet, KeySet};
use super::limits::{DISCOVERY_BYTES_MAX, KEY_SET_BYTES_MAX};

/// Where keys come from, as the configuration says it (`jwks`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// By OpenID Connect Discovery 1.0 below the issuer's URL.
    Discover,
    /// From this URL.
    Url(String),
    /// From this file, re-read when it changes.
    File(PathBuf),
}

/// The same with everything resolved that the configuration fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Discover { issuer: String, document: Url },
    Url(Url),
    File(PathBuf),
}

/// A file's state, by which a change is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// What a reading brought.
pub(super) enum Reading {
    /// Keys, and for a file its stamp.
    Keys(KeySet, Option<Stamp>),
    /// The file is as it was.
    Unchanged,
}

/// Why keys could not be had. For the operator's log and the evidence; names places of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the discovery document at {0} is {1}")]
    Discovery(Url, Flaw),
    #[error(
        "the discovery document at {0} is that of another issuer; its \"issuer\" must equal the configured one to the letter"
    )]
    OtherIssuer(Url),
    #[error("the discovery document at {0} has no usable \"jwks_uri\"")]
    NoKeySetUrl(Url),
    #[error("{0}: {1}")]
    KeySet(String, BadKeySet),
    #[error("the key set file {0} cannot be read: {1}")]
    File(PathBuf, String),
    #[error("the refresh was cut off; the gateway is stopping")]
    CutOff,
}

impl Place {
    /// Reads the source once. For a file, `last` is the stamp of the keys already held.
    pub(super) async fn read(&self, client: &Client, last: Option<Stamp>) -> Result<Reading, KeysError> {
        match self {
            Place::Discover { issuer, document } => {
                let url = discover(client, issuer, document).await?;
                fetch(client, &url).await
            }
            Place::Url(url) => fetch(client, url).await,
            Place::File(path) => {
                let path = path.clone();
                // A file system may hang; it then holds a thread of the blocking pool, not a worker.
                tokio::task::spawn_blocking(move || read_file(&path, last))
                    .await
                    .unwrap_or(Err(KeysError::CutOff))
            }
        }
    }
}

/// The key set's place, from the discovery document (OpenID Connect Discovery 1.0, sections 4.1 to 4.3). Only two
/// members count; openidconnect's metadata type demands an authorization endpoint, which GitHub's and Kubernetes'
/// documents do not have.
async fn discover(client: &Client, issuer: &str, document: &Url) -> Result<Url, KeysError> {
    let bytes = client.get(document, DISCOVERY_BYTES_MAX).await?;
    let members = json::object(&bytes).map_err(|flaw| KeysError::Discovery(document.clone(), flaw))?;
    if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(KeysError::OtherIssuer(document.clone()));
    }
    members
        .get("jwks_uri")
        .and_then(Value::as_str)
        .and_then(|text| Url::parse(text).ok())
        .ok_or_else(|| KeysError::NoKeySetUrl(document.clone()))
}

async fn fetch(client: &Client, url: &Url) -> Result<Reading, KeysError> {
    let bytes = client.get(url, KEY_SET_BYTES_MAX).await?;
    KeySet::read(&bytes)
        .map(|keys| Reading::Keys(keys, None))
        .map_err(|error| KeysError::KeySet(url.to_string(), error))
}

pub(super) fn read_file(path: &Path, last: Option<Stamp>) -> Result<Reading, KeysError> {
    let failed = |error: std::io::Error| KeysError::File(path.to_owned(), error.to_string());
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeysError::File(path.to_owned(), "it is no regular file".to_owned()));
    }
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        len: metadata.len(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    };
    if last == Some(stamp) {
        return Ok(Reading::Unchanged);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(KEY_SET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    KeySet::read(&bytes)
        .map(|keys| Reading::Keys(keys, Some(stamp)))
        .map_err(|error| KeysError::KeySet(path.display().to_string(), error))
}
