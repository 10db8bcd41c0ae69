//! What all shards share: the configuration in force, the targets, the verifier, the evidence, the registry of sessions.
//!
//! Owns: loading and reloading as one step, with the old kept whole on any error. May not: touch a session's bytes. A
//! reload changes policy, issuers, targets, credentials, limits and certificates; listener addresses, shards and the
//! evidence directory take a restart, and a reload that would change them says so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use pgturnstile_rules::catalog::Snapshot;
use pgturnstile_rules::document::Diagnostic;
use pgturnstile_rules::mask::style::TokenKey;
use pgturnstile_rules::policy::Policy;
use pgturnstile_rules::statement::{Done, Parser, Unparsable};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accept::Connections;
use super::bundle::{self, Attribution};
use super::keys::Keys;
use super::mapping;
use super::route::Routes;
use super::targets::TargetState;
use super::tickets;
use crate::approval::Holds;
use crate::backend::catalog::Unavailable;
use crate::backend::settings::Credential;
use crate::config::{self, Config};
use crate::evidence::Evidence;
use crate::identity::Verifier;
use crate::net::tls::ServerTls;
use crate::operate::process;
use crate::operate::pulse::Pulse;
use crate::operate::sessions::{Session, Who};
use crate::session::{Control, Order, Phase, Tally};

/// One configuration in force.
pub struct Loaded {
    /// The file, read.
    pub config: Config,
    /// The policy, compiled.
    pub policy: Arc<Policy>,
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Who vouches for the policy.
    pub attribution: Attribution,
    /// Targets by name.
    pub targets: HashMap<String, Arc<TargetState>>,
    /// Names that lead to targets.
    pub routes: Routes,
    /// Credentials by name.
    pub credentials: HashMap<String, Credential>,
    /// TLS of each listener, in the order of the file; `None` on a Unix socket.
    pub listener_tls: Vec<Option<Arc<ServerTls>>>,
    /// TLS of the admin listener.
    pub control_tls: Option<Arc<ServerTls>>,
    /// Counts up.
    pub generation: u64,
}

/// See the module.
pub struct Gateway {
    /// Where the configuration is.
    pub path: PathBuf,
    /// What is in force.
    pub loaded: ArcSwap<Loaded>,
    /// Its generation, to be compared on the way of every statement.
    pub generation: AtomicU64,
    /// The evidence.
    pub evidence: Evidence,
    /// Key of the tokens that stand in for values.
    pub token_key: TokenKey,
    /// Statements that wait for people.
    pub holds: Arc<Holds>,
    /// Held while somebody's decision is recorded and counted.
    pub deciding: tokio::sync::Mutex<()>,
    /// Cancel keys.
    pub keys: Arc<Keys>,
    /// Parses long texts.
    pub parser: Parser,
    /// Runs what is no session: keys, catalogs, signals.
    pub control: Handle,
    /// It stops: no session begins any more.
    pub draining: AtomicBool,
    /// What each shard counts.
    pub tallies: Vec<Arc<Tally>>,
    /// When the shards were last seen to move.
    pub pulse: Pulse,
    /// Its connections.
    pub connections: Arc<Connections>,
    /// Reloads that came into force, and that were refused.
    pub reloads: [AtomicU64; 2],
    /// The last reload was refused.
    pub reload_refused: AtomicBool,
    /// When the process started, seconds since 1970.
    pub started_s: u64,
    watchers: Mutex<HashMap<String, JoinHandle<()>>>,
    enrolled: Mutex<Enrolled>,
}

/// The sessions that live, and what they have been told.
struct Enrolled {
    sessions: Vec<(Weak<Control>, Arc<Who>)>,
    /// The strongest order so far: who comes later is told it too.
    standing: Order,
}

