//! A target while the gateway runs: how to dial it, its slots, its catalog.
//!
//! Owns: the control connection's making, and the cap on sessions. May not: judge, or touch a client. The catalog itself is
//! kept by [`crate::backend::catalog::Catalog`]. Fails closed: a target behind a transaction pooler never gets a catalog,
//! and without one no session begins and no statement passes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::mapping::Origin;
use crate::backend::catalog::Catalog;
use crate::backend::settings::Guards;
use crate::backend::{
    ClientSettings, DialError, KeyCache, Login, Pooling, StartupParameters, Target, dial, pooler,
};
use crate::net::stream::Stream;

/// How long the control connection may take to be ready.
const CONTROL_DEADLINE: Duration = Duration::from_secs(30);
/// Pause before a target that cannot be used is looked at again.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(10);

/// See the module.
pub struct TargetState {
    /// How to dial it.
    pub target: Arc<Target>,
    /// Slots of sessions, given in the order of asking.
    pub slots: Arc<Semaphore>,
    /// Derived SCRAM keys.
    pub keys: Arc<KeyCache>,
    /// What it was made from.
    pub origin: Origin,
    /// Its catalog.
    pub catalog: Catalog,
}

impl TargetState {
    /// A target whose catalog is still to be read.
    pub fn new(target: Target, origin: Origin, keys: Arc<KeyCache>) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(origin.sessions_max.min(Semaphore::MAX_PERMITS))),
            keys,
            catalog: Catalog::new(target.name()),
            target: Arc::new(target),
            origin,
        }
    }

    /// Reads and watches the catalog for as long as the target is configured. Runs on the control runtime.
    pub async fn watch(self: Arc<Self>) {
        let parameters = match self.control_parameters() {
            Ok(parameters) => parameters,
            Err(error) => {
                self.catalog.settle();
                tracing::error!(target_name = self.target.name(), error, "the catalog cannot be read");
                return;
            }
        };
        self.wait_for_no_pooler(&parameters).await;
        self.catalog.keep(|| self.connect(&parameters)).await;
    }

    async fn connect(&self, parameters: &StartupParameters) -> Result<Stream, DialError> {
        let login = Login { credential: &self.origin.control, keys: &self.keys };
        let connected = dial(&self.target, &login, parameters, Instant::now() + CONTROL_DEADLINE).await?;
        Ok(connected.stream)
    }

    /// README decision 16: one client session is one target session, or there is none.
    async fn wait_for_no_pooler(&self, parameters: &StartupParameters) {
        loop {
            let login = Login { credential: &self.origin.control, keys: &self.keys };
            let deadline = Instant::now() + CONTROL_DEADLINE;
            match pooler::detect(&self.target, &login, parameters, deadline).await {
                Ok(Pooling::None | Pooling::Session) => return,
                Ok(Pooling::Transaction) => {
                    self.catalog.settle();
                    tracing::error!(
                        target_name = self.target.name(),
                        "a transaction pooler stands between the gateway and the target: what one client sets would show \
                         in another's session, so no session begins. Point the target at PostgreSQL itself, or at a pooler \
                         in session mode"
                    );
                    tokio::time::sleep(UNUSABLE_PAUSE).await;
                }
                Err(error) => {
                    self.catalog.settle();
                    tracing::warn!(target_name = self.target.name(), %error, "the target cannot be looked at; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn control_parameters(&self) -> Result<StartupParameters, String> {
        let guards = Guards { read_only: true, ..Guards::default() };
        let client = ClientSettings::default();
        StartupParameters::build(
            &self.origin.control.user,
            self.target.database(),
            &client,
            &guards,
            "catalog",
        )
        .map_err(|error| error.to_string())
    }
}
