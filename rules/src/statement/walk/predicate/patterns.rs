//! Patterns that any text matches: LIKE '%' and its kin.
//!
//! Owns: the spellings of a match (LIKE, ILIKE, `~~`, `like ()`, SIMILAR TO, `~`, `^@`), and which constants leave no text out. May not:
//! compute a pattern. Fails closed: an escape character that the text does not show counts as none of the pattern's.

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::super::{kind, name};
use super::forms::{builtin, reduced};
use super::uncast;

/// What holds for any text: `Some (true)` for a match of anything, `Some (false)` for its denial.
pub(super) fn any_text(operator: &str, pattern: &pb::Node) -> Option<bool> {
    let (positive, operator) = match operator.strip_prefix('!') {
        Some(denied) => (false, denied),
        None => (true, operator),
    };
    let any = match operator {
        "~~" | "~~*" => any_like(pattern),
        "~" | "~*" => any_like_within(pattern, "similar_to_escape") || any_regular(pattern),
        "^@" => text(pattern).is_some_and(|prefix| prefix.is_empty()),
        _ => false,
    };
    any.then_some(positive)
}

/// The same of a call of the operator's function.
pub(super) fn any_text_of(call: &pb::FuncCall) -> Option<bool> {
    let [_, pattern] = call.args.as_slice() else { return None };
    let operator = match builtin(&call.funcname)? {
        "like" | "textlike" | "bpcharlike" | "namelike" | "texticlike" | "bpchariclike" | "nameiclike" => {
            "~~"
        }
        "notlike" | "textnlike" | "bpcharnlike" | "namenlike" | "texticnlike" | "bpcharicnlike"
        | "nameicnlike" => "!~~",
        "textregexeq" | "texticregexeq" | "regexp_like" => "~",
        "textregexne" | "texticregexne" => "!~",
        "starts_with" => "^@",
        _ => return None,
    };
    any_text(operator, pattern)
}

fn any_like(pattern: &pb::Node) -> bool {
    text(pattern).is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b == b'%'))
        || any_like_within(pattern, "like_escape")
}

/// LIKE … ESCAPE and SIMILAR TO: the grammar makes their patterns calls.
fn any_like_within(pattern: &pb::Node, function: &str) -> bool {
    let Some(N::FuncCall(call)) = kind(Some(pattern)) else { return false };
    let escapes = |escape: &pb::Node| text(escape).is_some_and(|escape| escape == "%");
    match call.args.as_slice() {
        [pattern] => builtin(&call.funcname) == Some(function) && any_like(pattern),
        [pattern, escape] => {
            builtin(&call.funcname) == Some(function) && any_like(pattern) && !escapes(escape)
        }
        _ => false,
    }
}

/// '', '.*', either with one anchor, '^.*$'.
fn any_regular(pattern: &pb::Node) -> bool {
    text(pattern).is_some_and(|p| matches!(p.as_str(), "" | "^" | "$" | ".*" | "^.*" | ".*$" | "^.*$"))
}

fn text(node: &pb::Node) -> Option<String> {
    name::constant(Some(reduced(uncast(node))))
}
