#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use presil_numerics::Diagnostics;

use super::*;
use crate::count::count;
use crate::op::{Op, OpClass};

const EXAMPLE: &str = include_str!("../../../configs/models/example-graph.toml");

/// Tensors to read.
const HEAD: &str = r#"
name = "t"
[[tensor]]
name = "image"
shape = [1, 4, 8, 8]
role = "input"
[[tensor]]
name = "x"
shape = [2, 6, 16]
role = "input"
[[tensor]]
name = "w"
shape = [24, 16]
role = "weight"
[[tensor]]
name = "ids"
shape = [2, 6]
role = "input"
[[tensor]]
name = "cache"
shape = [2, 6, 16]
role = "cache"
"#;

/// A graph around the given ops.
fn graph(ops: &str) -> Result<Graph, ModelError> {
    parse("t.toml", &format!("{HEAD}{ops}"))
}

fn built(ops: &str) -> Graph {
    graph(ops).unwrap_or_else(|e| panic!("{e}"))
}

fn last(g: &Graph) -> &Op {
    g.ops.iter().last().unwrap()
}

fn last_shape(g: &Graph) -> &[u64] {
    &g.tensors[last(g).outputs[0]].shape
}

fn problems(text: Result<Graph, ModelError>) -> Diagnostics {
    match text {
        Err(ModelError::Text(d)) => *d,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_is_what_it_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/models/example-graph.toml"
    );
    let g = read(Path::new(path)).unwrap_or_else(|e| panic!("{e}"));
    let counts = count(&g);
    let stem = 16 * 16 * 64 * 3 * 9;
    let mix = 64 * 64 * 64 * 3;
    let projections = 64 * 64 * (64 + 32 + 32 + 64);
    let attention = 2 * 4 * 64 * 64 * 16;
    assert_eq!(
        counts.macs,
        stem + mix + 2 * (projections + attention) + 640
    );
    assert_eq!(
        counts.executed_macs,
        counts.macs - 2 * (2 * 4 * 64 * 63 / 2 * 16)
    );
    let stem = 64 * 3 * 9 + 2 * 64;
    let layer = 64 * (64 + 32 + 32 + 64) + 64 + 64;
    assert_eq!(counts.parameters, stem + 64 * 64 * 3 + 2 * layer + 640);
    let blocks: Vec<_> = g
        .blocks
        .iter()
        .map(|b| (b.name.as_str(), b.repeat))
        .collect();
    assert_eq!(blocks, [("ops", 1), ("layers", 2), ("ops", 1)]);
    let of = |name: &str| g.tensors.iter().find(|t| t.name == name).unwrap();
    assert_eq!(
        (of("logits").role, of("mix.weight").quantization.to_string()),
        (Role::Output, "int8".into())
    );
    assert_eq!(
        (of("norm").role, g.assumptions.len()),
        (Role::Activation, 1)
    );
    let class = |name: &str| g.ops.iter().find(|o| o.name == name).unwrap().class;
    assert_eq!(
        [class("mix"), class("tokens"), class("sum")],
        [OpClass::Conv, OpClass::Move, OpClass::Pool]
    );
}

