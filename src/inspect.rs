//! What a model contains: ops, MACs, parameters, bytes.

use std::collections::BTreeMap;

use presil_workloads::count::{count, op_macs};
use presil_workloads::{Graph, Model, ModelError, OpKind, Pass, Request, Routing};
use serde::Serialize;

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Zoo name or file.
    pub model: String,
    /// LLMs: decode instead of prefill.
    pub decode: bool,
    /// LLMs: tokens of the prompt.
    pub prompt: u64,
    /// LLMs: tokens attended to in decode, the new one included.
    pub context: u64,
    /// Images or sequences at once.
    pub batch: u64,
    /// Whether latent attention absorbs its projections.
    pub absorb_mla: bool,
    /// Shapes of inputs that a file leaves open.
    pub shapes: Vec<(String, Vec<u64>)>,
    /// List unknown ops instead of refusing the model.
    pub allow_unknown: bool,
}

/// What a model contains, for one pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Model and pass.
    pub model: String,
    /// "forward", "prefill" or "decode".
    pub phase: &'static str,
    /// MACs by the counting rules (attention dense).
    pub macs: u128,
    /// MACs inside the masks.
    pub executed_macs: u128,
    /// MACs by op class.
    pub macs_by_class: BTreeMap<&'static str, u128>,
    /// Elements of all weights.
    pub parameters: u128,
    /// Stored bytes of all weights in the file's own formats (16-bit where it states none).
    pub weight_bytes: u128,
    /// Stored bytes of all caches.
    pub cache_bytes: u128,
    /// Ops that execute, repetitions included.
    pub ops: u64,
    /// Ops by class.
    pub ops_by_class: BTreeMap<&'static str, u64>,
    /// The ops with MACs: one row an op, in order.
    pub mac_ops: Vec<MacOp>,
    /// Ops without a model, by name.
    pub unknown: Vec<String>,
    /// What the graph rests on.
    pub assumptions: Vec<String>,
}

/// An op with MACs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MacOp {
    /// Name.
    pub name: String,
    /// Class.
    pub class: &'static str,
    /// Times it runs.
    pub repeat: u64,
    /// MACs of one run.
    pub macs: u128,
}

/// Builds a model's graph and counts it.
pub fn inspect(question: &Question) -> Result<Answer, ModelError> {
    let model = Model::find(&question.model)?;
    let (pass, phase) = match (model.is_llm(), question.decode) {
        (false, _) => (Pass::Forward, "forward"),
        (true, true) => (
            Pass::Decode {
                context: question.context,
            },
            "decode",
        ),
        (true, false) => (
            Pass::Prefill {
                prompt: question.prompt,
            },
            "prefill",
        ),
    };
    let request = Request {
        batch: question.batch,
        pass,
        shapes: question.shapes.clone(),
        routing: Routing::Uniform,
        absorb_mla: question.absorb_mla,
        allow_unknown: question.allow_unknown,
    };
    Ok(describe(&model.graph(&request)?, phase))
}

fn describe(graph: &Graph, phase: &'static str) -> Answer {
    let counts = count(graph);
    let ops_by_class = graph.histogram();
    let mac_ops = graph
        .ops
        .iter_ids()
        .zip(graph.repeats())
        .filter_map(|((id, op), repeat)| {
            let (macs, _) = op_macs(graph, id);
            (macs > 0).then(|| MacOp {
                name: op.name.clone(),
                class: op.class.name(),
                repeat,
                macs,
            })
        });
    let unknown = graph.ops.iter().filter_map(|op| match &op.kind {
        OpKind::Unknown { name } => Some(format!("{} ({name})", op.name)),
        _ => None,
    });
    Answer {
        model: graph.name.clone(),
        phase,
        macs: counts.macs,
        executed_macs: counts.executed_macs,
        macs_by_class: counts.macs_by_class,
        parameters: counts.parameters,
        weight_bytes: counts.weight_bytes,
        cache_bytes: counts.cache_bytes,
        ops: ops_by_class.values().sum(),
        ops_by_class,
        mac_ops: mac_ops.collect(),
        unknown: unknown.collect(),
        assumptions: graph.assumptions.clone(),
    }
}

impl Answer {
    /// The answer as text for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{} ({})\n", self.model, self.phase);
        let mut line =
            |label: &str, value: String| text.push_str(&format!("  {label:<16}{value}\n"));
        line("MACs", thousands(self.macs));
        if self.executed_macs != self.macs {
            line("executed MACs", thousands(self.executed_macs));
        }
        line("parameters", thousands(self.parameters));
        line("weight bytes", thousands(self.weight_bytes));
        if self.cache_bytes > 0 {
            line("cache bytes", thousands(self.cache_bytes));
        }
        line("ops", thousands(u128::from(self.ops)));
        text.push_str("\n  class            ops              MACs\n");
        for (class, ops) in &self.ops_by_class {
            let macs = self.macs_by_class.get(class).copied().unwrap_or(0);
            text.push_str(&format!(
                "  {class:<14}{ops:>6}  {:>20}\n",
                if macs > 0 {
                    thousands(macs)
                } else {
                    String::new()
                }
            ));
        }
        for (title, lines) in [
            ("no model of", &self.unknown),
            ("assumed", &self.assumptions),
        ] {
            if !lines.is_empty() {
                text.push_str(&format!("\n  {title}:\n"));
                lines
                    .iter()
                    .for_each(|l| text.push_str(&format!("    {l}\n")));
            }
        }
        text
    }
}

/// Digits in groups of three.
fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
