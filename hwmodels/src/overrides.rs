//! `--set` overrides: one field of a document by its path.

use toml::de::DeTable;

use crate::document::{Item, ItemKind, Key, Place, Problems, list, merge, value_kind};

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