/// Reads everything that a configuration names, and checks it together.
///
/// # Errors
/// Every finding, with file, line and key.
pub fn load(
    path: &Path,
    generation: u64,
    control: &Handle,
    before: Option<&Loaded>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, policy) = both(path)?;
    let mut findings = mapping::check(&config, &policy);
    let attribution = bundle::attributed(&config, &policy)
        .and_then(|attribution| bundle::not_behind(&config, &attribution).map(|()| attribution))
        .map_err(|what| findings.push(bundle::finding(&config, what)));
    let listener_tls = mapping::listener_tls(&config, &mut findings);
    let control_tls = mapping::control_tls(&config, &mut findings);
    let credentials = mapping::credentials(&config, &mut findings);
    let targets = mapping::targets(&config, &credentials, before, &mut findings);
    let verifier = mapping::verifier(&config, control, before.map(|before| &before.verifier), &mut findings);
    match (verifier, attribution) {
        (Some(verifier), Ok(attribution)) if findings.is_empty() => Ok(Loaded {
            attribution,
            routes: Routes::new(&config.targets),
            config,
            policy: Arc::new(policy),
            verifier,
            targets,
            credentials,
            listener_tls,
            control_tls,
            generation,
        }),
        (_, _) => Err(findings),
    }
}

/// Both files; what is wrong with one does not hide what is wrong with the other.
fn both(path: &Path) -> Result<(Config, Policy), Vec<Diagnostic>> {
    let config = Config::load(path);
    let policy = match &config {
        Ok(config) => Some(config.gateway.policy.clone()),
        Err(_) => config::policy_despite_errors(path),
    };
    let loaded = policy.as_deref().map(Policy::load);
    match (config, loaded) {
        (Ok(config), Some(Ok(policy))) => Ok((config, policy)),
        (config, loaded) => {
            let mut findings = loaded.and_then(Result::err).unwrap_or_default();
            match (config, policy) {
                (Err(faults), policy) => {
                    let across = policy.map(|policy| config::broken_against_policy(path, &faults, &policy));
                    findings.splice(..0, faults).for_each(drop);
                    findings.extend(across.unwrap_or_default());
                }
                (Ok(config), Some(path)) => findings.extend(config::against_broken_policy(&config, &path)),
                (Ok(_), None) => {}
            }
            Err(findings)
        }
    }
}

impl Gateway {
    /// A gateway with its first configuration in force.
    pub fn new(
        path: PathBuf,
        loaded: Loaded,
        (evidence, token_key, holds): (Evidence, TokenKey, Holds),
        parser: Parser,
        control: Handle,
        shards: usize,
    ) -> Arc<Self> {
        let generation = AtomicU64::new(loaded.generation);
        let gateway = Arc::new(Self {
            path,
            loaded: ArcSwap::from_pointee(loaded),
            generation,
            evidence,
            token_key,
            holds: Arc::new(holds),
            deciding: tokio::sync::Mutex::default(),
            keys: Arc::new(Keys::default()),
            parser,
            control,
            draining: AtomicBool::new(false),
            tallies: std::iter::repeat_with(|| Arc::new(Tally::new())).take(shards).collect(),
            pulse: Pulse::new(shards, Instant::now()),
            connections: Arc::new(Connections::default()),
            reloads: [AtomicU64::new(0), AtomicU64::new(0)],
            reload_refused: AtomicBool::new(false),
            started_s: process::now_s(),
            watchers: Mutex::default(),
            enrolled: Mutex::new(Enrolled { sessions: Vec::new(), standing: Order::None }),
        });
        gateway.watch_targets();
        gateway
    }

    /// Begins to watch targets that are new, and stops with those that are gone.
    fn watch_targets(&self) {
        let loaded = self.loaded.load();
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        // A target whose settings changed is another state under the same name: its old watcher ends too.
        for (_, watcher) in watchers.drain() {
            watcher.abort();
        }
        for (name, state) in &loaded.targets {
            watchers.insert(name.clone(), self.control.spawn(Arc::clone(state).watch()));
        }
    }

    /// Loads the configuration anew; on any error the old one stays whole.
    ///
    /// # Errors
    /// Every finding.
    pub fn reload(&self) -> Result<Arc<Loaded>, Vec<Diagnostic>> {
        let before = self.loaded.load_full();
        let generation = before.generation + 1;
        let loaded = load(&self.path, generation, &self.control, Some(&before)).and_then(|next| {
            let refused = mapping::needs_restart(&before.config, &next.config);
            if !refused.is_empty() {
                return Err(refused);
            }
            tickets::open(&self.holds, &next.config, &next.policy)
                .map_err(|fault| vec![tickets::finding(&next.config, &fault)])?;
            bundle::remember(&next.config, &next.attribution)
                .map_err(|what| vec![bundle::finding(&next.config, what)])?;
            Ok(Arc::new(next))
        });
        let [in_force, refused] = &self.reloads;
        if loaded.is_ok() { in_force } else { refused }.fetch_add(1, Ordering::Relaxed);
        self.reload_refused.store(loaded.is_err(), Ordering::Relaxed);
        let next = loaded?;
        self.loaded.store(Arc::clone(&next));
        self.generation.store(generation, Ordering::Release);
        self.watch_targets();
        // Who waits is judged by it at once.
        self.holds.configure(mapping::holds(&next.config));
        for state in next.targets.values() {
            // Passwords may have been rotated with it.
            state.keys.clear();
        }
        Ok(next)
    }

