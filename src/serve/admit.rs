//! Admission: from a startup packet to a running session.
//!
//! Owns: the order identity → access → record → slot → dial → guards → greeting, under one login deadline. May not: relay.
//! Fails closed: each step that cannot be taken ends the connection with one FATAL that says what, why and what next, and
//! a record; before the client is known it learns nothing about targets or policy.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::startup::{self, Packet, ProtocolVersion};
use pgturnstile_proto::{Limits, encode};
use pgturnstile_rules::mask::value::redacted;
use pgturnstile_rules::policy::{self, Principal};
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::arrive::{close_log, open_log, record_routed};
use super::gateway::{Loaded, TargetSource, listener_name};
use super::guards;
use super::keys::{Cancellable, Registered};
use super::mapping;
use super::peer::Peer;
use super::route::{Asked, Routed};
use super::shard::Shard;
use super::targets::TargetState;
use super::turned::{Turned, gone, undialled};
use crate::backend::settings::Credential;
use crate::backend::{self, ClientSettings, Connected, StartupParameters};
use crate::config::{self, Auth};
use crate::evidence::record::v1;
use crate::evidence::record::{Entry, How};
use crate::evidence::{AppendError, SessionLog};
use crate::identity::{Denied, bearer};
use crate::net::stream::Stream;
use crate::operate::process;
use crate::operate::sessions::Who;
use crate::session::greeting::{self, Bearer};
use crate::session::{
    Account, Control, Durability, End, Fault, Ground, Judge, Login, Parts, Pinned, Relay, World, denial,
};

/// A connection whose startup packet is read.
pub(super) struct Admission {
    pub(super) shard: Arc<Shard>,
    pub(super) loaded: Arc<Loaded>,
    pub(super) peer: Peer,
    pub(super) listener: usize,
    pub(super) deadline: Instant,
}

/// What a session is relayed with, once admitted.
struct Admitted {
    connected: Connected,
    world: World,
    ground: Ground,
    state: Arc<TargetState>,
    pinned: Pinned,
    durability: Durability,
    /// What the client calls itself.
    name: String,
    control: Arc<Control>,
    registered: Registered,
    slot: tokio::sync::OwnedSemaphorePermit,
}

