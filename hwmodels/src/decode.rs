//! From the items of a document to typed values, all problems at once.
//!
//! [`Decode`] is what a field of a chip file (or of another file form) can be: it reads an item or says what is wrong with it, and it
//! describes itself as JSON Schema. `spec_tables!` declares a struct once and gives it both: a key for each
//! field, an error with the nearest name for every other key, and a schema from the fields' documentation.

use presil_numerics::diagnostic::{Diagnostic, nearest_names};
use presil_numerics::{
    Bytes, BytesPerSecond, Format, Hertz, Joules, JoulesPerBit, Nanometres, Precision, Seconds,
    SquareMm, Volts, Watts,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::document::{Item, ItemKind, Place, Problems, list};
use crate::sourced::Status;

/// A value that a field of a chip file can hold.
pub trait Decode: Sized {
    /// Whether the field must be written.
    const REQUIRED: bool = true;
    /// The value of a field that is not written, where it need not be.
    fn absent() -> Option<Self> {
        None
    }
    /// Reads an item. `None` where it is wrong; the problem is then recorded.
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self>;
    /// JSON Schema of the value.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// Records that an item is not what it should be.
pub fn wrong(item: &Item, problems: &mut Problems, expected: &str) {
    problems.add(
        &item.place,
        Diagnostic::new(format!("expected {expected}, found {}", item.noun())),
    );
}

/// Reads a field of a table.
pub fn field<T: Decode>(table: &Item, key: &str, problems: &mut Problems) -> Option<T> {
    match table.get(key) {
        Some(item) => T::decode(item, problems),
        None if T::REQUIRED => {
            let place = Place {
                source: table.place.source,
                span: first_line(table, problems),
            };
            problems.at(
                &place,
                format!("`{key}` is missing"),
                format!("add `{key} = ...` to this table"),
            );
            None
        }
        None => T::absent(),
    }
}

/// The place that stands for a whole table: that of its name, else of its first key, else itself.
fn first_line(table: &Item, _: &Problems) -> std::ops::Range<usize> {
    if let Some(name) = table.get("name") {
        return name.place.span.clone();
    }
    match &table.kind {
        ItemKind::Table(pairs) => pairs
            .first()
            .map_or(table.place.span.clone(), |(k, _)| k.place.span.clone()),
        _ => table.place.span.clone(),
    }
}

/// Records every key of a table that is none of the known ones.
pub fn unknown_keys(table: &Item, known: &[&str], problems: &mut Problems) {
    let ItemKind::Table(pairs) = &table.kind else {
        return;
    };
    for (key, _) in pairs
        .iter()
        .filter(|(k, _)| !known.contains(&k.name.as_str()))
    {
        let near = nearest_names(&key.name, known.iter().copied());
        let help = match near.first() {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("there is {}", list(known)),
        };
        problems.at(
            &key.place,
            format!("`{}` is no key of this table", key.name),
            help,
        );
    }
}

/// Whether an item is a table; records the problem where it is not.
pub fn expect_table(item: &Item, problems: &mut Problems, noun: &str) -> bool {
    let is = matches!(item.kind, ItemKind::Table(_));
    if !is {
        wrong(item, problems, &format!("a table ({noun})"));
    }
    is
}

/// Declares tables of a file form: struct, reader and schema. See the module's documentation. A crate that uses it
/// depends on `schemars` and `serde_json`.
#[macro_export]
macro_rules! spec_tables {
    ($($(#[doc = $doc:literal])* pub struct $name:ident { $($(#[doc = $fdoc:literal])* pub $field:ident: $ty:ty,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// Where the table stands.
            pub place: $crate::document::Place,
            $($(#[doc = $fdoc])* pub $field: $ty,)*
        }

        impl $crate::decode::Decode for $name {
            fn decode(
                item: &$crate::document::Item,
                problems: &mut $crate::document::Problems,
            ) -> Option<Self> {
                if !$crate::decode::expect_table(item, problems, stringify!($name)) {
                    return None;
                }
                $crate::decode::unknown_keys(item, &[$(stringify!($field)),*], problems);
                $(let $field = $crate::decode::field::<$ty>(item, stringify!($field), problems);)*
                Some(Self { place: item.place.clone(), $($field: $field?,)* })
            }
            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                let mut required: Vec<&str> = Vec::new();
                $(
                    let schema = <$ty as $crate::decode::Decode>::schema(generator);
                    let text = concat!($($fdoc, "\n"),*);
                    properties.insert(stringify!($field).into(), $crate::decode::described(schema, text));
                    if <$ty as $crate::decode::Decode>::REQUIRED {
                        required.push(stringify!($field));
                    }
                )*
                let text = $crate::decode::prose(concat!($($doc, "\n"),*));
                schemars::json_schema!({
                    "type": "object",
                    "description": text,
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false
                })
            }
        }
    )*};
}
pub use spec_tables;

/// Documentation lines as one paragraph.
pub fn prose(lines: &str) -> String {
    lines
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A field's schema with the field's documentation. A reference goes into `allOf`, since draft 7 ignores what
/// stands beside a `$ref`.
pub fn described(schema: Schema, text: &str) -> serde_json::Value {
    let value = schema.to_value();
    match value {
        serde_json::Value::Object(map) if map.contains_key("$ref") => {
            serde_json::json!({ "description": prose(text), "allOf": [map] })
        }
        serde_json::Value::Object(mut map) => {
            let own = map
                .get("description")
                .and_then(|d| d.as_str())
                .map(|d| format!(" ({d})"))
                .unwrap_or_default();
            map.insert("description".into(), format!("{}{own}", prose(text)).into());
            serde_json::Value::Object(map)
        }
        other => other,
    }
}

macro_rules! decode_text {
    ($($ty:ty: $expected:literal),* $(,)?) => {$(
        impl Decode for $ty {
            fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
                let text = match &item.kind {
                    ItemKind::Text(text) => text.clone(),
                    ItemKind::Integer(i) => i.to_string(),
                    ItemKind::Float(f) => f.to_string(),
                    _ => {
                        wrong(item, problems, concat!("a text with ", $expected));
                        return None;
                    }
                };
                match text.parse::<$ty>() {
                    Ok(value) => Some(value),
                    Err(error) => {
                        problems.add(&item.place, Diagnostic::new(error.to_string()).label(concat!("expected ", $expected)));
                        None
                    }
                }
            }
            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expected })
            }
        }
    )*};
}

