//! What attention computes: from scores to probabilities, and rotations of queries and keys.
//!
//! ```text
//! S = Q K^T scale;  capped = c tanh(S / c);  seen = capped + mask, -inf outside causal and windowed bands and beyond a
//! sequence's length;  P = softmax(seen), 0 where a query sees no key;  O = P V
//! rotary: (x, y) -> (x cos - y sin, x sin + y cos), pairs (i, i + width/2) or neighbours (2i, 2i + 1)
//! ```

use crate::expr::Expr;
use crate::formula::Binary;

use super::import::Importer;
use super::node::Node;
use super::value::DType;

/// A scaled-dot-product attention.
pub(super) struct Heads {
    pub batch: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub queries: u64,
    pub keys: u64,
    pub key_width: u64,
    pub value_width: u64,
    /// Whether queries, and keys and values, are [batch, heads, length, width] or [batch, length, heads x width].
    pub heads_first: [bool; 2],
    /// Whether a query sees only keys up to its own.
    pub causal: bool,
    /// Keys that a query sees at most, itself included.
    pub window: Option<u64>,
    pub dtype: DType,
    /// Key that the first query stands at.
    pub offset: i64,
    /// What the operands are, and how scores become probabilities.
    pub values: Values,
}

/// What attention computes of what.
pub(super) struct Values {
    pub q: Expr,
    pub k: Expr,
    pub v: Expr,
    /// What scores are multiplied by; the inverse square root of the width if nothing is said.
    pub scale: Option<f64>,
    /// `c` of `c tanh(x / c)` of scores; 0 for none.
    pub softcap: f64,
    /// What is added to scores.
    pub mask: Option<Expr>,
    /// Keys before and behind a query's own that it sees.
    pub band: [Option<u64>; 2],
    /// Keys of each sequence [batch]; the queries stand at its last ones.
    pub lengths: Option<Expr>,
    /// Something else takes part that is not said.
    pub incomplete: bool,
}

impl Heads {
    /// The scores, capped, and as the softmax sees them.
    pub fn stages(&self, scores: &Expr) -> [Expr; 3] {
        let values = &self.values;
        let capped = match values.softcap {
            0.0 => scores.clone(),
            c => Expr::formula(&format!("{c} * tanh(x / {c})"), &[scores]),
        };
        let mut seen = match &values.mask {
            Some(mask) => capped.binary(Binary::Add, mask),
            None => capped.clone(),
        };
        let limit = |x: u64| i64::try_from(x).unwrap_or(i64::MAX / 4);
        let least = values.band[0].map(|left| -limit(left));
        let most = match (self.causal, values.band[1].map(limit)) {
            (true, Some(right)) => Some(right.min(0)),
            (true, None) => Some(0),
            (false, right) => right,
        };
        match &values.lengths {
            None => {
                if least.is_some() || most.is_some() {
                    let from_first = |x: i64| x.saturating_add(self.offset);
                    let (least, most) = (least.map(from_first), most.map(from_first));
                    seen = seen.band(least, most, f64::NEG_INFINITY);
                }
            }
            Some(lengths) => {
                let counted = |shape: &[u64], n: u64| {
                    Expr::constant(shape, (0..n).map(|i| i as f64).collect())
                };
                let lengths = lengths.reshape(&[self.batch, 1, 1, 1]);
                let keys = counted(&[self.keys], self.keys);
                let queries = counted(&[self.queries, 1], self.queries);
                seen = Expr::formula("select(less(z, y), x, -1e999)", &[&seen, &lengths, &keys]);
                // How far a key is behind the query's own, which is the last keys' one.
                let count = self.queries;
                let distance = format!("(z - (y + x3 - {count}))");
                let operands = [&seen, &lengths, &keys, &queries];
                if let Some(most) = most {
                    let text = format!("select(less({most}, {distance}), -1e999, x)");
                    seen = Expr::formula(&text, &operands);
                }
                if let Some(least) = least {
                    let operands = [&seen, &lengths, &keys, &queries];
                    let text = format!("select(less({distance}, {least}), -1e999, x)");
                    seen = Expr::formula(&text, &operands);
                }
            }
        }
        [scores.clone(), capped, seen]
    }
}

impl<'m> Importer<'m> {
    /// Scores of plain attention, with the node's scale.
    pub fn plain(&self, node: &Node<'m>, operands: Vec<Expr>) -> Values {
        let mut operands = operands.into_iter();
        let mut next = || operands.next().unwrap_or(Expr::unknown(&[]));
        Values {
            q: next(),
            k: next(),
            v: next(),
            scale: node
                .attribute("scale")
                .map(|a| f64::from(a.f))
                .filter(|s| *s != 0.0),
            softcap: 0.0,
            mask: None,
            band: [None, None],
            lengths: None,
            incomplete: false,
        }
    }

