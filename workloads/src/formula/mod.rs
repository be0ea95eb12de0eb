//! Formulas of one element: what elementwise ops compute at each place of their inputs.
//!
//! A formula is a list of terms in the order of their evaluation; a term refers to earlier ones by their place in the
//! list, the last one is the result. So an expression that is used twice is computed once, and each term is one step
//! of a vector unit that rounds its result.
//!
//! ```text
//! x * sigmoid(1.702 * x)      0: input 0   1: 1.702   2: 1 * 0   3: sigmoid 2   4: 0 * 3
//! ```
//!
//! As text: `x`, `y` and `z`, or `x0`, `x1`, .. are the inputs; numbers; `+`, `-`, `*`, `/`, parentheses; the functions
//! of [`Unary`] by name, and `max`, `min` and `pow` of two arguments.

mod text;

use std::fmt;

use presil_numerics::LanePrimitive as L;
use presil_numerics::function::Function;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum Unary {
    Negate,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Square,
    Relu,
    Atan,
    /// One that hardware evaluates by a unit of its own.
    Of(Function),
}

impl Unary {
    /// Those that are one step of a lane, or have no unit.
    const PLAIN: [Self; 9] = [
        Self::Negate,
        Self::Abs,
        Self::Sign,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Square,
        Self::Relu,
        Self::Atan,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let units = Function::ALL.into_iter().filter(|f| f.arity() == 1);
        Self::PLAIN.into_iter().chain(units.map(Self::Of))
    }

    /// Its name in formulas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negate => "neg",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Square => "square",
            Self::Relu => "relu",
            Self::Atan => "atan",
            Self::Of(function) => function.name(),
        }
    }

    /// What it costs on a vector unit.
    fn program(self) -> &'static [L] {
        use crate::build::Function as F;
        let function = match self {
            Self::Negate | Self::Abs | Self::Sign => F::Sign,
            Self::Floor | Self::Ceil | Self::Round => F::Convert,
            Self::Square => F::Square,
            Self::Relu => F::Relu,
            Self::Atan => F::Trigonometric,
            Self::Of(function) => match function {
                Function::Sqrt => F::Sqrt,
                Function::Rsqrt => F::Rsqrt,
                Function::Reciprocal => F::Reciprocal,
                Function::Exp => F::Exp,
                Function::Exp2 => return &[L::Exp2],
                Function::Log => F::Log,
                Function::Log2 => return &[L::Log2],
                Function::Sigmoid => F::Sigmoid,
                Function::Tanh => F::Tanh,
                Function::Erf => F::Erf,
                Function::Softplus => F::Softplus,
                Function::Silu => F::Silu,
                Function::Gelu => F::Gelu,
                Function::GeluTanh => F::GeluTanh,
                Function::QuickGelu => F::QuickGelu,
                Function::HardSigmoid => F::HardSigmoid,
                Function::HardSwish => F::HardSwish,
                Function::Sin | Function::Cos => F::Trigonometric,
                Function::Division => return &[L::Reciprocal, L::Mul],
            },
        };
        function.program()
    }
}

/// An operation on two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the operation of its name")]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
    Power,
    /// 1 where the first is less, 0 elsewhere.
    Less,
    /// 1 where they are equal, 0 elsewhere.
    Equal,
}

/// One step of a formula; operands are places of earlier terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// An input of the op.
    Input(usize),
    /// A number.
    Constant(f64),
    /// A function of a term.
    Unary(Unary, usize),
    /// An operation on two terms.
    Binary(Binary, usize, usize),
    /// The second term where the first is not zero, the third elsewhere.
    Select(usize, usize, usize),
}

/// A formula of one element.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    terms: Vec<Term>,
}

impl Formula {
    /// The formula that is its first input.
    pub fn input() -> Self {
        Self {
            terms: vec![Term::Input(0)],
        }
    }

    /// A function of the first input.
    pub fn of(function: Unary) -> Self {
        Self::input().then(function)
    }

    /// An operation on the first two inputs.
    pub fn of_two(operation: Binary) -> Self {
        Self {
            terms: vec![
                Term::Input(0),
                Term::Input(1),
                Term::Binary(operation, 0, 1),
            ],
        }
    }

