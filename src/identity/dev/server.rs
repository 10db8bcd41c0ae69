//! The development identity provider's HTTP side: discovery, key set, and a token endpoint that believes everybody.
//!
//! For development ONLY. Owns: a plain HTTP/1.1 server on a loopback address. May not: listen anywhere else; answer a
//! request that a browser made for another page (an `Origin`, or a `Host` that is not loopback: DNS rebinding), since
//! whoever can read an answer of the token endpoint is anybody. Everything is bounded: connections, bytes, seconds.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use openidconnect::url::form_urlencoded;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{DevError, DevIdentity, TTL_S_MAX, Wish};
use crate::identity::json;
use crate::identity::limits::{DEV_CONNECTIONS_MAX, DEV_REQUEST_BYTES_MAX};

/// Life of a token where none is asked for, in seconds.
pub const TTL_S: u32 = 900;
/// Longest life of one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A bound development identity provider.
pub struct DevServer {
    listener: TcpListener,
    address: SocketAddr,
    identity: Arc<DevIdentity>,
}

impl DevServer {
    /// Listens on a loopback address (port 0: any free one) and writes the state folder for `token` and the gateway.
    ///
    /// # Errors
    /// An address that is not loopback or is taken, or a folder that cannot be used.
    pub async fn bind(listen: SocketAddr, folder: &Path, audience: &str) -> Result<DevServer, DevError> {
        if !listen.ip().is_loopback() {
            return Err(DevError::NotLoopback(listen));
        }
        let failed = |error: std::io::Error| DevError::Listen(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let identity = Arc::new(DevIdentity::set_up(folder, &format!("http://{address}"), audience)?);
        Ok(DevServer { listener, address, identity })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> &DevIdentity {
        &self.identity
    }

    /// Serves until `stop` is ready. Open connections are dropped then.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(DEV_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = &mut stop => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors: the next try is not better at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let identity = Arc::clone(&self.identity);
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let identity = Arc::clone(&identity);
                    async move { Ok::<_, Infallible>(answer(&identity, request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(CONNECTION_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that breaks off or dawdles is its own affair.
                let _ended = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                drop(place);
            });
        }
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(identity: &DevIdentity, request: Request<Incoming>) -> Answer {
    if !from_this_machine(&request) {
        return refuse(
            StatusCode::FORBIDDEN,
            "invalid_request",
            "requests of web pages or for other hosts are not answered",
        );
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/.well-known/openid-configuration") => reply(StatusCode::OK, &identity.discovery()),
        (&Method::GET, "/jwks.json") => match identity.key_set() {
            Ok(key_set) => reply(StatusCode::OK, &key_set),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "server_error", &error.to_string()),
        },
        (&Method::POST, "/token") => token(identity, request).await,
        (_, "/.well-known/openid-configuration" | "/jwks.json" | "/token") => {
            let mut answer =
                refuse(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "another method is expected");
            answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, POST"));
            answer
        }
        _ => refuse(
            StatusCode::NOT_FOUND,
            "invalid_request",
            "there are /.well-known/openid-configuration, /jwks.json and /token",
        ),
    }
}

/// No page of a browser, and no name that only resolves to here.
fn from_this_machine(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let address = host.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| host.parse::<IpAddr>());
    let loopback = match address {
        Ok(address) => address.is_loopback(),
        Err(_) => host.split(':').next() == Some("localhost"),
    };
    loopback && !request.headers().contains_key(ORIGIN)
}

/// RFC 6749 section 4.4, with any claims for the asking.
async fn token(identity: &DevIdentity, request: Request<Incoming>) -> Answer {
    let bad = |why: &str| refuse(StatusCode::BAD_REQUEST, "invalid_request", why);
    let Ok(body) = Limited::new(request.into_body(), DEV_REQUEST_BYTES_MAX).collect().await else {
        return bad("the form is too long or was cut off");
    };
    let wish = match read_form(&body.to_bytes()) {
        Ok(wish) => wish,
        Err(why) => return bad(&why),
    };
    let now_s = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    match identity.mint(&wish, now_s) {
        Ok(token) => reply(
            StatusCode::OK,
            &json!({
                "access_token": token.expose_secret(),
                "id_token": token.expose_secret(),
                "token_type": "Bearer",
                "expires_in": wish.ttl_s,
            }),
        ),
        Err(error) => bad(&error.to_string()),
    }
}

fn read_form(form: &[u8]) -> Result<Wish, String> {
    let mut wish = Wish { ttl_s: TTL_S, ..Wish::default() };
    let mut grant = None;
    for (name, value) in form_urlencoded::parse(form) {
        match name.as_ref() {
            "grant_type" => grant = Some(value.into_owned()),
            "sub" | "client_id" => wish.subject = value.into_owned(),
            "groups" => {
                wish.groups.extend(value.split([',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned))
            }
            "audience" => wish.audiences.push(value.into_owned()),
            "ttl_s" => {
                wish.ttl_s = value.parse().map_err(|_| format!("ttl_s is a number from 1 to {TTL_S_MAX}"))?;
            }
            "claims" => {
                let claims = json::object(value.as_bytes()).map_err(|flaw| format!("claims is {flaw}"))?;
                wish.claims.extend(claims);
            }
            // What OAuth clients send along; nobody is authenticated here.
            "client_secret" | "scope" => {}
            _ => return Err("the form has grant_type, sub, groups, audience, ttl_s and claims".to_owned()),
        }
    }
    if grant.as_deref() != Some("client_credentials") {
        return Err("grant_type must be client_credentials".to_owned());
    }
    if wish.subject.is_empty() {
        return Err("sub is missing: say whose token it shall be".to_owned());
    }
    Ok(wish)
}

fn reply(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    answer
}

/// RFC 6749 section 5.2.
fn refuse(status: StatusCode, error: &str, why: &str) -> Answer {
    reply(status, &json!({ "error": error, "error_description": why }))
}
