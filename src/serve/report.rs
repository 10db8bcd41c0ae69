//! The gateway as the operator's machinery sees it.
//!
//! Owns: gathering health and figures from the parts. May not: keep the gateway alive (it is held weakly, so that a page
//! that is being made never delays the end), or wait for anything but a short lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::decide;
use super::gateway::Gateway;
use super::mapping::hex;
use super::tickets;
use crate::approval::Holds;
use crate::evidence::{State, Stopped};
use crate::net::tls::ServerTls;
use crate::operate::approvals::{Done, Undone, Wish};
use crate::operate::figures::{Figures, TargetFigures};
use crate::operate::health::{Health, TargetHealth};
use crate::operate::notify::{Manager, Notice};
use crate::operate::process::Process;
use crate::operate::pulse::BEAT;
use crate::operate::sessions::Session;
use crate::operate::{Source, http};
use crate::session::tally::Sums;

/// See the module.
pub(super) struct Report {
    gateway: Weak<Gateway>,
}

impl Report {
    /// Reports on this gateway.
    pub(super) fn of(gateway: &Arc<Gateway>) -> Self {
        Self { gateway: Arc::downgrade(gateway) }
    }
}

/// Health of a gateway that is gone: the last moments of the process.
fn gone() -> Health {
    Health {
        stalled_shards: Vec::new(),
        draining: true,
        evidence: State::Stopped(Stopped { reason: Arc::from("the gateway has ended") }),
        issuers: Vec::new(),
        policy: String::new(),
        generation: 0,
        reload_refused: false,
        targets: Vec::new(),
    }
}

impl Source for Report {
    fn health(&self) -> Health {
        let Some(gateway) = self.gateway.upgrade() else { return gone() };
        let loaded = gateway.loaded.load();
        let mut targets: Vec<TargetHealth> = loaded
            .targets
            .iter()
            .map(|(name, state)| TargetHealth {
                name: name.clone(),
                trouble: state.catalog.current().err().map(|unavailable| unavailable.to_string()),
            })
            .collect();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        Health {
            stalled_shards: gateway.pulse.stalled(Instant::now()),
            draining: gateway.draining.load(Ordering::Acquire),
            evidence: gateway.evidence.state(),
            issuers: loaded.verifier.health(),
            policy: hex(&loaded.policy.hash()),
            generation: loaded.generation,
            reload_refused: gateway.reload_refused.load(Ordering::Relaxed),
            targets,
        }
    }

    fn figures(&self) -> Option<Figures> {
        let gateway = self.gateway.upgrade()?;
        let loaded = gateway.loaded.load();
        if !loaded.config.control.as_ref().is_some_and(|control| control.metrics) {
            return None;
        }
        let mut targets: Vec<TargetFigures> = loaded
            .targets
            .iter()
            .map(|(name, state)| {
                let sessions_max = state.origin.sessions_max as u64;
                TargetFigures {
                    name: name.clone(),
                    reachable: state.catalog.current().is_ok(),
                    catalog_age_ms: state.catalog.age_ms(),
                    sessions: sessions_max.saturating_sub(state.slots.available_permits() as u64),
                    sessions_max,
                }
            })
            .collect();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        let sessions = gateway.phases();
        let connections = &gateway.connections;
        let [in_force, refused] = &gateway.reloads;
        Some(Figures {
            version: env!("CARGO_PKG_VERSION"),
            connections_aside: connections.open().saturating_sub(sessions.iter().sum()),
            sessions,
            connections_max: connections.limit(loaded.config.limits.connections_max),
            arrivals: connections.arrivals(),
            sums: Sums::of(gateway.tallies.iter().map(AsRef::as_ref)),
            evidence: gateway.evidence.figures(),
            evidence_state: gateway.evidence.state(),
            targets,
            issuers: loaded.verifier.health(),
            generation: loaded.generation,
            reloads: (in_force.load(Ordering::Relaxed), refused.load(Ordering::Relaxed)),
            holds: gateway.holds.count() as u64,
            tickets: gateway.holds.tickets().figures(),
            process: Process::read(gateway.started_s),
        })
    }

    fn sessions(&self) -> Vec<Session> {
        self.gateway.upgrade().map(|gateway| gateway.live()).unwrap_or_default()
    }

    fn holds(&self) -> Option<Arc<Holds>> {
        self.gateway.upgrade().map(|gateway| Arc::clone(&gateway.holds))
    }

    async fn decide(&self, wish: Wish) -> Result<Done, Undone> {
        match self.gateway.upgrade() {
            Some(gateway) => decide::decide(&gateway, wish).await,
            None => Err(Undone::new(StatusCode::SERVICE_UNAVAILABLE, "ended", "the gateway has ended")),
        }
    }

    fn tls(&self) -> Option<Arc<ServerTls>> {
        self.gateway.upgrade().and_then(|gateway| gateway.loaded.load().control_tls.clone())
    }
}

/// What runs beside the sessions for the operator's sake; ended before the gateway is.
pub(super) struct Beside {
    watching: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    serving: Vec<(JoinHandle<()>, oneshot::Sender<()>)>,
}

impl Beside {
    /// Watches the shards, tells the service manager that they move, and serves the admin pages at the doors.
    pub(super) fn start(
        gateway: &Arc<Gateway>,
        doors: Vec<http::Door>,
        manager: &Arc<Manager>,
        control: &Handle,
    ) -> Self {
        let watching = control.spawn(watch(Arc::downgrade(gateway), Arc::clone(manager)));
        let sweeping = control.spawn(tickets::sweep(Arc::downgrade(gateway)));
        let report = Arc::new(Report::of(gateway));
        let serve = |door| {
            let (end, ended) = oneshot::channel();
            (control.spawn(http::serve(door, Arc::clone(&report), ended)), end)
        };
        let serving = doors.into_iter().map(serve).collect();
        Self { watching, sweeping, serving }
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        self.watching.abort();
        // Ended is ended, whatever it came to.
        drop(self.watching.await);
        self.sweeping.abort();
        drop(self.sweeping.await);
        for (serving, end) in self.serving {
            drop(end);
            drop(serving.await);
        }
    }
}

/// Looks at the shards' beats, and says `WATCHDOG=1` while all of them come.
async fn watch(gateway: Weak<Gateway>, manager: Arc<Manager>) {
    let watchdog = manager.watchdog_interval();
    let mut looks = tokio::time::interval(watchdog.map_or(BEAT, |due| due.min(BEAT)));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<Instant> = None;
    loop {
        looks.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        let now = Instant::now();
        gateway.pulse.look(gateway.tallies.iter().map(|tally| tally.beats()), now);
        let Some(due) = watchdog else { continue };
        let stalled = gateway.pulse.stalled(now);
        if !stalled.is_empty() {
            tracing::error!(
                ?stalled,
                "shards do not come round: the service manager is not told that all is well"
            );
        } else if told.is_none_or(|told| now.duration_since(told) >= due) {
            manager.tell(Notice::Watchdog);
            told = Some(now);
        }
    }
}
