//! Logging in to a target: from the startup packet to the first ReadyForQuery (PostgreSQL protocol chapter, "Start-up";
//! src/interfaces/libpq/fe-connect.c and fe-auth.c are the model, refusals are stricter).
//!
//! ```text
//!  StartupMessage (3.2) ── NegotiateProtocolVersion 3.0, or nothing ──┐   servers before 18 have 3.0 only
//!                 ┌───────────────────────────────────────────────────┘
//!                 ├─ AuthenticationOk ── no password configured; certificate shown, if one is ──────────────────────────┐
//!                 │                                                                       ▼
//!                 ├─ MD5Password ── TLS or Unix socket ─▶ PasswordMessage ─ Ok ──────────────────▶┤
//!                 ├─ CleartextPassword ── TLS or Unix socket ─▶ PasswordMessage ─ Ok ─▶ Settling ─ ReadyForQuery ─▶ done
//!                 │                                                                       ▲       idle, all checks hold
//!                 └─ SASL ─▶ first ─ Continue ─▶ keys ─▶ final ─ Final, proven ─ Ok ──────┘
//! ```
//!
//! NoticeResponse may come anywhere and is kept; ErrorResponse anywhere ends the login; every other frame at another
//! place than drawn is refused by name. AuthenticationOk before the server has proven itself by SCRAM is refused, too:
//! it is what an impostor would send. NegotiateProtocolVersion is taken once, before anything else, and only as the
//! step down that was offered. ParameterStatus and BackendKeyData belong to Settling.
//!
//! Generic over the stream, so that tests play the server by hand. May not do: choose login or target, or run a query.

use std::num::NonZeroU32;

use pgturnstile_proto::backend::{Authentication, Fields, Message, TransactionStatus};
use pgturnstile_proto::startup::{self, ProtocolVersion};
use pgturnstile_proto::{BackendTag, CANCEL_KEY_BYTES_MIN, encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::backend::credentials::{self, Password};
use crate::backend::error::{Failure, Step, Unfit};
use crate::backend::frames::{Frames, Share, rejected};
use crate::backend::keys::KeyCache;
use crate::backend::limits::{LOGIN_BYTES_MAX, LOGIN_FRAMES_MAX, LOGIN_NOTICES_MAX};
use crate::backend::md5;
use crate::backend::scram::{Binding, ClientFirst, DerivedKeys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::backend::server::{self, ServerVersion};
use crate::backend::settings::{ChannelBinding, Credential};
use crate::backend::startup::StartupParameters;

/// Who logs in, and where derived keys are kept.
#[derive(Debug, Clone, Copy)]
pub struct Login<'l> {
    /// The credential.
    pub credential: &'l Credential,
    /// The keys of earlier logins.
    pub keys: &'l KeyCache,
}

/// How the server was satisfied, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It asked for nothing.
    Trust,
    /// It asked for the certificate inside TLS and then for nothing.
    Certificate,
    /// The password in clear, inside TLS or over a Unix socket.
    Cleartext,
    /// MD5, inside TLS or over a Unix socket.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
    /// SCRAM-SHA-256-PLUS, bound to the server's certificate.
    ScramPlus,
}

/// What a later CancelRequest must name. Never shown to a client: it gets a key of the gateway's own.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    process_id: u32,
    secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

impl CancelKey {
    pub(crate) fn new(process_id: u32, secret: Vec<u8>) -> Self {
        Self { process_id, secret: Zeroizing::new(secret) }
    }

