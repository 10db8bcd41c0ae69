//! What a view is, read off the server's own analysed tree (`pg_rewrite.ev_action`).
//!
//! Owns: [`View`]. May not: parse SQL; the server did. The text is that of `nodeToString` (server file
//! src/backend/nodes/outfuncs.c): `{NODE :field value …}` in braces, with a backslash before every character of a name
//! that could be taken for more. Fails closed: a tree that does not read is no view, and the relation stays unknown.
//!
//! The targets of the outermost query stand two braces deep, and each says by `resorigtbl` and `resorigcol` whether it
//! is a bare column of a relation (of the view below, where it reads a view); zero says that it is not.

/// The definition of a view or materialized view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// For each of its columns in order, relation and column that it is, where it is a bare one.
    pub origins: Vec<Option<(u32, i16)>>,
    /// Every relation in it, at any depth, with the column where only that is read; 0 is the whole row, or unknown.
    pub reads: Vec<(u32, i16)>,
    /// Every function that it names.
    pub functions: Vec<u32>,
    /// Operators and types outside the built-ins that it names.
    pub others: Vec<u32>,
    /// Some row is taken whole, which the server's dependencies do not tell.
    pub whole: bool,
    /// What its rows depend on; `None` where that does not read.
    pub comparisons: Option<Vec<super::Comparison>>,
    /// The first reason why reading it runs code that is not reviewed; filled in beside the other relations' reasons.
    pub code: Option<std::sync::Arc<str>>,
}

/// Fields whose value is the oid of a function.
pub(super) const FUNCTIONS: [&str; 9] = [
    ":funcid",
    ":opfuncid",
    ":hashfuncid",
    ":negfuncid",
    ":aggfnoid",
    ":winfnoid",
    ":tsmhandler",
    ":startInRangeFunc",
    ":endInRangeFunc",
];

/// Fields whose value is the oid of an operator or a type.
const OTHERS: [&str; 4] = [":opno", ":eqop", ":sortop", ":resulttype"];

/// Where the reader stands.
#[derive(Default)]
struct Scan<'t> {
    depth: usize,
    /// Depth of a list's parentheses inside the outermost targetList; 0 outside of it.
    in_targets: bool,
    field: &'t str,
    origin: (u32, i16),
    junk: bool,
}

/// Reads the tree of a view's rule; `None` where it does not read.
pub(super) fn read(tree: &str) -> Option<View> {
    let mut view = View::default();
    let mut scan = Scan::default();
    let mut rest = tree;
    while let Some((token, left)) = next(rest) {
        rest = left;
        match token {
            "{" => scan.depth += 1,
            "}" => {
                if scan.depth == 2 && scan.in_targets && !scan.junk {
                    let (relation, column) = scan.origin;
                    view.origins.push((relation != 0 && column > 0).then_some((relation, column)));
                }
                scan.depth = scan.depth.checked_sub(1)?;
                if scan.depth == 1 && scan.in_targets {
                    scan.origin = (0, 0);
                    scan.junk = false;
                }
            }
            "(" | ")" => {}
            field if field.starts_with(':') => {
                scan.field = field;
                if scan.depth == 1 {
                    scan.in_targets = field == ":targetList";
                    scan.origin = (0, 0);
                    scan.junk = false;
                }
            }
            value => take(&mut view, &mut scan, value)?,
        }
    }
    (scan.depth == 0 && !view.origins.is_empty()).then_some(view)
}

fn take(view: &mut View, scan: &mut Scan<'_>, value: &str) -> Option<()> {
    let top = scan.depth == 2 && scan.in_targets;
    match std::mem::take(&mut scan.field) {
        ":resorigtbl" if top => scan.origin.0 = value.parse().ok()?,
        ":resorigcol" if top => scan.origin.1 = value.parse().ok()?,
        ":resjunk" if top => scan.junk = value == "true",
        ":relid" => {
            let relation: u32 = value.parse().ok()?;
            if relation != 0 {
                view.reads.push((relation, 0));
            }
        }
        ":varattno" => view.whole |= value == "0",
        field if FUNCTIONS.contains(&field) => {
            let function: u32 = value.parse().ok()?;
            if function != 0 {
                view.functions.push(function);
            }
        }
        field if OTHERS.contains(&field) => {
            let other: u32 = value.parse().ok()?;
            if other >= super::FIRST_USER_OID {
                view.others.push(other);
            }
        }
        _ => {}
    }
    Some(())
}

/// One expression over the columns of one relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expression {
    /// Numbers of the columns in it; 0 is the whole row.
    pub(super) columns: Vec<i16>,
    /// Every function that it names, also by an operator.
    pub(super) functions: Vec<u32>,
    /// Beside calls it is made of nodes that fail for no value.
    pub(super) plain: bool,
}

/// Nodes that fail for no value, save by the functions that they call.
pub(super) const PLAIN: [&str; 17] = [
    "VAR",
    "CONST",
    "FUNCEXPR",
    "OPEXPR",
    "DISTINCTEXPR",
    "NULLIFEXPR",
    "RELABELTYPE",
    "BOOLEXPR",
    "NULLTEST",
    "BOOLEANTEST",
    "COALESCE",
    "COALESCEEXPR",
    "CASE",
    "CASEEXPR",
    "WHEN",
    "CASEWHEN",
    "COLLATEEXPR",
];

