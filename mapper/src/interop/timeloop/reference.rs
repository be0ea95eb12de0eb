//! Reference cases: a set and what Timeloop printed for it, in one JSON value.
//!
//! ```text
//! id, architecture, problem, mapping           as in the YAML set (mapping: [] if only the text is known)
//! mapping_text                                 the loop nest as Timeloop prints it
//! energy_reference_table_pJ                    {component: {action: pJ}}
//! stats.levels[] {name, specs, stats, tensors} what it printed for each level, by its own labels
//! stats.summary
//! ```
//!
//! Timeloop prints counts whole, other figures with two decimals (EDP with three digits); a figure is equal if it
//! prints the same.

use presil_workloads::Einsum;
use serde_json::Value as Json;

use super::arch::Architecture;
use super::ert::Energies;
use super::mapping::{Directives, Loops, build};
use super::problem::Problem;
use super::tree::{Cursor, Node};
use super::{TimeloopError, case, mapping};
use crate::case::{Case, Constraints};
use crate::conventions::{Accesses, ConventionError, Evaluation, LevelUse, timeloop};
use crate::hierarchy::{Hierarchy, Level, Mask, MemoryLevel};
use crate::search::Objective;
use thiserror::Error;

/// A figure that differs from the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `GLB / A / Scalar reads (per-instance)`.
    pub figure: String,
    /// What the reference says.
    pub expected: f64,
    /// What came out.
    pub got: f64,
}

/// The comparison of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The case's name.
    pub id: String,
    /// Figures compared.
    pub figures: usize,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

/// Why a case cannot be compared.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ReferenceError {
    /// Its set cannot be read.
    #[error(transparent)]
    Set(#[from] TimeloopError),
    /// Its mapping cannot be evaluated.
    #[error("{id}: {error}")]
    Evaluation {
        /// The case.
        id: String,
        /// Why not.
        error: ConventionError,
    },
    /// It is sparse.
    #[error("{id}: is a sparse design, which is not told in this convention")]
    Sparse {
        /// The case.
        id: String,
    },
}

/// Whether a case uses sparse operands or hardware for them.
pub fn is_sparse(json: &Json) -> bool {
    let filled = |v: Option<&Json>| {
        v.is_some_and(|v| match v {
            Json::Null => false,
            Json::Object(map) => !map.is_empty(),
            Json::Array(items) => !items.is_empty(),
            _ => true,
        })
    };
    filled(json.get("sparse_optimizations")) || filled(json.pointer("/problem/instance/densities"))
}

/// The name of a case.
pub fn id_of(json: &Json) -> String {
    json.get("id")
        .and_then(Json::as_str)
        .unwrap_or("unnamed")
        .into()
}

/// The release that printed a case: outputs of the exercises' repository are older than the current rules.
fn release_of(json: &Json) -> timeloop::Release {
    let source = json.get("source").and_then(Json::as_str).unwrap_or("");
    if source.starts_with("timeloop-accelergy-exercises") {
        timeloop::Release::BeforeTranslationFix
    } else {
        timeloop::Release::Current
    }
}

/// Reads a reference case with its mapping.
///
/// # Errors
/// If it is no case of this form.
pub fn read_case(json: &Json) -> Result<Case, TimeloopError> {
    let id = id_of(json);
    let node = Node::of_json(json);
    let top = Cursor::top(&id, &node);
    let problem = Problem::read(&top.need("problem")?)?;
    let mut energies = Energies::default();
    if let Some(tables) = top.get("energy_reference_table_pJ") {
        energies.read_flat(&tables)?;
    }
    let mut notes = Vec::new();
    let arch = Architecture::read(&top.need("architecture")?, &energies, &problem, &mut notes)?;
    let tree = match top.get("mapping") {
        Some(list) if !list.is_empty() => mapping::read(&list, &problem, &arch)?,
        _ => {
            let text = top.need("mapping_text")?;
            let mut levels = parse_text(&text, &problem, &arch)?;
            build(&text, &problem, &arch, &mut levels)?
        }
    };
    let constraints = Constraints {
        perfect: true,
        ..Constraints::default()
    };
    Ok(case(problem, arch, constraints, Some(tree), Objective::Edp))
}