    /// The process id that the server announced.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// A NoticeResponse of the login: codes and texts.
pub type Notice = Vec<(u8, Vec<u8>)>;

/// What is known of a session that is ready.
#[derive(Debug)]
pub struct LoggedIn {
    /// What the server reported, in its order, each name once with its last value.
    pub parameters: Vec<(String, String)>,
    /// Process id and secret.
    pub key: CancelKey,
    /// The server's version.
    pub version: ServerVersion,
    /// How it was satisfied.
    pub method: Method,
    /// What is spoken.
    pub protocol: ProtocolVersion,
    /// Notices for the client.
    pub notices: Vec<Notice>,
}

/// What the stream under the login allows.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    /// TLS or a Unix socket: no network carries what is said in clear.
    pub(super) cleartext_password: bool,
    /// The server has asked for the credential's certificate.
    pub(super) certificate_shown: bool,
    /// The binding data of the server's certificate, where it has some.
    pub(super) end_point: Option<Vec<u8>>,
    /// What the target demands.
    pub(super) binding: ChannelBinding,
    /// The newest version to ask for.
    pub(super) protocol: ProtocolVersion,
}

/// An authentication request, as owned data.
enum Request {
    Ok,
    Cleartext,
    Md5([u8; 4]),
    Sasl { plain: bool, plus: bool },
    Continue(Vec<u8>),
    Final(Vec<u8>),
    Unsupported(&'static str),
}

/// Keys to remember once the server has accepted them.
struct Accepted {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: DerivedKeys,
}

/// One login on one stream.
pub(super) struct Session<'s, S> {
    frames: Frames<'s, S>,
    login: Login<'s>,
    channel: Channel,
    deadline: Instant,
    notices: Vec<Notice>,
    used_kept_keys: bool,
    /// What is spoken as far as the server has said.
    spoken: ProtocolVersion,
    /// Nothing but notices has come: the server may still step down.
    may_step_down: bool,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Session<'s, S> {
    pub(super) fn new(stream: &'s mut S, login: Login<'s>, channel: Channel, deadline: Instant) -> Self {
        let share = Share { frames: LOGIN_FRAMES_MAX, bytes: LOGIN_BYTES_MAX };
        Self {
            frames: Frames::new(stream, Step::Authenticate, share),
            login,
            spoken: channel.protocol,
            channel,
            deadline,
            notices: Vec::new(),
            used_kept_keys: false,
            may_step_down: true,
        }
    }

    /// Whether this login stood on kept keys: its failure may then mean that the password has changed since.
    pub(super) fn used_kept_keys(&self) -> bool {
        self.used_kept_keys
    }

    /// Whether nothing has been said that stands on the version asked for, and an older one is left to ask for.
    pub(super) fn may_be_lower(&self) -> bool {
        self.may_step_down && self.spoken != ProtocolVersion::V3_0
    }

    /// Where the login stands.
    pub(super) fn step(&self) -> Step {
        self.frames.step()
    }

    /// Runs the login. The caller holds the deadline.
    pub(super) async fn run(&mut self, parameters: &StartupParameters) -> Result<LoggedIn, Failure> {
        let mut packet = Vec::new();
        let pairs = parameters.pairs().iter().map(|(name, value)| (*name, value.as_str()));
        encode::startup(&mut packet, self.channel.protocol, pairs)?;
        self.frames.send(&packet).await?;
        let (method, accepted) = self.authenticate().await?;
        if let Some(Accepted { salt, iterations, keys }) = accepted {
            self.login.keys.put(&self.login.credential.name, salt, iterations, keys);
        }
        self.frames.enter(Step::Settle);
        self.settle(parameters, method).await
    }

    async fn authenticate(&mut self) -> Result<(Method, Option<Accepted>), Failure> {
        match self.request().await? {
            Request::Ok => {
                self.binding_missed("the server asked for no password")?;
                Ok((self.unasked()?, None))
            }
            Request::Md5(salt) => {
                self.md5(salt).await?;
                Ok((Method::Md5, None))
            }
            Request::Cleartext => {
                self.cleartext().await?;
                Ok((Method::Cleartext, None))
            }
            Request::Sasl { plain, plus } => self.sasl(plain, plus).await,
            Request::Unsupported(method) => Err(Failure::Method(method)),
            Request::Continue(_) | Request::Final(_) => Err(self.unexpected(BackendTag::Authentication)),
        }
    }

