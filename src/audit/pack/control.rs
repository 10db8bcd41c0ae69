//! Which events stand for which control, and which of the Trust Services Criteria a control speaks to.
//!
//! Owns: the populations and the map. Criteria: AICPA, 2017 Trust Services Criteria with the points of focus revised 2022; the
//! numbers are theirs, the words are ours. The map is versioned: an auditor who kept an older pack sees what changed.

use crate::audit::event::{Body, Event};
use crate::evidence::record::Kind;

/// Version of the populations, of the map, and of the form of every listing and page: who verifies a pack makes them anew, so what
/// changes a byte of them is a new version.
pub const VERSION: u32 = 3;

/// A population: everything of one sort in the period.
#[derive(Debug)]
pub struct Population {
    /// Its name: that of its files, too.
    pub name: &'static str,
    /// What it lists.
    pub title: &'static str,
    /// The filter in words that can be checked.
    pub filter: &'static str,
    /// Criteria that it speaks to.
    pub criteria: &'static [&'static str],
    /// Whether an event belongs to it.
    pub takes: fn(&Event) -> bool,
}

fn kind(event: &Event, kinds: &[Kind]) -> bool {
    matches!(&event.body, Body::Record(kind, _) if kinds.contains(kind))
}

/// A statement that ran or was refused, with a class that `wanted` takes.
fn class(event: &Event, wanted: impl Fn(&str) -> bool) -> bool {
    event
        .statement()
        .is_some_and(|statement| !statement.runs_nothing && statement.classes().into_iter().any(wanted))
}

fn within(class: &str, wanted: &str) -> bool {
    class == wanted || class.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
}

/// Every population.
pub const POPULATIONS: &[Population] = &[
    Population {
        name: "logins",
        title: "Logins that were proven",
        filter: "records of kind authenticated",
        criteria: &["CC6.1", "CC6.2"],
        takes: |event| kind(event, &[Kind::Authenticated]),
    },
    Population {
        name: "denied-logins",
        title: "Logins that were denied",
        filter: "records of kind authentication-denied",
        criteria: &["CC6.1", "CC6.6"],
        takes: |event| kind(event, &[Kind::AuthenticationDenied]),
    },
    Population {
        name: "refused-statements",
        title: "Statements that were refused",
        filter: "statements with verdict refuse or outcome refused: held ones that nobody approved among them",
        criteria: &["CC6.3", "CC6.8", "CC7.2"],
        takes: |event| {
            event
                .statement()
                .is_some_and(|statement| statement.verdict() == "refuse" || statement.outcome() == "refused")
        },
    },
    Population {
        name: "held-statements",
        title: "Statements that waited for people, whatever became of them",
        filter: "statements with verdict hold that run something",
        criteria: &["CC6.3", "CC8.1"],
        takes: |event| {
            event
                .statement()
                .is_some_and(|statement| statement.verdict() == "hold" && !statement.runs_nothing)
        },
    },
    Population {
        name: "decisions",
        title: "What people decided of held statements and tickets, and tried to",
        filter: "records of kind hold-decided or ticket-decided",
        criteria: &["CC6.3", "CC8.1", "CC7.4"],
        takes: |event| kind(event, &[Kind::HoldDecided, Kind::TicketDecided]),
    },
    Population {
        name: "schema-changes",
        title: "Changes of the schema, refused ones included",
        filter: "statements with a class of ddl",
        criteria: &["CC8.1"],
        takes: |event| class(event, |class| within(class, "ddl")),
    },
    Population {
        name: "privileged-statements",
        title: "Grants, administration and truncation, refused ones included",
        filter: "statements with a class of dcl or admin, or write.truncate",
        criteria: &["CC6.3", "CC8.1"],
        takes: |event| {
            class(event, |class| within(class, "dcl") || within(class, "admin") || class == "write.truncate")
        },
    },
    Population {
        name: "writes-without-predicate",
        title: "Updates and deletes of whole tables, refused ones included",
        filter: "statements that update or delete in a relation without a predicate",
        criteria: &["CC6.8", "PI1.3"],
        takes: |event| {
            event.statement().is_some_and(|statement| {
                !statement.runs_nothing
                    && statement
                        .judged
                        .facts
                        .iter()
                        .flat_map(|facts| &facts.relations)
                        .any(|relation| relation.blind)
            })
        },
    },
    Population {
        name: "exports",
        title: "Bulk reads: COPY, and results over 10,000 rows",
        filter: "statements with a class of export, or with more than 10,000 rows",
        criteria: &["CC6.7", "C1.1"],
        takes: |event| {
            class(event, |class| within(class, "export"))
                || event.statement().is_some_and(|statement| statement.rows() > 10_000)
        },
    },
    Population {
        name: "masked-reads",
        title: "Results in which values were masked",
        filter: "statements of whose result at least one value was masked",
        criteria: &["CC6.7", "C1.1", "P4.1"],
        takes: |event| event.statement().is_some_and(|statement| statement.masked_values() > 0),
    },
    Population {
        name: "unknown-outcomes",
        title: "Statements whose end is not known",
        filter: "statements with outcome unknown: their session was cut off, or ended before their end came",
        criteria: &["PI1.3", "CC7.4"],
        takes: |event| event.statement().is_some_and(|statement| statement.outcome() == "unknown"),
    },
    Population {
        name: "configuration-changes",
        title: "Configuration and policy, loaded and refused",
        filter: "records of kind document-loaded",
        criteria: &["CC7.1", "CC8.1"],
        takes: |event| kind(event, &[Kind::DocumentLoaded]),
    },
    Population {
        name: "anomalies",
        title: "Broken protocol, moved settings, cancel requests, clock steps",
        filter: "records of kind protocol-violation, setting-moved, cancel-requested, and clock",
        criteria: &["CC7.2", "CC7.3"],
        takes: |event| {
            kind(event, &[Kind::ProtocolViolation, Kind::SettingMoved, Kind::CancelRequested, Kind::Clock])
        },
    },
    Population {
        name: "operation",
        title: "Starts, stops, recoveries, changes of the signing key",
        filter: "records of kind gateway-started, gateway-stopped, recovered, key-rotated",
        criteria: &["A1.2", "CC4.1", "CC7.5"],
        takes: |event| {
            kind(event, &[Kind::GatewayStarted, Kind::GatewayStopped, Kind::Recovered, Kind::KeyRotated])
        },
    },
];