/// Reads, evaluates and compares a reference case.
///
/// # Errors
/// If it cannot be read or evaluated.
pub fn compare(json: &Json) -> Result<Comparison, ReferenceError> {
    let id = id_of(json);
    if is_sparse(json) {
        return Err(ReferenceError::Sparse { id });
    }
    let case = read_case(json)?;
    let of = &case.einsums[0];
    let tree = of.mapping.clone().unwrap_or_default();
    let evaluation = timeloop::evaluate_as(release_of(json), &of.einsum, &of.hierarchy, &tree);
    let evaluation = evaluation.map_err(|error| ReferenceError::Evaluation {
        id: id.clone(),
        error,
    })?;
    let mut comparer = Comparer {
        names: case.operand_names(0),
        einsum: &of.einsum,
        hierarchy: &of.hierarchy,
        evaluation: &evaluation,
        result: Comparison {
            id,
            figures: 0,
            differences: Vec::new(),
        },
    };
    let empty = Vec::new();
    let levels = json
        .pointer("/stats/levels")
        .and_then(Json::as_array)
        .unwrap_or(&empty);
    for level in levels {
        comparer.level(level);
    }
    comparer.summary(json.pointer("/stats/summary"));
    Ok(comparer.result)
}

struct Comparer<'a> {
    names: Vec<String>,
    einsum: &'a Einsum,
    hierarchy: &'a Hierarchy,
    evaluation: &'a Evaluation,
    result: Comparison,
}