    /// AuthenticationOk at once: only where nothing is configured that the server should have asked for.
    fn unasked(&self) -> Result<Method, Failure> {
        let credential = self.login.credential;
        match (&credential.password, &credential.certificate) {
            (Some(_), _) => Err(Failure::NotAsked(credential.name.clone())),
            (None, Some(_)) if self.channel.certificate_shown => Ok(Method::Certificate),
            (None, Some(_)) => Err(Failure::CertificateNotAsked(credential.name.clone())),
            (None, None) => Ok(Method::Trust),
        }
    }

    /// MD5 authentication sends no password, but what whoever hears it can try passwords on.
    async fn md5(&mut self, salt: [u8; 4]) -> Result<(), Failure> {
        self.binding_missed("the server asks for an MD5 answer, which binds nothing")?;
        if !self.channel.cleartext_password {
            return Err(Failure::Md5Unencrypted);
        }
        let password = self.password().await?;
        let answer = md5::answer(password.expose(), self.login.credential.user.as_bytes(), salt);
        drop(password);
        let mut frame = Zeroizing::new(Vec::with_capacity(64));
        encode::password(&mut frame, answer.as_slice())?;
        self.frames.send(&frame).await?;
        self.verdict().await
    }

    async fn cleartext(&mut self) -> Result<(), Failure> {
        self.binding_missed("the server asks for the password in clear")?;
        if !self.channel.cleartext_password {
            return Err(Failure::CleartextUnencrypted);
        }
        let password = self.password().await?;
        // Large enough for the frame at once: a buffer that grows leaves copies behind.
        let mut frame = Zeroizing::new(Vec::with_capacity(password.expose().len() + 16));
        encode::password(&mut frame, password.expose())?;
        drop(password);
        self.frames.send(&frame).await?;
        self.verdict().await
    }

    async fn sasl(&mut self, plain: bool, plus: bool) -> Result<(Method, Option<Accepted>), Failure> {
        let (binding, method) = self.choose(plain, plus)?;
        let first = ClientFirst::new(binding)?;
        let mut frame = Vec::new();
        encode::sasl_initial_response(&mut frame, first.mechanism(), Some(first.message().as_bytes()))?;
        self.frames.send(&frame).await?;

        let challenge = match self.request().await? {
            Request::Continue(message) => first.server_first(&message)?,
            Request::Ok
            | Request::Cleartext
            | Request::Md5(_)
            | Request::Sasl { .. }
            | Request::Final(_)
            | Request::Unsupported(_) => return Err(self.unexpected(BackendTag::Authentication)),
        };
        let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
        let keys = self.keys(&salt, iterations).await?;
        let (message, awaited) = challenge.answer(&keys);
        frame.clear();
        encode::sasl_response(&mut frame, message.as_bytes())?;
        self.frames.send(&frame).await?;

        match self.request().await? {
            Request::Final(message) => awaited.server_final(&message)?,
            Request::Ok
            | Request::Cleartext
            | Request::Md5(_)
            | Request::Sasl { .. }
            | Request::Continue(_)
            | Request::Unsupported(_) => return Err(self.unexpected(BackendTag::Authentication)),
        }
        self.verdict().await?;
        Ok((method, Some(Accepted { salt, iterations, keys })))
    }

    /// Channel binding where both sides can; where the server offers none, it is told that we could.
    fn choose(&self, plain: bool, plus: bool) -> Result<(Binding, Method), Failure> {
        match (&self.channel.end_point, plus) {
            (Some(hash), true) => Ok((Binding::EndPoint(hash.clone()), Method::ScramPlus)),
            (Some(_), false) => {
                self.binding_missed("the server offers no SCRAM-SHA-256-PLUS")?;
                if plain { Ok((Binding::NotOffered, Method::Scram)) } else { Err(Failure::Mechanism) }
            }
            (None, _) => {
                self.binding_missed("the server's certificate has no tls-server-end-point binding")?;
                if plain { Ok((Binding::Unsupported, Method::Scram)) } else { Err(Failure::Mechanism) }
            }
        }
    }

    fn binding_missed(&self, why: &'static str) -> Result<(), Failure> {
        match self.channel.binding {
            ChannelBinding::Prefer => Ok(()),
            ChannelBinding::Require => Err(Failure::ChannelBinding(why)),
        }
    }

