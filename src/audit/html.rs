//! HTML that runs nothing and hides nothing.
//!
//! Owns: the escaping, and the frame of a page: no script, nothing from elsewhere (a policy in the page forbids both), readable on
//! paper. What could reorder or hide text is shown as `\u{…}`.

use super::columns::Cell;
use super::csv::plain;
use crate::evidence::describe::escaped;

/// Every page's style: plain, and fit to print.
const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#111;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}table{border-collapse:collapse;width:100%;font-size:12px}\
th,td{border:1px solid #bbb;padding:3px 6px;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#eee}\
code,pre{font:12px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}.no{color:#a00;font-weight:bold}\
@media print{body{margin:0;max-width:none;font-size:10pt}thead{display:table-header-group}tr{break-inside:avoid}h2{break-after:avoid}}";

/// A text of somebody's, for between tags and inside quoted attributes.
pub fn text(text: &str) -> String {
    tags(&escaped(text))
}

/// Lines that were escaped for a terminal already: no word of them becomes a tag.
pub fn tags(lines: &str) -> String {
    let mut safe = String::with_capacity(lines.len());
    for character in lines.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Everything before a page's content.
pub fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>\n<style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        text(title)
    )
}

/// Everything behind it.
pub const FOOT: &str = "</body></html>\n";

/// The beginning of a table with these titles.
pub fn table<'t>(titles: impl IntoIterator<Item = &'t str>) -> String {
    let cells: Vec<String> = titles.into_iter().map(|title| format!("<th>{}</th>", text(title))).collect();
    format!("<table><thead><tr>{}</tr></thead><tbody>\n", cells.concat())
}

/// The end of a table.
pub const TABLE_END: &str = "</tbody></table>\n";

/// A row.
pub fn row(cells: impl IntoIterator<Item = Cell>) -> String {
    let cells: Vec<String> =
        cells.into_iter().map(|cell| format!("<td>{}</td>", text(&plain(&cell)))).collect();
    format!("<tr>{}</tr>", cells.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_becomes_a_tag_or_moves_text() {
        assert_eq!(
            text("<b a=\"x\" c='y'>&\u{202e}\u{200b}\u{1b}"),
            "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;\\u{202e}\\u{200b}\\u{1b}"
        );
        let page =
            format!("{}{}{}{FOOT}", head("<script>"), table(["a"]), row([Cell::Text("<script>".into())]));
        assert!(!page.contains("<script"), "{page}");
    }
}
