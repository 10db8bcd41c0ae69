//! The pages of a pack, and the same as JSON.
//!
//! Owns: what the completeness block says. It stands on the index page and in pack.json, once for the pack and with each
//! population's own filter, count and range.

use serde_json::{Value as Json, json};

use super::Listing;
use super::control::{self, CRITERIA, POPULATIONS};
use super::recipe::Recipe;
use crate::audit::columns::{COLUMNS, Cell};
use crate::audit::coverage::Coverage;
use crate::audit::event::Event;
use crate::audit::html;
use crate::audit::time::rfc3339;
use crate::evidence::describe::hex;
use crate::evidence::verify::Report;

/// What every listing is complete with regard to.
pub struct Basis<'b> {
    /// What the pack is made by.
    pub recipe: &'b Recipe,
    /// What was proven of the evidence that lies in the pack.
    pub report: &'b Report,
    /// Which of the period's time the evidence speaks of.
    pub coverage: &'b Coverage,
    /// Events of the period.
    pub events: u64,
    /// Permitted Parses of the period, which are no events.
    pub parsed: u64,
    /// Statements of the period whose outcome is not known.
    pub unknown: u64,
}

impl Basis<'_> {
    fn gap_statement(&self) -> String {
        let report = self.report;
        let unanswered: u64 = report.open.iter().map(|session| session.unanswered).sum();
        format!(
            "Records 0 to {} were read, every one: their numbers have no gap, each one's hash, the chain over them and the order \
             of every session hold. {} session(s) have no closing record, and {unanswered} statement(s) of theirs no result. Of {} statement(s) of the period the \
             outcome is not known, for that reason or because the result says so: they are listed.",
            report.records.saturating_sub(1),
            report.open.len(),
            self.unknown
        )
    }

    /// The times of the period in which no gateway ran: nothing can stand in the log of them.
    fn pauses(&self) -> String {
        let pauses = self.coverage.pauses();
        if pauses.is_empty() {
            "none between the log's first record and its last".to_owned()
        } else {
            pauses.join("; ")
        }
    }

    /// Name and value of each line of the block.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let report = self.report;
        let checkpoint = report.signatures.last.as_ref().map_or_else(
            || "none".to_owned(),
            |last| format!("over {} records, {}, by {}", last.point.records, rfc3339(last.time_ns), last.key),
        );
        vec![
            (
                "period",
                format!(
                    "{} to {} (UTC, the end not included)",
                    rfc3339(self.recipe.from_ns),
                    rfc3339(self.recipe.to_ns)
                ),
            ),
            ("made by", self.recipe.operator.clone()),
            ("made at", rfc3339(self.recipe.made_ns)),
            (
                "made with",
                format!(
                    "pgturnstile {}, populations and map version {}",
                    self.recipe.program, self.recipe.version
                ),
            ),
            ("log", report.log_id.map(|id| hex(&id)).unwrap_or_default()),
            (
                "records",
                format!(
                    "{} in {} segment(s), {} to {}",
                    report.records,
                    report.segments,
                    rfc3339(report.first_ns),
                    rfc3339(report.last_ns)
                ),
            ),
            (
                "period covered",
                self.coverage
                    .uncovered()
                    .unwrap_or_else(|| "whole: the log begins before it and ends behind it".to_owned()),
            ),
            ("without a gateway", self.pauses()),
            (
                "events in the period",
                format!(
                    "{}, as `evidence query --kind '*' --count` counts them; {} permitted Parse(s) beside them, which ran nothing",
                    self.events, self.parsed
                ),
            ),
            ("gaps", self.gap_statement()),
            ("head", hex(&report.head)),
            ("last checkpoint", checkpoint),
            (
                "longest silence of checkpoints",
                format!("{} s", report.signatures.longest_silence_ns / 1_000_000_000),
            ),
            ("end", report.end.to_string()),
            (
                "samples",
                format!("seed {:?}, at most {} of each population", self.recipe.seed, self.recipe.samples),
            ),
            (
                "signed by",
                self.recipe.key.clone().unwrap_or_else(|| "nobody: this pack bears no signature".to_owned()),
            ),
        ]
    }

    /// The whole pack for programs.
    pub fn json(&self, listings: &[Listing]) -> Json {
        let block: serde_json::Map<String, Json> =
            self.lines().into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect();
        let populations: Vec<Json> = POPULATIONS
            .iter()
            .zip(listings)
            .map(|(population, listing)| {
                let drawn: Vec<u64> =
                    listing.sample.drawn().into_iter().map(|(sequence, _)| sequence).collect();
                json!({
                    "name": population.name,
                    "title": population.title,
                    "filter": population.filter,
                    "criteria": population.criteria,
                    "count": listing.count,
                    "first_sequence": listing.range.map(|range| range.0),
                    "last_sequence": listing.range.map(|range| range.1),
                    "file": format!("populations/{}.csv", population.name),
                    "sample": drawn,
                })
            })
            .collect();
        json!({ "made": self.recipe, "completeness": block, "sound": self.report.sound(), "records": self.report.records, "populations": populations })
    }

    /// The one page that an auditor begins with.
    pub fn index(&self, listings: &[Listing]) -> String {
        let mut page = html::head("Evidence for the period");
        page.push_str("<h2>Completeness</h2>\n");
        page.push_str(&html::table(["what", "value"]));
        for (name, value) in self.lines() {
            page.push_str(&html::row([Cell::Text(name.to_owned()), Cell::Text(value)]));
        }
        page.push_str(html::TABLE_END);
        if !self.report.sound() {
            let what: Vec<String> = self.report.findings.iter().map(|(_, text)| html::text(text)).collect();
            page.push_str(&format!(
                "<p class=\"no\">The evidence is broken: {}. Nothing behind it is in this pack.</p>\n",
                what.join("; ")
            ));
        }
        page.push_str(
            "<p>To check all of this on another machine, with this folder and the program alone: \
             <code>pgturnstile verify FOLDER</code>, with <code>--checkpoint FILE</code> where you keep a checkpoint of your own, \
             and <code>--key KEY</code> where you know the key. To draw the samples again: of a population, those with the smallest \
             blake3 of seed, name and sequence, each ended by a newline. <code>verify</code> makes every listing, packet and page of \
             this pack anew from the evidence in it, and says which one differs.</p>\n<h2>Populations</h2>\n",
        );
        page.push_str("<table><thead><tr><th>population</th><th>filter</th><th>criteria</th><th>count</th><th>sequences</th><th>samples</th></tr></thead><tbody>\n");
        for (population, listing) in POPULATIONS.iter().zip(listings) {
            page.push_str(&population_row(population, listing));
        }
        page.push_str(html::TABLE_END);
        page.push_str("<h2>Trust Services Criteria</h2>\n<p>2017 criteria, points of focus of 2022. Points of focus are guidance. A criterion that is not listed has no evidence here.</p>\n");
        page.push_str(&html::table(["criterion", "asks", "what the gateway does", "populations"]));
        for criterion in CRITERIA {
            page.push_str(&html::row(criterion_cells(criterion)));
        }
        page.push_str(html::TABLE_END);
        page.push_str(html::FOOT);
        page
    }
}