/// The expressions of a list, or the one that there is; of a predicate what its outermost AND joins counts one by one. `None` where
/// the tree does not read.
pub(super) fn expressions(tree: &str, predicate: bool) -> Option<Vec<Expression>> {
    let mut all: Vec<Expression> = Vec::new();
    let (mut depth, mut base, mut field, mut opened) = (0_usize, 0_usize, "", false);
    let mut rest = tree;
    while let Some((token, left)) = next(rest) {
        rest = left;
        match token {
            "{" => {
                if depth == base {
                    all.push(Expression { plain: true, ..Expression::default() });
                }
                depth += 1;
                opened = true;
                continue;
            }
            "}" => {
                depth = depth.checked_sub(1)?;
                base = base.min(depth);
            }
            "(" | ")" => {}
            name if name.starts_with(':') => {
                field = name;
                continue;
            }
            kind if opened => all.last_mut()?.plain &= PLAIN.contains(&kind),
            // Values of a constant stand in brackets behind its length.
            value => {
                if field == ":boolop" && value == "and" && predicate && depth == base + 1 {
                    all.pop();
                    base = depth;
                }
                if let Some(one) = all.last_mut() {
                    part(one, std::mem::take(&mut field), value)?;
                }
            }
        }
        opened = false;
    }
    all.iter_mut().for_each(|one| one.columns.dedup());
    (depth == 0).then_some(all)
}

fn part(one: &mut Expression, field: &str, value: &str) -> Option<()> {
    match field {
        ":varattno" => one.columns.push(value.parse().ok()?),
        field if FUNCTIONS.contains(&field) => one.functions.push(value.parse().ok()?),
        _ => {}
    }
    Some(())
}

/// The next token: a brace or parenthesis, or what stands up to the next blank or one of those. A character behind a
/// backslash is part of a word whatever it is.
pub(super) fn next(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\n', '\t']);
    let first = text.bytes().next()?;
    if matches!(first, b'{' | b'}' | b'(' | b')') {
        return Some(text.split_at(1));
    }
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'\\' => end += 2,
            b' ' | b'\n' | b'\t' | b'{' | b'}' | b'(' | b')' => break,
            _ => end += 1,
        }
    }
    // A backslash before a character of several bytes: on to its end.
    let mut end = end.min(bytes.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    Some(text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_targets_alone_are_columns_and_every_relation_counts() {
        let tree = r#"({QUERY :commandType 1 :rtable ({RTE :relid 16385 :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname \{\ \:resorigtbl :resorigtbl 9 :resorigcol 9 :resjunk false}) :rtable ({RTE :relid 16390})}}) :targetList ({TARGETENTRY :expr {FUNCEXPR :funcid 871 :args ({VAR :x 1})} :resno 1 :resname upper :resorigtbl 0 :resorigcol 0 :resjunk false} {TARGETENTRY :expr {VAR} :resno 2 :resname a\)b :resorigtbl 16385 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {VAR} :resorigtbl 16385 :resorigcol 3 :resjunk true}) :returningList <>})"#;
        let view = read(tree).expect("it reads");
        assert_eq!(view.origins, [None, Some((16385, 2))]);
        assert_eq!(view.reads, [(16385, 0), (16390, 0)]);
        assert_eq!(view.functions, [871]);
    }

    #[test]
    fn expressions_are_told_apart() {
        let (var, call) = (
            |n: i16| format!("{{VAR :varno 1 :varattno {n} :varlevelsup 0}}"),
            "{OPEXPR :opno 514 :opfuncid 141 :args",
        );
        let times = format!("{call} ({} {})}}", var(2), var(3));
        let list = format!(
            "({times} {{FUNCEXPR :funcid 870 :args ({} {{CONST :constvalue 4 [ 3 0 0 0 ]}})}})",
            var(4)
        );
        let found = expressions(&list, false).expect("it reads");
        assert_eq!(found[0], Expression { columns: vec![2, 3], functions: vec![141], plain: true });
        assert_eq!(found[1], Expression { columns: vec![4], functions: vec![870], plain: true });
        let both = format!(
            "{{BOOLEXPR :boolop and :args ({times} {{BOOLEXPR :boolop or :args ({} {})}})}}",
            var(5),
            var(6)
        );
        let columns = |predicate| {
            expressions(&both, predicate)
                .expect("it reads")
                .into_iter()
                .map(|one| one.columns)
                .collect::<Vec<_>>()
        };
        assert_eq!(columns(true), [vec![2, 3], vec![5, 6]]);
        assert_eq!(columns(false), [vec![2, 3, 5, 6]]);
        let cast = expressions(&format!("{{COERCEVIAIO :arg {}}}", var(2)), false).expect("it reads");
        assert!(!cast[0].plain);
        assert_eq!(expressions("", true), Some(Vec::new()));
        for torn in ["{OPEXPR :varattno x}", "{OPEXPR", "}"] {
            assert_eq!(expressions(torn, false), None, "{torn}");
        }
    }

    #[test]
    fn what_is_torn_is_no_view() {
        for tree in [
            "",
            "({QUERY",
            "({QUERY :targetList ({TARGETENTRY :resorigtbl x :resorigcol 1})})",
            "}",
            "({QUERY :targetList <>})",
        ] {
            assert_eq!(read(tree), None, "{tree}");
        }
    }
}
