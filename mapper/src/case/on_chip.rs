//! Constraints of mappings on a chip: a file of `[[constraint]]` tables that name the chip's own memories and fanouts.
//!
//! ```toml
//! [[constraint]]
//! level = "weight_register"            # a memory, a fanout, or one axis of a fanout: "pes.rows"
//! forbidden = ["k", "c", "r", "s"]     # no loops over these: the weights stay
//!
//! [[constraint]]
//! level = "sram"
//! keep = ["input"]                     # operands that are kept here
//! bypass = ["output"]                  # and those that are not
//! op = ["layer1.*"]                    # of a whole model: of these ops only; `*` stands for any letters
//! ```
//!
//! Loops, room and instances become [`Constraint`]s of the search. What is kept and what is not is the chip's own: the
//! search runs on a chip whose memories must keep the one and cannot keep the other.

use presil_hwmodels::decode::{At, Decode, Entries, spec_tables};
use presil_hwmodels::document::Problems;
use presil_hwmodels::{Chip, NodeId, NodeKind, Operand, OperandSet};
use presil_numerics::diagnostic::nearest_names;
use presil_workloads::DimId;

use super::LevelConstraint;
use super::read::{CaseError, parsed};
use crate::problem::Problem;
use crate::search::Constraint;

spec_tables! {
    /// Constraints of mappings on a chip.
    pub struct OnChipSpec {
        /// Constraints of single levels.
        pub constraint: Vec<LevelSpec>,
    }

    /// What is asked of one level.
    pub struct LevelSpec {
        /// A memory, a fanout, or an axis of one, as FANOUT.AXIS.
        pub level: At<String>,
        /// Trips of all loops here, by dimension.
        pub trips: Entries<At<u64>>,
        /// Dimensions that are not iterated here.
        pub forbidden: Vec<At<String>>,
        /// Order of loops, innermost first, as far as it is given.
        pub order: Vec<At<String>>,
        /// Least share of the memory's free capacity, or of the instances, that a mapping uses.
        pub min_utilization: Option<At<f64>>,
        /// Operands (input, weight, output) that the memory keeps.
        pub keep: Vec<At<String>>,
        /// Operands that it does not keep.
        pub bypass: Vec<At<String>>,
        /// Ops of a model that this is asked of, `*` for any letters; of all if none is named.
        pub op: Vec<At<String>>,
    }
}

/// What is asked of mappings on a chip.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OnChip {
    /// Of loops, room and instances.
    pub constraints: Vec<Constraint>,
    /// Operands that memories must keep, and those that they must not.
    pub kept: Vec<(NodeId, OperandSet, OperandSet)>,
    /// Tables of the file that say so, by place.
    pub tables: Vec<usize>,
}

/// What a file of constraints is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One problem, which may be an op of a name: all that holds for it names what it has.
    One(Option<&'a str>),
    /// An op of a graph: what names no op and something that this one has not is of other ops.
    Graph(&'a str),
}

impl OnChip {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.constraints.is_empty() && self.kept.is_empty()
    }

    /// The chip whose memories keep what is asked for, and only what they may.
    pub fn chip(&self, chip: &Chip) -> Chip {
        let mut chip = chip.clone();
        for (node, keep, bypass) in &self.kept {
            if let NodeKind::Memory(m) = &mut chip.nodes[*node].kind {
                m.keeps = OperandSet(m.keeps.0 & !bypass.0);
                m.must_keep = OperandSet((m.must_keep.0 | keep.0) & !bypass.0);
            }
        }
        chip
    }

    /// Adds the constraints of a case whose machine is the problem's path.
    pub fn add_case(&mut self, problem: &Problem, levels: &[(String, LevelConstraint)]) {
        let dim = |d: usize| DimId(d as u32);
        for (name, c) in levels {
            let named = |n: &&NodeId| problem.chip.nodes[**n].name == *name;
            let Some(node) = problem.path.iter().find(named) else {
                continue;
            };
            let dims = 0..problem.einsum.dims.len();
            self.constraints.push(Constraint {
                trips: c.trips.iter().map(|(d, n)| (dim(*d), *n)).collect(),
                forbidden: dims.filter(|d| c.forbidden.has(*d)).map(dim).collect(),
                order: c.order.iter().copied().map(dim).collect(),
                min_utilization: c.min_utilization,
                ..Constraint::none(*node)
            });
        }
    }
}

