//! TOML texts as trees of items that know where they stand.
//!
//! A chip comes from several texts: its file, the files that it `extends`, and `--set` overrides (each a line of
//! a text of its own). They are merged here, as trees, before anything is read into types:
//!
//! - table with table: key by key;
//! - array with array, where every element of both is a table with a `name`: element by element by name, new
//!   ones appended;
//! - anything else: the later replaces the earlier. So does a table with a `value` key (a constant written out)
//!   and a key that says the same as others do (`bandwidth` drops an earlier `read_bandwidth`).
//!
//! Every item keeps the text it came from, so that a diagnostic shows the line that is wrong.

use std::ops::Range;

use presil_numerics::{Diagnostic, Diagnostics};
use toml::de::{DeTable, DeValue};

/// Where an item stands: which source, and which bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Index into [`Problems::sources`].
    pub source: usize,
    /// Bytes of its text.
    pub span: Range<usize>,
}

/// A text that items come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, usually a path.
    pub origin: String,
    /// The text.
    pub text: String,
}

/// The sources of a chip and what is wrong in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// The texts.
    pub sources: Vec<Source>,
    found: Vec<(usize, Diagnostic)>,
}

impl Problems {
    /// Adds a text.
    pub fn source(&mut self, origin: impl Into<String>, text: impl Into<String>) -> usize {
        self.sources.push(Source {
            origin: origin.into(),
            text: text.into(),
        });
        self.sources.len() - 1
    }
    /// Records a problem at a place; an empty span means the whole text.
    pub fn add(&mut self, place: &Place, mut diagnostic: Diagnostic) {
        diagnostic.span = (!place.span.is_empty()).then(|| place.span.clone());
        let entry = (place.source, diagnostic);
        if !self.found.contains(&entry) {
            self.found.push(entry);
        }
    }
    /// Records a problem at a place, with a remedy.
    pub fn at(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(place, Diagnostic::new(message).help(help));
    }
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
    /// All problems, by text, in order of place.
    pub fn into_diagnostics(self) -> Vec<Diagnostics> {
        let Self { sources, mut found } = self;
        found.sort_by_key(|(source, d)| (*source, d.span.as_ref().map_or(0, |s| s.start)));
        let mut out: Vec<Diagnostics> = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let problems: Vec<Diagnostic> = found
                .iter()
                .filter(|(s, _)| *s == index)
                .map(|(_, d)| d.clone())
                .collect();
            if !problems.is_empty() {
                out.push(Diagnostics {
                    origin: source.origin,
                    source: source.text,
                    problems,
                });
            }
        }
        out
    }
}

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Where it stands.
    pub place: Place,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemKind {
    /// Key and value pairs, each with the place of the key.
    Table(Vec<(Key, Item)>),
    /// Items in order.
    Array(Vec<Item>),
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Something that no chip file has (a date, a number that does not fit).
    Other(&'static str),
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The text.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

impl Item {
    /// What it is, in words.
    pub fn noun(&self) -> &'static str {
        match self.kind {
            ItemKind::Table(_) => "a table",
            ItemKind::Array(_) => "an array",
            ItemKind::Text(_) => "a text",
            ItemKind::Integer(_) => "a whole number",
            ItemKind::Float(_) => "a number",
            ItemKind::Bool(_) => "a truth value",
            ItemKind::Other(noun) => noun,
        }
    }
    /// The value of a key, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Item> {
        match &self.kind {
            ItemKind::Table(pairs) => pairs.iter().find(|(k, _)| k.name == key).map(|(_, v)| v),
            _ => None,
        }
    }
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            ItemKind::Text(text) => Some(text),
            _ => None,
        }
    }
    /// The value of the key `name`, if it is a text.
    pub fn name(&self) -> Option<&str> {
        self.get("name").and_then(Item::text)
    }
}

/// Reads a TOML text; syntax errors become problems.
pub fn parse(source: usize, problems: &mut Problems) -> Item {
    let text = problems
        .sources
        .get(source)
        .map(|s| s.text.clone())
        .unwrap_or_default();
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let place = Place {
            source,
            span: error.span().unwrap_or_default(),
        };
        problems.add(
            &place,
            Diagnostic::new(format!("not TOML: {}", error.message())),
        );
    }
    let place = Place {
        source,
        span: table.span(),
    };
    Item {
        kind: table_kind(table.get_ref(), source),
        place,
    }
}

fn table_kind(table: &DeTable<'_>, source: usize) -> ItemKind {
    let mut pairs: Vec<(Key, Item)> = table
        .iter()
        .map(|(k, v)| {
            let key = Key {
                name: k.get_ref().to_string(),
                place: Place {
                    source,
                    span: k.span(),
                },
            };
            (
                key,
                Item {
                    kind: value_kind(v.get_ref(), source),
                    place: Place {
                        source,
                        span: v.span(),
                    },
                },
            )
        })
        .collect();
    pairs.sort_by_key(|(k, _)| k.place.span.start);
    ItemKind::Table(pairs)
}