impl Admission {
    /// Admits it and relays, or turns it away.
    pub(super) async fn run(self, mut stream: Stream, packet: Vec<u8>) {
        let tls = stream
            .tls()
            .map_or_else(|| "none".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher_suite));
        let mut log = match open_log(&self.shard, &self.loaded, &self.peer, self.listener, &tls).await {
            Ok(log) => log,
            Err(error) => {
                self.shard.memory.tally().login(Login::Evidence);
                tracing::warn!(peer = %self.peer, %error, "turned away: the session could not be recorded");
                greeting::say(&mut stream, &denial::fatal(error.sqlstate(), error.client_text())).await;
                return;
            }
        };
        let admitted = match timeout_at(self.deadline, self.admit(&mut stream, &packet, &mut log)).await {
            Ok(outcome) => outcome,
            Err(_) => Err((
                Login::Deadline,
                Turned::new(
                    Fault::Client,
                    "08006",
                    "pgturnstile refused the connection: login took longer than login_deadline_ms. Next: retry; if it \
                     stays so, the operator finds the slow step in the gateway's log",
                ),
            )),
        };
        match admitted {
            Ok(admitted) => {
                self.shard.memory.tally().login(Login::Admitted);
                Box::pin(self.relay(stream, log, admitted)).await;
            }
            Err((login, turned)) => {
                self.shard.memory.tally().login(login);
                let reason = turned.exact.as_deref().unwrap_or(&turned.message);
                tracing::info!(
                    session = mapping::hex(&log.id()),
                    peer = %self.peer,
                    outcome = login.name(),
                    sqlstate = turned.sqlstate,
                    reason,
                    "turned away"
                );
                close_log(log, turned.fault, reason).await;
                greeting::say(&mut stream, &denial::fatal(&turned.sqlstate, &turned.message)).await;
            }
        }
    }

    async fn admit(
        &self,
        stream: &mut Stream,
        packet: &[u8],
        log: &mut SessionLog,
    ) -> Result<Admitted, (Login, Turned)> {
        let at = |login: Login| move |turned: Turned| (login, turned);
        let (client, protocol) = self.read_startup(stream, packet).await.map_err(at(Login::Startup))?;
        let principal = self.authenticate(stream, &client, log).await?;
        let server_name = stream.server_name().map(str::to_owned);
        let asked = Asked {
            server_name: server_name.as_deref(),
            user: &client.user,
            database: client.database.as_deref(),
        };
        let (routed, state) = self.route(&asked, &principal).map_err(at(Login::Target))?;
        // Under the login deadline: at the gateway's start its first reading may still be under way.
        state.catalog.settled().await;
        let source = TargetSource { gateway: Arc::clone(&self.shard.gateway), state: Arc::clone(&state) };
        let world = World::new(Arc::new(source), principal, routed.target.clone(), Some(routed.user.clone()));
        let ground = world.ground().map_err(|none| at(Login::Access)(End::from(none).into()))?;
        record_routed(log, &routed, &asked).await.map_err(at(Login::Evidence))?;
        self.record_authenticated(log, &world, &ground).await.map_err(at(Login::Evidence))?;
        let slot = self.slot(&state).await.map_err(at(Login::Slots))?;
        let credential = self.credential(&ground).map_err(at(Login::Access))?;
        let dialled = self.dial(&state, &client, &credential, &ground, log).await;
        let (mut connected, parameters) = dialled.map_err(at(Login::Dial))?;
        let recorded = self
            .record_target(log, &state, &ground, &connected, &parameters, &client.application_name())
            .await;
        recorded.map_err(at(Login::Evidence))?;
        let pinned = guards::read(
            &mut connected.stream,
            &connected.parameters,
            &parameters,
            state.target.name(),
            self.deadline,
        )
        .await
        .map_err(|error| at(Login::Priming)(undialled(&error, &mapping::hex(&log.id()))))?;
        let control = Arc::new(Control::default());
        let cancellable = Cancellable {
            session: log.id(),
            control: Arc::clone(&control),
            target: Arc::clone(&state.target),
            credential,
            key: connected.key.clone(),
        };
        let registered = self.shard.gateway.keys.register(protocol, cancellable);
        let registered = registered.map_err(|error| at(Login::Priming)(gone(&error)))?;
        self.shard.gateway.enrol(&control, self.who(log, &world, &ground));
        let durability = durability(&ground);
        let name = client.application_name();
        let admitted =
            Admitted { connected, world, ground, state, pinned, durability, control, registered, slot, name };
        self.tell_admitted(log, &admitted);
        Ok(admitted)
    }

    /// Where the session goes; whoever cannot be led there is told what it may use, and no more.
    fn route(&self, asked: &Asked<'_>, principal: &Principal) -> Result<(Routed, Arc<TargetState>), Turned> {
        let ways = self
            .loaded
            .config
            .listeners
            .get(self.listener)
            .map_or(&[][..], |listener| listener.routes.as_slice());
        let why = match self.loaded.routes.decide(ways, asked) {
            Ok(routed) => match self.loaded.targets.get(&routed.target) {
                Some(state) => return Ok((routed, Arc::clone(state))),
                None => format!("target \"{}\" is not configured", routed.target),
            },
            Err(unroutable) => unroutable.to_string(),
        };
        let usable = usable(&self.loaded, principal);
        let next = if usable.is_empty() {
            "ask whoever keeps the policy for an access entry: none lets you on any target".to_owned()
        } else {
            format!("name one of the targets that you may use: {usable}")
        };
        let message = format!("pgturnstile refused the connection: {why}. Next: {next}");
        Err(Turned::new(Fault::Client, "3D000", message))
    }

    /// What an operator who looks at the live sessions is told of this one.
    fn who(&self, log: &SessionLog, world: &World, ground: &Ground) -> Who {
        let principal = world.principal();
        Who {
            session: mapping::hex(&log.id()),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            person: principal.person.clone(),
            target: ground.subject.target().to_owned(),
            access: ground.subject.access().id.to_string(),
            peer: self.peer.to_string(),
            listener: listener_name(&self.loaded.config, self.listener),
            began_s: process::now_s(),
        }
    }

    /// One line for the operator. Who it is stands in the evidence: the log names entries of the configuration only.
    fn tell_admitted(&self, log: &SessionLog, admitted: &Admitted) {
        let access = admitted.ground.subject.access();
        tracing::info!(
            session = mapping::hex(&log.id()),
            peer = %self.peer,
            listener = listener_name(&self.loaded.config, self.listener),
            issuer = %admitted.world.principal().issuer,
            target_name = admitted.state.target.name(),
            access = %access.id,
            backend_process = admitted.connected.key.process_id(),
            "session began"
        );
    }

    /// The client's settings and the version that is spoken with it.
    async fn read_startup(
        &self,
        stream: &mut Stream,
        packet: &[u8],
    ) -> Result<(ClientSettings, ProtocolVersion), Turned> {
        let malformed = |what: String| {
            Turned::new(
                Fault::Client,
                denial::PROTOCOL_VIOLATION,
                format!("pgturnstile refused the connection: {what}"),
            )
        };
        let Ok(Packet::Startup(startup)) = startup::parse(packet) else {
            return Err(malformed("the startup packet cannot be read".to_owned()));
        };
        let client = ClientSettings::read(startup.parameters().iter()).map_err(|refused| {
            Turned::new(
                Fault::Client,
                refused.sqlstate(),
                format!("pgturnstile refused the connection: {refused}"),
            )
        })?;
        if client.user.is_empty() {
            return Err(Turned::new(
                Fault::Client,
                "28000",
                "pgturnstile refused the connection: the startup packet names no user. Next: give one; any name will do \
                 where one access entry fits you",
            ));
        }
        if let Some(version) = startup.negotiate() {
            let mut negotiate = Vec::with_capacity(32);
            encode::negotiate_protocol_version(&mut negotiate, version, startup.extensions())
                .map_err(|error| malformed(error.to_string()))?;
            stream.write_all(&negotiate).await.map_err(|error| gone(&error))?;
        }
        Ok((client, ProtocolVersion::for_client(startup.minor())))
    }

    async fn authenticate(
        &self,
        stream: &mut Stream,
        client: &ClientSettings,
        log: &mut SessionLog,
    ) -> Result<Principal, (Login, Turned)> {
        let turned = |rejected: greeting::Rejected| {
            let turned = match rejected.last_words() {
                Some((sqlstate, message)) => Turned::new(Fault::Client, sqlstate, message),
                None => Turned::new(Fault::Client, "08006", rejected.to_string()),
            };
            (Login::Token, turned)
        };
        let token_bytes_max =
            usize::try_from(self.loaded.config.limits.token_bytes_max).unwrap_or(usize::MAX);
        let limits = |around: usize| Limits {
            password_bytes_max: token_bytes_max.saturating_add(around),
            ..Limits::default()
        };
        let (auth, token) = match self.auth() {
            Some(auth @ Auth::TokenPassword) => {
                (auth, greeting::ask_for_token(stream, &limits(0)).await.map_err(turned)?)
            }
            Some(auth @ Auth::OauthBearer { issuer, scope }) => {
                let limits = limits(bearer::ENVELOPE_BYTES);
                match greeting::ask_for_bearer(stream, &limits).await.map_err(turned)? {
                    Bearer::Token(token) => (auth, token),
                    Bearer::Discovery => {
                        self.tell_where_tokens_come_from(stream, issuer.as_deref(), scope).await;
                        return Err((Login::Discovery, asked_only()));
                    }
                }
            }
            None => {
                return Err((
                    Login::Token,
                    Turned::new(Fault::Gateway, "XX000", "pgturnstile: the listener is gone"),
                ));
            }
        };
        let denied = match self.loaded.verifier.verify(token.expose_secret()).await {
            Ok(principal) => return Ok(principal),
            Err(denied) => denied,
        };
        let turned = self.record_denied(client, log, auth, &denied).await.unwrap_or_else(Turned::from);
        if let Auth::OauthBearer { issuer, scope } = auth {
            self.tell_where_tokens_come_from(stream, issuer.as_deref(), scope).await;
        }
        Err((Login::Token, turned))
    }

    /// How clients of this listener prove themselves.
    fn auth(&self) -> Option<&Auth> {
        self.loaded.config.listeners.get(self.listener).map(|listener| &listener.auth)
    }

    async fn tell_where_tokens_come_from(&self, stream: &mut Stream, issuer: Option<&str>, scope: &str) {
        if let Some(issuer) = self.loaded.config.issuer_or_first(issuer) {
            let answer = bearer::answer(&issuer.issuer, scope);
            greeting::tell_where_tokens_come_from(stream, &answer, &Limits::default()).await;
        }
    }

    /// Records a token that is not believed; what its client is told.
    async fn record_denied(
        &self,
        client: &ClientSettings,
        log: &mut SessionLog,
        auth: &Auth,
        denied: &Denied,
    ) -> Result<Turned, AppendError> {
        let (told, exact) = (denied.client_text(), denied.exact());
        let claimed_database = client.database.as_deref().unwrap_or(&client.user);
        let entry = v1::AuthenticationDenied {
            method: auth.name(),
            told: &told,
            reason: &exact,
            sqlstate: crate::identity::SQLSTATE,
            claimed_user: &client.user,
            claimed_database,
            token_thumbprint: denied.token_thumbprint(),
        };
        log.append(Entry::AuthenticationDenied(entry), How::QUEUED).await?;
        Ok(Turned { exact: Some(exact), ..Turned::new(Fault::Client, crate::identity::SQLSTATE, told) })
    }

    /// The record that must stand before a credential is used.
    async fn record_authenticated(
        &self,
        log: &mut SessionLog,
        world: &World,
        ground: &Ground,
    ) -> Result<(), Turned> {
        let principal = world.principal();
        let groups: Vec<v1::Text<'_>> = ground.subject.groups().map(|text| v1::Text { text }).collect();
        let kept: Vec<(String, String)> =
            principal.kept.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
        let claims: Vec<v1::Claim<'_>> = kept.iter().map(|(path, json)| v1::Claim { path, json }).collect();
        let entry = v1::Authenticated {
            method: self.auth().map_or("", Auth::name),
            issuer: &principal.issuer,
            issuer_url: &principal.issuer_url,
            subject: &principal.subject,
            person: principal.person.as_deref(),
            groups_known: principal.groups.is_some(),
            groups: &groups,
            claims: &claims,
            token_thumbprint: &principal.token_thumbprint,
            token_id: principal.token_id.as_deref(),
            issued_at_s: principal.issued_at_s,
            expires_at_s: principal.expires_at_s,
        };
        let mark = log.append(Entry::Authenticated(entry), How::GATED).await?;
        log.lane().until_durable(mark).await.map_err(AppendError::Stopped)?;
        Ok(())
    }

    async fn slot(&self, state: &TargetState) -> Result<tokio::sync::OwnedSemaphorePermit, Turned> {
        let wait = Duration::from_millis(self.loaded.config.limits.dial_deadline_ms);
        let slots = Arc::clone(&state.slots);
        match tokio::time::timeout(wait, slots.acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Turned::new(
                Fault::Operator,
                "53300",
                format!(
                    "pgturnstile refused the connection: target {} has all the sessions it may have (sessions_max). \
                     Next: retry when others have ended, or have the limit raised",
                    state.target.name()
                ),
            )),
        }
    }

    /// The login of the access entry.
    fn credential(&self, ground: &Ground) -> Result<Credential, Turned> {
        let credential = self.loaded.credentials.get(&ground.subject.access().login);
        credential.cloned().ok_or_else(|| {
            Turned::new(Fault::Operator, "28000", "pgturnstile: the access entry's login is not configured")
        })
    }

    async fn dial(
        &self,
        state: &TargetState,
        client: &ClientSettings,
        credential: &Credential,
        ground: &Ground,
        log: &SessionLog,
    ) -> Result<(Connected, StartupParameters), Turned> {
        let access = ground.subject.access();
        let session = mapping::hex(&log.id());
        let parameters = StartupParameters::build(
            &credential.user,
            state.target.database(),
            client,
            &mapping::guards(access),
            &session,
        )
        .map_err(|error| Turned {
            exact: Some(error.to_string()),
            ..Turned::new(
                Fault::Operator,
                "XX000",
                "pgturnstile could not build the startup packet for the target",
            )
        })?;
        let deadline = Instant::now() + Duration::from_millis(self.loaded.config.limits.dial_deadline_ms);
        let login = backend::Login { credential, keys: &state.keys };
        match backend::dial(&state.target, &login, &parameters, deadline.min(self.deadline)).await {
            Ok(connected) => Ok((connected, parameters)),
            Err(error) => Err(undialled(&error, &session)),
        }
    }

    async fn record_target(
        &self,
        log: &mut SessionLog,
        state: &TargetState,
        ground: &Ground,
        connected: &Connected,
        parameters: &StartupParameters,
        own_name: &str,
    ) -> Result<(), Turned> {
        let access = ground.subject.access();
        let path: Vec<v1::Text<'_>> =
            access.guards.search_path.iter().map(|text| v1::Text { text }).collect();
        let endpoint = state.target.address().to_string();
        let tls = connected
            .stream
            .tls()
            .map_or_else(|| "none".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher_suite));
        let version = connected
            .parameters
            .iter()
            .find(|(name, _)| name == "server_version")
            .map_or("unknown", |(_, version)| version.as_str());
        // As of every text that is kept: what the detectors find in it is replaced. The server's is cut, and they might find nothing
        // in the rest.
        let name = parameters.value("application_name");
        let detectors = ground.subject.detectors();
        let cleaned = redacted(detectors, own_name).or_else(|| redacted(detectors, name));
        let entry = v1::TargetChosen {
            target: state.target.name(),
            endpoint: &endpoint,
            database: state.target.database(),
            tls: &tls,
            access: &access.id,
            login: &access.login,
            user: parameters.user(),
            mode: access.mode.name(),
            durability: access.durability.name(),
            search_path: &path,
            server_version: version,
            application_name: cleaned.as_deref().unwrap_or(name),
            backend_process: connected.key.process_id(),
            policy_hash: ground.policy.hash(),
            catalog_epoch: ground.snapshot.epoch,
        };
        let mark = log.append(Entry::TargetChosen(entry), How::GATED).await?;
        log.lane().until_durable(mark).await.map_err(AppendError::Stopped)?;
        Ok(())
    }

    async fn relay(self, stream: Stream, log: SessionLog, admitted: Admitted) {
        let Admitted { connected, world, ground, state, pinned, durability, control, registered, slot, name } =
            admitted;
        let limits = Limits {
            statement_bytes_max: state.origin.statement_bytes_max,
            // The largest frame that is held whole while its verdict or its record is awaited.
            bind_bytes_max: usize::try_from(self.loaded.config.limits.held_bytes_max).unwrap_or(usize::MAX),
            row_bytes_max: usize::try_from(self.loaded.config.limits.row_bytes_max).unwrap_or(usize::MAX),
            ..Limits::default()
        };
        let greeting = match greet_client(&connected, &registered) {
            Ok(greeting) => greeting,
            Err(error) => {
                tracing::error!(%error, "the greeting for a client could not be built");
                return;
            }
        };
        let world = Arc::new(world);
        let encoding = connected.parameters.iter().find(|(name, _)| name == "server_encoding");
        let judge = Judge::new(
            world,
            Arc::clone(&self.shard.memory),
            Arc::new(ground),
            state.origin.statement_bytes_max,
        )
        .at_encoding(encoding.map(|(_, encoding)| encoding.as_str()));
        let relay = Relay::new(Parts {
            client: stream,
            client_rest: Vec::new(),
            backend: connected.stream,
            greeting,
            limits,
            pinned,
            judge,
            account: Account::new(log, durability, Arc::clone(self.shard.memory.tally())),
            token_key: self.shard.gateway.token_key.clone(),
            control,
            holds: Arc::clone(&self.shard.gateway.holds),
            application_name: name,
        });
        // What only login needs goes before the session, which may last for days.
        drop(self);
        Box::pin(relay.run()).await;
        drop(registered);
        drop(slot);
    }
}

