//! From what is named to problems: einsum, formats, homes, and what is left of each memory.
//!
//! A layer of a model has the problem that `presil run` gives it: operands where the schedule leaves them, memories
//! without what lives there meanwhile. A case or a short form is alone on the chip: its operands are at home in the
//! root memory, and every other memory is free.
//!
//! Formats are those asked for, else (cases) widths: the narrowest mode that holds the case's elements, else the
//! chip's default, else bf16.

use presil_hwmodels::{Chip, EngineId, EngineKind, NodeKind};
use presil_mapper::case::chip::hierarchy;
use presil_mapper::case::resolve::Machine;
use presil_mapper::case::{Case, LevelConstraint, read::read};
use presil_mapper::problem::Problem;
use presil_mapper::schedule::{OpProblem, ScheduleOptions, array_rate, arrays, op_problems};
use presil_mapper::search::Objective;
use presil_numerics::diagnostic::nearest_names;
use presil_numerics::{Bytes, Format};
use presil_workloads::{Einsum, Graph, Model, OpId, Pass};

use super::target::Target;
use super::{Ask, ChipMapError, short};
use crate::eval::load::text;
use crate::run::{self, PhaseChoice};

/// What is mapped.
pub struct Work {
    /// Name for reports: "layer1.0.conv1 of resnet50".
    pub name: String,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
    /// What a case makes small.
    pub objective: Option<Objective>,
    /// Constraints of a case, with the names of their levels.
    pub constraints: Vec<(String, LevelConstraint)>,
    /// Format of partial sums; none: that of the array's mode.
    accumulate: Option<Format>,
    kind: Kind,
}

enum Kind {
    /// An op of a graph, as it is scheduled.
    Scheduled(Box<Graph>, OpId),
    /// An einsum alone on the chip: bits of an element of each operand, and formats if they are known.
    Alone(Box<Einsum>, [f64; 3], Option<[Format; 2]>),
}

/// What is asked for, found.
///
/// # Errors
/// If there is none of that name, or its text is wrong.
pub fn work(ask: &Ask, chip: &Chip) -> Result<Work, ChipMapError> {
    match &ask.target {
        Target::Layer { model, op } => layer(ask, chip, model, op.as_deref()),
        Target::Short(text) => {
            let mut graph = short::graph(text).map_err(ChipMapError::Asked)?;
            let formats = run::formats(chip, &ask.run);
            graph.set_precision(formats.weights, formats.activations, formats.kv);
            let einsum = graph
                .ops
                .iter()
                .find_map(|op| Some((op, op.contraction()?)));
            let Some((op, einsum)) = einsum else {
                return Err(ChipMapError::Asked(format!(
                    "`{text}` is no sum of products"
                )));
            };
            let tensors = op.inputs.iter().take(2).chain(op.outputs.first());
            let bits: Vec<f64> = tensors.map(|t| payload(&graph, *t)).collect();
            let bits = <[f64; 3]>::try_from(bits).map_err(|_| {
                ChipMapError::Asked(format!("`{text}` has not two inputs and an output"))
            })?;
            let accumulate = formats.accumulate;
            let formats = [formats.activations.format, formats.weights.format];
            Ok(Work {
                name: text.clone(),
                notes: Vec::new(),
                objective: None,
                accumulate,
                constraints: Vec::new(),
                kind: Kind::Alone(Box::new(einsum.clone()), bits, Some(formats)),
            })
        }
        Target::Case(path) => case(ask, chip, path),
    }
}

/// Mean bits of an element, scales left out.
fn payload(graph: &Graph, tensor: presil_workloads::TensorId) -> f64 {
    let t = &graph.tensors[tensor];
    let elements = t.elements().max(1) as f64;
    let storage = t.quantization.storage(&t.shape);
    storage.map_or(t.bits().0 as f64 / elements, |s| {
        s.payload.0 as f64 / elements
    })
}