impl Comparer<'_> {
    fn figure(&mut self, name: &str, expected: &Json, got: f64) {
        let Some(value) = expected.as_f64() else {
            return;
        };
        let same = if expected.is_u64() || expected.is_i64() {
            got == value
        } else {
            (got - value).abs() <= 0.005 + 1e-9 * value.abs()
        };
        self.result.figures += 1;
        if !same {
            self.result.differences.push(Difference {
                figure: name.into(),
                expected: value,
                got,
            });
        }
    }

    /// A printed group of figures against the model's, by label.
    fn group(&mut self, prefix: &str, printed: Option<&Json>, got: &[(&str, f64)]) {
        let Some(Json::Object(map)) = printed else {
            return;
        };
        for (label, value) in got {
            if let Some(expected) = map.get(*label) {
                self.figure(&format!("{prefix} / {label}"), expected, *value);
            }
        }
    }

    fn level(&mut self, level: &Json) {
        let name = level.get("name").and_then(Json::as_str).unwrap_or("");
        let Some(index) = self.hierarchy.level(name) else {
            let missing = Json::from(1);
            self.figure(&format!("{name} is a level"), &missing, 0.0);
            return;
        };
        let used = self
            .evaluation
            .levels
            .iter()
            .find(|l| l.level == index)
            .copied();
        let used = used.unwrap_or_default();
        let specs = level.get("specs");
        let stats = level.get("stats");
        match &self.hierarchy.levels[index] {
            Level::Compute(compute) => {
                let operations = self.evaluation.operations;
                let figures = [
                    ("Utilized instances", used.instances),
                    ("Utilized instances (max)", used.instances),
                    ("Computes (total)", operations),
                    ("Cycles", used.cycles),
                    ("Energy (total)", operations * compute.energy),
                ];
                self.group(name, stats, &figures);
            }
            Level::Memory(memory) => {
                self.memory(name, index, memory, specs, stats, &used);
                for operand in 0..self.names.len() {
                    let tensor = level
                        .get("tensors")
                        .and_then(|t| t.get(&self.names[operand]));
                    let counted = self.evaluation.at(index, operand).copied();
                    self.tensor(memory, operand, &used, tensor, counted);
                }
            }
            Level::Fanout(_) => {}
        }
    }

    fn memory(
        &mut self,
        name: &str,
        index: usize,
        memory: &MemoryLevel,
        specs: Option<&Json>,
        stats: Option<&Json>,
        used: &LevelUse,
    ) {
        let word = memory.bits.first().copied().unwrap_or(1.0);
        let words = memory.capacity / word;
        let leak: f64 = self.energy(index, "leak", None);
        self.group(
            name,
            specs,
            &[
                ("Size", words),
                ("Effective size", (words / memory.buffering).floor()),
                ("Word bits", word),
                ("Block size", memory.block as f64),
                ("Cluster size", memory.cluster as f64),
                ("Leakage energy (total)", leak),
            ],
        );
        self.group(
            name,
            stats,
            &[
                ("Cycles", used.cycles),
                ("Bandwidth throttling", used.throttling),
            ],
        );
    }

    /// Energy of a level by an action ("" for all accesses) and operand.
    fn energy(&self, level: usize, action: &str, operand: Option<usize>) -> f64 {
        let entries = self.evaluation.energy.iter();
        let of = entries.filter(|e| {
            e.level == level && e.operand == operand && (action.is_empty() || e.action == action)
        });
        of.map(|e| e.energy).sum()
    }

    fn tensor(
        &mut self,
        memory: &MemoryLevel,
        operand: usize,
        used: &LevelUse,
        printed: Option<&Json>,
        counted: Option<Accesses>,
    ) {
        let prefix = format!("{} / {}", memory.name, self.names[operand]);
        if printed.is_some() != counted.is_some() {
            let kept = Json::from(u64::from(printed.is_some()));
            let got = f64::from(u8::from(counted.is_some()));
            self.figure(&format!("{prefix} / kept"), &kept, got);
        }
        let Some(a) = counted else {
            return;
        };
        let per = |n: f64| n / a.instances;
        let energy = self.energy(a.level, "", Some(operand));
        let accesses = a.reads + a.fills + a.updates;
        // What an address is generated for: reads of outputs come with their updates.
        let is_output = operand == self.einsum.inputs.len();
        let addresses = per(if is_output { a.updates } else { a.reads } + a.fills);
        let iterations = self.evaluation.levels.last().map_or(1.0, |l| l.cycles);
        let rate = |n: f64| per(n) / iterations * used.throttling;
        let (read, write) = (rate(a.reads), rate(a.fills + a.updates));
        self.group(
            &prefix,
            printed,
            &[
                ("Partition size", a.partition),
                ("Utilized capacity", a.tile),
                ("Utilized instances (max)", a.instances),
                ("Scalar reads (per-instance)", per(a.reads)),
                ("Scalar fills (per-instance)", per(a.fills)),
                ("Scalar updates (per-instance)", per(a.updates)),
                ("Temporal reductions (per-instance)", per(a.reductions)),
                ("Address generations (per-cluster)", addresses),
                ("Energy (per-scalar-access)", energy / accesses),
                ("Energy (per-instance)", per(energy)),
                ("Energy (total)", energy),
                ("Read Bandwidth (per-instance)", read),
                ("Read Bandwidth (total)", read * a.instances),
                ("Write Bandwidth (per-instance)", write),
                ("Write Bandwidth (total)", write * a.instances),
                ("Shared Bandwidth (per-instance)", read + write),
                ("Shared Bandwidth (total)", (read + write) * a.instances),
            ],
        );
    }

    fn summary(&mut self, printed: Option<&Json>) {
        let e = self.evaluation;
        let fanouts = self.hierarchy.levels.iter().filter_map(Level::fanout);
        let units: f64 = fanouts
            .flat_map(|f| &f.axes)
            .map(|a| a.size as f64)
            .product();
        let total = e.energy_total();
        let busy = e.levels.last().map_or(1.0, |l| l.cycles) * e.instances_used;
        let figures = [
            ("Cycles", e.cycles),
            ("Computes", e.operations),
            ("Utilization", 100.0 * busy / (e.cycles * units)),
            ("Energy", total * 1e-6),
            ("Total", total / e.operations * 1000.0),
        ];
        self.group("summary", printed, &figures);
        for (index, level) in self.hierarchy.levels.iter().enumerate() {
            let energy = e
                .energy
                .iter()
                .filter(|x| x.level == index)
                .map(|x| x.energy);
            let per_operation = energy.sum::<f64>() / e.operations * 1000.0;
            self.group("summary", printed, &[(level.name(), per_operation)]);
        }
        // Printed as %.3g.
        let edp = total * 1e-12 * e.cycles;
        if let Some(expected) = printed
            .and_then(|p| p.get("EDP(J*cycle)"))
            .and_then(Json::as_f64)
        {
            self.result.figures += 1;
            if (edp - expected).abs() > 0.005 * expected.abs() {
                self.result.differences.push(Difference {
                    figure: "summary / EDP(J*cycle)".into(),
                    expected,
                    got: edp,
                });
            }
        }
    }
}