/// Every op by name, against its shape, class and MACs.
#[test]
fn ops_by_name_build() {
    let cases = [
        (
            r#"op = "conv2d", input = "image", out_channels = 8, kernel = [3, 1], padding = [1, 0], groups = 2, bias = true"#,
            OpClass::Conv,
            vec![1, 8, 8, 8],
            64 * 8 * 2 * 3,
        ),
        (
            r#"op = "conv_transpose2d", input = "image", out_channels = 6, kernel = 2, stride = 2"#,
            OpClass::ConvTranspose,
            vec![1, 6, 16, 16],
            256 * 6 * 4,
        ),
        (
            r#"op = "linear", input = "x", features = 3, bias = true"#,
            OpClass::Linear,
            vec![2, 6, 3],
            12 * 48,
        ),
        (
            r#"op = "linear", input = "x", weight = "w""#,
            OpClass::Linear,
            vec![2, 6, 24],
            12 * 16 * 24,
        ),
        (
            r#"op = "matmul", inputs = ["x", "x"], transposed = true"#,
            OpClass::Matmul,
            vec![2, 6, 6],
            2 * 36 * 16,
        ),
        (
            r#"op = "attention", inputs = ["x", "x", "x"], heads = 4, mask = "sliding", window = 2"#,
            OpClass::AttentionPv,
            vec![2, 6, 16],
            2 * 36 * 16,
        ),
        (
            r#"op = "softmax", input = "x", axis = 1"#,
            OpClass::Softmax,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "norm", input = "x""#,
            OpClass::Norm,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "norm", kind = "group", groups = 2, input = "image""#,
            OpClass::Norm,
            vec![1, 4, 8, 8],
            0,
        ),
        (
            r#"op = "elementwise", function = "gelu", input = "x""#,
            OpClass::Activation,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "elementwise", function = "mul", inputs = ["x", "x", "cache"]"#,
            OpClass::Elementwise,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "elementwise", lanes = ["fma", "exp2"], inputs = ["x"]"#,
            OpClass::Elementwise,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "pool", kind = "max", kernel = 3, stride = 2, ceil = true, input = "image""#,
            OpClass::Pool,
            vec![1, 4, 4, 4],
            0,
        ),
        (
            r#"op = "pool", size = 1, input = "image""#,
            OpClass::Pool,
            vec![1, 4, 1, 1],
            0,
        ),
        (
            r#"op = "reduce", kind = "mean", axes = [1], keep = false, input = "x""#,
            OpClass::Pool,
            vec![2, 16],
            0,
        ),
        (
            r#"op = "gather", table = "w", indices = "ids""#,
            OpClass::Gather,
            vec![2, 6, 16],
            0,
        ),
        (
            r#"op = "reshape", shape = [12, 16], input = "x""#,
            OpClass::Move,
            vec![12, 16],
            0,
        ),
        (
            r#"op = "view", shape = [2, 16], input = "x""#,
            OpClass::Move,
            vec![2, 16],
            0,
        ),
        (
            r#"op = "concat", inputs = ["x", "cache"], axis = -1"#,
            OpClass::Move,
            vec![2, 6, 32],
            0,
        ),
        (
            r#"op = "transpose", order = [2, 0, 1], input = "x""#,
            OpClass::Move,
            vec![16, 2, 6],
            0,
        ),
        (
            r#"op = "upsample", factor = [1, 3], input = "image""#,
            OpClass::Move,
            vec![1, 4, 8, 24],
            0,
        ),
        (
            r#"op = "move", shape = [5], input = "x""#,
            OpClass::Move,
            vec![5],
            0,
        ),
        (
            r#"op = "cache_write", input = "x", cache = "cache""#,
            OpClass::CacheWrite,
            vec![2, 6, 16],
            0,
        ),
    ];
    for (text, class, shape, macs) in cases {
        // An inline table, as the one element of the list of ops.
        let g = parse(
            "t.toml",
            &format!("op = [{{ name = \"y\", {text} }}]\n{HEAD}"),
        )
        .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (last(&g).class, last_shape(&g)),
            (class, shape.as_slice()),
            "{text}"
        );
        let id = g.ops.ids().next_back().unwrap();
        assert_eq!(crate::count::op_macs(&g, id).0, macs, "{text}");
    }
}

