//! What a session stands on: the policy in force, its target's catalog, the parser for long texts.
//!
//! Owns: taking the newest of them as one [`Ground`], so that a statement is judged under one policy and one catalog. May
//! not: judge, or read the catalog itself. Fails closed: no catalog, or no access under a new policy, ends the session.

use std::sync::Arc;

use pgturnstile_rules::catalog::Snapshot;
use pgturnstile_rules::policy::condition::Condition;
use pgturnstile_rules::policy::model::{Drift, Then};
use pgturnstile_rules::policy::principal::Principal;
use pgturnstile_rules::policy::{Labelled, Policy, Subject};
use pgturnstile_rules::resolve::SearchPath;
use pgturnstile_rules::statement::facts::TextFacts;
use pgturnstile_rules::statement::{Done, Unparsable};

use tokio::sync::watch;

use super::end::End;
use crate::backend::catalog::Unavailable;

/// One policy and one catalog, seen by one principal on one target.
#[derive(Debug)]
pub struct Ground {
    /// Names it: equal numbers give equal verdicts for equal texts. Never 0.
    pub number: u128,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The principal's part of it.
    pub subject: Subject,
    /// The catalog.
    pub snapshot: Arc<Snapshot>,
    /// What is labelled on the target.
    pub labelled: Arc<Labelled>,
    /// Payloads of notifications pass: nothing is labelled, or a permit discloses all of it where the session listens.
    pub hears_in_clear: bool,
    /// Which policy it is; counts up.
    pub generation: u64,
    /// The search path of the session.
    pub path: SearchPath,
    /// Answers wait for a look at the catalog: the policy says so, and something is labelled.
    pub stamped: bool,
    /// Some rule asks whether a transaction is open, or what day it is: verdicts are not remembered.
    pub moves_by_itself: bool,
    /// Some rule holds statements for approval.
    pub holds: bool,
}

/// Why there is no ground to stand on.
#[derive(Debug, thiserror::Error)]
pub enum NoGround {
    /// The policy gives no access, or another than the session began with: a session ends.
    #[error("{0}")]
    Access(String),
    /// No catalog, or none that is fresh enough: statements are refused until there is.
    #[error(transparent)]
    Catalog(#[from] Unavailable),
}

impl From<NoGround> for End {
    fn from(none: NoGround) -> Self {
        let message = format!("pgturnstile refused the session: {none}");
        match none {
            NoGround::Access(_) => End::operator("28000", message),
            NoGround::Catalog(_) => {
                End::Fatal { fault: super::end::Fault::Gateway, sqlstate: "57P03", message: message.into() }
            }
        }
    }
}

/// Where grounds come from. One for each target; the gateway implements it.
pub trait Source: Send + Sync {
    /// The policy in force.
    fn policy(&self) -> Arc<Policy>;
    /// Counts up with each policy that comes into force: cheap to read.
    fn policy_generation(&self) -> u64;
    /// The newest catalog.
    ///
    /// # Errors
    /// None yet, or none that is fresh enough.
    fn catalog(&self) -> Result<Arc<Snapshot>, Unavailable>;
    /// Asks for a look at the catalog now; the number by which [`Source::covered`] knows it.
    fn look(&self) -> u64;
    /// Says that a definition which every session is to follow is seen by that look.
    fn define(&self, look: u64);
    /// The last look behind such a definition, of whatever session; 0 for none. Cheap to read.
    fn defined(&self) -> u64;
    /// The last look that the catalog is of a later moment than; see [`Source::look`].
    fn covered(&self) -> watch::Receiver<u64>;
    /// The database role of a `[credential.NAME]`: what `$user` in a search path means.
    fn login_user(&self, credential: &str) -> String;
    /// Parses a long text on a thread of its own; `done` hears of it.
    ///
    /// # Errors
    /// It was not taken: too long, too many wait.
    fn parse(&self, text: Arc<[u8]>, principal: u64, done: Done) -> Result<(), Unparsable>;
}

/// See the module.
pub struct World {
    source: Arc<dyn Source>,
    principal: Principal,
    target: String,
    access: Option<String>,
}

impl World {
    /// What `principal` stands on at `target`; `access` is the user name of its startup packet.
    pub fn new(
        source: Arc<dyn Source>,
        principal: Principal,
        target: String,
        access: Option<String>,
    ) -> Self {
        Self { source, principal, target, access }
    }

    /// One number for the principal: parses of one principal wait for each other.
    pub fn principal_number(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.principal.issuer.as_bytes())
            .update(&[0])
            .update(self.principal.subject.as_bytes());
        let mut low = [0; 8];
        low.copy_from_slice(hasher.finalize().as_bytes().get(..8).unwrap_or(&[0; 8]));
        u64::from_le_bytes(low)
    }

