//! Which time a log speaks of: from its first record to its last, without the times in which no gateway ran.
//!
//! Owns: the words about a period that a log does not cover. An answer of nothing, about a time of which the log holds nothing, is no
//! answer. Records come in the log's order; their times are the gateway's clock's. Memory is bounded: `PAUSES_KEPT`.

use super::time::rfc3339;
use crate::evidence::format::RecordView;
use crate::evidence::record::Kind;

/// Times without a gateway that are told one by one.
const PAUSES_KEPT: usize = 10;

/// A time in which no gateway ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    from_ns: u64,
    to_ns: u64,
    /// The gateway before it ended in order.
    ordered: bool,
}

/// What a log holds of a period.
#[derive(Clone, Debug)]
pub struct Coverage {
    from_ns: Option<u64>,
    to_ns: Option<u64>,
    first_ns: Option<u64>,
    last: Option<(u64, Kind)>,
    pauses: Vec<Pause>,
    more_pauses: u64,
}

impl Coverage {
    /// Of the period from one moment on and before another, nanoseconds since 1970 UTC; an end that nobody named is the log's.
    pub fn of(from_ns: Option<u64>, to_ns: Option<u64>) -> Coverage {
        Coverage { from_ns, to_ns, first_ns: None, last: None, pauses: Vec::new(), more_pauses: 0 }
    }

    /// Takes a record that was found sound.
    pub fn record(&mut self, record: &RecordView<'_>) {
        let header = record.header();
        // The walk has decoded it already: what cannot be decoded never comes here.
        if let Some(kind) = Kind::from_code(header.kind) {
            self.take(kind, header.wall_ns);
        }
    }

    /// Takes a record's kind and time.
    fn take(&mut self, kind: Kind, time_ns: u64) {
        self.first_ns.get_or_insert(time_ns);
        if let (Kind::GatewayStarted, Some((last_ns, last))) = (kind, self.last) {
            self.pause(Pause { from_ns: last_ns, to_ns: time_ns, ordered: last == Kind::GatewayStopped });
        }
        self.last = Some((time_ns, kind));
    }

    fn pause(&mut self, pause: Pause) {
        let (from, to) = (self.from_ns.unwrap_or(0), self.to_ns.unwrap_or(u64::MAX));
        if pause.from_ns >= to || pause.to_ns <= from {
            return;
        }
        if self.pauses.len() < PAUSES_KEPT {
            self.pauses.push(pause);
        } else {
            self.more_pauses += 1;
        }
    }

    /// What the log does not cover of the period, at its ends; `None` where it does.
    pub fn uncovered(&self) -> Option<String> {
        let (Some(first), Some((last, _))) = (self.first_ns, self.last) else {
            return Some("the log holds no record: nothing in it speaks of any time".to_owned());
        };
        let span = |from: u64, to: u64| format!("{} to {}", rfc3339(from), rfc3339(to));
        // Of a period that ends before the log begins, or begins behind its end, all is uncovered.
        let before = self
            .from_ns
            .filter(|from| *from < first)
            .map(|from| (from, self.to_ns.unwrap_or(first).min(first)));
        let behind =
            self.to_ns.filter(|to| *to > last).map(|to| (self.from_ns.unwrap_or(last).max(last), to));
        let open = match (self.from_ns, self.to_ns) {
            (Some(from), None) if from > last => Some(format!("anything from {} on", rfc3339(from))),
            (None, Some(to)) if to <= first => Some(format!("anything before {}", rfc3339(to))),
            (Some(_) | None, Some(_) | None) => None,
        };
        let parts: Vec<String> =
            [before, behind].into_iter().flatten().map(|(from, to)| span(from, to)).chain(open).collect();
        (!parts.is_empty()).then(|| {
            format!(
                "the log holds {}: nothing in it speaks of {}",
                span(first, last),
                parts.join(", nor of ")
            )
        })
    }

    /// The times inside the period in which no gateway ran, a line each.
    pub fn pauses(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .pauses
            .iter()
            .map(|pause| {
                let how = if pause.ordered {
                    "no gateway ran: it was stopped"
                } else {
                    "no record: the gateway before ended without an orderly stop"
                };
                format!("{} to {}: {how}", rfc3339(pause.from_ns), rfc3339(pause.to_ns))
            })
            .collect();
        if self.more_pauses > 0 {
            lines.push(format!("and {} more", self.more_pauses));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn read(from_s: u64, to_s: u64) -> Coverage {
        let mut coverage = Coverage::of(Some(from_s * SECOND), Some(to_s * SECOND));
        for (kind, at_s) in [
            (Kind::GatewayStarted, 10),
            (Kind::Statement, 12),
            (Kind::GatewayStopped, 14),
            (Kind::GatewayStarted, 20),
            (Kind::Statement, 22),
            (Kind::GatewayStarted, 30),
            (Kind::Statement, 40),
        ] {
            coverage.take(kind, at_s * SECOND);
        }
        coverage
    }

    #[test]
    fn what_lies_outside_the_log_is_named_and_what_lies_inside_is_not() {
        assert_eq!(read(10, 40).uncovered(), None);
        for (period, says) in [
            ((0, 5), "speaks of 1970-01-01T00:00:00Z to 1970-01-01T00:00:05Z"),
            ((50, 60), "speaks of 1970-01-01T00:00:50Z to 1970-01-01T00:01:00Z"),
            ((5, 15), "speaks of 1970-01-01T00:00:05Z to 1970-01-01T00:00:10Z"),
            ((15, 60), "speaks of 1970-01-01T00:00:40Z to 1970-01-01T00:01:00Z"),
            ((5, 60), "00:00:10Z, nor of 1970-01-01T00:00:40Z to 1970-01-01T00:01:00Z"),
        ] {
            let said = read(period.0, period.1).uncovered().unwrap();
            assert!(said.ends_with(says), "{said}");
            assert!(
                said.starts_with("the log holds 1970-01-01T00:00:10Z to 1970-01-01T00:00:40Z: "),
                "{said}"
            );
        }
        assert!(Coverage::of(Some(0), Some(1)).uncovered().is_some());
        let mut coverage = Coverage::of(Some(50 * SECOND), None);
        coverage.take(Kind::GatewayStarted, 10 * SECOND);
        assert!(coverage.uncovered().unwrap().ends_with("speaks of anything from 1970-01-01T00:00:50Z on"));
    }

    #[test]
    fn times_without_a_gateway_are_told_where_they_touch_the_period() {
        let lines = read(0, 60).pauses();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("00:00:20Z: no gateway ran: it was stopped"), "{lines:?}");
        assert!(
            lines[1].starts_with("1970-01-01T00:00:22Z to") && lines[1].contains("without an orderly stop")
        );
        assert_eq!(read(15, 19).pauses().len(), 1);
        assert!(read(10, 14).pauses().is_empty() && read(30, 60).pauses().is_empty());
    }
}