#[test]
fn einsums_build() {
    let cases = [
        // A convolution with stride: the size of p cannot be told from a plain index.
        (
            "einsum = \"y[n,k,p] += x[n,2p+r-1,c] * f[k,c,r]\"\ndims = { p = 3 }",
            OpClass::Conv,
            vec![2, 5, 3],
            2 * 5 * 3 * 16 * 3,
        ),
        (
            "einsum = \"y[n,l,k] += x[n,l,c] * w[k,c]\"",
            OpClass::Linear,
            vec![2, 6, 24],
            12 * 24 * 16,
        ),
        (
            "einsum = \"y[n,i,j] += x[n,i,c] * cache[n,j,c]\"\ncausal = { query = \"i\", key = \"j\" }",
            OpClass::Matmul,
            vec![2, 6, 6],
            2 * 36 * 16,
        ),
        (
            "einsum = \"y[n,2l+r,k] += x[n,l,c] * f[k,c,r]\"",
            OpClass::ConvTranspose,
            vec![2, 13, 5],
            2 * 6 * 3 * 5 * 16,
        ),
        (
            "einsum = \"y[n,c] max= x[n,l,c]\"",
            OpClass::Pool,
            vec![2, 16],
            0,
        ),
        (
            "einsum = \"y[n,l,c] = x[n,l,c] * cache[n,l,c]\"",
            OpClass::Elementwise,
            vec![2, 6, 16],
            0,
        ),
        (
            "einsum = \"y[n,c,l] = x[n,l,c]\"",
            OpClass::Move,
            vec![2, 16, 6],
            0,
        ),
        (
            "einsum = \"y[n,l] += x[n,l,c] , x[n,l,c]\"\nlanes = [\"fma\"]\nclass = \"norm\"",
            OpClass::Norm,
            vec![2, 6],
            0,
        ),
    ];
    for (text, class, shape, macs) in cases {
        let filter = "[[tensor]]\nname = \"f\"\nshape = [5, 16, 3]\nrole = \"weight\"\n";
        let g = built(&format!("{filter}[[op]]\n{text}\nsteps = 2"));
        assert_eq!(
            (last(&g).class, last_shape(&g)),
            (class, shape.as_slice()),
            "{text}"
        );
        let id = g.ops.ids().next_back().unwrap();
        let (dense, executed) = crate::count::op_macs(&g, id);
        assert_eq!(dense, 2 * macs, "{text}");
        assert_eq!(executed < dense, text.contains("causal"), "{text}");
    }
}

