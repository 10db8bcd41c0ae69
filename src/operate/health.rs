//! Whether the gateway lives and is ready, and which part is not.
//!
//! Owns: the judgement and its JSON. May not: probe a peer: all of it is what the gateway knows already. Not ready means:
//! do not send new sessions here. Targets are shown beside it and never decide: a gateway whose target is down refuses
//! in words that a client reads, and another gateway would have the same target.

use serde_json::{Value, json};

use crate::evidence::State;
use crate::identity::KeyHealth;

/// A target as health shows it.
#[derive(Clone, Debug)]
pub struct TargetHealth {
    /// Its configured name.
    pub name: String,
    /// Why its catalog is not usable; `None` while it is.
    pub trouble: Option<String>,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Health {
    /// Shards whose thread has not come round for too long.
    pub stalled_shards: Vec<usize>,
    /// It is stopping: no new session begins.
    pub draining: bool,
    /// Whether evidence can be written.
    pub evidence: State,
    /// The keys of each issuer.
    pub issuers: Vec<KeyHealth>,
    /// Hash of the policy in force, hexadecimal.
    pub policy: String,
    /// Which configuration is in force: counts up.
    pub generation: u64,
    /// The last reload was refused: what is on disk is not what is in force.
    pub reload_refused: bool,
    /// Targets.
    pub targets: Vec<TargetHealth>,
}

/// A part that keeps the gateway from being ready.
struct Missing {
    part: &'static str,
    why: String,
}

impl Health {
    /// Whether the process moves.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.stalled_shards.is_empty()
    }

    /// The page of `/live`.
    #[must_use]
    pub fn live_page(&self) -> Value {
        json!({ "live": self.is_live(), "stalled_shards": self.stalled_shards })
    }

    /// Whether new sessions can be served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut add = |part, why: String| missing.push(Missing { part, why });
        if self.draining {
            add("draining", "the gateway is being stopped".to_owned());
        }
        match &self.evidence {
            State::Running => {}
            State::Constrained(reason) => add("evidence", format!("new work is refused: {reason}")),
            State::Stopped(stopped) => add("evidence", stopped.to_string()),
        }
        // One issuer that is down keeps its own tokens out; the others' are served.
        if !self.issuers.iter().any(|issuer| issuer.usable) {
            let names: Vec<&str> = self.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
            add("keys", format!("no issuer has keys that may be believed: {}", names.join(", ")));
        }
        if !self.is_live() {
            add("shards", format!("shards that do not come round: {:?}", self.stalled_shards));
        }
        missing
    }

    /// The page of `/ready`.
    #[must_use]
    pub fn ready_page(&self) -> Value {
        let missing = self.missing();
        let (evidence, evidence_detail) = match &self.evidence {
            State::Running => ("running", None),
            State::Constrained(reason) => ("constrained", Some(reason.to_string())),
            State::Stopped(stopped) => ("stopped", Some(stopped.reason.to_string())),
        };
        json!({
            "ready": missing.is_empty(),
            "not_ready": missing.iter().map(|missing| json!({
                "part": missing.part,
                "why": missing.why,
            })).collect::<Vec<_>>(),
            "evidence": { "state": evidence, "detail": evidence_detail },
            "keys": self.issuers.iter().map(|issuer| json!({
                "issuer": issuer.issuer,
                "usable": issuer.usable,
                "age_s": issuer.age_s,
            })).collect::<Vec<_>>(),
            // Without a policy nothing starts, and a reload that is refused leaves the old one in force.
            "policy": {
                "loaded": true,
                "hash": self.policy,
                "generation": self.generation,
                "last_reload_refused": self.reload_refused,
            },
            "targets": self.targets.iter().map(|target| json!({
                "target": target.name,
                "reachable": target.trouble.is_none(),
                "trouble": target.trouble,
            })).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::evidence::{Constraint, Stopped, Wanting};

    fn healthy() -> Health {
        Health {
            stalled_shards: Vec::new(),
            draining: false,
            evidence: State::Running,
            issuers: vec![keys("corp", true), keys("github", false)],
            policy: "ab".to_owned(),
            generation: 1,
            reload_refused: false,
            targets: vec![TargetHealth { name: "crm".to_owned(), trouble: Some("down".to_owned()) }],
        }
    }

    fn keys(name: &str, usable: bool) -> KeyHealth {
        KeyHealth { issuer: name.to_owned(), usable, age_s: None, fetches_total: 1, failures_total: 0 }
    }

    fn parts(health: &Health) -> Vec<String> {
        let page = health.ready_page();
        assert_eq!(page["ready"], json!(health.is_ready()));
        let missing = page["not_ready"].as_array().unwrap();
        missing.iter().map(|missing| missing["part"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn one_issuer_with_keys_is_enough_and_a_target_never_decides() {
        assert_eq!(parts(&healthy()), Vec::<String>::new());
        assert_eq!(healthy().ready_page()["targets"][0]["reachable"], json!(false));
    }

    #[test]
    fn every_part_that_is_missing_is_named() {
        assert_eq!(parts(&Health { issuers: vec![keys("corp", false)], ..healthy() }), ["keys"]);
        assert_eq!(
            parts(&Health {
                evidence: State::Constrained(Constraint {
                    wanting: Wanting::Space,
                    reason: Arc::from("full")
                }),
                ..healthy()
            }),
            ["evidence"]
        );
        let stopped = State::Stopped(Stopped { reason: Arc::from("EIO") });
        let all = Health {
            evidence: stopped,
            draining: true,
            stalled_shards: vec![1],
            issuers: Vec::new(),
            ..healthy()
        };
        assert_eq!(parts(&all), ["draining", "evidence", "keys", "shards"]);
        assert!(!all.is_live());
    }
}