    fn enrolled(&self) -> MutexGuard<'_, Enrolled> {
        // Held for single calls of a list, which a panic leaves whole.
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session began. One that was logging in while the others were told to end is told now.
    pub fn enrol(&self, control: &Arc<Control>, who: Who) {
        let mut enrolled = self.enrolled();
        let sessions = &mut enrolled.sessions;
        // Swept when it would grow: the list stays within twice the live sessions.
        if sessions.len() == sessions.capacity() {
            sessions.retain(|(session, _)| session.strong_count() > 0);
        }
        sessions.push((Arc::downgrade(control), Arc::new(who)));
        if enrolled.standing != Order::None {
            control.tell(enrolled.standing);
        }
    }

    /// Tells every session, and those that are still to come.
    pub fn tell(&self, order: Order) {
        let mut enrolled = self.enrolled();
        enrolled.standing = enrolled.standing.max(order);
        for control in enrolled.sessions.iter().filter_map(|(control, _)| control.upgrade()) {
            control.tell(order);
        }
    }

    /// Sessions that live.
    pub fn sessions(&self) -> usize {
        self.enrolled().sessions.iter().filter(|(session, _)| session.strong_count() > 0).count()
    }

    /// Sessions by what they do, in the order of [`Phase::ALL`].
    pub fn phases(&self) -> [u64; Phase::ALL.len()] {
        let mut counts = [0; Phase::ALL.len()];
        for (control, _) in self.enrolled().sessions.iter() {
            let Some(control) = control.upgrade() else { continue };
            if let Some(count) = counts.get_mut(control.phase() as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// The sessions that live, as an operator may see them.
    pub fn live(&self) -> Vec<Session> {
        let enrolled = self.enrolled();
        let seen = |(control, who): &(Weak<Control>, Arc<Who>)| {
            let seen = control.upgrade()?.seen();
            Some(Session { who: Arc::clone(who), seen })
        };
        enrolled.sessions.iter().filter_map(seen).collect()
    }

    /// Ends the watching of catalogs.
    pub fn end_watchers(&self) {
        for (_, watcher) in self.watchers.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            watcher.abort();
        }
    }
}

/// One target as a session sees it.
pub struct TargetSource {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Its state when the session began.
    pub state: Arc<TargetState>,
}

impl crate::session::Source for TargetSource {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.gateway.loaded.load().policy)
    }

    fn policy_generation(&self) -> u64 {
        self.gateway.generation.load(Ordering::Acquire)
    }

    fn catalog(&self) -> Result<Arc<Snapshot>, Unavailable> {
        self.state.catalog.current()
    }

    fn look(&self) -> u64 {
        self.state.catalog.look()
    }

    fn define(&self, look: u64) {
        self.state.catalog.define(look);
    }

    fn defined(&self) -> u64 {
        self.state.catalog.defined()
    }

    fn covered(&self) -> watch::Receiver<u64> {
        self.state.catalog.covered()
    }

    fn login_user(&self, credential: &str) -> String {
        let loaded = self.gateway.loaded.load();
        loaded.credentials.get(credential).map_or_else(String::new, |credential| credential.user.clone())
    }

    fn parse(&self, text: Arc<[u8]>, principal: u64, done: Done) -> Result<(), Unparsable> {
        self.gateway.parser.submit(text, principal, done)
    }
}

/// The listener that a connection came by, for records.
pub fn listener_name(config: &config::Config, listener: usize) -> String {
    config.listeners.get(listener).map_or_else(|| "?".to_owned(), |listener| listener.address().to_string())
}
