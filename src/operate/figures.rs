//! The gateway's numbers, and the metrics that they make.
//!
//! Owns: names, units, types and meanings of all metrics. May not: count. Every label's value is one of a list in code
//! (states, outcomes, classes, kinds) or a name of the configuration (targets, issuers), so the number of series is
//! bounded by the configuration and never moved by a peer.

use super::process::Process;
use super::text::Text;
use crate::approval::tickets;
use crate::evidence::{self, State};
use crate::identity::KeyHealth;
use crate::session::Phase;
use crate::session::tally::{Login, RefusalKind, Sums};

/// One target in numbers.
#[derive(Clone, Debug)]
pub struct TargetFigures {
    /// Its configured name.
    pub name: String,
    /// Whether it confirmed its catalog lately.
    pub reachable: bool,
    /// How long ago it confirmed the catalog, milliseconds; `None` when it never did.
    pub catalog_age_ms: Option<u64>,
    /// Sessions that have a slot there.
    pub sessions: u64,
    /// `sessions_max`.
    pub sessions_max: u64,
}

/// Connections that were not taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// Accepts that failed: descriptors or memory were short.
    pub accept_failures: u64,
    /// Turned away at `connections_max` or `connections_per_address_max`.
    pub over_connections: u64,
    /// Turned away because descriptors would have run out.
    pub over_descriptors: u64,
    /// Turned away because a shard did not take them in time.
    pub over_queue: u64,
}

/// The numbers of one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Version of the program.
    pub version: &'static str,
    /// Sessions by what they do, in the order of [`Phase::ALL`].
    pub sessions: [u64; Phase::ALL.len()],
    /// Connections that are no sessions: logging in, or saying their last words.
    pub connections_aside: u64,
    /// Connections that may be open at once.
    pub connections_max: u64,
    /// What came to no connection.
    pub arrivals: Arrivals,
    /// What the shards counted.
    pub sums: Sums,
    /// The evidence.
    pub evidence: evidence::Figures,
    /// Whether it can be written.
    pub evidence_state: State,
    /// Open holds.
    pub holds: u64,
    /// The tickets.
    pub tickets: tickets::Figures,
    /// Targets.
    pub targets: Vec<TargetFigures>,
    /// Issuers' keys.
    pub issuers: Vec<KeyHealth>,
    /// Which configuration is in force: counts up.
    pub generation: u64,
    /// Reloads that came into force, and that were refused.
    pub reloads: (u64, u64),
    /// The process.
    pub process: Process,
}