    async fn keys(&mut self, salt: &[u8], iterations: NonZeroU32) -> Result<DerivedKeys, Failure> {
        if let Some(keys) = self.login.keys.get(&self.login.credential.name, salt, iterations) {
            self.used_kept_keys = true;
            return Ok(keys);
        }
        let password = self.password().await?;
        let salt = salt.to_owned();
        // Milliseconds of CPU, up to seconds at the greatest count: not on a thread that serves sessions.
        let derived =
            tokio::task::spawn_blocking(move || DerivedKeys::derive(password.expose(), &salt, iterations));
        derived.await.map_err(|_| Failure::Stopped)
    }

    async fn password(&self) -> Result<Password, Failure> {
        let credential = self.login.credential;
        let Some(source) = &credential.password else {
            return Err(Failure::NoPassword(credential.name.clone()));
        };
        Ok(credentials::read(&credential.name, source, self.deadline).await?)
    }

    /// AuthenticationOk and nothing else.
    async fn verdict(&mut self) -> Result<(), Failure> {
        match self.request().await? {
            Request::Ok => Ok(()),
            Request::Cleartext
            | Request::Md5(_)
            | Request::Sasl { .. }
            | Request::Continue(_)
            | Request::Final(_)
            | Request::Unsupported(_) => Err(self.unexpected(BackendTag::Authentication)),
        }
    }

    /// The next authentication request.
    async fn request(&mut self) -> Result<Request, Failure> {
        loop {
            let step = self.frames.step();
            let message = self.frames.next().await?;
            let tag = message.tag();
            match message {
                Message::Authentication(request) => {
                    let request = Request::from(request);
                    self.may_step_down = false;
                    return Ok(request);
                }
                Message::NoticeResponse(fields) => keep(&mut self.notices, &fields),
                Message::ErrorResponse(fields) => return Err(rejected(step, &fields)),
                Message::NegotiateProtocolVersion(offer) => {
                    let (version, named) = (offer.version(), offer.options().next().is_some());
                    self.step_down(version, named)?;
                }
                Message::BackendKeyData(_)
                | Message::BindComplete
                | Message::CloseComplete
                | Message::CommandComplete(_)
                | Message::CopyData(_)
                | Message::CopyDone
                | Message::CopyInResponse(_)
                | Message::CopyOutResponse(_)
                | Message::CopyBothResponse(_)
                | Message::DataRow(_)
                | Message::EmptyQueryResponse
                | Message::FunctionCallResponse(_)
                | Message::NoData
                | Message::NotificationResponse(_)
                | Message::ParameterDescription(_)
                | Message::ParameterStatus(_)
                | Message::ParseComplete
                | Message::PortalSuspended
                | Message::ReadyForQuery { .. }
                | Message::RowDescription(_) => return Err(Failure::Unexpected { step, tag }),
            }
        }
    }

    /// A server's NegotiateProtocolVersion. No option is ever asked for, and 3.0 is all that lies below what is: any
    /// other offer, and a second one, is an answer to a question that nobody asked.
    fn step_down(&mut self, version: u32, names_options: bool) -> Result<(), Failure> {
        let steps_down = match self.spoken {
            ProtocolVersion::V3_2 => version == startup::VERSION_3_0,
            ProtocolVersion::V3_0 => false,
        };
        if !steps_down || names_options || !self.may_step_down {
            let what = "a NegotiateProtocolVersion for something that was not asked for";
            return Err(Failure::Nonsense { step: self.frames.step(), what });
        }
        self.spoken = ProtocolVersion::V3_0;
        self.may_step_down = false;
        Ok(())
    }

    /// Whether a cancel key has a length that the version allows; `proto` holds it within 3.2's bounds.
    fn key_fits(&self, bytes: usize) -> bool {
        match self.spoken {
            ProtocolVersion::V3_0 => bytes == CANCEL_KEY_BYTES_MIN,
            ProtocolVersion::V3_2 => true,
        }
    }

