//! The short form of a problem, as one types it, and as reports print shapes.
//!
//! ```text
//! matmul 512x1024x768                          O[m,n] += A[m,k] W[k,n], sizes m x n x k
//! matmul b8 m512 n1024 k64                     with a batch: both operands have it
//! conv n1 k64 c3 p112 q112 r7 s7 stride2       O[n,k,p,q] += I[n,c,2p+r,2q+s] W[k,c,r,s]
//! conv g96 p56 q56 r3 s3 pad1                  depthwise: groups of one channel in and out
//! ```
//!
//! A word is a dimension's letter and its size; what is left out is 1. A convolution may have `stride`, `dilation`
//! and `pad` (rows and columns alike): padded elements are zero and are not fetched.

use std::fmt::Write;

use presil_workloads::{Graph, file};

/// Largest size of a dimension.
const LARGEST: u64 = 1 << 30;

/// Whether a text is meant as a short form.
pub fn is_short(text: &str) -> bool {
    let mut words = text.split_whitespace();
    matches!(words.next(), Some("matmul" | "conv")) && words.next().is_some()
}

/// The graph of a short form, of one op.
///
/// # Errors
/// If the text is none: what is wrong with it, and what would be right.
pub fn graph(text: &str) -> Result<Graph, String> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or("");
    let words: Vec<&str> = words.collect();
    let fail = |what: String| format!("`{text}`: {what}");
    let toml = match kind {
        "matmul" => matmul(&words),
        "conv" => conv(&words),
        _ => Err("write `matmul` or `conv` and sizes".into()),
    };
    file::parse(text, &toml.map_err(fail)?).map_err(|e| e.to_string())
}

fn matmul(words: &[&str]) -> Result<String, String> {
    let right = "write `matmul 512x1024x768` (m x n x k) or `matmul m512 n1024 k768`";
    let sizes = match words {
        [sizes] if sizes.starts_with(|c: char| c.is_ascii_digit()) => {
            let parts: Vec<&str> = sizes.split('x').collect();
            let [m, n, k] = parts.as_slice() else {
                return Err(format!(
                    "`{sizes}` has {} sizes, a matmul three; {right}",
                    parts.len()
                ));
            };
            vec![
                ("m".to_string(), number(m)?),
                ("n".into(), number(n)?),
                ("k".into(), number(k)?),
            ]
        }
        _ => named(words, &["b", "m", "n", "k"], right)?,
    };
    let of = |name: &str| size(&sizes, name);
    let (b, m, n, k) = (of("b"), of("m"), of("n"), of("k"));
    let batch = |inner: &str| {
        if b > 1 {
            format!("b,{inner}")
        } else {
            inner.into()
        }
    };
    let shape = |x: u64, y: u64| {
        if b > 1 {
            format!("[{b}, {x}, {y}]")
        } else {
            format!("[{x}, {y}]")
        }
    };
    let einsum = format!(
        "O[{}] += A[{}] * W[{}]",
        batch("m,n"),
        batch("m,k"),
        batch("k,n")
    );
    Ok(one_op(("A", &shape(m, k)), &shape(k, n), &einsum, ""))
}

fn conv(words: &[&str]) -> Result<String, String> {
    let right =
        "write `conv n1 k64 c3 p112 q112 r7 s7`, and `stride2`, `dilation2` or `pad3` where needed";
    let letters = ["n", "g", "k", "c", "p", "q", "r", "s"];
    let known: Vec<&str> = letters
        .iter()
        .copied()
        .chain(["stride", "dilation", "pad"])
        .collect();
    let sizes = named(words, &known, right)?;
    let of = |name: &str| size(&sizes, name);
    let pad = sizes.iter().find(|s| s.0 == "pad").map_or(0, |s| s.1);
    let (stride, dilation) = (of("stride"), of("dilation"));
    let extent = |out: &str, filter: &str| {
        let reach = (of(out) - 1) * stride + (of(filter) - 1) * dilation + 1;
        let inner = reach.checked_sub(2 * pad).filter(|x| *x > 0);
        inner.ok_or_else(|| {
            format!("`pad{pad}` is more than the {reach} that `{out}` and `{filter}` reach")
        })
    };
    let (h, w) = (extent("p", "r")?, extent("q", "s")?);
    let index = |out: &str, filter: &str| {
        let factor = |x: u64| if x > 1 { x.to_string() } else { String::new() };
        let mut text = format!("{}{out}+{}{filter}", factor(stride), factor(dilation));
        if pad > 0 {
            let _ = write!(text, "-{pad}");
        }
        text
    };
    let (y, x) = (index("p", "r"), index("q", "s"));
    let (g, group) = match of("g") {
        1 => (String::new(), ""),
        groups => (format!("{groups}, "), "g,"),
    };
    let einsum = format!("O[n,{group}k,p,q] += I[n,{group}c,{y},{x}] * W[{group}k,c,r,s]");
    let input = format!("[{}, {g}{}, {h}, {w}]", of("n"), of("c"));
    let weight = format!("[{g}{}, {}, {}, {}]", of("k"), of("c"), of("r"), of("s"));
    let dims = format!("dims = {{ p = {}, q = {} }}\n", of("p"), of("q"));
    Ok(one_op(("I", &input), &weight, &einsum, &dims))
}

