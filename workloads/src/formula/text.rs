//! Formulas as text.

use std::ops::Range;

use super::{Binary, Formula, Term, Unary};

/// Most terms of a formula, and how deep its parentheses may nest.
const MOST_TERMS: usize = 1024;
const DEEPEST: usize = 64;

impl Formula {
    /// Reads a formula's text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, (Range<usize>, String)> {
        let mut reader = Reader {
            text,
            at: 0,
            terms: Vec::new(),
            depth: 0,
        };
        reader.sum()?;
        reader.skip_space();
        if reader.at < text.len() {
            return Err(reader.wrong("expected an operator"));
        }
        Ok(Self {
            terms: reader.terms,
        })
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    terms: Vec<Term>,
    depth: usize,
}

type Read = Result<usize, (Range<usize>, String)>;

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, sign: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len_utf8();
        }
        found
    }

    fn wrong(&self, message: &str) -> (Range<usize>, String) {
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        (self.at..self.at + next, message.into())
    }

    /// Appends a term, or finds the one that is the same.
    fn term(&mut self, term: Term) -> Read {
        if let Some(same) = self.terms.iter().position(|t| *t == term) {
            return Ok(same);
        }
        if self.terms.len() == MOST_TERMS {
            return Err(self.wrong(&format!("a formula has at most {MOST_TERMS} terms")));
        }
        self.terms.push(term);
        Ok(self.terms.len() - 1)
    }

    fn sum(&mut self) -> Read {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(&format!("a formula nests at most {DEEPEST} deep")));
        }
        let mut left = self.product()?;
        loop {
            let operation = if self.eat('+') {
                Binary::Add
            } else if self.eat('-') {
                Binary::Subtract
            } else {
                self.depth -= 1;
                return Ok(left);
            };
            let right = self.product()?;
            left = self.term(Term::Binary(operation, left, right))?;
        }
    }

    fn product(&mut self) -> Read {
        let mut left = self.factor()?;
        loop {
            let operation = if self.eat('*') {
                Binary::Multiply
            } else if self.eat('/') {
                Binary::Divide
            } else {
                return Ok(left);
            };
            let right = self.factor()?;
            left = self.term(Term::Binary(operation, left, right))?;
        }
    }

    fn factor(&mut self) -> Read {
        self.skip_space();
        if self.eat('-') {
            self.skip_space();
            if let Some(number) = self.number()? {
                return self.term(Term::Constant(-number));
            }
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(self.wrong(&format!("a formula nests at most {DEEPEST} deep")));
            }
            let of = self.factor()?;
            self.depth -= 1;
            return self.term(Term::Unary(Unary::Negate, of));
        }
        if self.eat('(') {
            let inner = self.sum()?;
            return if self.eat(')') {
                Ok(inner)
            } else {
                Err(self.wrong("expected `)`"))
            };
        }
        if let Some(number) = self.number()? {
            return self.term(Term::Constant(number));
        }
        let start = self.at;
        let name: String = self
            .rest()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if name.is_empty() {
            return Err(self.wrong("expected a number, an input (`x`, `x1`) or a function"));
        }
        self.at += name.len();
        if self.eat('(') {
            return self.call(&name, start..start + name.len());
        }
        let place = match name.as_str() {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            other => other.strip_prefix('x').and_then(|n| n.parse().ok()),
        };
        match place.filter(|p| *p < usize::from(u8::MAX)) {
            Some(place) => self.term(Term::Input(place)),
            None => Err((
                start..start + name.len(),
                format!("`{name}` is no input: they are `x`, `y`, `z`, or `x0`, `x1`, .."),
            )),
        }
    }

    fn call(&mut self, name: &str, span: Range<usize>) -> Read {
        let mut arguments = vec![self.sum()?];
        while self.eat(',') {
            arguments.push(self.sum()?);
        }
        if !self.eat(')') {
            return Err(self.wrong("expected `,` or `)`"));
        }
        let two = match name {
            "max" => Some(Binary::Maximum),
            "min" => Some(Binary::Minimum),
            "pow" => Some(Binary::Power),
            "less" => Some(Binary::Less),
            "equal" => Some(Binary::Equal),
            _ => None,
        };
        let one = Unary::all().find(|u| u.name() == name);
        match (one, two, arguments.as_slice()) {
            (Some(f), _, &[a]) => self.term(Term::Unary(f, a)),
            (_, Some(op), &[a, b]) => self.term(Term::Binary(op, a, b)),
            (None, None, &[a, b, c]) if name == "select" => self.term(Term::Select(a, b, c)),
            (None, None, _) if name != "select" => {
                let known: Vec<&str> = Unary::all().map(Unary::name).collect();
                let message = format!(
                    "`{name}` is no function; there are {}, max, min, pow, less, equal, select",
                    known.join(", ")
                );
                Err((span, message))
            }
            _ => Err((
                span,
                format!("`{name}` does not take {} arguments", arguments.len()),
            )),
        }
    }

    /// A number without a sign.
    fn number(&mut self) -> Result<Option<f64>, (Range<usize>, String)> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Ok(None);
        }
        let bytes = rest.as_bytes();
        let mut end = 0;
        while let Some(c) = bytes.get(end) {
            let exponent_sign = matches!(c, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E');
            if !(c.is_ascii_digit()
                || matches!(c, b'.' | b'e' | b'E')
                || (end > 0 && exponent_sign))
            {
                break;
            }
            end += 1;
        }
        let number = rest.get(..end).and_then(|t| t.parse::<f64>().ok());
        let span = self.at..self.at + end;
        match number {
            Some(number) => {
                self.at += end;
                Ok(Some(number))
            }
            None => Err((span, "this is no number".into())),
        }
    }
}
