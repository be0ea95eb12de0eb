//! YAML (or JSON) as a tree that knows its lines, and a cursor that reads it with good messages.

use rustc_hash::FxHashMap;
use saphyr_parser::{Event, Parser};

use super::TimeloopError;

/// Most nodes of a text, aliases written out.
const MOST_NODES: usize = 1_000_000;
/// Deepest nesting.
const DEEPEST: usize = 100;

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Line from 1; 0 if unknown.
    pub line: usize,
    /// Its tag without the exclamation mark: `Component`.
    pub tag: Option<String>,
    /// What it is.
    pub value: Value,
}

/// What a node is. Scalars stay text until something is read from them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn new(line: usize, tag: Option<String>, value: Value) -> Self {
        Self { line, tag, value }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|(_, n)| n.size()).sum::<usize>(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|(_, n)| n.depth()).max().unwrap_or(0),
        }
    }

    /// A tree of a JSON value.
    pub fn of_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Scalar(b.to_string()),
            Json::Number(n) => Value::Scalar(n.to_string()),
            Json::String(s) => Value::Scalar(s.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::of_json).collect()),
            Json::Object(map) => {
                let entries = map.iter().map(|(k, v)| (k.clone(), Self::of_json(v)));
                Value::Map(entries.collect())
            }
        };
        Self::new(0, None, value)
    }
}

/// A list or map that is being filled.
struct Open {
    line: usize,
    tag: Option<String>,
    anchor: usize,
    key: Option<String>,
    value: Value,
}

struct Builder<'a> {
    label: &'a str,
    open: Vec<Open>,
    anchors: FxHashMap<usize, Node>,
    nodes: usize,
    done: Vec<Node>,
}

/// Reads all documents of a text.
pub(super) fn parse(label: &str, text: &str) -> Result<Vec<Node>, TimeloopError> {
    if let Some(line) = text.lines().position(|l| {
        let l = l.trim_start();
        !l.starts_with('#') && (l.contains("{{") || l.contains("{%"))
    }) {
        return Err(TimeloopError {
            file: label.into(),
            line: line + 1,
            path: "template".into(),
            reason: "templates are not evaluated; give the rendered file".into(),
        });
    }
    let mut builder = Builder {
        label,
        open: Vec::new(),
        anchors: FxHashMap::default(),
        nodes: 0,
        done: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| TimeloopError {
            file: label.into(),
            line: e.marker().line(),
            path: "YAML".into(),
            reason: e.info().into(),
        })?;
        builder.event(event, span.start.line())?;
    }
    Ok(builder.done)
}