/// The cells of the map's row, for the page and for criteria.csv.
pub fn criterion_cells(criterion: &control::Criterion) -> [Cell; 4] {
    let populations = POPULATIONS.iter().filter(|population| population.criteria.contains(&criterion.number));
    [
        Cell::Text(criterion.number.to_owned()),
        Cell::Text(criterion.asks.to_owned()),
        Cell::Text(criterion.control.to_owned()),
        Cell::List(populations.map(|population| population.name.to_owned()).collect()),
    ]
}

fn population_row(population: &control::Population, listing: &Listing) -> String {
    let range = listing.range.map_or_else(|| "none".to_owned(), |(first, last)| format!("{first} to {last}"));
    let samples: Vec<String> = listing
        .sample
        .drawn()
        .iter()
        .map(|(sequence, _)| format!("<a href=\"packets/{sequence}.html\">{sequence}</a>"))
        .collect();
    format!(
        "<tr><td><a href=\"populations/{0}.csv\">{1}</a></td><td>{2}</td><td>{3}</td><td>{4}</td><td>{range}</td><td>{5}</td></tr>\n",
        population.name,
        html::text(population.title),
        html::text(population.filter),
        population.criteria.join(", "),
        listing.count,
        samples.join(" ")
    )
}

/// One sample: the event, and where its session's transcript is.
pub fn packet(event: &Event) -> String {
    let mut page = html::head(&format!("Sample: record {}", event.sequence));
    page.push_str(&html::table(["column", "value", "what it says"]));
    for column in COLUMNS {
        let cell = (column.cell)(event);
        if cell != Cell::Empty {
            let (name, meaning) = (column.name.to_owned(), column.meaning.to_owned());
            page.push_str(&html::row([Cell::Text(name), cell, Cell::Text(meaning)]));
        }
    }
    page.push_str(html::TABLE_END);
    page.push_str(&format!(
        "<p><a href=\"../sessions/{0}.html\">Transcript of session {0}</a> · <a href=\"../index.html\">Index</a></p>\n{1}",
        hex(&event.stream),
        html::FOOT
    ));
    page
}

/// The transcript of a session.
pub fn transcript(session: &str, lines: &str) -> String {
    // The lines are escaped already: what could deceive stands as \u{…}, and a backslash as two.
    let mut page = html::head(&format!("Session {session}"));
    page.push_str("<pre>");
    page.push_str(&html::tags(lines));
    page.push_str("</pre>\n<p><a href=\"../index.html\">Index</a></p>\n");
    page.push_str(html::FOOT);
    page
}
