//! A scan's report for people.

use std::io;
use std::path::Path;

use super::super::Out;
use super::super::out::{aligned, shortened};
use crate::evidence::describe::escaped;
use crate::scan::report::{Column, Finding, Report};

/// Relations that were skipped for one reason and are named one by one.
const NAMED_MAX: usize = 8;
/// Most characters of a name, a type, a shape, a label.
const CELL_CHARACTERS: usize = 60;

/// Prints the report.
///
/// # Errors
/// The output cannot be written.
pub(super) fn show(report: &Report, baseline: Option<&Path>, out: &mut Out<'_>) -> io::Result<()> {
    let sampled = report.relations.iter().filter(|relation| relation.sample.is_some()).count();
    let rows: u64 = report.relations.iter().filter_map(|relation| Some(relation.sample.as_ref()?.rows)).sum();
    out.line(format_args!(
        "{}, database {}, PostgreSQL {}, as {}: {sampled} of {} relations sampled, {rows} rows, {} columns",
        escaped(&report.target),
        escaped(&report.database),
        escaped(&report.server),
        escaped(&report.login),
        report.relations.len(),
        report.columns.len(),
    ))?;
    findings(report, out)?;
    skipped(report, out)?;
    drift(report, baseline, out)?;
    verdict(report, out)
}

fn findings(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    let mut found: Vec<(&Column, &Finding)> =
        report.columns.iter().filter_map(|column| Some((column, column.finding.as_ref()?))).collect();
    found.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.confidence));
    if found.is_empty() {
        return out.line("\nNo column holds anything that is known here.");
    }
    let titles = [
        ("CONFIDENCE", false),
        ("COLUMN", false),
        ("TYPE", false),
        ("CLASS", false),
        ("MATCHED", true),
        ("OF", true),
        ("SHAPES", false),
        ("LABEL", false),
    ];
    let rows = found.into_iter().map(|(column, finding)| {
        let cells = [
            finding.confidence.name().to_owned(),
            format!("{}.{}.{}", column.schema, column.relation, column.column),
            column.type_name.clone(),
            std::iter::once(&finding.class)
                .chain(&finding.also)
                .map(|class| class.name())
                .collect::<Vec<_>>()
                .join(", "),
            match (finding.percent, finding.matched.at_most) {
                (_, 0) => "by name".to_owned(),
                (Some(percent), _) => format!("{percent} %"),
                (None, most) => format!("< {}", most + 1),
            },
            column.looked.to_string(),
            finding.shapes.iter().map(|share| share.shape.as_str()).collect::<Vec<_>>().join("  "),
            column.label.as_ref().map_or_else(|| "none".to_owned(), |label| label.place.clone()),
        ];
        cells.iter().map(|cell| shortened(&escaped(cell), CELL_CHARACTERS)).collect()
    });
    out.line("")?;
    for line in aligned(&titles, rows) {
        out.line(line)?;
    }
    Ok(())
}

/// What was not read, by reason, and what was read in part.
fn skipped(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for relation in &report.relations {
        let name = format!("{}.{}", relation.schema, relation.name);
        let cut = relation.sample.as_ref().and_then(|sample| sample.cut.as_deref());
        for why in relation.skipped.as_deref().into_iter().chain(cut) {
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name.clone()),
                None => reasons.push((why, vec![name.clone()])),
            }
        }
    }
    let columns = report
        .columns
        .iter()
        .filter(|column| column.skipped.as_deref() == Some("permission denied on the column"));
    let columns: Vec<String> =
        columns.map(|column| format!("{}.{}.{}", column.schema, column.relation, column.column)).collect();
    if !columns.is_empty() {
        reasons.push(("permission denied on the column", columns));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    out.line("\nNot read, or not to the end:")?;
    for (why, names) in reasons {
        let more = names.len().saturating_sub(NAMED_MAX);
        let named = names.iter().take(NAMED_MAX).map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.line(format_args!("  {named}{more}: {}", escaped(why)))?;
    }
    Ok(())
}

fn drift(report: &Report, baseline: Option<&Path>, out: &mut Out<'_>) -> io::Result<()> {
    let (Some(drift), Some(baseline)) = (&report.drift, baseline) else { return Ok(()) };
    if drift.is_empty() {
        return out.line(format_args!("\nNothing has changed since {}.", baseline.display()));
    }
    out.line(format_args!("\nChanged since {}:", baseline.display()))?;
    for changed in drift {
        let name = escaped(&format!("{}.{}.{}", changed.schema, changed.relation, changed.column));
        let span = match (&changed.before, &changed.now) {
            (Some(before), Some(now)) => format!(": {before} → {now}"),
            (Some(before), None) => format!(" (was {before})"),
            (None, Some(now)) => format!(": {now}"),
            (None, None) => String::new(),
        };
        out.line(format_args!("  {name}: {}{}", changed.change.words(), escaped(&span)))?;
    }
    Ok(())
}

fn verdict(report: &Report, out: &mut Out<'_>) -> io::Result<()> {
    let least = report.settings.min_confidence;
    let read = report.relations.iter().filter(|relation| relation.skipped.is_none()).count();
    match report.unlabelled {
        // Of what was not read nothing is known.
        0 if read == 0 => Ok(()),
        0 => out.line(format_args!(
            "\nOf the {read} relation(s) looked at, no column of {least} confidence or more lacks a label."
        )),
        count => out.line(format_args!(
            "\n{count} column(s) of {least} confidence or more lack a label. Next: the same with --toml prints labels for the policy."
        )),
    }
}