#[test]
fn all_problems_are_found_at_once_with_their_places() {
    let d = problems(parse(
        "t.toml",
        r#"name = "t"
colour = "red"
[[tensor]]
name = "x"
shape = [2, -6]
role = "inptu"
[[tensor]]
name = "image"
shape = [1, 4, 8, 8]
role = "input"
format = "itn8"
[[tensor]]
name = "never"
shape = [4]
role = "output"
[[op]]
op = "conv2d"
name = "c"
input = "imagee"
out_channels = 8
kernels = 3
[[op]]
op = "conv3d"
name = "d"
input = "c"
[[op]]
op = "linear"
name = "l"
input = "d"
features = "many"
[[op]]
einsum = "y[n,k] += image[n,c] * w[k,c"
[[op]]
einsum = "z[n,k] = image[n,c,h,w]"
[[op]]
op = "pool"
name = "p"
kind = "max"
kernel = 9
input = "image"
block = "layers"
[[op]]
op = "softmax"
name = "s"
input = "p"
axis = 4
"#,
    ));
    let text = d.to_string();
    for expected in [
        "unknown key `colour`",
        "`shape` is at least 1",
        "known are input, output, weight",
        "itn8",
        "no op makes `never`",
        "did you mean `image`?",
        "`kernel` is missing",
        "did you mean `kernel`?",
        "did you mean `conv2d`?",
        "`features` is an integer",
        "expected `,` or `]`",
        "dimension `k` has no size",
        "over which nothing reduces",
        "the window [9, 9] is larger",
        "unknown block `layers`",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    // The place within the einsum's text, and no word about what only reads a broken result.
    let line = text
        .lines()
        .find(|l| l.contains("t.toml:32:"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("t.toml:32:39"), "{line}");
    assert!(
        !text.contains("unknown tensor `c`")
            && !text.contains("unknown tensor `d`")
            && !text.contains("tensor `p`"),
        "{text}"
    );
    assert_eq!(d.problems.len(), 15, "{text}");
}

#[test]
fn single_mistakes_say_what_would_be_right() {
    let cases = [
        (
            "[[op]]\nop = \"attention\"\nname = \"a\"\ninputs = [\"x\", \"x\"]\nheads = 4",
            "queries, keys and values",
        ),
        (
            "[[op]]\nop = \"attention\"\nname = \"a\"\ninputs = [\"x\", \"x\", \"x\"]\nheads = 3",
            "no queries of 3 heads",
        ),
        (
            "[[op]]\nop = \"attention\"\nname = \"a\"\ninputs = [\"x\", \"x\", \"x\"]\nheads = 4\nmask = \"sliding\"",
            "`window`",
        ),
        (
            "[[op]]\nop = \"elementwise\"\nname = \"a\"\nfunction = \"add\"\ninput = \"x\"",
            "two inputs",
        ),
        (
            "[[op]]\nop = \"cache_write\"\nname = \"a\"\ninput = \"x\"\ncache = \"w\"",
            "role = \"cache\"",
        ),
        ("[[op]]\neinsum = \"y[n] = x[n,l,c]\"", "write `+=`"),
        ("[[op]]\neinsum = \"y[n,l] += x[n,l]\"", "but 2 indices"),
        (
            "[[op]]\neinsum = \"y[l-9] += ids[n,l]\"",
            "declare its shape",
        ),
        (
            "[[op]]\neinsum = \"y[n] += ids[n,l], ids[n,l]\"",
            "need a program",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] += ids[n,l+99]\"\ndims = { l = 4 }",
            "outside its rank",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] += ids[n,l]\"\ndims = { m = 4 }",
            "unknown dimension `m`",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] = ids[n,l]\"\nlanes = []",
            "nothing is free",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] = ids[n,l]\"\nlanes = [\"exp\"]",
            "did you mean `exp2`?",
        ),
        (
            "[[op]]\neinsum = \"x[n,l] = ids[n,l]\"",
            "there is one already",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] += ids[n,l]\"\ncausal = { query = \"n\", key = \"n\" }",
            "one dimension twice",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] += ids[n,l]\"\ncausal = { query = \"n\", kee = \"l\" }",
            "did you mean `key`?",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] = ids[n,l]\"\nname = \"o\"\n[[op]]\neinsum = \"z[n,l] = ids[n,l]\"\nname = \"o\"",
            "two ops are called `o`",
        ),
        (
            "[[block]]\nname = \"b\"\nrepeat = 2\n[[op]]\neinsum = \"y[n,l] = ids[n,l]\"",
            "no op is in block `b`",
        ),
        (
            "[[op]]\neinsum = \"y[n,l,h] = ids[n,l]\"\ndims = { h = 18446744073709551615 }",
            "does not fit 64 bits",
        ),
        (
            "[[op]]\neinsum = \"y[n,l] += ids[n,l] * ids[h,h]\"\ndims = { h = 18446744073709551615 }",
            "64",
        ),
    ];
    for (ops, expected) in cases {
        let text = problems(graph(ops)).to_string();
        assert!(text.contains(expected), "{ops}\n{text}");
    }
    let blocks = "[[block]]\nname = \"b\"\nrepeat = 2\n";
    let op =
        |name: &str, block: &str| format!("[[op]]\neinsum = \"{name}[n,l] = ids[n,l]\"\n{block}\n");
    let text = [
        blocks,
        &op("a", "block = \"b\""),
        &op("c", ""),
        &op("d", "block = \"b\""),
    ]
    .concat();
    assert!(
        problems(graph(&text))
            .to_string()
            .contains("not consecutive")
    );
    assert!(
        problems(parse("t.toml", "name = \"t\""))
            .to_string()
            .contains("at least one op")
    );
    assert!(
        problems(parse("t.toml", "name = "))
            .to_string()
            .contains("t.toml:1:")
    );
}