impl Figures {
    /// The page.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.family("pgturnstile_build_info", "gauge", "Version of the program; always 1.")
            .sample(&[("version", self.version)], 1);
        self.render_sessions(&mut text);
        self.render_statements(&mut text);
        self.render_evidence(&mut text);
        self.render_holds(&mut text);
        self.render_surroundings(&mut text);
        self.process.render(&mut text);
        text.finish()
    }

    fn render_sessions(&self, text: &mut Text) {
        let mut sessions = text.family(
            "pgturnstile_sessions",
            "gauge",
            "Connections of clients by what they do; login: not a session yet, or not any more.",
        );
        sessions.sample(&[("state", "login")], self.connections_aside);
        for (phase, count) in Phase::ALL.iter().zip(self.sessions) {
            sessions.sample(&[("state", phase.name())], count);
        }
        text.gauge(
            "pgturnstile_connections_limit",
            "Connections of clients that may be open at once: connections_max, or what the descriptors allow.",
            self.connections_max,
        );
        let mut logins = text.family(
            "pgturnstile_logins_total",
            "counter",
            "Connections that asked for a session, by outcome.",
        );
        for (login, count) in Login::ALL.iter().zip(self.sums.logins) {
            logins.sample(&[("outcome", login.name())], count);
        }
        let mut away = text.family(
            "pgturnstile_turned_away_total",
            "counter",
            "Connections that were closed before a byte was read, by what was used up.",
        );
        let Arrivals { accept_failures, over_connections, over_descriptors, over_queue } = self.arrivals;
        away.sample(&[("limit", "connections")], over_connections);
        away.sample(&[("limit", "descriptors")], over_descriptors);
        away.sample(&[("limit", "shard_queue")], over_queue);
        text.counter(
            "pgturnstile_accept_failures_total",
            "Tries to accept a connection that failed; they are repeated.",
            accept_failures,
        );
        let mut bytes =
            text.family("pgturnstile_received_bytes_total", "counter", "Bytes that sessions read, by peer.");
        bytes.sample(&[("from", "client")], self.sums.client_bytes);
        bytes.sample(&[("from", "target")], self.sums.target_bytes);
    }

    fn render_statements(&self, text: &mut Text) {
        let mut statements = text.family(
            "pgturnstile_statements_total",
            "counter",
            "Statements by verdict and class; one of the extended protocol counts at each Bind.",
        );
        for (verdict, class, count) in self.sums.statements() {
            statements.sample(&[("verdict", verdict), ("class", class)], count);
        }
        let mut refusals = text.family(
            "pgturnstile_refusals_total",
            "counter",
            "Refused frames by the kind of rule that refused.",
        );
        for (kind, count) in RefusalKind::ALL.iter().zip(self.sums.refusals) {
            refusals.sample(&[("kind", kind.name())], count);
        }
        let sums = &self.sums;
        text.counter(
            "pgturnstile_facts_cache_hits_total",
            "Texts whose facts were remembered.",
            sums.facts_hits,
        );
        text.counter("pgturnstile_facts_cache_misses_total", "Texts that were parsed.", sums.facts_misses);
        text.counter(
            "pgturnstile_decision_cache_hits_total",
            "Texts whose verdict was remembered; they ask for no facts.",
            sums.decision_hits,
        );
        text.counter(
            "pgturnstile_decision_cache_misses_total",
            "Texts that were judged although their verdict could have been remembered.",
            sums.decision_misses,
        );
    }

    fn render_evidence(&self, text: &mut Text) {
        let evidence = &self.evidence;
        text.gauge(
            "pgturnstile_evidence_queue_bytes",
            "Records that wait for the writer, bytes as they are charged.",
            evidence.queue_bytes,
        );
        text.gauge("pgturnstile_evidence_queue_limit_bytes", "What may wait.", evidence.queue_bytes_max);
        text.family("pgturnstile_evidence_sync_duration_seconds", "histogram", "How long each sync took.")
            .spread(&evidence.sync_us, 1_000_000);
        text.family("pgturnstile_evidence_batch_records", "histogram", "Records that were written together.")
            .spread(&evidence.batch_records, 1);
        text.counter(
            "pgturnstile_evidence_written_bytes_total",
            "Bytes of records that were written.",
            evidence.record_bytes,
        );
        if let Some(sequence) = evidence.last_durable_sequence {
            text.gauge(
                "pgturnstile_evidence_last_durable_sequence",
                "Sequence of the last record that is on disk.",
                sequence,
            );
        }
        text.gauge("pgturnstile_evidence_segment_number", "Number of the open segment.", evidence.segment);
        text.gauge(
            "pgturnstile_evidence_segment_left_bytes",
            "What the open segment has left for records.",
            evidence.segment_left_bytes,
        );
        text.gauge(
            "pgturnstile_evidence_free_bytes",
            "Free space where the evidence is written, when it was last measured.",
            evidence.free_bytes,
        );
        let (constrained, stopped) = match self.evidence_state {
            State::Running => (0, 0),
            State::Constrained(_) => (1, 0),
            State::Stopped(_) => (0, 1),
        };
        text.gauge(
            "pgturnstile_evidence_constrained",
            "1 while new work is refused: too little space, or the second place is overdue; /ready says which.",
            constrained,
        );
        if let Some(age_s) = evidence.second_place_age_s {
            text.gauge(
                "pgturnstile_evidence_checkpoint_age_seconds",
                "Time since a checkpoint was last kept in the second place.",
                age_s,
            );
        }
        text.gauge("pgturnstile_evidence_stopped", "1 once a write or sync has failed.", stopped);
    }

    fn render_holds(&self, text: &mut Text) {
        let (name, meaning) =
            ("pgturnstile_holds", "Statements that wait for people while their sessions do.");
        text.gauge(name, meaning, self.holds);
        let mut tickets = text.family(
            "pgturnstile_tickets",
            "gauge",
            "Statements that people may decide while nobody waits; approved: not run again yet; denied: not told yet.",
        );
        let counts = [
            ("open", self.tickets.open),
            ("approved", self.tickets.approved),
            ("denied", self.tickets.denied),
        ];
        for (state, count) in counts {
            tickets.sample(&[("state", state)], count);
        }
        text.gauge("pgturnstile_tickets_bytes", "What they take in their journal.", self.tickets.bytes);
        text.gauge(
            "pgturnstile_tickets_broken",
            "1 once their journal could not be written: none is opened, decided or used until the gateway is started anew.",
            u64::from(self.tickets.broken),
        );
    }

    fn render_surroundings(&self, text: &mut Text) {
        let name = "pgturnstile_target_reachable";
        let mut reachable = text.family(name, "gauge", "1 while the target confirms its catalog.");
        for target in &self.targets {
            reachable.sample(&[("target", &target.name)], u8::from(target.reachable));
        }
        let name = "pgturnstile_catalog_age_seconds";
        let mut age = text.family(name, "gauge", "Time since the target confirmed its catalog.");
        for target in &self.targets {
            if let Some(age_ms) = target.catalog_age_ms {
                let seconds = format!("{}.{:03}", age_ms / 1_000, age_ms % 1_000);
                age.sample(&[("target", &target.name)], seconds);
            }
        }
        let mut sessions =
            text.family("pgturnstile_target_sessions", "gauge", "Sessions that hold a slot of the target.");
        for target in &self.targets {
            sessions.sample(&[("target", &target.name)], target.sessions);
        }
        let mut slots = text.family("pgturnstile_target_sessions_limit", "gauge", "Slots of the target.");
        for target in &self.targets {
            slots.sample(&[("target", &target.name)], target.sessions_max);
        }
        let mut usable =
            text.family("pgturnstile_jwks_usable", "gauge", "1 while the issuer's keys may be believed.");
        for issuer in &self.issuers {
            usable.sample(&[("issuer", &issuer.issuer)], u8::from(issuer.usable));
        }
        let mut age = text.family(
            "pgturnstile_jwks_age_seconds",
            "gauge",
            "Time since the issuer's keys were confirmed.",
        );
        for issuer in &self.issuers {
            if let Some(age_s) = issuer.age_s {
                age.sample(&[("issuer", &issuer.issuer)], age_s);
            }
        }
        let mut fetches = text.family(
            "pgturnstile_jwks_fetches_total",
            "counter",
            "Readings of an issuer's keys that began.",
        );
        for issuer in &self.issuers {
            fetches.sample(&[("issuer", &issuer.issuer)], issuer.fetches_total);
        }
        let name = "pgturnstile_jwks_fetch_failures_total";
        let mut failures = text.family(name, "counter", "Readings that brought no keys.");
        for issuer in &self.issuers {
            failures.sample(&[("issuer", &issuer.issuer)], issuer.failures_total);
        }
        text.gauge(
            "pgturnstile_configuration_generation",
            "Which configuration is in force; counts up with each reload.",
            self.generation,
        );
        let mut reloads = text.family("pgturnstile_reloads_total", "counter", "Reloads by outcome.");
        reloads.sample(&[("outcome", "in_force")], self.reloads.0);
        reloads.sample(&[("outcome", "refused")], self.reloads.1);
    }
}
