//! Prometheus' text format.
//!
//! Owns: how families, samples and label values are written (text format 0.0.4,
//! `https://prometheus.io/docs/instrumenting/exposition_formats/`). May not: know a metric. Writing to memory never fails.

use std::fmt::Write as _;

use crate::evidence::Spread;

/// The format's media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as they are written.
#[derive(Default)]
pub(super) struct Text {
    out: String,
}

/// One family: the samples of one name.
pub(super) struct Family<'t> {
    text: &'t mut Text,
    name: &'static str,
}

impl Text {
    /// A family of this name, type (`counter`, `gauge`, `histogram`) and meaning.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a String cannot fail.
        let _written = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: self, name }
    }

    /// A counter of one sample.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "counter", help).sample(&[], value);
    }

    /// A gauge of one sample.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "gauge", help).sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.line("", labels, value);
    }

    /// A whole histogram; bounds and sum are divided by `unit` to give the unit of the name.
    pub(super) fn spread(&mut self, spread: &Spread, unit: u64) {
        for (bound, count) in &spread.buckets {
            self.line("_bucket", &[("le", &ratio(*bound, unit))], count);
        }
        self.line("_bucket", &[("le", "+Inf")], spread.count);
        self.line("_sum", &[], ratio(spread.sum, unit));
        self.line("_count", &[], spread.count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let out = &mut self.text.out;
        out.push_str(self.name);
        out.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            out.push_str(name);
            out.push_str("=\"");
            value.chars().for_each(|character| match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            });
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _written = writeln!(out, " {value}");
    }
}

/// `value / unit` in decimal, exact: units are powers of ten.
fn ratio(value: u64, unit: u64) -> String {
    let digits = unit.checked_ilog10().unwrap_or(0) as usize;
    if digits == 0 {
        return value.to_string();
    }
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_wants_them() {
        let mut text = Text::default();
        text.gauge("a_bytes", "How many.", 7);
        let mut family = text.family("b_total", "counter", "Of what.");
        family.sample(&[("kind", "x\"y\\z\nw"), ("other", "é")], 3);
        assert_eq!(
            text.finish(),
            "# HELP a_bytes How many.\n# TYPE a_bytes gauge\na_bytes 7\n# HELP b_total Of what.\n# TYPE b_total counter\n\
             b_total{kind=\"x\\\"y\\\\z\\nw\",other=\"é\"} 3\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_and_speaks_seconds() {
        let mut text = Text::default();
        let spread = Spread { buckets: vec![(50, 1), (1_000_000, 2)], count: 3, sum: 2_000_150 };
        text.family("c_seconds", "histogram", "How long.").spread(&spread, 1_000_000);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "c_seconds_bucket{le=\"0.00005\"} 1",
                "c_seconds_bucket{le=\"1\"} 2",
                "c_seconds_bucket{le=\"+Inf\"} 3",
                "c_seconds_sum 2.00015",
                "c_seconds_count 3"
            ]
        );
    }

    #[test]
    fn ratios_are_exact() {
        assert_eq!(ratio(0, 1_000), "0");
        assert_eq!(ratio(1_500, 1_000), "1.5");
        assert_eq!(ratio(20_000, 1_000), "20");
        assert_eq!(ratio(20, 1), "20");
    }
}
