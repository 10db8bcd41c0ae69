//! The server's node trees (`pg_rewrite.ev_action`, `pg_policy.polqual` …) as nodes with fields.
//!
//! Owns: [`Node`] and [`Value`]. May not: know what a node means. The text is that of `nodeToString` (server file
//! src/backend/nodes/outfuncs.c). Fails closed: what does not read, or is nested too deeply, is `None`.

use super::tree::next;

/// Nodes and lists within each other, at most.
const DEPTH_MAX: usize = 400;

/// `{KIND :field value …}`.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) kind: &'t str,
    fields: Vec<(&'t str, Value<'t>)>,
}

/// What a field holds. Of several words (the bytes of a constant) it is the first.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Word(&'t str),
    List(Vec<Value<'t>>),
    Node(Node<'t>),
}

impl<'t> Node<'t> {
    pub(super) fn field(&self, name: &str) -> Option<&Value<'t>> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    pub(super) fn word(&self, name: &str) -> Option<&'t str> {
        match self.field(name)? {
            Value::Word(word) => Some(word),
            Value::List(_) | Value::Node(_) => None,
        }
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.word(name)?.parse().ok()
    }

    pub(super) fn node(&self, name: &str) -> Option<&Self> {
        match self.field(name)? {
            Value::Node(node) => Some(node),
            Value::Word(_) | Value::List(_) => None,
        }
    }

    /// The nodes of a list; empty where the field is none.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.field(name).into_iter().flat_map(Value::nodes)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'t>> {
        self.fields.iter().map(|(_, value)| value)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'t str, &Value<'t>)> {
        self.fields.iter().map(|(name, value)| (*name, value))
    }
}

impl<'t> Value<'t> {
    /// The node, or those of the list.
    pub(super) fn nodes(&self) -> Vec<&Node<'t>> {
        match self {
            Self::Word(_) => Vec::new(),
            Self::Node(node) => vec![node],
            Self::List(list) => list.iter().flat_map(Self::nodes).collect(),
        }
    }
}

/// Reads one value: a node, or a list of them.
pub(super) fn read(text: &str) -> Option<Value<'_>> {
    let mut rest = text;
    let value = value(&mut rest, 0)?;
    next(rest).is_none().then_some(value)
}

fn value<'t>(rest: &mut &'t str, depth: usize) -> Option<Value<'t>> {
    let (token, left) = next(rest).filter(|_| depth < DEPTH_MAX)?;
    *rest = left;
    match token {
        "{" => node(rest, depth + 1).map(Value::Node),
        "(" => {
            let mut list = Vec::new();
            loop {
                let (token, left) = next(rest)?;
                if token == ")" {
                    *rest = left;
                    return Some(Value::List(list));
                }
                list.push(value(rest, depth + 1)?);
            }
        }
        "}" | ")" => None,
        word => Some(Value::Word(word)),
    }
}

fn node<'t>(rest: &mut &'t str, depth: usize) -> Option<Node<'t>> {
    let (kind, left) = next(rest)?;
    *rest = left;
    let mut node = Node { kind, fields: Vec::new() };
    let mut field = None;
    loop {
        let (token, left) = next(rest)?;
        match token {
            "}" => {
                *rest = left;
                return Some(node);
            }
            name if name.starts_with(':') => {
                *rest = left;
                field = Some(name);
            }
            _ => {
                let value = value(rest, depth)?;
                if let Some(name) = field.take() {
                    node.fields.push((name, value));
                }
            }
        }
    }
}
