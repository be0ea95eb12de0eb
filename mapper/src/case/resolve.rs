//! From what a case file says to a [`Case`]: names found, sets resolved for each einsum, everything checked.

use presil_hwmodels::document::Problems;
use presil_workloads::Einsum;
use presil_workloads::expression::Expression;

use super::einsums::{self, Parsed, operands_of};
use super::machine::{self, Seen, unknown};
use super::nest;
use super::spec::{CaseSpec, ConstraintSpec, LevelSpec};
use super::tensors::{self, scope};
use super::{Case, CaseEinsum, CaseTensor, Constraints, LevelConstraint};
use crate::hierarchy::{Hierarchy, Level};

/// Machines that a case file does not spell out: the hierarchy of an einsum (its operands' bits given).
pub type Machine<'m> = &'m dyn Fn(&Einsum, &[f64]) -> Result<Hierarchy, String>;

/// Resolves a case. Mistakes become problems; there is a case only if there are none.
pub fn resolve(
    spec: &CaseSpec,
    machine: Option<Machine<'_>>,
    problems: &mut Problems,
) -> Option<Case> {
    check_levels(spec, machine.is_some(), problems);
    let parsed = einsums::expressions(spec, problems)?;
    let names = einsums::einsum_names(&parsed, problems);
    let mut tensors = tensors::tensors(spec, &parsed, problems)?;
    tensors::set_bits(spec, &parsed, &mut tensors, problems);
    let mut resolved = Vec::new();
    for (i, (written, expression)) in parsed.iter().enumerate() {
        let Some(einsum) = einsums::einsum(written, expression, spec, &tensors, problems) else {
            continue;
        };
        let context = Context {
            spec,
            parsed: &parsed,
            names: &names,
            tensors: &tensors,
            machine,
        };
        resolved.extend(context.einsum(i, einsum, problems));
    }
    unused_ranks(spec, &parsed, problems);
    problems.is_empty().then(|| Case {
        name: spec.name.value.clone(),
        tensors,
        einsums: resolved,
        convention: spec.convention.unwrap_or_default(),
        objective: spec.objective.unwrap_or_default(),
        clock_hz: spec.clock.map(|c| c.0),
    })
}

/// The first level is a memory, the last computes, no other does; names are unique.
fn check_levels(spec: &CaseSpec, elsewhere: bool, problems: &mut Problems) {
    let levels = &spec.level;
    if levels.is_empty() {
        if !elsewhere {
            let message = "the case says no machine";
            let help = "add `[[level]]` tables, outermost first, or name a chip with --chip";
            problems.at(&spec.name.place, message, help);
        }
        return;
    }
    if elsewhere {
        let message = "the machine is told twice: by this case and by --chip";
        let help = "leave one of them out";
        problems.at(&spec.name.place, message, help);
    }
    for (i, level) in levels.iter().enumerate() {
        let name = level.name();
        if levels[..i].iter().any(|l| l.name().value == name.value) {
            let message = format!("there are two levels `{}`", name.value);
            problems.at(&name.place, message, "give each a name of its own");
        }
        let last = i + 1 == levels.len();
        let (message, help) = match level {
            LevelSpec::Compute(c) if !last && c.einsums.is_none() => (
                "compute units are the last level",
                "move this level to the end, or name the `einsums` that run on it",
            ),
            LevelSpec::Compute(c) if last && c.einsums.is_some() => (
                "the last level computes what no other does",
                "leave its `einsums` out",
            ),
            LevelSpec::Memory(_) | LevelSpec::Fanout(_) if last => (
                "the last level computes",
                "add a `[[level]]` with `compute = \"mac\"` after it",
            ),
            LevelSpec::Fanout(_) | LevelSpec::Compute(_) if i == 0 => (
                "the first level is a memory",
                "put the memory that holds all tensors before it",
            ),
            _ => continue,
        };
        problems.at(&name.place, message, help);
    }
}

struct Context<'a> {
    spec: &'a CaseSpec,
    parsed: &'a Parsed<'a>,
    names: &'a [String],
    tensors: &'a [CaseTensor],
    machine: Option<Machine<'a>>,
}

