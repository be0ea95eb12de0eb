//! JSON texts as trees of items that know where they stand: the same trees that [`crate::document`] makes of TOML,
//! so that a file form has one reader for both.
//!
//! The grammar is that of RFC 8259. Two things are stricter: a key may stand in a table once, and tables nest at
//! most [`MAX_DEPTH`] deep. `null` is no value of any file form.

use presil_numerics::Diagnostic;

use crate::document::{Item, ItemKind, Key, Place, Problems};

/// How deep tables and arrays nest.
pub const MAX_DEPTH: usize = 64;

/// Reads a JSON text; the first syntax error becomes a problem, and an empty table stands for the text.
pub fn parse(source: usize, problems: &mut Problems) -> Item {
    let text = problems
        .sources
        .get(source)
        .map(|s| s.text.clone())
        .unwrap_or_default();
    let mut reader = Reader {
        text: &text,
        at: 0,
        source,
    };
    match reader.document() {
        Ok(item) => item,
        Err((at, reason)) => {
            let end = text.get(at..).and_then(|t| t.chars().next());
            let span = at..at + end.map_or(0, char::len_utf8);
            let place = Place {
                source,
                span: if span.is_empty() && at > 0 {
                    text.floor_char_boundary(at - 1)..at
                } else {
                    span
                },
            };
            problems.add(&place, Diagnostic::new(format!("not JSON: {reason}")));
            Item {
                kind: ItemKind::Table(Vec::new()),
                place: Place {
                    source,
                    span: 0..text.len(),
                },
            }
        }
    }
}

/// What is wrong, and at which byte.
type Wrong = (usize, String);

struct Reader<'t> {
    text: &'t str,
    at: usize,
    source: usize,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Item, Wrong> {
        let item = self.value(0)?;
        self.space();
        if self.at < self.text.len() {
            return self.wrong("something follows the document");
        }
        Ok(item)
    }

    fn wrong<T>(&self, reason: &str) -> Result<T, Wrong> {
        Err((self.at, reason.into()))
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        let rest = self.rest();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.at += blank;
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Item, Wrong> {
        self.space();
        if depth > MAX_DEPTH {
            return self.wrong("it nests too deep");
        }
        let start = self.at;
        let kind = match self.rest().chars().next() {
            Some('{') => self.table(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => ItemKind::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            _ if self.eat("true") => ItemKind::Bool(true),
            _ if self.eat("false") => ItemKind::Bool(false),
            _ if self.eat("null") => ItemKind::Other("null"),
            _ => return self.wrong("expected a value"),
        };
        Ok(Item {
            kind,
            place: self.place(start),
        })
    }

    fn place(&self, start: usize) -> Place {
        Place {
            source: self.source,
            span: start..self.at,
        }
    }

    fn table(&mut self, depth: usize) -> Result<ItemKind, Wrong> {
        self.at += 1;
        let mut pairs: Vec<(Key, Item)> = Vec::new();
        if self.eat("}") {
            return Ok(ItemKind::Table(pairs));
        }
        loop {
            self.space();
            let start = self.at;
            if !self.rest().starts_with('"') {
                return self.wrong("expected a key in double quotes");
            }
            let name = self.string()?;
            let key = Key {
                place: self.place(start),
                name,
            };
            if pairs.iter().any(|(k, _)| k.name == key.name) {
                return Err((start, format!("the key `{}` stands twice", key.name)));
            }
            if !self.eat(":") {
                return self.wrong("expected `:` after the key");
            }
            pairs.push((key, self.value(depth + 1)?));
            if self.eat("}") {
                return Ok(ItemKind::Table(pairs));
            }
            if !self.eat(",") {
                return self.wrong("expected `,` or `}`");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<ItemKind, Wrong> {
        self.at += 1;
        let mut items = Vec::new();
        if self.eat("]") {
            return Ok(ItemKind::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.eat("]") {
                return Ok(ItemKind::Array(items));
            }
            if !self.eat(",") {
                return self.wrong("expected `,` or `]`");
            }
        }
    }

    /// A string; its end is found first, its escapes are left to serde.
    fn string(&mut self) -> Result<String, Wrong> {
        let start = self.at;
        let mut escaped = false;
        let end = self.rest().char_indices().skip(1).find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else {
            return self.wrong("this text does not end");
        };
        self.at += end + 1;
        let quoted = self.text.get(start..self.at).unwrap_or("");
        serde_json::from_str(quoted).map_err(|e| (start, e.to_string()))
    }

    fn number(&mut self) -> Result<ItemKind, Wrong> {
        let start = self.at;
        let rest = self.rest();
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = rest.find(|c| !digits(c)).unwrap_or(rest.len());
        self.at += end;
        let text = self.text.get(start..self.at).unwrap_or("");
        let number: serde_json::Number =
            serde_json::from_str(text).map_err(|_| (start, format!("`{text}` is no number")))?;
        Ok(match (number.as_i64(), number.as_f64()) {
            (Some(i), _) => ItemKind::Integer(i),
            (None, Some(f)) => ItemKind::Float(f),
            (None, None) => ItemKind::Other("a number that does not fit"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(text: &str) -> (Item, Vec<String>) {
        let mut problems = Problems::default();
        let source = problems.source("x.json", text);
        let item = parse(source, &mut problems);
        let told = problems.into_diagnostics();
        (item, told.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_item_knows_its_place() {
        let text = r#" {"a": [1, -2.5e1, "x\"\u00e9"], "b": {"c": true}, "d": {}} "#;
        let (item, told) = read(text);
        assert!(told.is_empty(), "{told:?}");
        let ItemKind::Array(a) = &item.get("a").unwrap().kind else {
            unreachable!("a is an array")
        };
        assert_eq!(a[0].kind, ItemKind::Integer(1));
        assert_eq!(a[1].kind, ItemKind::Float(-25.0));
        assert_eq!(a[2].text(), Some("x\"é"));
        assert_eq!(&text[a[2].place.span.clone()], r#""x\"\u00e9""#);
        let c = item.get("b").unwrap().get("c").unwrap();
        assert_eq!(&text[c.place.span.clone()], "true");
    }

    #[test]
    fn mistakes_have_their_places() {
        let deep = "[".repeat(500);
        for (text, place, reason) in [
            ("", ":1:1", "expected a value"),
            ("{\"a\": 1, \"a\": 2}", ":1:10", "twice"),
            ("{\"a\" 1}", ":1:6", "`:`"),
            ("{\"a\": 1\n \"b\": 2}", ":2:2", "`,` or `}`"),
            ("[1 2]", ":1:4", "`,` or `]`"),
            ("{a: 1}", ":1:2", "double quotes"),
            ("\"abc", ":1:1", "does not end"),
            ("[01]", ":1:2", "`01`"),
            ("1 2", ":1:3", "follows"),
            (deep.as_str(), ":1:", "too deep"),
        ] {
            let told = read(text).1.join("");
            assert!(told.contains(reason), "{text}: {told}");
            assert!(text.is_empty() || told.contains(place), "{text}: {told}");
        }
    }
}
