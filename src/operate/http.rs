//! The admin listener and the control socket: a few pages over HTTP/1.1, nothing else.
//!
//! Owns: the listener, its bounds (connections, seconds; a body is read of decisions on holds alone) and the routing. May not: change
//! anything itself, or be reached in clear from another machine: the configuration refuses an address that is not loopback without TLS.
//! Fails alone, in the log.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::{Source, approvals, process, sessions, text};
use crate::net::local::Held;
use crate::net::stream::Stream;

/// Connections at a time; for one more, that is closed which has asked for nothing for the longest time.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a TLS handshake or a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of one connection: scrapers keep theirs, and come back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause after an accept that failed: descriptors or memory are short, and a tight loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Page = Response<Full<Bytes>>;

/// Where pages are asked for.
#[derive(Debug)]
pub enum Door {
    /// The admin listener.
    Network(TcpListener),
    /// The control socket: its file lets in the gateway's own user and root alone.
    Local(UnixListener, Held),
}

/// Who asks.
enum Caller {
    Network(TcpStream, SocketAddr),
    Local(UnixStream),
}

impl Door {
    async fn accept(&self) -> io::Result<Caller> {
        match self {
            Door::Network(listener) => listener.accept().await.map(|(tcp, peer)| Caller::Network(tcp, peer)),
            Door::Local(listener, _held) => listener.accept().await.map(|(unix, _)| Caller::Local(unix)),
        }
    }
}

/// A connection as the listener sees it.
struct Open {
    task: AbortHandle,
    usage: Arc<Use>,
}

/// How a connection is used.
#[derive(Debug)]
struct Use {
    /// Pages that are being made for it.
    pages: AtomicUsize,
    /// When it was accepted, or last asked for a page or got one.
    last: Mutex<Instant>,
}

impl Use {
    fn new() -> Self {
        Self { pages: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }
    }

    /// It asks for a page.
    fn begins(&self) {
        // Relaxed: whoever counts only chooses whom to close.
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.moved();
    }

    /// The page is made.
    fn ends(&self) {
        self.moved();
        self.pages.fetch_sub(1, Ordering::Relaxed);
    }

    fn moved(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Since when nothing is done for it; `None` while something is.
    fn idle_since(&self) -> Option<Instant> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (self.pages.load(Ordering::Relaxed) == 0).then_some(last)
    }
}

/// Makes a place for one more connection: whoever holds them all and asks for nothing keeps no probe out. Whether there is one.
fn make_place(open: &mut Vec<Open>) -> bool {
    open.retain(|one| !one.task.is_finished());
    if open.len() < CONNECTIONS_MAX {
        return true;
    }
    let idle = open.iter().enumerate().filter_map(|(at, one)| Some((one.usage.idle_since()?, at)));
    let Some((_, oldest)) = idle.min() else { return false };
    open.swap_remove(oldest).task.abort();
    tracing::debug!("the admin listener closed an idle connection for a new one");
    true
}

/// Serves until the sender of `end` is gone; no page is being made behind that.
pub async fn serve<S: Source>(door: Door, source: Arc<S>, mut end: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let mut open = Vec::with_capacity(CONNECTIONS_MAX);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = &mut end => return connections.shutdown().await,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok(caller) => {
                if !make_place(&mut open) {
                    tracing::debug!(
                        "the admin listener makes pages for all the connections that it may have"
                    );
                    continue;
                }
                let source = Arc::clone(&source);
                let usage = Arc::new(Use::new());
                let used = Arc::clone(&usage);
                let task = connections.spawn(async move {
                    // A client that breaks off or dawdles is its own affair.
                    drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection(caller, source, used)).await);
                });
                open.push(Open { task, usage });
            }
            Err(error) => {
                tracing::debug!(%error, "the admin listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S: Source>(caller: Caller, source: Arc<S>, used: Arc<Use>) {
    let local = matches!(caller, Caller::Local(_));
    let stream = match (caller, source.tls()) {
        (Caller::Local(unix), _) => Stream::Unix(unix),
        (Caller::Network(tcp, _), None) => Stream::Plain(tcp),
        (Caller::Network(tcp, peer), Some(tls)) => {
            match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(tcp)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "TLS of the admin listener failed");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let service = service_fn(move |request| {
        let (source, used) = (Arc::clone(&source), Arc::clone(&used));
        async move {
            used.begins();
            let page = page(source.as_ref(), request, local).await;
            used.ends();
            Ok::<_, Infallible>(page)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the admin listener ended");
    }
}

async fn page<S: Source>(source: &S, request: Request<Incoming>, local: bool) -> Page {
    if request.headers().contains_key(ORIGIN) {
        return say(StatusCode::FORBIDDEN, "requests that a browser makes for a page are not answered");
    }
    if local && (request.uri().path() == "/holds" || request.uri().path().starts_with("/holds/")) {
        let (status, page) = approvals::page(source, request).await;
        return json_page(status, &page);
    }
    read(source, &request, local)
}

/// What is only read.
fn read<S: Source>(source: &S, request: &Request<Incoming>, local: bool) -> Page {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut page = say(StatusCode::METHOD_NOT_ALLOWED, "pages are only read: use GET");
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return page;
    }
    match request.uri().path() {
        "/live" => {
            let health = source.health();
            json_page(status(health.is_live()), &health.live_page())
        }
        "/ready" => {
            let health = source.health();
            json_page(status(health.is_ready()), &health.ready_page())
        }
        "/metrics" => match source.figures() {
            Some(figures) => answer(StatusCode::OK, text::CONTENT_TYPE, figures.render()),
            None => say(StatusCode::NOT_FOUND, "metrics are not offered here: [control] metrics is false"),
        },
        "/sessions" if local => {
            let page = sessions::page(&source.sessions(), process::now_ms());
            json_page(StatusCode::OK, &page)
        }
        "/tickets" if local => json_page(StatusCode::OK, &approvals::tickets(source)),
        "/sessions" | "/holds" | "/tickets" => say(
            StatusCode::NOT_FOUND,
            "live sessions, holds and tickets are told on the control socket only: [control] socket",
        ),
        _ => say(StatusCode::NOT_FOUND, "there are /live, /ready and /metrics"),
    }
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn say(status: StatusCode, what: &str) -> Page {
    json_page(status, &json!({ "error": what }))
}

fn json_page(status: StatusCode, value: &Value) -> Page {
    answer(status, "application/json", format!("{value}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