/// Names that a refusal lists.
const NAMES_SHOWN_MAX: usize = 20;

/// The targets that the policy lets a principal on, for its own eyes.
fn usable(loaded: &Loaded, principal: &Principal) -> String {
    let lets = |target: &&config::Target| match loaded.policy.access(principal, &target.name, None) {
        Ok(_) | Err(policy::NoAccess::Ambiguous { .. }) => true,
        Err(policy::NoAccess::None { .. }) => false,
    };
    let mut names = loaded.config.targets.iter().filter(lets).map(|target| target.name.as_str());
    let shown: Vec<&str> = names.by_ref().take(NAMES_SHOWN_MAX).collect();
    let more = if names.next().is_some() { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// What the access entry says of waiting for records.
fn durability(ground: &Ground) -> Durability {
    match ground.subject.access().durability {
        policy::Durability::Gated => Durability::Gated,
        policy::Durability::Queued => Durability::Queued,
    }
}

/// The end of a connection that asked where tokens come from. No failed login: nothing was tried. The client that opened it
/// shows this only where it has no way to come by a token.
fn asked_only() -> Turned {
    let message = "pgturnstile refused the connection: it carried no token, and has been told where tokens come from. Next: \
                   give the client a token, or a way to fetch one (libpq: the device flow of libpq-oauth, or a hook)";
    Turned {
        exact: Some("asked where tokens come from (OAUTHBEARER discovery), and brought none".to_owned()),
        ..Turned::new(Fault::Client, crate::identity::SQLSTATE, message)
    }
}

/// What a client is told after its login, in the server's order.
fn greet_client(connected: &Connected, registered: &Registered) -> Result<Vec<u8>, encode::Unencodable> {
    let mut out = Vec::with_capacity(1_024);
    encode::authentication_ok(&mut out);
    for notice in &connected.notices {
        encode::notice_response(&mut out, notice)?;
    }
    for (name, value) in &connected.parameters {
        encode::parameter_status(&mut out, name, value)?;
    }
    encode::backend_key_data(&mut out, registered.process_id(), registered.secret())?;
    encode::ready_for_query(&mut out, TransactionStatus::Idle);
    Ok(out)
}