/// Reads a loop nest as Timeloop prints it.
///
/// ```text
/// GLB [ A:32 (32) Z:16 (16) ]
/// ---------------------------
/// |   for M in [0:2)
/// |     for K in [0:2) (Spatial-X)
/// ```
fn parse_text(
    text: &Cursor<'_>,
    problem: &Problem,
    arch: &Architecture<'_>,
) -> Result<Vec<Directives>, TimeloopError> {
    let all = (0..problem.operands.len()).fold(Mask::NONE, Mask::with);
    let mut levels = vec![
        Directives {
            bypassed: all,
            ..Directives::default()
        };
        arch.targets.len()
    ];
    let mut current = None;
    for line in text.text()?.lines() {
        let line = line.trim();
        let bad = || text.fail(format!("`{line}` is no line of a printed loop nest"));
        if let Some(loop_text) = line.strip_prefix('|') {
            let loop_text = loop_text.trim();
            if loop_text.starts_with("<<") {
                continue;
            }
            let level: &mut Directives = current
                .and_then(|c: usize| levels.get_mut(c))
                .ok_or_else(bad)?;
            let (dim, trips, axis) = parse_loop(loop_text, problem).ok_or_else(bad)?;
            add_loop(level, problem, dim, trips, axis);
        } else if let Some((name, spaces)) = line.split_once('[') {
            let at = arch.target(name.trim()).ok_or_else(bad)?;
            current = Some(at);
            for word in spaces.split_whitespace() {
                if let Some((space, _)) = word.split_once(':') {
                    let operand = problem.operand(space).ok_or_else(bad)?;
                    levels[at].bypassed = levels[at].bypassed.minus(Mask::one(operand));
                }
            }
        }
    }
    Ok(levels)
}

fn parse_loop(text: &str, problem: &Problem) -> Option<(usize, u64, Option<char>)> {
    let rest = text.strip_prefix("for ")?;
    let (name, rest) = rest.split_once(" in [0:")?;
    let (trips, rest) = rest.split_once(')')?;
    let dim = problem.dim(name.trim())?;
    let trips = trips.trim().parse().ok().filter(|t| *t > 0)?;
    let axis = match rest.trim() {
        "" => None,
        "(Spatial-X)" => Some('X'),
        "(Spatial-Y)" => Some('Y'),
        _ => return None,
    };
    Some((dim, trips, axis))
}

/// Adds a loop inside those that a level has.
fn add_loop(level: &mut Directives, problem: &Problem, dim: usize, trips: u64, axis: Option<char>) {
    let loops = match axis {
        None => &mut level.temporal,
        Some(_) => &mut level.spatial,
    };
    let loops = loops.get_or_insert_with(|| Loops {
        factors: vec![None; problem.einsum.dims.len()],
        order: Vec::new(),
        split: axis.map(|_| 0),
    });
    loops.factors[dim] = Some(trips);
    loops.order.insert(0, dim);
    if let (Some('X'), Some(split)) = (axis, &mut loops.split) {
        *split += 1;
    }
}