fn case(ask: &Ask, chip: &Chip, path: &std::path::Path) -> Result<Work, ChipMapError> {
    let on_chip: Machine<'_> = &|einsum, bits| hierarchy(chip, einsum, bits);
    let origin = path.display().to_string();
    let case = read(&origin, &text(path)?, Some(on_chip)).map_err(crate::eval::LoadError::from)?;
    let [one] = case.einsums.as_slice() else {
        return Err(ChipMapError::Asked(format!(
            "`{origin}` has {} einsums; on a chip one is mapped at a time: keep one of them, or use --convention accelforge",
            case.einsums.len()
        )));
    };
    if one.constraints.perfect {
        return Err(ChipMapError::Asked(format!(
            "`{origin}` says `perfect`, which the search in convention physical does not obey; use --convention accelforge"
        )));
    }
    let name = |c: &LevelConstraint| {
        let level = one.hierarchy.levels.get(c.level);
        level.map_or("", |l| l.name()).to_owned()
    };
    let of_levels = one.constraints.levels.iter();
    let constraints = of_levels.map(|c| (name(c), c.clone())).collect();
    let mut notes = Vec::new();
    if one.mapping.is_some() {
        notes.push("the mapping that the case gives is not used".into());
    }
    let given = run::formats_given(&ask.run);
    let mut accumulate = ask.run.accumulate;
    let (bits, formats) = match given {
        false => (widths(&case, &one.operands), None),
        true => {
            let f = run::formats(chip, &ask.run);
            let (a, w) = (f.activations.format, f.weights.format);
            accumulate = f.accumulate;
            (
                Some([a.bits() as f64, w.bits() as f64, a.bits() as f64]),
                Some([a, w]),
            )
        }
    };
    let bits = bits.ok_or_else(|| {
        ChipMapError::Asked(format!("`{origin}` has not two inputs and an output"))
    })?;
    Ok(Work {
        name: case.name.clone(),
        notes,
        objective: Some(case.objective),
        accumulate,
        constraints,
        kind: Kind::Alone(Box::new(one.einsum.clone()), bits, formats),
    })
}

fn widths(case: &Case, operands: &[usize]) -> Option<[f64; 3]> {
    let bits = operands
        .iter()
        .map(|t| case.tensors.get(*t).map(|t| t.bits));
    bits.collect::<Option<Vec<f64>>>()?.try_into().ok()
}

fn layer(ask: &Ask, chip: &Chip, name: &str, op: Option<&str>) -> Result<Work, ChipMapError> {
    let model = Model::find(name)?;
    let pass = match (model.is_llm(), ask.run.phase) {
        (false, _) => Pass::Forward,
        (true, PhaseChoice::Decode) => Pass::Decode {
            context: ask.run.context.unwrap_or(ask.run.prompt.saturating_add(1)),
        },
        (true, _) => Pass::Prefill {
            prompt: ask.run.prompt,
        },
    };
    let mut graph = model.graph(&run::request(&ask.run, pass))?;
    let precision = run::precision(&model, chip, &ask.run);
    if let Some(p) = precision {
        graph.set_precision(p.weights, p.activations, p.kv);
    }
    let id = op_of(&graph, name, op)?;
    let what = &graph.ops[id];
    let mut notes = vec![format!(
        "operands are where `presil run {name}` leaves them{}",
        match pass {
            Pass::Forward => String::new(),
            Pass::Prefill { prompt } => format!(" in the prefill of {prompt} tokens"),
            Pass::Decode { context } => format!(" in a decode step at context {context}"),
        }
    )];
    if what.steps > 1 {
        notes.push(format!("figures are of one of its {} steps", what.steps));
    }
    let repeat = graph.repeat_of(id);
    if repeat > 1 {
        notes.push(format!("figures are of one of its {repeat} repetitions"));
    }
    Ok(Work {
        name: format!("{} of {name}", what.name),
        notes,
        objective: None,
        accumulate: precision.and_then(|p| p.accumulate).or(ask.run.accumulate),
        constraints: Vec::new(),
        kind: Kind::Scheduled(Box::new(graph), id),
    })
}

/// Names shown where one is missing.
const SHOWN: usize = 6;

/// The op of a name; without one the only array op there is.
fn op_of(graph: &Graph, model: &str, op: Option<&str>) -> Result<OpId, ChipMapError> {
    let able = || {
        graph
            .ops
            .iter_ids()
            .filter(|(_, o)| o.contraction().is_some())
    };
    let names: Vec<&str> = able().map(|(_, o)| o.name.as_str()).collect();
    let Some(op) = op else {
        return match names.as_slice() {
            [_] => able().map(|(id, _)| id).next(),
            _ => None,
        }
        .ok_or_else(|| {
            let some: Vec<&str> = names.iter().take(SHOWN).copied().collect();
            let dots = if names.len() > SHOWN { ", ..." } else { "" };
            ChipMapError::Asked(format!(
                "`{model}` has {} sums of products; name one as {model}/NAME: {}{dots}",
                names.len(),
                some.join(", ")
            ))
        });
    };
    let found = graph.ops.iter_ids().find(|(_, o)| o.name == op);
    found.map(|(id, _)| id).ok_or_else(|| {
        let near = nearest_names(op, names.iter().copied());
        let near = match near.as_slice() {
            [] => format!("`presil run {model} --chip CHIP --json` lists them"),
            some => format!("did you mean `{}`?", some.join("`, `")),
        };
        ChipMapError::Asked(format!("`{model}` has no op `{op}`; {near}"))
    })
}