/// A criterion, in our words, and what this product can show for it.
#[derive(Debug)]
pub struct Criterion {
    /// Its number.
    pub number: &'static str,
    /// What it asks, in short.
    pub asks: &'static str,
    /// What the gateway does about it.
    pub control: &'static str,
}

/// The criteria that the gateway has evidence for. What is not here it has none for.
pub const CRITERIA: &[Criterion] = &[
    Criterion {
        number: "CC4.1",
        asks: "controls are evaluated",
        control: "the evidence is chained and signed; verify proves it; recoveries and changes of the key are recorded",
    },
    Criterion {
        number: "CC6.1",
        asks: "logical access is restricted",
        control: "only an identity that a trusted issuer vouches for reaches a target; the target's credential stays with the gateway",
    },
    Criterion {
        number: "CC6.2",
        asks: "users are authorized before they get access",
        control: "each login shows the token's subject, the person behind it, and the groups that gave access",
    },
    Criterion {
        number: "CC6.3",
        asks: "access follows roles and least privilege",
        control: "each statement is judged by the policy's permits and restricts, which it names with file and line; those that a rule \
                  holds wait for a quorum of people, none of whom asked for them",
    },
    Criterion {
        number: "CC6.6",
        asks: "access from outside is defended against",
        control: "one entry; refused connections are recorded with their reason",
    },
    Criterion {
        number: "CC6.7",
        asks: "movement of data is restricted",
        control: "bulk reads and masked results are recorded with counts, never with the values that were masked",
    },
    Criterion {
        number: "CC6.8",
        asks: "unauthorized changes are prevented",
        control: "statements that no permit covers, and those that a restrict names, are refused before the server sees them",
    },
    Criterion {
        number: "CC7.1",
        asks: "changes of configuration are detected",
        control: "every load of configuration and policy is recorded with the hashes before and after",
    },
    Criterion {
        number: "CC7.2",
        asks: "anomalies are monitored",
        control: "refusals, broken protocol and moved settings are recorded, and exported to a SIEM by evidence export --follow",
    },
    Criterion {
        number: "CC7.3",
        asks: "security events are evaluated",
        control: "each event stands with its session, from opening to close",
    },
    Criterion {
        number: "CC7.4",
        asks: "incidents are responded to",
        control: "statements whose end is not known are listed; the session's transcript shows what came before",
    },
    Criterion {
        number: "CC7.5",
        asks: "operation is recovered",
        control: "what a start cut off behind a crash is recorded: where, how much, why",
    },
    Criterion {
        number: "CC8.1",
        asks: "changes are authorized",
        control: "changes of the schema are listed with who asked, which rule decided, who approved where one was held, and what came back",
    },
    Criterion {
        number: "C1.1",
        asks: "confidential information is protected",
        control: "labelled columns leave masked; each masking is recorded by place and cause",
    },
    Criterion {
        number: "PI1.3",
        asks: "processing is complete, accurate and authorized",
        control: "statements are recorded in order, once, with their outcome, tag, rows and a keyed digest",
    },
    Criterion {
        number: "A1.2",
        asks: "the environment is available",
        control: "starts and stops are recorded; the gateway refuses when it cannot record",
    },
    Criterion {
        number: "P4.1",
        asks: "personal information is used as intended",
        control: "masked reads name the labels and detectors that acted",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_population_speaks_to_known_criteria_and_every_criterion_is_spoken_to() {
        for population in POPULATIONS {
            assert!(!population.criteria.is_empty());
            for number in population.criteria {
                assert!(CRITERIA.iter().any(|criterion| criterion.number == *number), "{number}");
            }
            assert!(population.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
        for criterion in CRITERIA {
            let spoken = POPULATIONS.iter().any(|population| population.criteria.contains(&criterion.number));
            assert!(spoken, "{}", criterion.number);
        }
    }
}
