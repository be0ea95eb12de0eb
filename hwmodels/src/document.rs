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

pub(crate) fn value_kind(value: &DeValue<'_>, source: usize) -> ItemKind {
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

/// "`a`, `b`".
pub fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
