//! Einsums as text: `O[b, m, p, q] = I[b, c, H: 2 * p + r, W: q + s] * Wt[m, c, r, s]`.
//!
//! Each operand has its ranks in brackets; a rank is an affine index of the einsum's ranks (`p`, `2 * p + r`,
//! `p + r * 2 - 1`), and may be named in front of a colon (the name says only what the reader of the file sees).
//! The inputs are joined by `*`; an output without indices is written `O[]`. Every rank that the output does not
//! have is summed over.

use std::ops::Range;

/// An index: `sum(coefficient x rank) + offset`, each rank once, coefficients not zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Rank and coefficient.
    pub terms: Vec<(String, i64)>,
    /// Constant.
    pub offset: i64,
}

/// A tensor and its indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// Name.
    pub tensor: String,
    /// Bytes of the name in the text.
    pub span: Range<usize>,
    /// One index for each rank, and its bytes in the text.
    pub ranks: Vec<(Index, Range<usize>)>,
}

/// An einsum as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The output.
    pub output: Operand,
    /// The inputs.
    pub inputs: Vec<Operand>,
}

impl Expression {
    /// The inputs, then the output.
    pub fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.inputs.iter().chain(std::iter::once(&self.output))
    }
    /// Ranks in order of their first appearance, the output's first.
    pub fn ranks(&self) -> Vec<&str> {
        let mut ranks: Vec<&str> = Vec::new();
        for operand in std::iter::once(&self.output).chain(&self.inputs) {
            for (name, _) in operand.ranks.iter().flat_map(|(i, _)| &i.terms) {
                if !ranks.contains(&name.as_str()) {
                    ranks.push(name);
                }
            }
        }
        ranks
    }
}

/// What is wrong with a text, and where.
pub type Wrong = (Range<usize>, String);

/// Most inputs of an einsum, indices of an operand and terms of an index.
const MOST: usize = 16;

