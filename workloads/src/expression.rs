//! Einsums as text: `O[n, k, p] += I[n, c, H: 2 * p + r - 1] * W[k, c, r]`.
//!
//! Each operand has its ranks in brackets; a rank is an affine index of the einsum's dimensions (`p`, `2p + r`,
//! `p + r * 2 - 1`), and may be named in front of a colon (the name says only what the reader of the text sees). An
//! operand without indices is written `O[]`. What the sign between output and inputs and those between the inputs mean,
//! and which of them are allowed, is up to who reads the text: graph files and cases do.

use std::ops::Range;

use crate::einsum::ReduceOperator;

/// How the points reduce into an output element: with nothing, or by an operator.
pub type Assign = Option<ReduceOperator>;

/// An index: `sum(coefficient x dimension) + offset`, each dimension once, coefficients not zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index<'t> {
    /// Dimension and coefficient.
    pub terms: Vec<(&'t str, i64)>,
    /// Constant.
    pub offset: i64,
}

/// A tensor and its indices. Spans are bytes of the einsum's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand<'t> {
    /// Name.
    pub tensor: &'t str,
    /// Where the name stands.
    pub span: Range<usize>,
    /// One index for each rank, and where it stands, its own name included.
    pub ranks: Vec<(Index<'t>, Range<usize>)>,
}

impl<'t> Operand<'t> {
    /// One index for each rank.
    pub fn indices(&self) -> impl ExactSizeIterator<Item = &Index<'t>> {
        self.ranks.iter().map(|(index, _)| index)
    }
}

/// What joins the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `*`
    Times,
    /// `+`
    Plus,
    /// `,`
    Comma,
}

/// A parsed einsum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression<'t> {
    /// The output.
    pub output: Operand<'t>,
    /// The sign behind it, and where it stands.
    pub assign: (Assign, Range<usize>),
    /// The inputs.
    pub inputs: Vec<Operand<'t>>,
    /// The signs between them, and where they stand.
    pub joins: Vec<(Join, Range<usize>)>,
}

impl<'t> Expression<'t> {
    /// The output, then the inputs.
    pub fn operands(&self) -> impl Iterator<Item = &Operand<'t>> {
        std::iter::once(&self.output).chain(&self.inputs)
    }

    /// Dimensions in order of their first appearance, the output's first.
    pub fn dimensions(&self) -> Vec<&'t str> {
        let mut dimensions: Vec<&str> = Vec::new();
        let indices = self.operands().flat_map(Operand::indices);
        for (name, _) in indices.flat_map(|i| &i.terms) {
            if !dimensions.contains(name) {
                dimensions.push(name);
            }
        }
        dimensions
    }
}

/// What is wrong with the text, and where.
pub type Wrong = (Range<usize>, String);

/// Indices of an operand and dimensions of an index at most, so that merging them stays cheap.
const MOST: usize = 16;
/// Inputs at most.
const INPUTS: usize = 255;

