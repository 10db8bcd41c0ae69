//! Questions to a running gateway, over its control socket.
//!
//! Owns: finding the socket, and one HTTP exchange over it. May not: retry, or understand an answer. Fails with a message where no
//! gateway answers in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::config::{Config, Files};

/// Longest answer that is read: a hundred thousand sessions.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// How long a gateway may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which gateway.
#[derive(Debug, clap::Args)]
pub struct Gateway {
    /// The configuration file, which names the control socket.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG", default_value = "pgturnstile.toml")]
    config: PathBuf,
    /// The control socket, where the configuration is not at hand.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Gateway {
    /// Its control socket.
    ///
    /// # Errors
    /// The configuration cannot be read, or names none.
    pub fn socket(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let shown = self.config.display();
        let config = Config::load_with(&self.config, Files::Skip).map_err(|findings| {
            let first = findings.iter().find(|finding| finding.is_error()).map(ToString::to_string);
            format!(
                "{}\nname the control socket with --socket, or the configuration with --config",
                first.unwrap_or_default()
            )
        })?;
        config.control.and_then(|control| control.socket).ok_or_else(|| {
            format!(
                "{shown} names no control socket: live sessions and holds are told there only. Add socket = \
                 \"/run/pgturnstile/control\" to [control], and restart the gateway"
            )
        })
    }
}

/// One exchange: status and body.
///
/// # Errors
/// Nothing answers there, or not in time.
pub async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), String> {
    let answer = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driving = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)));
        let answer = sender.send_request(request.map_err(|error| error.to_string())?).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        driving.abort();
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
}
