//! The text form of an einsum: `O[n,k,p] += I[n,c,2p+r-1] * W[k,c,r]`.

use std::ops::Range;

use crate::einsum::ReduceOperator;

/// How the points reduce into an output element: with nothing, or by an operator.
pub(super) type Assign = Option<ReduceOperator>;

/// An index: `sum(coefficient x dimension) + offset`, each dimension once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index<'t> {
    pub(super) terms: Vec<(&'t str, i64)>,
    pub(super) offset: i64,
}

/// A tensor and its indices. Spans are bytes of the einsum's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operand<'t> {
    pub(super) tensor: &'t str,
    pub(super) span: Range<usize>,
    pub(super) ranks: Vec<Index<'t>>,
}

/// What joins the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Times,
    Plus,
    Comma,
}

/// A parsed einsum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<'t> {
    pub(super) output: Operand<'t>,
    pub(super) assign: Assign,
    pub(super) inputs: Vec<Operand<'t>>,
    pub(super) joins: Vec<Join>,
}

impl<'t> Text<'t> {
    /// The output, then the inputs.
    pub(super) fn operands(&self) -> impl Iterator<Item = &Operand<'t>> {
        std::iter::once(&self.output).chain(&self.inputs)
    }
}

/// What is wrong with the text, and where.
pub(super) type Wrong = (Range<usize>, String);

/// Dimensions of one index at most, so that merging them stays cheap.
const TERMS: usize = 16;

/// Reads an einsum.
pub(super) fn parse(text: &str) -> Result<Text<'_>, Wrong> {
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
    let (_, assign) =
        assign.ok_or_else(|| cursor.wrong("expected `=`, `+=`, `max=`, `min=` or `*=`"))?;
    let (mut inputs, mut joins) = (vec![cursor.operand()?], Vec::new());
    while !cursor.at_end() {
        let signs = [("*", Join::Times), ("+", Join::Plus), (",", Join::Comma)];
        let join = signs.into_iter().find(|(sign, _)| cursor.eat(sign));
        let (_, join) =
            join.ok_or_else(|| cursor.wrong("expected `*`, `+` or `,` between operands"))?;
        joins.push(join);
        inputs.push(cursor.operand()?);
    }
    Ok(Text {
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
        let tensor = self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if tensor.is_empty() {
            return Err(self.wrong("expected a tensor, as in `X[i,j]`"));
        }
        let span = start..self.at;
        if !self.eat("[") {
            return Err(self.wrong("expected `[` and the indices of the tensor"));
        }
        let mut ranks = Vec::new();
        if !self.eat("]") {
            loop {
                ranks.push(self.index()?);
                if self.eat("]") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.wrong("expected `,` or `]`"));
                }
            }
        }
        Ok(Operand {
            tensor,
            span,
            ranks,
        })
    }

    fn index(&mut self) -> Result<Index<'t>, Wrong> {
        let mut index = Index::default();
        let mut negative = self.eat("-");
        loop {
            self.skip_space();
            let start = self.at;
            let digits = self.run(|c| c.is_ascii_digit());
            let explicit = !digits.is_empty() && self.eat("*");
            self.skip_space();
            let name = match self
                .rest()
                .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            {
                true => self.run(|c| c.is_ascii_alphanumeric() || c == '_'),
                false => "",
            };
            if name.is_empty() && (digits.is_empty() || explicit) {
                return Err(self.wrong("expected a dimension or a number"));
            }
            let too_large = || {
                (
                    start..self.at,
                    "this coefficient does not fit 64 bits".to_string(),
                )
            };
            let value: i64 = if digits.is_empty() {
                1
            } else {
                digits.parse().map_err(|_| too_large())?
            };
            let value = if negative { -value } else { value };
            if name.is_empty() {
                index.offset = index.offset.checked_add(value).ok_or_else(too_large)?;
            } else if let Some((_, sum)) = index.terms.iter_mut().find(|(n, _)| *n == name) {
                *sum = sum.checked_add(value).ok_or_else(too_large)?;
            } else if index.terms.len() < TERMS {
                index.terms.push((name, value));
            } else {
                return Err((
                    start..self.at,
                    format!("an index has at most {TERMS} dimensions"),
                ));
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
        assert_eq!(t.inputs[0].ranks, expected);
        assert_eq!(
            (t.inputs[1].tensor, t.assign, t.joins.as_slice()),
            ("W.x", Some(ReduceOperator::Sum), &[Join::Times][..])
        );
        assert_eq!(
            parse("M[] max= X[i]").unwrap().assign,
            Some(ReduceOperator::Max)
        );
        assert_eq!(parse("M[i] = X[i] , Y[i]").unwrap().assign, None);
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
            ("O[i] += X[99999999999999999999i]", 10, "64 bits"),
            ("O[é]", 2, "a dimension"),
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
