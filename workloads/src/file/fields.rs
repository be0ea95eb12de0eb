//! Typed reading of TOML tables that collects every problem with its place.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use presil_numerics::{Diagnostic, Diagnostics, diagnostic};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Problems that are shown; of a file with more the rest is counted.
const SHOWN: usize = 64;
/// Longest name, in bytes, that is compared with others.
const COMPARED: usize = 64;

/// Problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Diagnostic>>,
    more: Cell<usize>,
}

impl Problems {
    pub(super) fn add(&self, d: Diagnostic) {
        let mut found = self.found.borrow_mut();
        match found.len() < SHOWN {
            true => found.push(d),
            false => self.more.set(self.more.get() + 1),
        }
    }

    pub(super) fn at(&self, span: Range<usize>, message: impl Into<String>) {
        self.add(Diagnostic::at(span, message));
    }

    pub(super) fn count(&self) -> usize {
        self.found.borrow().len() + self.more.get()
    }

    /// A word that is none of those known, with the nearest of them, or all if they are few.
    pub(super) fn unknown<'k>(
        &self,
        what: &str,
        word: &str,
        span: Range<usize>,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let mut d = Diagnostic::at(span, format!("unknown {what} `{word}`"));
        if word.len() <= COMPARED && self.found.borrow().len() < SHOWN {
            let known: Vec<&str> = known.into_iter().filter(|k| k.len() <= COMPARED).collect();
            d.help = match diagnostic::nearest(word, known.iter().copied()) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if (1..=32).contains(&known.len()) => {
                    Some(format!("known are {}", known.join(", ")))
                }
                None => None,
            };
        }
        self.add(d);
    }

    /// All problems in order of place, or `None` if there are none.
    pub(super) fn into_diagnostics(self, origin: &str, source: &str) -> Option<Diagnostics> {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|d| d.span.as_ref().map_or(usize::MAX, |s| s.start));
        if self.more.get() > 0 {
            problems.push(Diagnostic::new(format!(
                "{} more problems are not shown",
                self.more.get()
            )));
        }
        (!problems.is_empty()).then(|| Diagnostics {
            origin: origin.into(),
            source: source.into(),
            problems,
        })
    }
}

/// A table that is read field by field. Every method records what is wrong and then gives `None` or the default;
/// [`Fields::finish`] records the keys that nobody asked for.
pub(super) struct Fields<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    problems: &'a Problems,
    asked: RefCell<Vec<&'static str>>,
    ignored: Cell<bool>,
}

/// A string and where it stands.
pub(super) type Text<'a> = (&'a str, Range<usize>);