    /// An operation on all of so many inputs, from the first on.
    pub fn of_all(operation: Binary, inputs: usize) -> Self {
        let mut formula = Self::input();
        for i in 1..inputs {
            let so_far = formula.terms.len() - 1;
            formula.terms.push(Term::Input(i));
            formula
                .terms
                .push(Term::Binary(operation, so_far, so_far + 1));
        }
        formula
    }

    /// A function of the result.
    pub fn then(mut self, function: Unary) -> Self {
        self.terms.push(Term::Unary(function, self.terms.len() - 1));
        self
    }

    /// An operation on the result and a number.
    pub fn with(mut self, operation: Binary, number: f64) -> Self {
        let result = self.terms.len() - 1;
        self.terms.push(Term::Constant(number));
        self.terms.push(Term::Binary(operation, result, result + 1));
        self
    }

    /// An operation on the result and an input.
    pub fn with_input(mut self, operation: Binary, input: usize) -> Self {
        let result = self.terms.len() - 1;
        self.terms.push(Term::Input(input));
        self.terms.push(Term::Binary(operation, result, result + 1));
        self
    }

    /// The result kept within bounds.
    pub fn clipped(self, low: f64, high: f64) -> Self {
        let raised = if low > f64::NEG_INFINITY {
            self.with(Binary::Maximum, low)
        } else {
            self
        };
        if high < f64::INFINITY {
            raised.with(Binary::Minimum, high)
        } else {
            raised
        }
    }

    /// The terms, in the order of their evaluation.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// How many inputs it reads: one more than the last one's place.
    pub fn inputs(&self) -> usize {
        let places = self.terms.iter().map(|t| match t {
            Term::Input(i) => i + 1,
            _ => 0,
        });
        places.max().unwrap_or(0)
    }

    /// Its lane program. An addition of a product that nothing else reads is one fused multiply-add.
    pub fn program(&self) -> Vec<L> {
        let mut uses = vec![0u32; self.terms.len()];
        for term in &self.terms {
            let (operands, count) = term.operands();
            for o in &operands[..count] {
                uses[*o] += 1;
            }
        }
        let product =
            |i: usize| matches!(self.terms[i], Term::Binary(Binary::Multiply, ..)) && uses[i] == 1;
        let fused = |t: &Term| match *t {
            Term::Binary(Binary::Add | Binary::Subtract, a, b) => {
                [a, b].into_iter().find(|i| product(*i))
            }
            _ => None,
        };
        let absorbed: Vec<usize> = self.terms.iter().filter_map(fused).collect();
        let mut program = Vec::new();
        for (i, term) in self.terms.iter().enumerate() {
            match term {
                _ if absorbed.contains(&i) => {}
                Term::Input(_) | Term::Constant(_) => {}
                Term::Unary(f, _) => program.extend_from_slice(f.program()),
                Term::Binary(op, ..) => match op {
                    Binary::Add | Binary::Subtract if fused(term).is_some() => program.push(L::Fma),
                    Binary::Add | Binary::Subtract => program.push(L::Add),
                    Binary::Multiply => program.push(L::Mul),
                    Binary::Divide => program.extend([L::Reciprocal, L::Mul]),
                    Binary::Maximum | Binary::Minimum => program.push(L::Max),
                    Binary::Power => program.extend([L::Log2, L::Mul, L::Exp2]),
                    Binary::Less | Binary::Equal => program.push(L::Compare),
                },
                Term::Select(..) => program.push(L::Compare),
            }
        }
        program
    }
}