    /// From AuthenticationOk to the first ReadyForQuery.
    async fn settle(&mut self, sent: &StartupParameters, method: Method) -> Result<LoggedIn, Failure> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut key: Option<CancelKey> = None;
        loop {
            let step = self.frames.step();
            let message = self.frames.next().await?;
            let tag = message.tag();
            match message {
                Message::ParameterStatus(status) => {
                    let (Ok(name), Ok(value)) = (status.name_str(), status.value_str()) else {
                        return Err(Failure::Nonsense { step, what: "a ParameterStatus that is not UTF-8" });
                    };
                    match parameters.iter_mut().find(|(known, _)| known == name) {
                        Some((_, known)) => value.clone_into(known),
                        None => parameters.push((name.to_owned(), value.to_owned())),
                    }
                }
                Message::BackendKeyData(data) => {
                    if key.is_some() {
                        return Err(Failure::Nonsense { step, what: "a second BackendKeyData" });
                    }
                    let read = CancelKey::new(data.process_id(), data.key().to_vec());
                    if !self.key_fits(read.secret().len()) {
                        let what = "a cancel key longer than protocol 3.0 has";
                        return Err(Failure::Nonsense { step, what });
                    }
                    key = Some(read);
                }
                Message::NoticeResponse(fields) => keep(&mut self.notices, &fields),
                Message::ErrorResponse(fields) => return Err(rejected(step, &fields)),
                Message::ReadyForQuery { status: TransactionStatus::Idle } => {
                    let key = key.ok_or(Unfit::NoKey)?;
                    let version = server::check(&parameters, sent)?;
                    let notices = std::mem::take(&mut self.notices);
                    let protocol = self.spoken;
                    return Ok(LoggedIn { parameters, key, version, method, protocol, notices });
                }
                Message::ReadyForQuery {
                    status: TransactionStatus::InTransaction | TransactionStatus::Failed,
                } => {
                    return Err(Unfit::NotIdle.into());
                }
                Message::Authentication(_)
                | Message::BindComplete
                | Message::CloseComplete
                | Message::CommandComplete(_)
                | Message::CopyData(_)
                | Message::CopyDone
                | Message::CopyInResponse(_)
                | Message::CopyOutResponse(_)
                | Message::CopyBothResponse(_)
                | Message::DataRow(_)
                | Message::EmptyQueryResponse
                | Message::FunctionCallResponse(_)
                | Message::NegotiateProtocolVersion(_)
                | Message::NoData
                | Message::NotificationResponse(_)
                | Message::ParameterDescription(_)
                | Message::ParseComplete
                | Message::PortalSuspended
                | Message::RowDescription(_) => return Err(Failure::Unexpected { step, tag }),
            }
        }
    }

    fn unexpected(&self, tag: BackendTag) -> Failure {
        Failure::Unexpected { step: self.frames.step(), tag }
    }
}

impl From<Authentication<'_>> for Request {
    fn from(request: Authentication<'_>) -> Self {
        match request {
            Authentication::Ok => Self::Ok,
            Authentication::CleartextPassword => Self::Cleartext,
            Authentication::Sasl(mechanisms) => Self::Sasl {
                plain: mechanisms.offers(SCRAM_SHA_256),
                plus: mechanisms.offers(SCRAM_SHA_256_PLUS),
            },
            Authentication::SaslContinue(data) => Self::Continue(data.to_vec()),
            Authentication::SaslFinal(data) => Self::Final(data.to_vec()),
            Authentication::Md5Password { salt } => Self::Md5(salt),
            Authentication::KerberosV5 => Self::Unsupported("Kerberos V5"),
            Authentication::Gss | Authentication::GssContinue(_) => Self::Unsupported("GSSAPI"),
            Authentication::Sspi => Self::Unsupported("SSPI"),
        }
    }
}

fn keep(notices: &mut Vec<Notice>, fields: &Fields<'_>) {
    if notices.len() < LOGIN_NOTICES_MAX {
        notices.push(fields.iter().map(|(code, text)| (code, text.to_vec())).collect());
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