#[test]
fn outputs_blocks_and_shared_weights_are_as_stated() {
    let ops = |shared: bool| {
        format!(
            "[[tensor]]\nname = \"s\"\nshape = [16, 16]\nrole = \"weight\"\nshared = {shared}\n\
             [[block]]\nname = \"b\"\nrepeat = 5\n\
             [[op]]\nop = \"linear\"\nname = \"l\"\ninput = \"x\"\nweight = \"s\"\nblock = \"b\"\n\
             [[op]]\nop = \"elementwise\"\nname = \"r\"\nfunction = \"relu\"\ninput = \"l\"\nblock = \"b\"\n"
        )
    };
    // `w` of the head is read by no op and counts once.
    let parameters = |shared| count(&built(&ops(shared))).parameters - 24 * 16;
    assert_eq!((parameters(true), parameters(false)), (256, 5 * 256));
    assert_eq!(count(&built(&ops(true))).macs, 5 * 12 * 256);
    let outputs = |text: &str| {
        let g =
            parse("t.toml", &format!("{text}\n{HEAD}{}", ops(true))).map_err(|e| e.to_string())?;
        let names = g
            .tensors
            .iter()
            .filter(|t| t.role == Role::Output)
            .map(|t| t.name.clone());
        Ok::<_, String>(names.collect::<Vec<_>>())
    };
    assert_eq!(outputs(""), Ok(vec!["r".to_string()]));
    assert_eq!(
        outputs("outputs = [\"l\", \"r\"]"),
        Ok(vec!["l".to_string(), "r".to_string()])
    );
    assert!(outputs("outputs = [\"x\"]").is_err_and(|e| e.contains("no result")));
    assert!(outputs("outputs = [\"rr\"]").is_err_and(|e| e.contains("did you mean `r`?")));
}

#[test]
fn a_request_that_a_file_cannot_follow_is_refused() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/models/example-graph.toml"
    );
    assert!(build(Path::new(path), &Request::default()).is_ok());
    let refused = build(
        Path::new(path),
        &Request {
            batch: 2,
            ..Request::default()
        },
    );
    assert!(matches!(refused, Err(ModelError::Unsupported { .. })));
    assert!(matches!(
        read(Path::new("no/such/file.toml")),
        Err(ModelError::Io { .. })
    ));
}