impl Term {
    /// The terms that it reads, and how many of the three places they fill.
    pub fn operands(&self) -> ([usize; 3], usize) {
        match *self {
            Self::Input(_) | Self::Constant(_) => ([0; 3], 0),
            Self::Unary(_, a) => ([a, 0, 0], 1),
            Self::Binary(_, a, b) => ([a, b, 0], 2),
            Self::Select(a, b, c) => ([a, b, c], 3),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.terms.len());
        for term in &self.terms {
            let text = |i: usize| texts.get(i).map_or("", String::as_str);
            let written = match *term {
                Term::Input(i) => format!("x{i}"),
                Term::Constant(c) => c.to_string(),
                Term::Unary(u, a) => format!("{}({})", u.name(), text(a)),
                Term::Binary(op, a, b) => match op {
                    Binary::Add => format!("({} + {})", text(a), text(b)),
                    Binary::Subtract => format!("({} - {})", text(a), text(b)),
                    Binary::Multiply => format!("({} * {})", text(a), text(b)),
                    Binary::Divide => format!("({} / {})", text(a), text(b)),
                    Binary::Maximum => format!("max({}, {})", text(a), text(b)),
                    Binary::Minimum => format!("min({}, {})", text(a), text(b)),
                    Binary::Power => format!("pow({}, {})", text(a), text(b)),
                    Binary::Less => format!("less({}, {})", text(a), text(b)),
                    Binary::Equal => format!("equal({}, {})", text(a), text(b)),
                },
                Term::Select(a, b, c) => format!("select({}, {}, {})", text(a), text(b), text(c)),
            };
            texts.push(written);
        }
        f.write_str(texts.last().map_or("", String::as_str))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn text_becomes_terms_in_order_and_each_once() {
        let f = Formula::parse("x * sigmoid(1.702 * x)").unwrap();
        let expected = [
            Term::Input(0),
            Term::Constant(1.702),
            Term::Binary(Binary::Multiply, 1, 0),
            Term::Unary(Unary::Of(Function::Sigmoid), 2),
            Term::Binary(Binary::Multiply, 0, 3),
        ];
        assert_eq!(f.terms(), expected);
        assert_eq!(f.to_string(), "(x0 * sigmoid((1.702 * x0)))");
        assert_eq!(Formula::parse(&f.to_string()).unwrap(), f);
        let g = Formula::parse("max(-x1, y + 2e-3) / (z - 1)").unwrap();
        assert_eq!(g.inputs(), 3);
        assert_eq!(g.to_string(), "(max(neg(x1), (x1 + 0.002)) / (x2 - 1))");
        assert_eq!(Formula::parse("x").unwrap(), Formula::input());
        assert_eq!(
            Formula::of_all(Binary::Add, 3).to_string(),
            "((x0 + x1) + x2)"
        );
    }

    #[test]
    fn the_result_is_the_last_term() {
        // The whole is a term that came earlier.
        let f = Formula::parse("x + 1").unwrap();
        assert!(matches!(
            f.terms().last(),
            Some(Term::Binary(Binary::Add, ..))
        ));
        let g = Formula::parse("(x)").unwrap();
        assert_eq!(g.terms(), [Term::Input(0)]);
        assert_eq!(Formula::of(Unary::Of(Function::Exp)).terms().len(), 2);
    }

    #[test]
    fn products_are_fused_into_additions() {
        let program = |text| Formula::parse(text).unwrap().program();
        assert_eq!(program("x * y + z"), [L::Fma]);
        assert_eq!(program("x * (1 + y)"), [L::Add, L::Mul]);
        assert_eq!(program("x * y + x * z"), [L::Mul, L::Fma]);
        // The product is read twice: it has to be there.
        assert_eq!(program("x * y + relu(x * y)"), [L::Mul, L::Max, L::Add]);
        assert_eq!(program("silu(x) * y").len(), 6);
    }

    #[test]
    fn mistakes_have_their_places() {
        let cases = [
            ("", 0, "expected a number"),
            ("x +", 3, "expected a number"),
            ("x y", 2, "an operator"),
            ("(x", 2, "`)`"),
            ("foo(x)", 0, "is no function"),
            ("max(x)", 0, "does not take 1"),
            ("bar", 0, "is no input"),
            ("1.2.3", 0, "no number"),
            ("x300", 0, "is no input"),
        ];
        for (text, at, expected) in cases {
            let (span, message) = Formula::parse(text).unwrap_err();
            assert!(
                span.start == at && message.contains(expected),
                "{text}: {span:?} {message}"
            );
        }
        assert!(Formula::parse(&"(".repeat(10_000)).is_err());
        assert!(Formula::parse(&"-".repeat(10_000)).is_err());
    }
}
