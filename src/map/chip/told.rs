//! A mapping found on a chip, as a plain value: what text and JSON show.

use presil_hwmodels::{DimSelector, NodeKind, Operand};
use presil_mapper::case::write::WriteError;
use presil_mapper::case::{Case, CaseEinsum, CaseTensor, Constraints, write::write};
use presil_mapper::conventions::Convention;
use presil_mapper::convert::to_tree;
use presil_mapper::cost::{Cost, Resource};
use presil_mapper::explain::{self, AxisUse, Prices, Reason, axis_name, usage, why};
use presil_mapper::interop::timeloop::write_mapping;
use presil_mapper::mapping::Mapping;
use presil_mapper::problem::Problem;
use presil_mapper::schedule::{OpProblem, array_rate};
use presil_mapper::search::{Certificate, Constraint, Objective, Solution};

use super::problem::Work;

/// A mapping on a chip.
#[derive(Debug, Clone, PartialEq)]
pub struct ChipMapping {
    /// What is mapped.
    pub name: String,
    /// The chip.
    pub chip: String,
    /// The array.
    pub engine: String,
    /// "int8 x int8 into int32".
    pub mode: String,
    /// "m512 n1024 k768".
    pub shape: String,
    /// Memory where each operand starts or ends: input, weight, output.
    pub homes: [String; 3],
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What was made small.
    pub objective: Objective,
    /// The loop nest, one line a step.
    pub nest: Vec<String>,
    /// Seconds.
    pub latency_s: f64,
    /// Joules, static power over the latency included.
    pub energy_j: f64,
    /// MACs executed.
    pub macs: u128,
    /// Executed MACs over the array's peak in the latency.
    pub utilization: f64,
    /// Memories that keep something, outermost first.
    pub levels: Vec<Level>,
    /// Axes of fanouts, outermost first.
    pub axes: Vec<Axis>,
    /// Busy seconds by resource, in the order of the path; the latency that overlaps with nothing last.
    pub time: Vec<(String, f64)>,
    /// What binds: one of the names of `time`.
    pub bound_by: String,
    /// Joules by component and action; static power as "static".
    pub energy: Vec<(String, String, f64)>,
    /// What was done and proven.
    pub certificate: Certificate,
    /// The space, in one line.
    pub space: String,
    /// The best mappings, or a front, if asked for.
    pub near: Vec<Near>,
    /// What is proven of the front, if one is asked for.
    pub front: Option<FrontProof>,
    /// Shadow prices, if asked for.
    pub prices: Option<Prices>,
    /// Why axes are not used more, if asked for.
    pub why: Option<Vec<AxisReasons>>,
    /// As a case file.
    pub case: Result<String, WriteError>,
    /// As Timeloop's directives.
    pub timeloop: Result<String, String>,
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Its name.
    pub memory: String,
    /// Bytes that tiles may take in one instance.
    pub capacity_bytes: u64,
    /// Copies held of each tile.
    pub buffering: u32,
    /// Share of the capacity that tiles take.
    pub share: f64,
    /// Share of the time that its busier port is busy.
    pub port: f64,
    /// Operands kept.
    pub operands: Vec<explain::OperandUse>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// "pes.rows".
    pub name: String,
    /// Instances.
    pub size: u64,
    /// Those used.
    pub used: u64,
    /// Dimensions along it with their trips.
    pub loops: Vec<(String, u64)>,
}

/// Why an axis is not used more.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisReasons {
    /// The axis.
    pub axis: Axis,
    /// By dimension.
    pub reasons: Vec<(String, Reason)>,
}

/// One of several mappings.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Seconds.
    pub latency_s: f64,
    /// Joules, static power included.
    pub energy_j: f64,
    /// In a front: no mapping that needs less energy than the one before (the first: no mapping) takes fewer seconds.
    pub least_s: Option<f64>,
    /// The loop nest.
    pub nest: Vec<String>,
}

/// What is proven of a front; see [`presil_mapper::search::Front`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontProof {
    /// Whether no point is missing, and none can be improved.
    pub proven: bool,
    /// Share of a point's time that a mapping of no more energy might save, at most.
    pub time_gap: f64,
    /// Share of the last point's energy that a mapping might save, at most.
    pub energy_gap: f64,
    /// No mapping needs less, joules.
    pub least_energy_j: f64,
    /// Branch and bounds made.
    pub searches: usize,
    /// Bounds computed.
    pub bounds: u64,
    /// Mappings analysed exactly.
    pub analysed: u64,
}

impl Near {
    pub(super) fn new(problem: &Problem, latency_s: f64, energy_j: f64, mapping: &Mapping) -> Self {
        Self {
            latency_s,
            energy_j,
            least_s: None,
            nest: mapping.describe(problem),
        }
    }
}