impl Context<'_> {
    /// Einsum `i` with its machine, constraints and mapping.
    fn einsum(&self, i: usize, einsum: Einsum, problems: &mut Problems) -> Option<CaseEinsum> {
        let (written, expression) = &self.parsed[i];
        let at = |name: &str| self.tensors.iter().position(|t| t.name == name);
        let operands: Option<Vec<usize>> = operands_of(expression).map(|o| at(o.tensor)).collect();
        let operands = operands?;
        let bits: Vec<f64> = operands.iter().map(|t| self.tensors[*t].bits).collect();
        let dims: Vec<String> = einsum.dims.iter().map(|d| d.name.clone()).collect();
        let ranks: Vec<&str> = self
            .spec
            .ranks
            .0
            .iter()
            .map(|(n, _)| &n.value[..])
            .collect();
        let seen = Seen {
            scope: scope(self.parsed, i, Some(self.names), self.tensors, problems),
            bits: &bits,
            dims: &dims,
            ranks: &ranks,
        };
        let hierarchy = match self.machine {
            Some(machine) if self.spec.level.is_empty() => match machine(&einsum, &bits) {
                Ok(hierarchy) => hierarchy,
                Err(reason) => {
                    let help = "choose another chip, or write the levels out";
                    problems.at(&written.expression.place, reason, help);
                    return None;
                }
            },
            _ => {
                let path = self.path(&self.names[i], problems);
                machine::resolve(&self.spec.name.value, &path, seen.clone(), problems)
            }
        };
        let constraints = Constraints {
            levels: self.constraints(i, &hierarchy, &seen, problems),
            perfect: self.spec.perfect.unwrap_or(false),
        };
        let names: Vec<String> = operands
            .iter()
            .map(|t| self.tensors[*t].name.clone())
            .collect();
        let names = nest::Names {
            einsum: &einsum,
            hierarchy: &hierarchy,
            operands: &names,
        };
        // A mapping on a machine with mistakes would only repeat them.
        let mapping = match &written.mapping {
            Some(lines) if problems.is_empty() => nest::read(lines, names, problems),
            _ => None,
        };
        Some(CaseEinsum {
            name: self.names[i].clone(),
            einsum,
            operands,
            hierarchy,
            mapping,
            constraints,
        })
    }

    /// The levels that an einsum sees: those up to the compute units that name it, without other such units.
    fn path(&self, einsum: &str, problems: &mut Problems) -> Vec<LevelSpec> {
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut path = Vec::new();
        for level in &self.spec.level {
            let named = match level {
                LevelSpec::Compute(c) => c.einsums.as_ref(),
                _ => None,
            };
            for name in named.into_iter().flatten() {
                if !known.contains(&name.value.as_str()) {
                    unknown(name, "einsum of this case", &known, problems);
                }
            }
            match named.map(|n| n.iter().any(|n| n.value == einsum)) {
                Some(false) => continue,
                Some(true) => {
                    path.push(level.clone());
                    break;
                }
                None => path.push(level.clone()),
            }
        }
        path
    }

    fn constraints(
        &self,
        i: usize,
        hierarchy: &Hierarchy,
        seen: &Seen<'_>,
        problems: &mut Problems,
    ) -> Vec<LevelConstraint> {
        let here = |c: &&ConstraintSpec| match &c.einsum {
            Some(name) => name.value == self.names[i],
            None => true,
        };
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut levels: Vec<&str> = self
            .spec
            .level
            .iter()
            .map(|l| &l.name().value[..])
            .collect();
        levels.extend(hierarchy.levels.iter().map(Level::name));
        levels.dedup();
        for constraint in &self.spec.constraint {
            if !levels.contains(&constraint.level.value.as_str()) {
                unknown(&constraint.level, "level", &levels, problems);
            }
        }
        for name in self
            .spec
            .constraint
            .iter()
            .filter_map(|c| c.einsum.as_ref())
        {
            if !known.contains(&name.value.as_str()) {
                unknown(name, "einsum of this case", &known, problems);
            }
        }
        let constraints = self.spec.constraint.iter().filter(here);
        constraints
            .filter_map(|c| constraint(c, hierarchy, seen, problems))
            .collect()
    }
}

fn constraint(
    spec: &ConstraintSpec,
    hierarchy: &Hierarchy,
    seen: &Seen<'_>,
    problems: &mut Problems,
) -> Option<LevelConstraint> {
    // An einsum whose path ends further out does not see the level.
    let level = hierarchy.level(&spec.level.value)?;
    let mut trips = Vec::new();
    for (name, n) in &spec.trips.0 {
        if n.value == 0 {
            problems.at(
                &n.place,
                "a loop makes at least one trip",
                "write 1 for no loop",
            );
        }
        let dim = machine::rank(name, seen, problems);
        trips.extend(dim.map(|d| (d, n.value.max(1))));
    }
    let order = spec.order.iter();
    let order: Vec<Option<usize>> = order.map(|r| machine::rank(r, seen, problems)).collect();
    Some(LevelConstraint {
        level,
        trips,
        forbidden: machine::ranks(&spec.forbidden, seen, problems),
        order: order.into_iter().flatten().collect(),
        min_utilization: spec.min_utilization.unwrap_or(0.0),
    })
}

fn unused_ranks(spec: &CaseSpec, parsed: &Parsed<'_>, problems: &mut Problems) {
    for (name, _) in &spec.ranks.0 {
        let used = |e: &Expression<'_>| e.dimensions().contains(&name.value.as_str());
        if !parsed.iter().any(|(_, e)| used(e)) && parsed.len() == spec.einsum.len() {
            let message = format!("no einsum has a rank `{}`", name.value);
            problems.at(&name.place, message, "leave it out");
        }
    }
}