/// Hostile texts: none may panic, hang or allocate much; a graph that comes out is whole.
fn survives(text: &str) {
    match parse("t.toml", text) {
        Ok(g) => {
            g.check().unwrap_or_else(|e| panic!("{e}\n{text}"));
            let _ = count(&g);
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

#[test]
fn hostile_texts_give_errors() {
    let max = u64::MAX;
    survives(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    survives(&format!(
        "name = {}1{}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    ));
    survives(&format!(
        "name = \"t\"\nformat = \"int8{}\"",
        "_2:4".repeat(100_000)
    ));
    survives(&format!(
        "name = \"t\"\n[[op]]\neinsum = \"{}\"",
        "y[".repeat(50_000)
    ));
    survives(&format!(
        "name = \"t\"\n[[op]]\neinsum = \"y[{}] = x[i]\"",
        "i,".repeat(50_000)
    ));
    survives(&format!(
        "name = \"t\"\n{}",
        "[[op]]\nop = \"x\"\n".repeat(20_000)
    ));
    for op in [
        "kernel = 3\nstride = MAX",
        "kernel = MAX\npadding = MAX",
        "kernel = 3\ndilation = MAX\npadding = MAX",
        "kernel = 1\ngroups = MAX",
        "kernel = 1\npadding = 9223372036854775807",
    ] {
        for kind in ["conv2d", "conv_transpose2d", "pool"] {
            let extra = if kind == "pool" {
                "kind = \"average\"\nceil = true"
            } else {
                "out_channels = MAX\noutput_padding = MAX"
            };
            let text = format!(
                "name = \"t\"\n[[tensor]]\nname = \"i\"\nshape = [1, MAX, 8, 8]\nrole = \"input\"\n[[op]]\nop = \"{kind}\"\nname = \"o\"\ninput = \"i\"\n{op}\n{extra}"
            );
            survives(&text.replace("MAX", &max.to_string()));
            survives(
                &text
                    .replace("shape = [1, MAX", "shape = [1, 4")
                    .replace("MAX", &max.to_string()),
            );
        }
    }
    for (i, line) in EXAMPLE.lines().enumerate() {
        if line.contains(|c: char| c.is_ascii_digit()) {
            for value in [
                max.to_string(),
                (1u64 << 40).to_string(),
                "0".into(),
                "-1".into(),
            ] {
                let changed: String = line
                    .chars()
                    .map(|c| if c.is_ascii_digit() { '#' } else { c })
                    .collect();
                let changed = changed.replace("##", "#").replace('#', &value);
                let lines: Vec<&str> = EXAMPLE
                    .lines()
                    .enumerate()
                    .map(|(j, l)| if i == j { changed.as_str() } else { l })
                    .collect();
                survives(&lines.join("\n"));
            }
        }
    }
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "\\PC*") {
        survives(&text);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn truncated_text_never_panics(at in 0..EXAMPLE.len()) {
        survives(EXAMPLE.get(..at).unwrap_or(""));
    }

    /// Lines dropped, doubled and swapped, characters replaced, numbers made hostile.
    #[test]
    fn mutated_text_never_panics(changes in prop::collection::vec((0usize..10_000, 0usize..10_000, 0u8..5), 1..6)) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(String::from).collect();
        for (a, b, kind) in changes {
            let (a, n) = (a % lines.len(), lines.len());
            match kind {
                0 if n > 1 => { lines.remove(a); }
                1 => lines.insert(b % n, lines[a].clone()),
                2 => lines.swap(a, b % n),
                3 => {
                    let marks = ["[", "]", "\"", "=", "*", "+", ",", "é", "-", "18446744073709551615", "#"];
                    let mut chars: Vec<char> = lines[a].chars().collect();
                    if !chars.is_empty() {
                        let at = b % chars.len();
                        chars.splice(at..=at, marks[b % marks.len()].chars());
                    }
                    lines[a] = chars.into_iter().collect();
                }
                _ => {
                    let big = ["0", "1", "7", "4294967296", "9223372036854775807", "18446744073709551615"][b % 6];
                    lines[a] = lines[a].replace(|c: char| c.is_ascii_digit(), big);
                }
            }
        }
        survives(&lines.join("\n"));
    }

    #[test]
    fn random_einsums_never_panic(text in "[a-c\\[\\]+*=, 0-9é-]{0,40}") {
        survives(&format!("name = \"t\"\n[[tensor]]\nname = \"a\"\nshape = [4, 4]\nrole = \"input\"\n[[op]]\neinsum = \"{text}\""));
        survives(&format!("name = \"t\"\n[[tensor]]\nname = \"a\"\nshape = [4]\nrole = \"input\"\n[[op]]\neinsum = \"b[{text}] += a[{text}] * a[{text}]\"\ndims = {{ a = 3, b = 18446744073709551615, c = 2 }}"));
    }
}

#[test]
fn densities_belong_to_inputs_and_results() {
    let g = built(
        "[[tensor]]\nname = \"half\"\nshape = [1, 4, 8, 8]\nrole = \"input\"\ndensity = 0.25\n\
         [[tensor]]\nname = \"y\"\nshape = [1, 4, 8, 8]\nrole = \"output\"\ndensity = 0.5\n\
         [[op]]\nop = \"elementwise\"\nfunction = \"relu\"\nname = \"y\"\ninput = \"half\"\n",
    );
    let density = |name: &str| g.tensors.iter().find(|t| t.name == name).unwrap().density;
    assert_eq!(
        (density("half"), density("y"), density("image")),
        (0.25, 0.5, 1.0)
    );
    let wrong = problems(graph(
        "[[tensor]]\nname = \"v\"\nshape = [1]\nrole = \"input\"\ndensity = 1.5\n",
    ));
    assert!(
        wrong.to_string().contains("a number from 0 to 1"),
        "{wrong}"
    );
}