/// What is shown of a solution.
pub(super) fn tell(
    work: &Work,
    on_array: &OpProblem,
    constraints: &[Constraint],
    objective: Objective,
    solution: &Solution,
    near: Vec<Near>,
    prices: Option<Prices>,
) -> ChipMapping {
    let problem = &on_array.problem;
    let chip = problem.chip;
    let Solution { mapping, cost, .. } = solution;
    let name = |node| chip.nodes[node].name.clone();
    let (latency_s, energy_j) = explain::figures(problem, cost);
    let used = usage(problem, mapping, cost);
    let explained = prices.is_some();
    let levels = used.levels.iter().map(|l| Level {
        memory: name(l.memory),
        capacity_bytes: l.capacity.0,
        buffering: l.buffering,
        share: l.share(),
        port: share(l.busy.0, latency_s),
        operands: l.operands.clone(),
    });
    let peak = array_rate(chip, problem.engine, problem.mode).unwrap_or(0.0);
    let mut notes = work.notes.clone();
    if let Some(at) = on_array.over_steps {
        notes.push(format!("weights stay in {} over the steps", name(at)));
    }
    let case = as_case(work, problem, mapping, objective);
    ChipMapping {
        name: work.name.clone(),
        chip: chip.name.clone(),
        engine: chip.engines[problem.engine].name.clone(),
        mode: mode(problem),
        shape: shape(problem),
        homes: problem.home.map(name),
        notes,
        objective,
        nest: mapping.describe(problem),
        latency_s,
        energy_j,
        macs: cost.executed_macs,
        utilization: share(cost.executed_macs as f64, peak * latency_s),
        levels: levels.collect(),
        axes: used.axes.iter().map(|a| axis(problem, a)).collect(),
        time: times(problem, cost),
        bound_by: resource(problem, cost.bottleneck()),
        energy: energies(problem, cost),
        certificate: solution.certificate,
        space: solution.space.clone(),
        near,
        front: None,
        prices,
        why: explained.then(|| {
            let all = why(problem, constraints, mapping, &used, cost, objective);
            all.iter().map(|w| reasons(problem, w)).collect()
        }),
        timeloop: match &case {
            Some(case) => directives(case),
            None => Err("the problem has no hierarchy".into()),
        },
        case: match &case {
            Some(case) => write(case, &[]),
            None => Err(WriteError::Einsum(work.name.clone())),
        },
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn mode(problem: &Problem) -> String {
    let node = problem.path.last().map(|n| &problem.chip.nodes[*n].kind);
    let mode = match node {
        Some(NodeKind::Compute(c)) => c.modes.get(problem.mode),
        _ => None,
    };
    mode.map_or(String::new(), |m| {
        format!("{} x {} into {}", m.input, m.weight, problem.accumulate)
    })
}

fn shape(problem: &Problem) -> String {
    let dims = problem.einsum.dims.iter();
    let dims: Vec<String> = dims.map(|d| format!("{}{}", d.name, d.size)).collect();
    dims.join(" ")
}

fn axis(problem: &Problem, a: &AxisUse) -> Axis {
    let loops = a.loops.iter();
    Axis {
        name: axis_name(problem.chip, a),
        size: a.size,
        used: a.used,
        loops: loops
            .map(|(d, trips)| (problem.einsum.dim(*d).name.clone(), *trips))
            .collect(),
    }
}

fn reasons(problem: &Problem, w: &explain::AxisWhy) -> AxisReasons {
    let reasons = w.reasons.iter();
    AxisReasons {
        axis: axis(problem, &w.axis),
        reasons: reasons
            .map(|(d, r)| (problem.einsum.dim(*d).name.clone(), r.clone()))
            .collect(),
    }
}

/// What a selector takes, as a chip file says it.
pub fn selector(s: &DimSelector) -> String {
    match s {
        DimSelector::Reduction => "reduction".into(),
        DimSelector::OutputChannel => "output_channel".into(),
        DimSelector::Pixel => "pixel".into(),
        DimSelector::Group => "group".into(),
        DimSelector::Named(name) => name.clone(),
    }
}

fn resource(problem: &Problem, resource: Resource) -> String {
    match resource {
        Resource::Compute => "compute".into(),
        Resource::Memory(n) | Resource::Network(n) => problem.chip.nodes[n].name.clone(),
        Resource::Vector => "vector".into(),
        Resource::Host => "host".into(),
        Resource::Latency => "latency".into(),
    }
}

fn times(problem: &Problem, cost: &Cost) -> Vec<(String, f64)> {
    let busy = cost.busy.iter().map(|(r, t)| (resource(problem, *r), t.0));
    busy.chain([("latency".into(), cost.latency.0)]).collect()
}

fn energies(problem: &Problem, cost: &Cost) -> Vec<(String, String, f64)> {
    let dynamic = cost
        .energy
        .iter()
        .map(|e| (e.component.clone(), e.action.to_string(), e.energy.0));
    let power: f64 = problem.chip.static_power().iter().map(|p| p.1.0).sum();
    let leaked = power * cost.time.0;
    dynamic
        .chain((leaked > 0.0).then(|| ("chip".into(), "static".into(), leaked)))
        .collect()
}

/// The mapping as a case on a hierarchy, to be told in any convention.
fn as_case(
    work: &Work,
    problem: &Problem,
    mapping: &Mapping,
    objective: Objective,
) -> Option<Case> {
    let (hierarchy, tree) = to_tree(problem, mapping).ok()?;
    let einsum = problem.einsum.clone();
    let tensor = |(operand, access): (Operand, &presil_workloads::Access)| CaseTensor {
        name: operand.name().into(),
        bits: problem.bits[operand.index()],
        extents: access.extents.clone(),
    };
    let tensors = Operand::ALL.into_iter().zip(einsum.operands()).map(tensor);
    let clock = match problem.path.last().map(|n| &problem.chip.nodes[*n].kind) {
        Some(NodeKind::Compute(c)) => Some(problem.chip.clocks[c.clock].domain.frequency.0),
        _ => None,
    };
    Some(Case {
        name: work.name.clone(),
        tensors: tensors.collect(),
        convention: Convention::Physical,
        objective,
        clock_hz: clock,
        einsums: vec![CaseEinsum {
            name: "E".into(),
            einsum,
            operands: vec![0, 1, 2],
            hierarchy,
            mapping: Some(tree),
            constraints: Constraints::default(),
        }],
    })
}

fn directives(case: &Case) -> Result<String, String> {
    let Some(e) = case.einsums.first() else {
        return Err("there is no einsum".into());
    };
    let tree = e.mapping.clone().unwrap_or_default();
    write_mapping(&e.einsum, &e.hierarchy, &tree, &case.operand_names(0)).map_err(|e| e.to_string())
}