    /// A mask as what is added to the scores of so many keys; keys that it does not reach are not seen.
    pub fn additive(&self, node: &Node<'m>, i: usize, keys: u64) -> Option<Expr> {
        let value = node.optional(i)?;
        let mut mask = self.expr(node, i);
        if value.dtype == DType::Bool {
            mask = Expr::formula("select(x, 0, -1e999)", &[&mask]);
        }
        let own = *value.shape.last()?;
        if own < keys && keys <= super::value::FOLDED_ELEMENTS {
            let place = |k: u64| usize::try_from(k).ok().filter(|_| k < own);
            let axis = value.rank() - 1;
            mask = mask.take(axis, (0..keys).map(place).collect(), f64::NEG_INFINITY);
        }
        Some(mask)
    }

    /// RotaryEmbedding, where its operands say all.
    pub fn rotated(&self, node: &Node<'m>) -> Option<Expr> {
        let standard = node.proto.domain != "com.microsoft";
        let [ids, cos, sin] = if standard { [3, 1, 2] } else { [1, 2, 3] };
        let x = self.expr(node, 0);
        let [mut cos, mut sin] = [cos, sin].map(|i| self.expr(node, i));
        let half = *cos.shape().last()?;
        let heads = u64::try_from(node.int("num_heads", 0)).ok();
        let (b, s, seen, rank) = match *x.shape() {
            [b, h, s, d] => (b, s, vec![b, h, s, d], 2),
            [b, s, w] => {
                let h = match heads.filter(|h| *h > 0) {
                    Some(h) => h,
                    None => w / (2 * half).max(1),
                };
                (b, s, vec![b, s, h, w / h.max(1)], 1)
            }
            _ => return None,
        };
        if let Some(ids) = self.given(node, ids) {
            let ids = if ids.shape().iter().product::<u64>() == 1 && !standard {
                let counted = Expr::constant(&[1, s], (0..s).map(|i| i as f64).collect());
                counted
                    .binary(Binary::Add, &ids.reshape(&[]))
                    .expand(&[b, s])
            } else {
                ids
            };
            cos = cos.gather(0, &ids);
            sin = sin.gather(0, &ids);
        }
        let along = match rank {
            2 => [b, 1, s, half],
            _ => [b, s, 1, half],
        };
        let interleaved = node.int("interleaved", 0) != 0;
        let turned = rotate(
            &x.reshape(&seen),
            &cos.reshape(&along),
            &sin.reshape(&along),
            interleaved,
        );
        Some(turned?.reshape(x.shape()))
    }

    /// Heads of one width in [batch, tokens, heads x width], turned by tables of the positions from `past` on.
    pub fn turned(&self, node: &Node<'m>, x: &Expr, past: u64, tokens: u64, width: u64) -> Expr {
        let tables = [7, 8].map(|i| {
            let table = self.expr(node, i);
            let half = table.shape().last().copied().unwrap_or(0);
            table.part(0, past, tokens).reshape(&[1, tokens, 1, half])
        });
        let &[b, s, all] = x.shape() else {
            return Expr::unknown(x.shape());
        };
        let seen = x.reshape(&[b, s, all / width.max(1), width]);
        let interleaved = node.int("rotary_interleaved", 0) != 0;
        match rotate(&seen, &tables[0], &tables[1], interleaved) {
            Some(turned) if node.optional(9).is_none() => turned.reshape(x.shape()),
            _ => Expr::unknown(x.shape()),
        }
    }
}

/// [batch, length, heads x width] or [batch, heads, length, width] as the latter.
pub(super) fn heads_apart(x: &Expr, heads: u64) -> Expr {
    match *x.shape() {
        [b, l, w] if heads > 0 => x
            .reshape(&[b, l, heads, w / heads])
            .transpose(&[0, 2, 1, 3]),
        _ => x.clone(),
    }
}

/// Pairs of the last rank, its first elements, turned by angles of broadcasting cosines and sines.
fn rotate(x: &Expr, cos: &Expr, sin: &Expr, neighbours: bool) -> Option<Expr> {
    let (&width, outer) = x.shape().split_last()?;
    let axis = outer.len();
    let half = *cos.shape().last()?;
    let turned = half.checked_mul(2).filter(|t| *t <= width)?;
    let front = x.part(axis, 0, turned);
    let flat = [outer, &[half]].concat();
    let (a, b) = if neighbours {
        let pairs = front.reshape(&[outer, &[half, 2]].concat());
        let side = |i| pairs.part(axis + 1, i, 1).reshape(&flat);
        (side(0), side(1))
    } else {
        (front.part(axis, 0, half), front.part(axis, half, half))
    };
    let operands = [&a, &b, cos, sin];
    let (a, b) = (
        Expr::formula("x * z - y * x3", &operands),
        Expr::formula("x * x3 + y * z", &operands),
    );
    let front = if neighbours {
        let apart = [outer, &[half, 1]].concat();
        let pairs = Expr::concat(axis + 1, &[&a.reshape(&apart), &b.reshape(&apart)]);
        pairs.reshape(&[outer, &[turned]].concat())
    } else {
        Expr::concat(axis, &[&a, &b])
    };
    if turned == width {
        return Some(front);
    }
    let rest = x.part(axis, turned, width - turned);
    Some(Expr::concat(axis, &[&front, &rest]))
}