impl Work {
    /// The einsum.
    pub fn einsum(&self) -> Option<&Einsum> {
        match &self.kind {
            Kind::Scheduled(graph, op) => graph.ops[*op].contraction(),
            Kind::Alone(einsum, ..) => Some(einsum),
        }
    }

    /// The op of a model that it is.
    pub fn op(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scheduled(graph, op) => Some(&graph.ops[*op].name),
            Kind::Alone(..) => None,
        }
    }

    /// Its problems, one for each array that can run it, fastest first.
    ///
    /// # Errors
    /// If no array can.
    pub fn problems<'a>(
        &'a self,
        ask: &Ask,
        chip: &'a Chip,
    ) -> Result<Vec<OpProblem<'a>>, ChipMapError> {
        match &self.kind {
            Kind::Scheduled(graph, op) => {
                let options = ScheduleOptions {
                    objective: ask.objective.unwrap_or_default(),
                    accumulate: self.accumulate,
                };
                let told = |e: presil_mapper::schedule::NoProblem| {
                    ChipMapError::Asked(format!("chip `{}`: {e}", chip.name))
                };
                op_problems(graph, chip, &options, *op).map_err(told)
            }
            Kind::Alone(einsum, bits, formats) => {
                if !einsum.is_contraction() || einsum.inputs.len() != 2 {
                    return Err(ChipMapError::Asked(format!(
                        "`{}` is no sum of products of two inputs, which is what an array computes",
                        self.name
                    )));
                }
                let engines = match formats {
                    Some(pair) => arrays(chip, *pair),
                    None => wide_enough(chip, bits),
                };
                let alone = |(engine, mode): (EngineId, usize)| {
                    self.alone(chip, einsum, *bits, engine, mode)
                };
                let all: Vec<OpProblem> = engines.into_iter().filter_map(alone).collect();
                match all.is_empty() {
                    false => Ok(all),
                    true => Err(ChipMapError::Asked(match formats {
                        Some([input, weight]) => format!(
                            "no array of chip `{}` multiplies {input} by {weight}; choose formats that it has with --precision",
                            chip.name
                        ),
                        None => format!(
                            "no array of chip `{}` multiplies elements of {} and {} bits; choose formats with --precision",
                            chip.name, bits[0], bits[1]
                        ),
                    })),
                }
            }
        }
    }

    fn alone<'a>(
        &'a self,
        chip: &'a Chip,
        einsum: &'a Einsum,
        bits: [f64; 3],
        engine: EngineId,
        mode: usize,
    ) -> Option<OpProblem<'a>> {
        let EngineKind::Array { compute, .. } = chip.engines[engine].kind else {
            return None;
        };
        let NodeKind::Compute(node) = &chip.nodes[compute].kind else {
            return None;
        };
        let path = chip.path(compute);
        let capacity = |n: &presil_hwmodels::NodeId| {
            chip.nodes[*n].memory().map_or(Bytes::ZERO, |m| m.capacity)
        };
        let room: Vec<Bytes> = path.iter().map(capacity).collect();
        let problem = Problem {
            einsum,
            chip,
            engine,
            bits,
            accumulate: self.accumulate.unwrap_or(node.modes.get(mode)?.accumulate),
            mode,
            home: [chip.root(); 3],
            capacity: room.clone(),
            lies: [const { None }; 3],
            path,
        };
        Some(OpProblem {
            problem,
            room,
            over_steps: None,
        })
    }
}

/// Arrays with the narrowest mode that holds elements of these widths, the fastest first.
fn wide_enough(chip: &Chip, bits: &[f64; 3]) -> Vec<(EngineId, usize)> {
    let mut found: Vec<(f64, EngineId, usize)> = Vec::new();
    for (id, engine) in chip.engines.iter_ids() {
        let EngineKind::Array { compute, .. } = engine.kind else {
            continue;
        };
        let NodeKind::Compute(c) = &chip.nodes[compute].kind else {
            continue;
        };
        let fits = |m: &presil_hwmodels::MacMode| {
            m.input.bits() as f64 >= bits[0] && m.weight.bits() as f64 >= bits[1]
        };
        let modes = c.modes.iter().enumerate().filter(|(_, m)| fits(m));
        let narrowest = modes.min_by_key(|(_, m)| m.input.bits() + m.weight.bits());
        if let Some((mode, _)) = narrowest {
            found.push((array_rate(chip, id, mode).unwrap_or(0.0), id, mode));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, id, mode)| (id, mode)).collect()
}