fn value_kind(value: &DeValue<'_>, source: usize) -> ItemKind {
    match value {
        DeValue::String(text) => ItemKind::Text(text.to_string()),
        DeValue::Integer(i) => {
            let digits = i.as_str().replace('_', "");
            i64::from_str_radix(&digits, i.radix()).map_or(
                ItemKind::Other("a number that does not fit"),
                ItemKind::Integer,
            )
        }
        DeValue::Float(f) => {
            let number = f.as_str().replace('_', "").parse::<f64>();
            number.map_or(
                ItemKind::Other("a number that does not fit"),
                ItemKind::Float,
            )
        }
        DeValue::Boolean(b) => ItemKind::Bool(*b),
        DeValue::Datetime(_) => ItemKind::Other("a date"),
        DeValue::Table(table) => table_kind(table, source),
        DeValue::Array(items) => ItemKind::Array(
            items
                .iter()
                .map(|v| Item {
                    kind: value_kind(v.get_ref(), source),
                    place: Place {
                        source,
                        span: v.span(),
                    },
                })
                .collect(),
        ),
    }
}

/// Keys that say the same thing: writing the first drops the others of an earlier text, and the other way round.
const ALTERNATIVES: [(&str, &[&str]); 2] = [
    ("bandwidth", &["read_bandwidth", "write_bandwidth"]),
    ("energy", &["read_energy", "write_energy"]),
];

/// Lays a later document over an earlier one (see the module's rules).
pub fn merge(base: Item, over: Item) -> Item {
    match (base.kind, over.kind) {
        (ItemKind::Table(earlier), ItemKind::Table(later))
            if !later.iter().any(|(k, _)| k.name == "value") =>
        {
            Item {
                kind: ItemKind::Table(merge_tables(earlier, later)),
                place: over.place,
            }
        }
        (ItemKind::Array(earlier), ItemKind::Array(later))
            if all_named(&earlier) && all_named(&later) =>
        {
            Item {
                kind: ItemKind::Array(merge_named(earlier, later)),
                place: over.place,
            }
        }
        (_, kind) => Item {
            kind,
            place: over.place,
        },
    }
}

fn merge_tables(mut earlier: Vec<(Key, Item)>, later: Vec<(Key, Item)>) -> Vec<(Key, Item)> {
    for (key, item) in later {
        for (name, others) in ALTERNATIVES {
            if key.name == name {
                earlier.retain(|(k, _)| !others.contains(&k.name.as_str()));
            }
        }
        match earlier.iter().position(|(k, _)| k.name == key.name) {
            Some(at) => {
                let (_, old) = earlier.remove(at);
                earlier.insert(at, (key, merge(old, item)));
            }
            None => earlier.push((key, item)),
        }
    }
    earlier
}

fn all_named(items: &[Item]) -> bool {
    !items.is_empty() && items.iter().all(|i| i.name().is_some())
}

fn merge_named(mut earlier: Vec<Item>, later: Vec<Item>) -> Vec<Item> {
    for item in later {
        match earlier.iter().position(|e| e.name() == item.name()) {
            Some(at) => {
                let old = earlier.remove(at);
                earlier.insert(at, merge(old, item));
            }
            None => earlier.push(item),
        }
    }
    earlier
}

/// Most parts of a path.
const MAX_PATH: usize = 8;

/// Lays one `--set` override over a document. The first part of the path is a key of the root or the `name` of
/// an element of one of its arrays; later parts are keys or names likewise. A key that is not there yet is made,
/// so that fields with defaults can be set; reading the document tells whether there is such a field.
pub fn set(
    root: &mut Item,
    sections: &[&str],
    path: &str,
    value: &str,
    source: usize,
    problems: &mut Problems,
) {
    let line = problems.sources.get(source).map_or(0, |s| s.text.len());
    let item = override_item(value, source, line + path.len() + 3);
    let shown = if item.text().is_some() {
        format!("{path} = \"{value}\"\n")
    } else {
        format!("{path} = {value}\n")
    };
    if let Some(s) = problems.sources.get_mut(source) {
        s.text.push_str(&shown);
    }
    let mut start = line;
    let parts: Vec<Key> = path
        .split('.')
        .map(|part| {
            let span = start..start + part.len();
            start = span.end + 1;
            Key {
                name: part.to_string(),
                place: Place { source, span },
            }
        })
        .collect();
    let Some((first, rest)) = parts.split_first() else {
        return;
    };
    if parts.len() > MAX_PATH {
        problems.at(
            &first.place,
            "a path has a few parts",
            "write a node or section and a field: `dram.bandwidth`",
        );
        return;
    }
    match target(root, sections, first) {
        Some(item_at) => assign(item_at, rest, item),
        None => {
            let mut known: Vec<&str> = sections.to_vec();
            known.extend(names_below(root));
            let near =
                presil_numerics::diagnostic::nearest_names(&first.name, known.iter().copied());
            let help = if near.is_empty() {
                known
            } else {
                near.iter().map(String::as_str).collect()
            };
            let message = format!(
                "`{}` is no node, engine, clock or section of this chip",
                first.name
            );
            problems.at(&first.place, message, format!("there is {}", list(&help)));
        }
    }
}