/// A graph file of one einsum.
fn one_op((input, shape): (&str, &str), weight: &str, einsum: &str, dims: &str) -> String {
    format!(
        "name = \"problem\"\n\
         [[tensor]]\nname = \"{input}\"\nshape = {shape}\nrole = \"input\"\n\
         [[tensor]]\nname = \"W\"\nshape = {weight}\nrole = \"weight\"\n\
         [[op]]\neinsum = \"{einsum}\"\n{dims}"
    )
}

/// Words of a name and a size each.
fn named(words: &[&str], known: &[&str], right: &str) -> Result<Vec<(String, u64)>, String> {
    let mut sizes: Vec<(String, u64)> = Vec::new();
    for word in words {
        let at = word
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(word.len());
        let (name, digits) = word.split_at(at);
        if !known.contains(&name) {
            return Err(format!(
                "`{word}` is no size; there is {}: {right}",
                known.join(", ")
            ));
        }
        if sizes.iter().any(|s| s.0 == name) {
            return Err(format!("`{name}` is given twice"));
        }
        let value = match name {
            "pad" if digits == "0" => 0,
            _ => number(digits).map_err(|e| format!("{e} in `{word}`; {right}"))?,
        };
        sizes.push((name.into(), value));
    }
    Ok(sizes)
}

fn number(digits: &str) -> Result<u64, String> {
    let value = digits.parse::<u64>().ok();
    value
        .filter(|v| (1..=LARGEST).contains(v))
        .ok_or_else(|| format!("`{digits}` is no size from 1 to 2^30"))
}

fn size(sizes: &[(String, u64)], name: &str) -> u64 {
    sizes.iter().find(|s| s.0 == name).map_or(1, |s| s.1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use presil_workloads::OpId;

    fn macs(text: &str) -> u64 {
        let graph = graph(text).unwrap();
        let op = &graph.ops[OpId(0)];
        op.contraction().unwrap().executed_points().unwrap()
    }

    #[test]
    fn short_forms_have_their_macs() {
        assert_eq!(macs("matmul 512x1024x768"), 512 * 1024 * 768);
        assert_eq!(macs("matmul m512 n1024 k768"), 512 * 1024 * 768);
        assert_eq!(macs("matmul b8 m3 n4 k5"), 8 * 3 * 4 * 5);
        assert_eq!(
            macs("conv n1 k64 c3 p112 q112 r7 s7 stride2"),
            64 * 3 * 112 * 112 * 49
        );
        assert_eq!(macs("conv g96 p56 q56 r3 s3"), 96 * 56 * 56 * 9);
    }

    #[test]
    fn padding_is_neither_held_nor_multiplied() {
        let padded = graph("conv c2 k2 p8 q8 r3 s3 pad1").unwrap();
        let input = padded.tensors.iter().find(|t| t.name == "I").unwrap();
        assert_eq!(input.shape, [1, 2, 8, 8]);
        let bare = graph("conv c2 k2 p8 q8 r3 s3").unwrap();
        let input = bare.tensors.iter().find(|t| t.name == "I").unwrap();
        assert_eq!(input.shape, [1, 2, 10, 10]);
    }

    #[test]
    fn mistakes_are_told_with_what_is_right() {
        for (text, part) in [
            ("matmul 5x6", "2 sizes"),
            ("matmul 5x6x0", "`0` is no size"),
            ("matmul m5 z6", "`z6` is no size; there is b, m, n, k"),
            ("matmul m5 m6", "twice"),
            ("conv p4 q4 pad9", "more than the 4"),
            ("conv k", "`` is no size"),
        ] {
            let told = graph(text).unwrap_err();
            assert!(
                told.contains(part) && told.starts_with(&format!("`{text}`")),
                "{told}"
            );
        }
    }
}
