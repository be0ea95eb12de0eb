//! Typed access to the fields of a `config.json` that collects every problem with its place.

use std::collections::BTreeMap;
use std::ops::Range;

use presil_numerics::diagnostic::nearest;
use presil_numerics::{Diagnostic, Diagnostics};
use serde_json::{Map, Value};

use crate::model::ModelError;

/// Sizes above this are taken for mistakes, so that products of two fit 64 bits.
const LARGEST_SIZE: u64 = 1 << 28;
/// More layers are taken for a mistake.
const MOST_LAYERS: u64 = 1024;
/// More experts are taken for a mistake.
const MOST_EXPERTS: u64 = 1 << 16;

/// A parsed object and the problems found so far. Readers go on after a problem with a stand-in value.
pub(super) struct Fields<'a> {
    origin: &'a str,
    text: &'a str,
    values: Map<String, Value>,
    places: BTreeMap<String, Range<usize>>,
    problems: Vec<Diagnostic>,
}

impl<'a> Fields<'a> {
    /// Parses an object.
    pub fn parse(origin: &'a str, text: &'a str) -> Result<Self, ModelError> {
        let fields = Self {
            origin,
            text,
            values: Map::new(),
            places: BTreeMap::new(),
            problems: Vec::new(),
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(values)) => Ok(Self {
                values,
                places: places(text),
                ..fields
            }),
            Ok(_) => Err(fields.failed(Diagnostic::new(
                "a model's configuration must be a JSON object",
            ))),
            Err(e) => {
                let at = offset(text, e.line(), e.column());
                Err(fields.failed(Diagnostic::at(at, format!("not JSON: {e}"))))
            }
        }
    }

    fn failed(mut self, problem: Diagnostic) -> ModelError {
        self.problems.push(problem);
        self.into_error()
    }

    /// All problems so far, as one error.
    pub fn into_error(self) -> ModelError {
        let (origin, source) = (self.origin.into(), self.text.into());
        ModelError::Text(Box::new(Diagnostics {
            origin,
            source,
            problems: self.problems,
        }))
    }

    /// The result, if there were no problems.
    pub fn finish<T>(self, result: T) -> Result<T, ModelError> {
        if self.problems.is_empty() {
            Ok(result)
        } else {
            Err(self.into_error())
        }
    }

    /// Notes a problem at a field.
    pub fn problem(&mut self, key: &str, message: impl Into<String>, help: &str) {
        let problem = Diagnostic {
            message: message.into(),
            span: self.places.get(key).cloned(),
            ..Diagnostic::default()
        };
        self.problems.push(if help.is_empty() {
            problem
        } else {
            problem.help(help)
        });
    }

    /// Whether a field is given and not null.
    pub fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|v| !v.is_null())
    }

    /// Whether a field is given as null.
    pub fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// Whether the model is of one of some families.
    pub fn is_family(&self, families: &[&str]) -> bool {
        self.values
            .get("model_type")
            .and_then(Value::as_str)
            .is_some_and(|t| families.contains(&t))
    }

    /// The first of several spellings of a field that is given and not null.
    fn get(&self, keys: &[&'static str]) -> Option<(&'static str, Value)> {
        keys.iter().find_map(|k| {
            self.values
                .get(*k)
                .filter(|v| !v.is_null())
                .map(|v| (*k, v.clone()))
        })
    }

    /// A size that must be given, under any of several spellings; 1 after a problem.
    pub fn size(&mut self, keys: &[&'static str]) -> u64 {
        self.size_if(keys).unwrap_or_else(|| {
            let first = keys.first().copied().unwrap_or_default();
            self.problem(
                first,
                format!("`{first}` is missing"),
                "a size is due here; it has no default",
            );
            1
        })
    }

    /// A size that may be absent or null.
    pub fn size_if(&mut self, keys: &[&'static str]) -> Option<u64> {
        self.number(keys, 1)
    }

    /// A size with a default for when it is absent or null.
    pub fn size_or(&mut self, keys: &[&'static str], default: u64) -> u64 {
        self.size_if(keys).unwrap_or(default)
    }

    /// A count that may be 0, with a default for when it is absent or null.
    pub fn count_or(&mut self, keys: &[&'static str], default: u64) -> u64 {
        self.number(keys, 0).unwrap_or(default)
    }

    fn number(&mut self, keys: &[&'static str], least: u64) -> Option<u64> {
        let (key, value) = self.get(keys)?;
        let number = value
            .as_u64()
            .filter(|n| (least..=LARGEST_SIZE).contains(n));
        if number.is_none() {
            let help = format!("a whole number from {least} to {LARGEST_SIZE}");
            self.problem(key, format!("`{key}` cannot be {value}"), &help);
            // Given but wrong: no second message about its absence.
            return Some(least.max(1));
        }
        number
    }

    /// Number of layers.
    pub fn layers(&mut self, keys: &[&'static str]) -> u64 {
        self.limited(keys, MOST_LAYERS, "layers")
    }

    /// Number of experts.
    pub fn experts(&mut self, keys: &[&'static str]) -> u64 {
        self.limited(keys, MOST_EXPERTS, "experts")
    }

    fn limited(&mut self, keys: &[&'static str], most: u64, what: &str) -> u64 {
        let n = self.size(keys);
        if n > most {
            let key = self.get(keys).map_or("", |(k, _)| k);
            self.problem(
                key,
                format!("{n} {what} are too many"),
                &format!("at most {most}"),
            );
        }
        n.min(most)
    }

    /// A flag with a default.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some((_, value)) = self.get(&[key]) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.problem(key, format!("`{key}` cannot be {value}"), "true or false");
            default
        })
    }

    /// A positive number, or a default where it is not given.
    pub fn real_or(&mut self, key: &'static str, default: f64) -> f64 {
        let Some((_, value)) = self.get(&[key]) else {
            return default;
        };
        let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
        if number.is_none() {
            self.problem(key, format!("`{key}` must be a number above 0"), "");
        }
        number.unwrap_or(default)
    }

    /// A text that may be absent or null.
    pub fn text(&mut self, keys: &[&'static str]) -> Option<String> {
        let (key, value) = self.get(keys)?;
        let text = value.as_str().map(str::to_string);
        if text.is_none() {
            self.problem(key, format!("`{key}` cannot be {value}"), "a text");
        }
        text
    }

    /// One of several words, as its value.
    pub fn choice<T: Copy>(&mut self, keys: &[&'static str], words: &[(&str, T)], default: T) -> T {
        let Some(word) = self.text(keys) else {
            return default;
        };
        if let Some((_, value)) = words.iter().find(|(w, _)| *w == word) {
            return *value;
        }
        let key = self.get(keys).map_or("", |(k, _)| k);
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let near = nearest(&word, known.iter().copied())
            .map_or(String::new(), |n| format!("did you mean `{n}`? "));
        self.problem(
            key,
            format!("`{key}` is `{word}`, which is not known"),
            &format!("{near}known: {}", known.join(", ")),
        );
        default
    }

    /// A list of texts that may be absent or null.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let (_, value) = self.get(&[key])?;
        let list = value.as_array().map(|l| {
            l.iter()
                .map(|v| v.as_str().map(str::to_string))
                .collect::<Option<Vec<_>>>()
        });
        let list = list.flatten();
        if list.is_none() {
            self.problem(key, format!("`{key}` must be a list of texts"), "");
        }
        list
    }

    /// A list of counts; empty if absent or null.
    pub fn counts(&mut self, key: &'static str) -> Vec<u64> {
        let Some((_, value)) = self.get(&[key]) else {
            return Vec::new();
        };
        let list = value
            .as_array()
            .map(|l| l.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        list.flatten().unwrap_or_else(|| {
            self.problem(key, format!("`{key}` must be a list of whole numbers"), "");
            Vec::new()
        })
    }

    /// Notes a problem at `key` unless `parts` divides `whole`; the quotient, at least 1.
    pub fn divide(&mut self, key: &str, whole: u64, parts: u64, what: &str) -> u64 {
        if parts == 0 || !whole.is_multiple_of(parts) {
            self.problem(
                key,
                format!("{whole} is not divisible by {parts}: {what}"),
                "",
            );
        }
        whole.checked_div(parts).unwrap_or(1).max(1)
    }
}

/// Byte range of a line and column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> Range<usize> {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    at..end
}

/// Byte ranges of the values of an object's own fields. The text is valid JSON.
fn places(text: &str) -> BTreeMap<String, Range<usize>> {
    let mut places = BTreeMap::new();
    let (mut depth, mut string, mut escaped) = (0u32, None, false);
    let (mut last_string, mut key, mut value) = (0..0, None, None::<Range<usize>>);
    for (i, c) in text.bytes().enumerate() {
        let inside = string.is_some();
        if let Some(start) = string {
            match c {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    string = None;
                    last_string = start + 1..i;
                }
                _ => {}
            }
        } else if c == b'"' {
            string = Some(i);
        }
        let ends = !inside && depth == 1 && matches!(c, b',' | b'}');
        if ends {
            if let (Some(key), Some(value)) = (key.take(), value.take()) {
                places.insert(key, value);
            }
        } else if !inside && depth == 1 && c == b':' {
            key = text.get(last_string.clone()).map(str::to_string);
            value = None;
        } else if key.is_some() && !c.is_ascii_whitespace() {
            value = Some(value.map_or(i, |v| v.start)..i + 1);
        }
        if !inside {
            match c {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_values() {
        let text = r#"{"a": 1, "b" : [1, {"a": 2}], "c": "x, \"y\": }", "d":{"e":3} }"#;
        let found: Vec<(String, &str)> = places(text)
            .into_iter()
            .map(|(k, r)| (k, &text[r]))
            .collect();
        let want = [
            ("a", "1"),
            ("b", r#"[1, {"a": 2}]"#),
            ("c", r#""x, \"y\": }""#),
            ("d", r#"{"e":3}"#),
        ];
        assert_eq!(found, want.map(|(k, v)| (k.to_string(), v)));
    }
}