/// Reads constraints of a problem's mappings, TOML or JSON.
///
/// # Errors
/// All mistakes of the file, each with its place and what would be right.
pub fn read(
    origin: &str,
    text: &str,
    problem: &Problem,
    scope: Scope,
) -> Result<OnChip, CaseError> {
    let mut problems = Problems::default();
    let item = parsed(origin, text, &mut problems);
    let spec = match problems.is_empty() {
        true => OnChipSpec::decode(&item, &mut problems),
        false => None,
    };
    let mut asked = OnChip::default();
    for (table, level) in spec.iter().flat_map(|s| &s.constraint).enumerate() {
        let name = match scope {
            Scope::One(name) => name,
            Scope::Graph(name) => Some(name),
        };
        let named = |name: &str| level.op.iter().any(|p| matches(&p.value, name));
        if !level.op.is_empty() && !name.is_some_and(named) {
            continue;
        }
        let reader = Reader { problem, level };
        let mut own = (OnChip::default(), Problems::default());
        let of_some = level.op.is_empty() && matches!(scope, Scope::Graph(_));
        reader.read(&mut own.0, if of_some { &mut own.1 } else { &mut problems });
        if own.1.is_empty() && !own.0.is_empty() {
            asked.constraints.extend(own.0.constraints);
            asked.kept.extend(own.0.kept);
            asked.tables.push(table);
        }
    }
    match problems.is_empty() {
        true => Ok(asked),
        false => Err(CaseError(problems.into_diagnostics())),
    }
}

/// Reads a file of constraints for its form alone; how many tables it has.
///
/// # Errors
/// All mistakes of its form.
pub fn tables(origin: &str, text: &str) -> Result<usize, CaseError> {
    let mut problems = Problems::default();
    let item = parsed(origin, text, &mut problems);
    let spec = match problems.is_empty() {
        true => OnChipSpec::decode(&item, &mut problems),
        false => None,
    };
    match problems.is_empty() {
        true => Ok(spec.map_or(0, |s| s.constraint.len())),
        false => Err(CaseError(problems.into_diagnostics())),
    }
}

/// Whether a name is of a pattern in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(i, _)| i).chain([rest.len()]);
    ends.any(|i| matches(tail, &rest[i..]))
}

struct Reader<'a, 'p> {
    problem: &'a Problem<'p>,
    level: &'a LevelSpec,
}

impl Reader<'_, '_> {
    fn read(&self, asked: &mut OnChip, problems: &mut Problems) {
        let spec = self.level;
        let Some((node, axis)) = self.place(problems) else {
            return;
        };
        let mut c = Constraint {
            axis,
            ..Constraint::none(node)
        };
        for (name, n) in &spec.trips.0 {
            if n.value == 0 {
                let help = "write 1 for no loop";
                problems.at(&n.place, "a loop makes at least one trip", help);
            }
            c.trips
                .extend(self.dim(name, problems).map(|d| (d, n.value)));
        }
        let mut dims = |names: &[At<String>]| -> Vec<DimId> {
            let each = names.iter().map(|n| self.dim(n, problems));
            each.collect::<Vec<_>>().into_iter().flatten().collect()
        };
        c.forbidden = dims(&spec.forbidden);
        c.order = dims(&spec.order);
        if let Some(share) = &spec.min_utilization {
            if !(0.0..=1.0).contains(&share.value) {
                let help = "write a number from 0 to 1";
                problems.at(&share.place, "a share is at most 1", help);
            }
            c.min_utilization = share.value;
        }
        self.keep(node, asked, problems);
        if c != (Constraint {
            axis,
            ..Constraint::none(node)
        }) {
            asked.constraints.push(c);
        }
    }