/// Reads an einsum.
///
/// # Errors
/// The first thing that is wrong with the text.
pub fn parse(text: &str) -> Result<Expression, Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    let output = cursor.operand()?;
    if !cursor.eat("=") {
        return Err(cursor.wrong("expected `=` after the output"));
    }
    let mut inputs = vec![cursor.operand()?];
    while !cursor.at_end() {
        if !cursor.eat("*") {
            return Err(cursor.wrong("expected `*` between inputs"));
        }
        if inputs.len() == MOST {
            return Err(cursor.wrong("an einsum has at most 16 inputs"));
        }
        inputs.push(cursor.operand()?);
    }
    Ok(Expression { output, inputs })
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn at_end(&mut self) -> bool {
        self.space();
        self.rest().is_empty()
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn wrong(&self, message: &str) -> Wrong {
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        (self.at..self.at + next, message.into())
    }

    /// A name: a letter, then letters, digits and underscores.
    fn name(&mut self) -> Option<&'t str> {
        self.space();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let end = end.unwrap_or(rest.len());
        self.at += end;
        rest.get(..end)
    }

    fn number(&mut self) -> Result<Option<i64>, Wrong> {
        self.space();
        let (start, rest) = (self.at, self.rest());
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let end = end.unwrap_or(rest.len());
        if end == 0 {
            return Ok(None);
        }
        self.at += end;
        let digits = rest.get(..end).unwrap_or("");
        // Small enough that sums of products with sizes stay far from overflow.
        match digits.parse::<i64>().ok().filter(|n| *n <= 1 << 32) {
            Some(number) => Ok(Some(number)),
            None => Err((start..self.at, "this number is too large".into())),
        }
    }

    fn operand(&mut self) -> Result<Operand, Wrong> {
        self.space();
        let start = self.at;
        let Some(tensor) = self.name() else {
            return Err(self.wrong("expected a tensor, as in `X[i, j]`"));
        };
        let span = start..self.at;
        if !self.eat("[") {
            return Err(self.wrong("expected `[` and the indices of the tensor"));
        }
        let mut ranks = Vec::new();
        while !self.eat("]") {
            if !ranks.is_empty() && !self.eat(",") {
                return Err(self.wrong("expected `,` or `]`"));
            }
            if ranks.len() == MOST {
                return Err(self.wrong("a tensor has at most 16 ranks"));
            }
            self.space();
            let start = self.at;
            let index = self.rank()?;
            ranks.push((index, start..self.at));
        }
        Ok(Operand {
            tensor: tensor.to_string(),
            span,
            ranks,
        })
    }

    /// An index, perhaps with the rank's name in front.
    fn rank(&mut self) -> Result<Index, Wrong> {
        let start = self.at;
        if self.name().is_some() && self.eat(":") {
            return self.index();
        }
        self.at = start;
        self.index()
    }

    fn index(&mut self) -> Result<Index, Wrong> {
        let mut index = Index::default();
        let mut negative = self.eat("-");
        loop {
            self.space();
            let start = self.at;
            let (name, value) = self.term()?;
            let value = if negative { -value } else { value };
            let room = index.terms.len() < MOST;
            match name {
                None => index.offset += value,
                Some(name) => match index.terms.iter_mut().find(|(n, _)| n == name) {
                    Some((_, sum)) => *sum += value,
                    None if room => index.terms.push((name.into(), value)),
                    None => return Err((start..self.at, "an index has at most 16 terms".into())),
                },
            }
            if self.eat("+") {
                negative = false;
            } else if self.eat("-") {
                negative = true;
            } else {
                index.terms.retain(|(_, c)| *c != 0);
                return Ok(index);
            }
        }
    }

    /// `p`, `2`, `2 * p`, `2p` or `p * 2`.
    fn term(&mut self) -> Result<(Option<&'t str>, i64), Wrong> {
        let factor = self.number()?;
        let explicit = factor.is_some() && self.eat("*");
        let name = self.name();
        match (factor, name) {
            (None, None) => Err(self.wrong("expected a rank or a number")),
            (Some(_), None) if explicit => Err(self.wrong("expected a rank after `*`")),
            (Some(value), None) => Ok((None, value)),
            (Some(value), Some(name)) => Ok((Some(name), value)),
            (None, Some(name)) if self.eat("*") => match self.number()? {
                Some(value) => Ok((Some(name), value)),
                None => Err(self.wrong("expected a number after `*`")),
            },
            (None, Some(name)) => Ok((Some(name), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn indices_are_affine() {
        let text = "O[b, m, p] = I[b, c, H: 2 * p + r, W: p + r * 2 - 1, 3s+s] * Wt[m] * X[]";
        let e = parse(text).unwrap();
        let terms = |r: usize| {
            let (index, span) = &e.inputs[0].ranks[r];
            let named: Vec<(&str, i64)> = index.terms.iter().map(|(n, c)| (&n[..], *c)).collect();
            (named, index.offset, &text[span.clone()])
        };
        assert_eq!(terms(0), (vec![("b", 1)], 0, "b"));
        assert_eq!(terms(2), (vec![("p", 2), ("r", 1)], 0, "H: 2 * p + r"));
        assert_eq!(terms(3), (vec![("p", 1), ("r", 2)], -1, "W: p + r * 2 - 1"));
        assert_eq!(terms(4), (vec![("s", 4)], 0, "3s+s"));
        assert_eq!(e.ranks(), ["b", "m", "p", "c", "r", "s"]);
        assert_eq!((e.inputs.len(), e.inputs[2].ranks.len()), (3, 0));
    }

    #[test]
    fn mistakes_have_their_places() {
        for (text, at, expected) in [
            ("", 0, "a tensor"),
            ("O[m] A[m]", 5, "`=`"),
            ("O[m] = A[m", 10, "`,` or `]`"),
            ("O[m] = A[m] + B[m]", 12, "`*`"),
            ("O[m] = A[2 *]", 12, "a rank after"),
            ("O[m] = A[m * k]", 13, "a number after"),
            ("O[m] = A[99999999999]", 9, "too large"),
            ("O[m] = A[,]", 9, "a rank or a number"),
            ("O[é€%] = A[m]", 4, "`,` or `]`"),
        ] {
            let (span, message) = parse(text).unwrap_err();
            assert_eq!(span.start, at, "{text}: {message}");
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