    /// The principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The ground of a session that begins now.
    ///
    /// # Errors
    /// [`NoGround`], safe to show to the client.
    pub fn ground(&self) -> Result<Ground, NoGround> {
        let generation = self.source.policy_generation();
        let policy = self.source.policy();
        let subject = policy
            .subject(&self.principal, &self.target, self.access.as_deref())
            .map_err(|none| NoGround::Access(none.to_string()))?;
        let snapshot = self.source.catalog()?;
        let login = self.source.login_user(&subject.access().login);
        let path = SearchPath::new(&subject.access().guards.search_path, &login);
        let number = number(&policy, &subject, snapshot.epoch);
        let moves_by_itself = asks_for_transaction_or_day(&policy);
        let labelled = policy.labelled(&snapshot);
        for finding in labelled.findings_once() {
            tracing::warn!(target_name = %self.target, rule = %finding.rule.id, place = %finding.rule.place, "{}", finding.message);
        }
        let stamped = policy.model().defaults.catalog_drift == Drift::Stamped && !labelled.facts().is_empty();
        let hears_in_clear = subject.hears_in_clear(&policy, &labelled);
        let holds = policy.model().restricts.iter().any(|restrict| matches!(restrict.then, Then::Hold(_)));
        Ok(Ground {
            number,
            policy,
            subject,
            snapshot,
            labelled,
            hears_in_clear,
            generation,
            path,
            stamped,
            moves_by_itself,
            holds,
        })
    }

    /// Whether `ground` is still the newest.
    ///
    /// # Errors
    /// The catalog is no longer fresh enough.
    pub fn current(&self, ground: &Ground) -> Result<bool, Unavailable> {
        Ok(self.source.policy_generation() == ground.generation
            && self.source.catalog()?.epoch == ground.snapshot.epoch)
    }

    /// Epoch of the newest catalog, where there is one.
    pub fn epoch(&self) -> Option<u64> {
        self.source.catalog().ok().map(|catalog| catalog.epoch)
    }

    /// The newest ground in place of `ground`.
    ///
    /// # Errors
    /// As [`Self::ground`]; also where the access entry changed, since login and guards stand in the startup packet.
    pub fn renew(&self, ground: &Ground) -> Result<Arc<Ground>, NoGround> {
        let next = self.ground()?;
        if next.subject.access() != ground.subject.access() {
            return Err(NoGround::Access(
                "its access entry was changed by a new policy. Next: reconnect".to_owned(),
            ));
        }
        Ok(Arc::new(next))
    }

    /// See [`Source::look`].
    pub fn look(&self) -> u64 {
        self.source.look()
    }

    /// See [`Source::define`].
    pub fn define(&self, look: u64) {
        self.source.define(look);
    }

    /// See [`Source::defined`].
    pub fn defined(&self) -> u64 {
        self.source.defined()
    }

    /// See [`Source::covered`].
    pub fn covered(&self) -> watch::Receiver<u64> {
        self.source.covered()
    }

    /// Whether the catalog is of a later moment than that look.
    pub fn covers(&self, look: u64) -> bool {
        *self.source.covered().borrow() >= look
    }

    /// The newest catalog.
    ///
    /// # Errors
    /// It is no longer fresh enough.
    pub fn catalog(&self) -> Result<Arc<Snapshot>, Unavailable> {
        self.source.catalog()
    }

    /// Parses a long text elsewhere.
    ///
    /// # Errors
    /// As the parser's; a parser that went away counts as one that could not read the text.
    pub async fn parse_elsewhere(&self, text: &str, principal: u64) -> Result<TextFacts, Unparsable> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = Box::new(move |facts| {
            // A session that went away meanwhile does not listen any more.
            drop(tell.send(facts));
        });
        self.source.parse(Arc::from(text.as_bytes()), principal, done)?;
        told.await.unwrap_or(Err(Unparsable::Closed))
    }
}

/// Everything that a verdict depends on beside the text and the transaction: equal numbers, equal verdicts.
fn number(policy: &Policy, subject: &Subject, epoch: u64) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&policy.hash());
    part(subject.target().as_bytes());
    part(subject.access().id.as_bytes());
    for group in subject.groups() {
        part(group.as_bytes());
    }
    part(b"unknown");
    for (group, _) in subject.unknown_groups() {
        part(group.as_bytes());
    }
    part(&epoch.to_le_bytes());
    let hash = hasher.finalize();
    let mut low = [0; 16];
    low.copy_from_slice(hash.as_bytes().get(..16).unwrap_or(&[0; 16]));
    u128::from_le_bytes(low).max(1)
}

fn asks_for_transaction_or_day(policy: &Policy) -> bool {
    let asks = |conditions: &[Condition]| conditions.iter().any(|c| matches!(c, Condition::InTransaction(_)));
    policy
        .model()
        .restricts
        .iter()
        .any(|restrict| asks(&restrict.when) || asks(&restrict.unless) || restrict.observe.is_some())
}