    /// The memory, fanout or axis of the constraint.
    fn place(&self, problems: &mut Problems) -> Option<(NodeId, Option<u8>)> {
        let mut known: Vec<(String, NodeId, Option<u8>)> = Vec::new();
        for n in &self.problem.path {
            let node = &self.problem.chip.nodes[*n];
            match &node.kind {
                NodeKind::Memory(_) => known.push((node.name.clone(), *n, None)),
                NodeKind::Fanout(f) => {
                    known.push((node.name.clone(), *n, None));
                    let axes = f.dims.iter().zip(0..);
                    let axes =
                        axes.map(|(a, i)| (format!("{}.{}", node.name, a.name), *n, Some(i)));
                    known.extend(axes);
                }
                NodeKind::Compute(_) => {}
            }
        }
        let name = &self.level.level;
        let found = known.iter().find(|k| k.0 == name.value);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|k| k.0.as_str()).collect();
            unknown(name, "memory or fanout that this runs on", &names, problems);
        }
        found.map(|k| (k.1, k.2))
    }

    fn dim(&self, name: &At<String>, problems: &mut Problems) -> Option<DimId> {
        let dims = &self.problem.einsum.dims;
        let found = dims.iter().position(|d| d.name == name.value);
        if found.is_none() {
            let names: Vec<&str> = dims.iter().map(|d| d.name.as_str()).collect();
            unknown(name, "dimension of this problem", &names, problems);
        }
        found.map(|d| DimId(d as u32))
    }

    /// Operands that are kept here and those that are not.
    fn keep(&self, node: NodeId, asked: &mut OnChip, problems: &mut Problems) {
        let operands = |names: &[At<String>], problems: &mut Problems| {
            let mut set = OperandSet::NONE;
            for name in names {
                let mut all = Operand::ALL.into_iter();
                match all.find(|o| o.name() == name.value) {
                    Some(o) => set = OperandSet(set.0 | OperandSet::of(&[o]).0),
                    None => unknown(name, "operand", &Operand::ALL.map(Operand::name), problems),
                }
            }
            set
        };
        let (keep, bypass) = (&self.level.keep, &self.level.bypass);
        let sets = [operands(keep, problems), operands(bypass, problems)];
        let Some(first) = keep.iter().chain(bypass).next() else {
            return;
        };
        let name = &self.level.level.value;
        let Some(memory) = self.problem.chip.nodes[node].memory() else {
            let message = format!("`{name}` is no memory");
            problems.at(
                &first.place,
                message,
                "give `keep` and `bypass` of a memory",
            );
            return;
        };
        let place = |n: NodeId| self.problem.path.iter().position(|p| *p == n);
        for o in Operand::ALL {
            let home = self.problem.home[o.index()];
            let (kept, bypassed) = (sets[0].has(o), sets[1].has(o));
            let reason = match () {
                () if kept && bypassed => "is told to be kept and not",
                () if kept && place(node) < place(home) => "starts or ends further in",
                () if kept && node != home && !memory.keeps.has(o) => "cannot be kept there",
                () if bypassed && node == home => "starts or ends there",
                () => continue,
            };
            let message = format!("`{name}`: {} {reason}", o.name());
            problems.at(&first.place, message, "leave it out");
        }
        asked.kept.push((node, sets[0], sets[1]));
    }
}

/// Records that a name is none of the known ones, and which there are.
fn unknown(name: &At<String>, noun: &str, known: &[&str], problems: &mut Problems) {
    let near = nearest_names(&name.value, known.iter().copied());
    let meant = near
        .first()
        .map_or(String::new(), |n| format!("did you mean `{n}`? "));
    let help = format!("{meant}There is {}", known.join(", "));
    problems.at(&name.place, format!("`{}` is no {noun}", name.value), help);
}