/// "`a`, `b`".
pub fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn override_item(value: &str, source: usize, at: usize) -> Item {
    let text = format!("x = {value}");
    let parsed = DeTable::parse(&text)
        .ok()
        .filter(|t| t.get_ref().len() == 1);
    let kind = parsed.as_ref().and_then(|t| {
        t.get_ref()
            .iter()
            .next()
            .map(|(_, v)| value_kind(v.get_ref(), source))
    });
    let kind = kind.unwrap_or_else(|| ItemKind::Text(value.to_string()));
    let length = value.len()
        + if matches!(kind, ItemKind::Text(_)) {
            2
        } else {
            0
        };
    let mut item = Item {
        kind,
        place: Place::default(),
    };
    settle(
        &mut item,
        &Place {
            source,
            span: at..at + length,
        },
    );
    item
}

/// Gives an item and all below it one place.
fn settle(item: &mut Item, place: &Place) {
    item.place = place.clone();
    match &mut item.kind {
        ItemKind::Table(pairs) => pairs.iter_mut().for_each(|(k, v)| {
            k.place = place.clone();
            settle(v, place);
        }),
        ItemKind::Array(items) => items.iter_mut().for_each(|i| settle(i, place)),
        _ => {}
    }
}

fn names_below(root: &Item) -> Vec<&str> {
    let ItemKind::Table(pairs) = &root.kind else {
        return Vec::new();
    };
    let elements = pairs.iter().filter_map(|(_, v)| match &v.kind {
        ItemKind::Array(items) => Some(items),
        _ => None,
    });
    elements.flatten().filter_map(Item::name).collect()
}

/// The item that the first part of a path means, made where it is a section that is not there yet.
fn target<'a>(root: &'a mut Item, sections: &[&str], first: &Key) -> Option<&'a mut Item> {
    let ItemKind::Table(pairs) = &mut root.kind else {
        return None;
    };
    if let Some(at) = pairs
        .iter()
        .position(|(k, v)| k.name == first.name && !matches!(v.kind, ItemKind::Array(_)))
    {
        return pairs.get_mut(at).map(|(_, v)| v);
    }
    let named = pairs
        .iter()
        .enumerate()
        .find_map(|(i, (_, v))| match &v.kind {
            ItemKind::Array(items) => items
                .iter()
                .position(|e| e.name() == Some(&first.name))
                .map(|j| (i, j)),
            _ => None,
        });
    if let Some((i, j)) = named {
        return match pairs.get_mut(i).map(|(_, v)| &mut v.kind) {
            Some(ItemKind::Array(items)) => items.get_mut(j),
            _ => None,
        };
    }
    sections.contains(&first.name.as_str()).then(|| {
        pairs.push((
            first.clone(),
            Item {
                kind: ItemKind::Table(Vec::new()),
                place: first.place.clone(),
            },
        ));
        pairs.last_mut().map(|(_, v)| v)
    })?
}

/// Sets the item at a path below another. At an array, or where a table has no such key, a part may be the `name`
/// of an element (`pes.rows.size` for the dimension `rows` of the fanout `pes`).
fn assign(at: &mut Item, rest: &[Key], item: Item) {
    let Some((key, rest)) = rest.split_first() else {
        *at = item;
        return;
    };
    let has_key = at.get(&key.name).is_some();
    if let Some(element) = element_named(at, &key.name).filter(|_| !has_key) {
        assign(element, rest, item);
        return;
    }
    if let ItemKind::Table(pairs) = &mut at.kind
        && !rest.is_empty()
        && let Some((_, child)) = pairs.iter_mut().find(|(k, _)| k.name == key.name)
    {
        assign(child, rest, item);
        return;
    }
    // A key that is not there, or whose value is replaced. Below a plain value the table takes its place, and
    // reading it says what is wrong.
    let mut value = Item {
        kind: ItemKind::Table(Vec::new()),
        place: key.place.clone(),
    };
    assign(&mut value, rest, item);
    let over = Item {
        kind: ItemKind::Table(vec![(key.clone(), value)]),
        place: at.place.clone(),
    };
    let place = at.place.clone();
    let base = std::mem::replace(
        at,
        Item {
            kind: ItemKind::Bool(false),
            place,
        },
    );
    *at = merge(base, over);
}

/// The element of a name in an array, or in one of the arrays of a table.
fn element_named<'a>(at: &'a mut Item, name: &str) -> Option<&'a mut Item> {
    let in_array = |items: &'a mut Vec<Item>| items.iter_mut().find(|e| e.name() == Some(name));
    match &mut at.kind {
        ItemKind::Array(items) => in_array(items),
        ItemKind::Table(pairs) => pairs.iter_mut().find_map(|(_, v)| match &mut v.kind {
            ItemKind::Array(items) => in_array(items),
            _ => None,
        }),
        _ => None,
    }
}