/// Reads an einsum.
///
/// # Errors
/// The first thing that is wrong with the text.
pub fn parse(text: &str) -> Result<Expression<'_>, Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    let output = cursor.operand()?;
    let assigns: [(&str, Assign); 5] = [
        ("+=", Some(ReduceOperator::Sum)),
        ("max=", Some(ReduceOperator::Max)),
        ("min=", Some(ReduceOperator::Min)),
        ("*=", Some(ReduceOperator::Product)),
        ("=", None),
    ];
    let assign = assigns.into_iter().find(|(sign, _)| cursor.eat(sign));
    let (sign, assign) =
        assign.ok_or_else(|| cursor.wrong("expected `=`, `+=`, `max=`, `min=` or `*=`"))?;
    let assign = (assign, cursor.at - sign.len()..cursor.at);
    let (mut inputs, mut joins) = (vec![cursor.operand()?], Vec::new());
    while !cursor.at_end() {
        let signs = [("*", Join::Times), ("+", Join::Plus), (",", Join::Comma)];
        let join = signs.into_iter().find(|(sign, _)| cursor.eat(sign));
        let (sign, join) =
            join.ok_or_else(|| cursor.wrong("expected `*`, `+` or `,` between operands"))?;
        if inputs.len() == INPUTS {
            return Err(cursor.wrong(&format!("an einsum has at most {INPUTS} inputs")));
        }
        joins.push((join, cursor.at - sign.len()..cursor.at));
        inputs.push(cursor.operand()?);
    }
    Ok(Expression {
        output,
        assign,
        inputs,
        joins,
    })
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// The longest run of characters at the cursor that `accept` accepts.
    fn run(&mut self, accept: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    /// A problem at the next character.
    fn wrong(&self, message: &str) -> Wrong {
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        (self.at..self.at + next, message.into())
    }

    fn operand(&mut self) -> Result<Operand<'t>, Wrong> {
        self.skip_space();
        let start = self.at;
        let tensor = self.run(|c| c.is_alphanumeric() || c == '_' || c == '.');
        if tensor.is_empty() {
            return Err(self.wrong("expected a tensor, as in `X[i,j]`"));
        }
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
                return Err(self.wrong(&format!("a tensor has at most {MOST} ranks")));
            }
            self.skip_space();
            let start = self.at;
            let index = self.rank()?;
            ranks.push((index, start..self.at));
        }
        Ok(Operand {
            tensor,
            span,
            ranks,
        })
    }

    /// A name: a letter, then letters, digits and underscores; empty if there is none.
    fn name(&mut self) -> &'t str {
        self.skip_space();
        if self
            .rest()
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
        {
            self.run(|c| c.is_alphanumeric() || c == '_')
        } else {
            ""
        }
    }

    /// A number, if there is one. Numbers are small enough that sums of products with sizes stay far from overflow.
    fn number(&mut self) -> Result<Option<i64>, Wrong> {
        self.skip_space();
        let start = self.at;
        let digits = self.run(|c| c.is_ascii_digit());
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse::<i64>().ok().filter(|n| *n <= 1 << 32);
        let too_large = || {
            (
                start..self.at,
                "this number is larger than 2^32".to_string(),
            )
        };
        number.map(Some).ok_or_else(too_large)
    }

    /// An index, perhaps with the rank's name in front.
    fn rank(&mut self) -> Result<Index<'t>, Wrong> {
        let start = self.at;
        if self.name().is_empty() || !self.eat(":") {
            self.at = start;
        }
        self.index()
    }

    fn index(&mut self) -> Result<Index<'t>, Wrong> {
        let mut index = Index::default();
        let mut negative = self.eat("-");
        // So many terms, each no more than 2^32, cannot overflow.
        for _ in 0..MOST * MOST {
            self.skip_space();
            let start = self.at;
            let (name, value) = self.term()?;
            let value = if negative { -value } else { value };
            if name.is_empty() {
                index.offset += value;
            } else if let Some((_, sum)) = index.terms.iter_mut().find(|(n, _)| *n == name) {
                *sum += value;
            } else if index.terms.len() < MOST {
                index.terms.push((name, value));
            } else {
                let message = format!("an index has at most {MOST} dimensions");
                return Err((start..self.at, message));
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
        Err(self.wrong("this index has too many terms"))
    }

    /// `p`, `2`, `2 * p`, `2p` or `p * 2`: the dimension, if there is one, and its coefficient.
    fn term(&mut self) -> Result<(&'t str, i64), Wrong> {
        let factor = self.number()?;
        let explicit = factor.is_some() && self.eat("*");
        let name = self.name();
        match factor {
            None if name.is_empty() => Err(self.wrong("expected a dimension or a number")),
            Some(_) if explicit && name.is_empty() => {
                Err(self.wrong("expected a dimension after `*`"))
            }
            Some(value) => Ok((name, value)),
            None if self.eat("*") => match self.number()? {
                Some(value) => Ok((name, value)),
                None => Err(self.wrong("expected a number after `*`")),
            },
            None => Ok((name, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn indices_are_affine() {
        let t = parse("O[n,k,p] += I[ n , 2p + r-1, -q+3*s+i+i-2, 5, 0] * W.x[k]").unwrap();
        let index = |terms: &[(&'static str, i64)], offset| Index {
            terms: terms.to_vec(),
            offset,
        };
        let expected = [
            index(&[("n", 1)], 0),
            index(&[("p", 2), ("r", 1)], -1),
            index(&[("q", -1), ("s", 3), ("i", 2)], -2),
            index(&[], 5),
            index(&[], 0),
        ];
        let found: Vec<_> = t.inputs[0].indices().cloned().collect();
        assert_eq!(found, expected);
        assert_eq!(t.dimensions(), ["n", "k", "p", "r", "q", "s", "i"]);
        assert_eq!(
            (t.inputs[1].tensor, t.assign, t.joins.as_slice()),
            (
                "W.x",
                (Some(ReduceOperator::Sum), 9..11),
                &[(Join::Times, 49..50)][..]
            )
        );
        let named = "O[m] = I[c, H: 2 * p + r, W: p + r * 2 - 1, 3s+s] * X[]";
        let t = parse(named).unwrap();
        let (h, span) = &t.inputs[0].ranks[1];
        assert_eq!(
            (h, &named[span.clone()]),
            (&index(&[("p", 2), ("r", 1)], 0), "H: 2 * p + r")
        );
        assert_eq!(t.inputs[0].ranks[2].0, index(&[("p", 1), ("r", 2)], -1));
        assert_eq!(t.inputs[0].ranks[3].0, index(&[("s", 4)], 0));
        assert_eq!(t.inputs[1].ranks.len(), 0);
        assert_eq!(
            parse("M[] max= X[i]").unwrap().assign.0,
            Some(ReduceOperator::Max)
        );
        assert_eq!(parse("M[i] = X[i] , Y[i]").unwrap().assign.0, None);
    }

    #[test]
    fn mistakes_have_their_places() {
        let cases = [
            ("", 0, "a tensor"),
            ("O", 1, "`[`"),
            ("O[i", 3, "`]`"),
            ("O[i] X[i]", 5, "`+=`"),
            ("O[i] += X[i] Y[i]", 13, "between"),
            ("O[i] += X[2*]", 12, "a dimension"),
            ("O[i] += X[+]", 10, "a dimension"),
            ("O[i] += X[99999999999999999999i]", 10, "2^32"),
            ("O[é€%]", 4, "`]`"),
            ("O[i] += X[i * k]", 14, "a number after"),
            ("O[i] += X[,]", 10, "a dimension"),
            ("O[i] = ", 7, "a tensor"),
        ];
        for (text, at, expected) in cases {
            let (span, message) = parse(text).unwrap_err();
            assert!(
                span.start == at && message.contains(expected),
                "{text}: {span:?} {message}"
            );
            assert!(text.is_char_boundary(span.end), "{text}");
        }
    }
}