impl<'a> Fields<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, span: Range<usize>, problems: &'a Problems) -> Self {
        Self {
            table,
            span,
            problems,
            asked: RefCell::default(),
            ignored: Cell::default(),
        }
    }

    /// Where the table stands: its name or einsum if it has one, else all of it.
    pub(super) fn place(&self) -> Range<usize> {
        let shown = self.table.get("name").or_else(|| self.table.get("einsum"));
        shown.map_or(self.span.clone(), Spanned::span)
    }

    pub(super) fn problems(&self) -> &'a Problems {
        self.problems
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn wrong(&self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str) {
        let kind = value.get_ref().type_str();
        self.problems.add(
            Diagnostic::at(value.span(), format!("`{key}` is {expected}, not a {kind}"))
                .label(format!("expected {expected}")),
        );
    }

    fn missing(&self, key: &str, example: &str) {
        let d = Diagnostic::at(self.place(), format!("`{key}` is missing"));
        self.problems
            .add(d.help(format!("add `{key} = {example}`")));
    }

    /// An integer of at least `min`, if given.
    pub(super) fn number(&self, key: &'static str, min: u64) -> Option<u64> {
        let value = self.get(key)?;
        self.integer(value, key, min)
    }

    /// An integer of at least `min` that must be given.
    pub(super) fn need_number(&self, key: &'static str, min: u64) -> Option<u64> {
        if !self.has(key) {
            self.missing(key, &min.max(1).to_string());
        }
        self.number(key, min)
    }

    /// An integer that may be negative.
    pub(super) fn signed(&self, key: &'static str, default: i64) -> i64 {
        let Some(value) = self.get(key) else {
            return default;
        };
        let parsed = value
            .get_ref()
            .as_integer()
            .map(|i| i64::from_str_radix(i.as_str(), i.radix()));
        match parsed {
            Some(Ok(i)) => i,
            _ => {
                self.wrong(value, key, "an integer of 64 bits");
                default
            }
        }
    }

    fn integer(&self, value: &Spanned<DeValue<'_>>, key: &str, min: u64) -> Option<u64> {
        let Some(i) = value.get_ref().as_integer() else {
            self.wrong(value, key, "an integer");
            return None;
        };
        match u64::from_str_radix(i.as_str(), i.radix()) {
            Ok(n) if n >= min => Some(n),
            _ => {
                self.problems.at(
                    value.span(),
                    format!("`{key}` is at least {min} and fits 64 bits"),
                );
                None
            }
        }
    }

    /// A list of integers of at least `min`, if given.
    pub(super) fn numbers(&self, key: &'static str, min: u64) -> Option<Vec<u64>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, "a list of integers");
            return None;
        };
        // Every element is looked at, so that all problems are recorded.
        let read: Vec<Option<u64>> = array.iter().map(|v| self.integer(v, key, min)).collect();
        read.into_iter().collect()
    }

    /// A list of numbers, if given.
    pub(super) fn reals(&self, key: &'static str) -> Option<Vec<f64>> {
        let value = self.get(key)?;
        let number = |v: &Spanned<DeValue<'_>>| match v.get_ref() {
            DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
            DeValue::Integer(i) => i.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let array = value.get_ref().as_array();
        let read = array.and_then(|a| a.iter().map(number).collect());
        if read.is_none() {
            self.wrong(value, key, "a list of numbers");
        }
        read
    }

    /// A list of integers that must be given.
    pub(super) fn need_numbers(&self, key: &'static str, min: u64) -> Option<Vec<u64>> {
        if !self.has(key) {
            self.missing(key, "[1]");
        }
        self.numbers(key, min)
    }

    /// One integer for all of `N` places, or a list of `N`; `spread` makes `N` of shorter lists.
    fn tuple<const N: usize>(
        &self,
        key: &'static str,
        min: u64,
        spread: impl Fn(&[u64]) -> Option<[u64; N]>,
    ) -> Option<[u64; N]> {
        let value = self.table.get(key)?;
        let given = match value.get_ref() {
            DeValue::Integer(_) => vec![self.number(key, min)?],
            _ => self.numbers(key, min)?,
        };
        let made = spread(&given);
        if made.is_none() {
            self.problems.at(
                value.span(),
                format!("`{key}` is one integer or a list of {N}"),
            );
        }
        made
    }

    /// Height and width: one integer for both, or two.
    pub(super) fn pair(&self, key: &'static str, min: u64) -> Option<[u64; 2]> {
        self.asked.borrow_mut().push(key);
        self.tuple(key, min, |v| match *v {
            [both] => Some([both; 2]),
            [h, w] => Some([h, w]),
            _ => None,
        })
    }

    /// Padding at top, left, bottom, right: one integer for all, two for height and width, or four. Zero if absent.
    pub(super) fn padding(&self, key: &'static str) -> [u64; 4] {
        self.asked.borrow_mut().push(key);
        let read = self.tuple(key, 0, |v| match *v {
            [all] => Some([all; 4]),
            [h, w] => Some([h, w, h, w]),
            [t, l, b, r] => Some([t, l, b, r]),
            _ => None,
        });
        read.unwrap_or([0; 4])
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self, key: &'static str, default: f64) -> f64 {
        self.real(key, default, "a number from 0 to 1", |n| {
            (0.0..=1.0).contains(&n)
        })
    }

    /// A number that is as `expected`.
    pub(super) fn real(
        &self,
        key: &'static str,
        default: f64,
        expected: &str,
        is: impl Fn(f64) -> bool,
    ) -> f64 {
        let Some(value) = self.get(key) else {
            return default;
        };
        let number = match value.get_ref() {
            DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
            DeValue::Integer(i) => i.as_str().parse::<f64>().ok(),
            _ => None,
        };
        match number.filter(|n| is(*n)) {
            Some(n) => n,
            None => {
                self.wrong(value, key, expected);
                default
            }
        }
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong(value, key, "true or false");
            default
        })
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Text<'a>> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong(value, key, "a string");
        }
        Some((text?, value.span()))
    }

    pub(super) fn need_text(&self, key: &'static str) -> Option<Text<'a>> {
        if !self.has(key) {
            self.missing(key, "\"...\"");
        }
        self.text(key)
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Text<'a>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, "a list of strings");
            return None;
        };
        let read = array.iter().map(|v| {
            let text = v.get_ref().as_str();
            if text.is_none() {
                self.wrong(v, key, "a list of strings");
            }
            text.map(|t| (t, v.span()))
        });
        let read: Vec<Option<Text<'a>>> = read.collect();
        read.into_iter().collect()
    }

    pub(super) fn need_texts(&self, key: &'static str) -> Option<Vec<Text<'a>>> {
        if !self.has(key) {
            self.missing(key, "[\"...\"]");
        }
        self.texts(key)
    }

    /// One of the named choices.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: Option<T>,
    ) -> Option<T> {
        if !self.has(key) && default.is_none() {
            self.missing(key, &format!("\"{}\"", choices.first().map_or("", |c| c.0)));
        }
        if !self.has(key) {
            self.asked.borrow_mut().push(key);
            return default;
        }
        let (word, span) = self.text(key)?;
        let found = choices
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, value)| *value);
        if found.is_none() {
            self.problems
                .unknown(key, word, span, choices.iter().map(|c| c.0));
        }
        found
    }

    /// A table within, if given.
    pub(super) fn table(&self, key: &'static str) -> Option<Self> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, key, "a table");
            return None;
        };
        Some(Self::new(table, value.span(), self.problems))
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, &format!("a list of tables (`[[{key}]]`)"));
            return Vec::new();
        };
        let tables = array.iter().filter_map(|v| {
            let table = v.get_ref().as_table();
            if table.is_none() {
                self.wrong(v, key, "a list of tables");
            }
            Some(Self::new(table?, v.span(), self.problems))
        });
        tables.collect()
    }

    /// All keys with integers of at least 1 and the keys' places, for tables whose keys are names.
    pub(super) fn sizes(&self) -> Vec<(&'a str, u64, Range<usize>)> {
        let items = self.table.iter();
        items
            .filter_map(|(k, v)| {
                Some((
                    k.get_ref().as_ref(),
                    self.integer(v, k.get_ref(), 1)?,
                    k.span(),
                ))
            })
            .collect()
    }

    /// All keys with names as values, for tables whose keys are names.
    pub(super) fn names(&self) -> Vec<(Text<'a>, Text<'a>)> {
        let items = self.table.iter().filter_map(|(k, v)| {
            let Some(name) = v.get_ref().as_str() else {
                self.wrong(v, k.get_ref(), "a name");
                return None;
            };
            Some(((k.get_ref().as_ref(), k.span()), (name, v.span())))
        });
        items.collect()
    }

    /// Takes all keys as known: what they mean cannot be told.
    pub(super) fn ignore_rest(&self) {
        self.ignored.set(true);
    }

    /// Records the keys that nobody asked for.
    pub(super) fn finish(&self) {
        if self.ignored.get() {
            return;
        }
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            if !asked.contains(&key.get_ref().as_ref()) {
                self.problems
                    .unknown("key", key.get_ref(), key.span(), asked.iter().copied());
            }
        }
    }
}