impl Builder<'_> {
    fn fail(&self, line: usize, reason: impl Into<String>) -> TimeloopError {
        TimeloopError {
            file: self.label.into(),
            line,
            path: "YAML".into(),
            reason: reason.into(),
        }
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), TimeloopError> {
        let name = |tag: Option<std::borrow::Cow<'_, saphyr_parser::Tag>>| {
            tag.filter(|t| t.handle == "!").map(|t| t.suffix.clone())
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == saphyr_parser::ScalarStyle::Plain;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                self.finish(Node::new(line, name(tag), value), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(line, name(tag), anchor, Value::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.start(line, name(tag), anchor, Value::Map(Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.finish(Node::new(open.line, open.tag, open.value), open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.finish(node, 0)
                }
                None => Err(self.fail(line, "an alias of an anchor that is not complete")),
            },
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        line: usize,
        tag: Option<String>,
        anchor: usize,
        value: Value,
    ) -> Result<(), TimeloopError> {
        if self.open.len() >= DEEPEST {
            return Err(self.fail(line, format!("nested deeper than {DEEPEST}")));
        }
        self.open.push(Open {
            line,
            tag,
            anchor,
            key: None,
            value,
        });
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), TimeloopError> {
        let line = node.line;
        // A list or map has counted its parts already; an alias counts what it stands for.
        self.nodes += if anchor == 0 { node.size() } else { 1 };
        if self.nodes > MOST_NODES || self.open.len() + node.depth() > DEEPEST + 1 {
            return Err(self.fail(
                line,
                format!("larger than {MOST_NODES} values or deeper than {DEEPEST}"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.done.push(node);
            return Ok(());
        };
        match &mut open.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => match node.value {
                    Value::Scalar(key) => open.key = Some(key),
                    Value::Null => open.key = Some("null".into()),
                    _ => return Err(self.fail(line, "a key must be a plain word")),
                },
                Some(key) if key == "<<" || key == "<<<" => {
                    let deep = key == "<<<";
                    for source in merged(node) {
                        merge(entries, source, deep);
                    }
                }
                Some(key) => match entries.iter_mut().find(|(k, _)| *k == key) {
                    // What a merge brought stands behind what is written out.
                    Some((_, old)) => *old = node,
                    None => entries.push((key, node)),
                },
            },
            _ => {}
        }
        Ok(())
    }
}

/// The maps that a merge key brings in, the strongest first.
fn merged(node: Node) -> Vec<Vec<(String, Node)>> {
    match node.value {
        Value::Map(entries) => vec![entries],
        Value::List(items) => items.into_iter().flat_map(merged).collect(),
        _ => Vec::new(),
    }
}

/// Adds entries that are not there; `deep` goes into maps that are (Timeloop's `<<<`).
fn merge(entries: &mut Vec<(String, Node)>, source: Vec<(String, Node)>, deep: bool) {
    for (key, node) in source {
        match entries.iter_mut().find(|(k, _)| *k == key) {
            None => entries.push((key, node)),
            Some((_, old)) => {
                if let (true, Value::Map(inner), Value::Map(new)) =
                    (deep, &mut old.value, node.value)
                {
                    merge(inner, new, true);
                }
            }
        }
    }
}

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub file: &'a str,
    pub node: &'a Node,
    pub path: String,
}

impl<'a> Cursor<'a> {
    /// The top of a document.
    pub fn top(file: &'a str, node: &'a Node) -> Self {
        Self {
            file,
            node,
            path: String::new(),
        }
    }

    /// A mistake here.
    pub fn fail(&self, reason: impl Into<String>) -> TimeloopError {
        TimeloopError {
            file: self.file.into(),
            line: self.node.line,
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn below(&self, node: &'a Node, key: &str) -> Self {
        let dot = if self.path.is_empty() || key.starts_with('[') {
            ""
        } else {
            "."
        };
        Self {
            file: self.file,
            node,
            path: format!("{}{dot}{key}", self.path),
        }
    }

    /// Whether it is nothing, an empty list or an empty map.
    pub fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(s) => s.trim().is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// The value of a key, hyphens and underscores being the same; none if absent or null.
    pub fn get(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let same = |k: &str| k == key || k.replace('-', "_") == key;
        let (name, node) = entries.iter().find(|(k, _)| same(k))?;
        (node.value != Value::Null).then(|| self.below(node, name))
    }

    /// The value of the first of several keys that is there.
    pub fn first(&self, keys: &[&str]) -> Option<Self> {
        keys.iter().find_map(|k| self.get(k))
    }

    /// The value of a key that must be there.
    pub fn need(&self, key: &str) -> Result<Self, TimeloopError> {
        self.get(key)
            .ok_or_else(|| self.fail(format!("needs a key `{key}`")))
    }

    /// Entries of a map.
    pub fn entries(&self) -> Result<Vec<(&'a str, Self)>, TimeloopError> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries
                .iter()
                .map(|(k, n)| (k.as_str(), self.below(n, k)))
                .collect()),
            _ => Err(self.fail("must be a map of keys")),
        }
    }

    /// Items of a list.
    pub fn items(&self) -> Result<Vec<Self>, TimeloopError> {
        match &self.node.value {
            Value::List(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(i, n)| self.below(n, &format!("[{i}]")))
                .collect()),
            _ => Err(self.fail("must be a list")),
        }
    }

    /// A word or text.
    pub fn text(&self) -> Result<&'a str, TimeloopError> {
        match &self.node.value {
            Value::Scalar(s) => Ok(s),
            _ => Err(self.fail("must be a plain value")),
        }
    }

    /// Words of a list, or of a text that separates them by spaces or commas.
    pub fn words(&self) -> Result<Vec<String>, TimeloopError> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::Scalar(s) => Ok(split(s)),
            Value::List(_) => {
                let mut words = Vec::new();
                for item in self.items()? {
                    words.extend(split(item.text()?));
                }
                Ok(words)
            }
            Value::Map(_) => Err(self.fail("must be a list of words")),
        }
    }

    /// A finite number.
    pub fn number(&self) -> Result<f64, TimeloopError> {
        let text = self.text()?.trim();
        match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(n),
            _ => Err(self.fail(format!(
                "`{text}` is no number; expressions are not evaluated, write their value"
            ))),
        }
    }

    /// A number that is not negative.
    pub fn amount(&self) -> Result<f64, TimeloopError> {
        let n = self.number()?;
        if n < 0.0 {
            return Err(self.fail(format!("is {n}; it cannot be negative")));
        }
        Ok(n)
    }

    /// A whole number from 1 to 2^40.
    pub fn count(&self) -> Result<u64, TimeloopError> {
        let n = self.number()?;
        if n.fract() != 0.0 || !(1.0..=(1u64 << 40) as f64).contains(&n) {
            return Err(self.fail(format!("is {n}; it must be a whole number from 1 to 2^40")));
        }
        Ok(n as u64)
    }

    /// Whether it says yes.
    pub fn truth(&self) -> Result<bool, TimeloopError> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            other => Err(self.fail(format!("`{other}` is neither true nor false"))),
        }
    }

    /// An error for a key outside `known`.
    pub fn only(&self, known: &[&str], what: &str) -> Result<(), TimeloopError> {
        for (key, cursor) in self.entries()? {
            if !known.contains(&key.replace('-', "_").as_str()) {
                return Err(cursor.fail(format!(
                    "{what} cannot say `{key}`; remove it or do without"
                )));
            }
        }
        Ok(())
    }
}

fn split(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| c.is_whitespace() || c == ',');
    parts.filter(|w| !w.is_empty()).map(String::from).collect()
}