decode_text! {
    Bytes: "a size such as 512 KiB",
    BytesPerSecond: "a data rate such as 34.1 GB/s",
    Hertz: "a frequency such as 1.2 GHz",
    Seconds: "a duration such as 1.5 us",
    Joules: "an energy such as 0.8 pJ",
    JoulesPerBit: "an energy per bit such as 3.8 pJ/bit",
    Watts: "a power such as 250 mW",
    SquareMm: "an area such as 0.25 mm2",
    Volts: "a voltage such as 0.8 V",
    Nanometres: "a length such as 7 nm",
    Format: "a number format such as int8 or bf16",
    Precision: "a precision such as int8, bf16 or w4a16kv8",
}

impl Decode for String {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        match &item.kind {
            ItemKind::Text(text) => Some(text.clone()),
            _ => {
                wrong(item, problems, "a text");
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Decode for bool {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        match item.kind {
            ItemKind::Bool(b) => Some(b),
            _ => {
                wrong(item, problems, "true or false");
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Decode for u64 {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        match item.kind {
            ItemKind::Integer(i) if i >= 0 => u64::try_from(i).ok(),
            ItemKind::Integer(_) => {
                problems.at(
                    &item.place,
                    "a count can't be negative",
                    "write a whole number of at least 0",
                );
                None
            }
            _ => {
                wrong(item, problems, "a whole number without a unit");
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

impl Decode for f64 {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let value = match item.kind {
            ItemKind::Integer(i) => i as f64,
            ItemKind::Float(f) => f,
            _ => {
                wrong(item, problems, "a number without a unit");
                return None;
            }
        };
        if value.is_finite() && value >= 0.0 {
            return Some(value);
        }
        problems.at(
            &item.place,
            "the number must be finite and not negative",
            "write a number of at least 0",
        );
        None
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

impl<T: Decode> Decode for Option<T> {
    const REQUIRED: bool = false;
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        T::decode(item, problems).map(Some)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: Decode> Decode for Vec<T> {
    const REQUIRED: bool = false;
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let ItemKind::Array(items) = &item.kind else {
            wrong(item, problems, "an array");
            return None;
        };
        let read: Vec<Option<T>> = items.iter().map(|i| T::decode(i, problems)).collect();
        read.into_iter().collect()
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = T::schema(generator);
        json_schema!({ "type": "array", "items": items })
    }
}

/// A table with keys of the user's choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries<T>(pub Vec<(At<String>, T)>);

impl<T: Decode> Decode for Entries<T> {
    const REQUIRED: bool = false;
    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let ItemKind::Table(pairs) = &item.kind else {
            wrong(item, problems, "a table");
            return None;
        };
        let read: Vec<Option<(At<String>, T)>> = pairs
            .iter()
            .map(|(k, v)| {
                T::decode(v, problems).map(|v| {
                    (
                        At {
                            value: k.name.clone(),
                            place: k.place.clone(),
                        },
                        v,
                    )
                })
            })
            .collect();
        read.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let values = T::schema(generator);
        json_schema!({ "type": "object", "additionalProperties": values })
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

impl<T: Decode> Decode for At<T> {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        T::decode(item, problems).map(|value| Self {
            value,
            place: item.place.clone(),
        })
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// A constant as written: plain ("34 GB/s") or with range, status and source.
#[derive(Debug, Clone, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Lower and upper end.
    pub range: Option<(T, T)>,
    /// How well it is known; `None`: as the file's default says.
    pub status: Option<Status>,
    /// Where it comes from; `None`: as the file's default says.
    pub source: Option<String>,
    /// Correlation group.
    pub group: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl<T: Decode + Clone + PartialOrd> Decode for Sourced<T> {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if !matches!(item.kind, ItemKind::Table(_)) {
            let value = T::decode(item, problems)?;
            return Some(Self {
                value,
                range: None,
                status: None,
                source: None,
                group: None,
                place: item.place.clone(),
            });
        }
        unknown_keys(
            item,
            &["value", "range", "status", "source", "group"],
            problems,
        );
        let value = field::<T>(item, "value", problems);
        let ends = field::<Vec<T>>(item, "range", problems);
        let status = field::<Option<Status>>(item, "status", problems);
        let source = field::<Option<String>>(item, "source", problems);
        let group = field::<Option<String>>(item, "group", problems);
        let (value, ends) = (value?, ends?);
        let range = match ends.as_slice() {
            [] => None,
            [low, high] if *low <= value && value <= *high => Some((low.clone(), high.clone())),
            _ => {
                let place = item
                    .get("range")
                    .map_or(item.place.clone(), |r| r.place.clone());
                problems.at(
                    &place,
                    "a range has two ends around the value",
                    "write `range = [\"lowest\", \"highest\"]`",
                );
                return None;
            }
        };
        Some(Self {
            value,
            range,
            status: status?,
            source: source?,
            group: group?,
            place: item.place.clone(),
        })
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let (value, status) = (T::schema(generator), Status::schema(generator));
        json_schema!({
            "anyOf": [value, {
                "type": "object",
                "description": "The value with its range, status and source",
                "properties": {
                    "value": value,
                    "range": { "type": "array", "items": value, "minItems": 2, "maxItems": 2 },
                    "status": status,
                    "source": { "type": "string" },
                    "group": { "type": "string" }
                },
                "required": ["value"],
                "additionalProperties": false
            }]
        })
    }
}

/// Gives a closed set of names its reader and schema.
#[macro_export]
macro_rules! decode_names {
    ($($ty:ty: $noun:literal [$($name:literal => $value:expr),+ $(,)?]),* $(,)?) => {$(
        impl $crate::decode::Decode for $ty {
            fn decode(item: &$crate::document::Item, problems: &mut $crate::document::Problems) -> Option<Self> {
                $crate::decode::one_of(item, problems, $noun, &[$(($name, $value)),+])
            }
            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [$($name),+] })
            }
        }
    )*};
}
pub use decode_names;

/// Reads a name of a closed set.
pub fn one_of<T: Clone>(
    item: &Item,
    problems: &mut Problems,
    noun: &str,
    known: &[(&str, T)],
) -> Option<T> {
    let names: Vec<&str> = known.iter().map(|(n, _)| *n).collect();
    let Some(text) = item.text() else {
        wrong(item, problems, &format!("{noun}: one of {}", list(&names)));
        return None;
    };
    if let Some((_, value)) = known.iter().find(|(n, _)| *n == text) {
        return Some(value.clone());
    }
    let near = nearest_names(text, names.iter().copied());
    let help = match near.first() {
        Some(name) => format!("did you mean `{name}`? There is {}", list(&names)),
        None => format!("there is {}", list(&names)),
    };
    problems.at(&item.place, format!("`{text}` is no {noun}"), help);
    None
}

decode_names! {
    Status: "status" [
        "measured" => Status::Measured,
        "published" => Status::Published,
        "vendor" => Status::Vendor,
        "scaled" => Status::Scaled,
        "derived" => Status::Derived,
        "assumed" => Status::Assumed,
    ],
}

/// The JSON Schema of the outermost table of a file form.
pub fn root_schema<T: JsonSchema>() -> serde_json::Value {
    let generator = schemars::generate::SchemaSettings::draft07().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}
