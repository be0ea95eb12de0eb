//! From what a case file says to a [`Case`]: names found, sets resolved for each einsum, everything checked.

use presil_hwmodels::decode::At;
use presil_hwmodels::document::{Place, Problems};
use presil_numerics::ids::Id;
use presil_workloads::einsum::Place as Home;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use super::expression::{self, Expression, Operand};
use super::machine::{self, Seen, fixed_set, unknown};
use super::nest;
use super::sets::Scope;
use super::spec::{BitsSpec, CaseSpec, ConstraintSpec, EinsumSpec, LevelSpec, place_within};
use super::{Case, CaseEinsum, CaseTensor, Constraints, LevelConstraint};
use crate::hierarchy::{Hierarchy, Level, Mask};

/// Machines that a case file does not spell out: the hierarchy of an einsum (its operands' bits given).
pub type Machine<'m> = &'m dyn Fn(&Einsum, &[f64]) -> Result<Hierarchy, String>;

/// Resolves a case. Mistakes become problems; there is a case only if there are none.
pub fn resolve(
    spec: &CaseSpec,
    machine: Option<Machine<'_>>,
    problems: &mut Problems,
) -> Option<Case> {
    check_levels(spec, machine.is_some(), problems);
    let parsed = expressions(spec, problems)?;
    let names = einsum_names(&parsed, problems);
    let mut tensors = tensors(spec, &parsed, problems)?;
    set_bits(spec, &parsed, &mut tensors, problems);
    let mut einsums = Vec::new();
    for (i, (written, expression)) in parsed.iter().enumerate() {
        let Some(einsum) = einsum(written, expression, spec, &tensors, problems) else {
            continue;
        };
        let context = Context {
            spec,
            parsed: &parsed,
            names: &names,
            tensors: &tensors,
            machine,
        };
        einsums.extend(context.einsum(i, einsum, problems));
    }
    unused_ranks(spec, &parsed, problems);
    problems.is_empty().then(|| Case {
        name: spec.name.value.clone(),
        tensors,
        einsums,
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

type Parsed<'a> = Vec<(&'a EinsumSpec, Expression)>;

fn expressions<'a>(spec: &'a CaseSpec, problems: &mut Problems) -> Option<Parsed<'a>> {
    let mut parsed = Vec::new();
    for written in &spec.einsum {
        let text = &written.expression;
        match expression::parse(&text.value) {
            Ok(expression) => parsed.push((written, expression)),
            Err((span, message)) => {
                let place = place_within(&text.place, &text.value, problems, span);
                let help = "an einsum is such as `O[m, n] = A[m, k] * W[k, n]`";
                problems.at(&place, message, help);
            }
        }
    }
    if spec.einsum.is_empty() {
        let help = "add `[[einsum]]` with `expression = \"O[m, n] = A[m, k] * W[k, n]\"`";
        problems.at(&spec.name.place, "the case has no einsum", help);
    }
    (!parsed.is_empty()).then_some(parsed)
}

fn einsum_names(parsed: &Parsed<'_>, problems: &mut Problems) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut made: Vec<&str> = Vec::new();
    for (written, expression) in parsed {
        let output = &expression.output;
        let name = written
            .name
            .as_ref()
            .map_or(&output.tensor, |name| &name.value);
        if names.contains(name) {
            let place = written
                .name
                .as_ref()
                .map_or(&written.expression.place, |n| &n.place);
            let message = format!("there are two einsums `{name}`");
            problems.at(place, message, "give each a name of its own");
        }
        names.push(name.clone());
        if made.contains(&output.tensor.as_str()) {
            let message = format!("`{}` is made twice", output.tensor);
            let help = "an einsum makes a tensor of its own";
            problems.at(&place_of(written, output, problems), message, help);
        }
        made.push(&output.tensor);
        if expression.inputs.iter().any(|i| i.tensor == output.tensor) {
            let message = format!("`{}` reads what it makes", output.tensor);
            let help = "name the tensor before and after differently";
            problems.at(&place_of(written, output, problems), message, help);
        }
    }
    for (i, (written, expression)) in parsed.iter().enumerate() {
        let later = |name: &str| parsed[i + 1..].iter().any(|(_, e)| e.output.tensor == name);
        for input in expression.inputs.iter().filter(|o| later(&o.tensor)) {
            let message = format!("`{}` is read before it is made", input.tensor);
            let help = "order the einsums so that each reads what earlier ones made";
            problems.at(&place_of(written, input, problems), message, help);
        }
    }
    names
}

fn place_of(written: &EinsumSpec, operand: &Operand, problems: &Problems) -> Place {
    let text = &written.expression;
    place_within(&text.place, &text.value, problems, operand.span.clone())
}

/// The least and largest value of an index.
fn reach(terms: &[(DimId, i64)], offset: i64, dims: &[Dim]) -> (i128, i128) {
    let (mut low, mut high) = (i128::from(offset), i128::from(offset));
    for (dim, c) in terms {
        let steps = dims
            .get(dim.index())
            .map_or(0, |d| d.size.saturating_sub(1));
        let far = i128::from(*c) * i128::from(steps);
        low += far.min(0);
        high += far.max(0);
    }
    (low, high)
}

fn dims(spec: &CaseSpec, expression: &Expression) -> Option<Vec<Dim>> {
    let size = |name: &str| spec.ranks.0.iter().find(|(n, _)| n.value == name);
    let dim = |name: &str| {
        Some(Dim {
            name: name.to_string(),
            size: size(name)?.1.value.max(1),
        })
    };
    expression.ranks().into_iter().map(dim).collect()
}

fn affine(index: &expression::Index, dims: &[Dim]) -> Affine {
    let at = |name: &str| dims.iter().position(|d| d.name == name).map(DimId::new);
    Affine {
        terms: index
            .terms
            .iter()
            .filter_map(|(name, c)| Some((at(name)?, *c)))
            .collect(),
        offset: index.offset,
    }
}

/// All tensors with their extents: those stated, else what their indices reach.
fn tensors(
    spec: &CaseSpec,
    parsed: &Parsed<'_>,
    problems: &mut Problems,
) -> Option<Vec<CaseTensor>> {
    let mut tensors: Vec<CaseTensor> = Vec::new();
    let known: Vec<&str> = spec.ranks.0.iter().map(|(n, _)| n.value.as_str()).collect();
    let mut right = true;
    for (name, size) in &spec.ranks.0 {
        if size.value == 0 || size.value > 1 << 48 {
            let message = format!("the size of `{}` must be from 1 to 2^48", name.value);
            problems.at(&size.place, message, "write how many values it takes");
        }
    }
    for (written, expression) in parsed {
        let text = &written.expression;
        for name in expression
            .ranks()
            .into_iter()
            .filter(|n| !known.contains(n))
        {
            let at = text.value.find(name).unwrap_or(0);
            let word = At {
                value: name.to_string(),
                place: place_within(&text.place, &text.value, problems, at..at + name.len()),
            };
            let near = presil_numerics::diagnostic::nearest_names(name, known.iter().copied());
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`? Else add `{name} = ...` to [ranks]"),
                None => format!("add `{name} = ...` to [ranks]"),
            };
            problems.at(&word.place, format!("rank `{name}` has no size"), help);
            right = false;
        }
        let Some(dims) = dims(spec, expression) else {
            continue;
        };
        for operand in expression.operands() {
            let place = place_of(written, operand, problems);
            let stated = spec
                .shapes
                .0
                .iter()
                .find(|(n, _)| n.value == operand.tensor);
            let extents = match stated {
                Some((_, shape)) => shape.value.clone(),
                None => extents(operand, &dims, &place, problems),
            };
            right &= add(&mut tensors, operand, extents, &place, problems);
        }
    }
    for (name, shape) in &spec.shapes.0 {
        let known: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        if right && !known.contains(&name.value.as_str()) {
            unknown(name, "tensor of this case", &known, problems);
        }
        if shape.value.contains(&0) {
            problems.at(&shape.place, "every extent is at least 1", "write sizes");
        }
    }
    right.then_some(tensors)
}

/// Adds an operand's tensor, or what its indices reach to the tensor that is there.
fn add(
    tensors: &mut Vec<CaseTensor>,
    operand: &Operand,
    extents: Vec<u64>,
    place: &Place,
    problems: &mut Problems,
) -> bool {
    if extents.len() != operand.ranks.len() {
        let message = format!(
            "`{}` has {} ranks here, not {}",
            operand.tensor,
            operand.ranks.len(),
            extents.len()
        );
        problems.at(place, message, "its shape is in [shapes]");
        return false;
    }
    let Some(tensor) = tensors.iter_mut().find(|t| t.name == operand.tensor) else {
        tensors.push(CaseTensor {
            name: operand.tensor.clone(),
            bits: 0.0,
            extents,
        });
        return true;
    };
    if tensor.extents.len() != extents.len() {
        let message = format!(
            "`{}` has {} ranks here and {} elsewhere",
            operand.tensor,
            extents.len(),
            tensor.extents.len()
        );
        problems.at(place, message, "a tensor has the same ranks everywhere");
        return false;
    }
    for (extent, here) in tensor.extents.iter_mut().zip(extents) {
        *extent = (*extent).max(here);
    }
    true
}

fn extents(operand: &Operand, dims: &[Dim], place: &Place, problems: &mut Problems) -> Vec<u64> {
    let mut extents = Vec::new();
    for (index, _) in &operand.ranks {
        let index = affine(index, dims);
        let (low, high) = reach(&index.terms, index.offset, dims);
        if low < 0 {
            let message = format!("an index of `{}` goes down to {low}", operand.tensor);
            let help = format!(
                "give the tensor's extents in [shapes], as in `{} = [1, 64, 56, 56]`; what lies outside is padding",
                operand.tensor
            );
            problems.at(place, message, help);
        }
        extents.push(u64::try_from(high + 1).unwrap_or(u64::MAX));
    }
    extents
}

/// Bits of every tensor.
fn set_bits(
    spec: &CaseSpec,
    parsed: &Parsed<'_>,
    tensors: &mut [CaseTensor],
    problems: &mut Problems,
) {
    let entries = match &spec.bits {
        None => {
            let help = "add `bits = 8`, or a table from tensor sets to bits";
            problems.at(
                &spec.name.place,
                "the case says not how wide elements are",
                help,
            );
            return;
        }
        Some(BitsSpec::All(bits)) => {
            let all = At {
                value: "All".to_string(),
                place: bits.place.clone(),
            };
            vec![(all, bits.clone())]
        }
        Some(BitsSpec::Sets(entries)) => entries.0.clone(),
    };
    for (set, bits) in &entries {
        if bits.value <= 0.0 {
            let help = "write how many bits an element takes";
            problems.at(&bits.place, "an element has at least some bits", help);
        }
        // A tensor is in the set if it is in any einsum that has it.
        for (i, (_, expression)) in parsed.iter().enumerate() {
            let scope = scope(parsed, i, None, tensors, problems);
            let mask = fixed_set(set, &scope, problems);
            for (operand, o) in expression.operands().enumerate() {
                let tensor = tensors.iter_mut().find(|t| t.name == o.tensor);
                if let Some(tensor) = tensor.filter(|_| mask.has(operand)) {
                    tensor.bits = bits.value;
                }
            }
        }
    }
    for tensor in tensors.iter().filter(|t| t.bits == 0.0) {
        let message = format!("`{}` has no width", tensor.name);
        let help = "begin the table of bits with `All = 8`";
        let place = entries.first().map_or(&spec.name.place, |(k, _)| &k.place);
        problems.at(place, message, help);
    }
}

/// What names mean in the sets of einsum `i`.
fn scope(
    parsed: &Parsed<'_>,
    i: usize,
    names: Option<&[String]>,
    tensors: &[CaseTensor],
    problems: &mut Problems,
) -> Scope {
    let (written, expression) = &parsed[i];
    let operands: Vec<&str> = expression.operands().map(|o| o.tensor.as_str()).collect();
    let mask_of = |name: &str| {
        let found = operands.iter().enumerate().filter(|(_, o)| **o == name);
        found.fold(Mask::NONE, |m, (o, _)| m.with(o))
    };
    let all = (0..operands.len()).fold(Mask::NONE, Mask::with);
    let output = Mask::one(operands.len() - 1);
    let inner = |name: &str| {
        let made = parsed.iter().any(|(_, e)| e.output.tensor == name);
        let read = |e: &Expression| e.inputs.iter().any(|o| o.tensor == name);
        made && parsed.iter().any(|(_, e)| read(e))
    };
    let intermediates = operands.iter().enumerate().filter(|(_, o)| inner(o));
    let intermediates = intermediates.fold(Mask::NONE, |m, (o, _)| m.with(o));
    // A tensor's own name comes before a set or role of the same name.
    let own = tensors.iter().map(|t| (t.name.clone(), mask_of(&t.name)));
    let mut known: Vec<(String, Mask)> = own.collect();
    known.extend([
        ("All".into(), all),
        ("Nothing".into(), Mask::NONE),
        ("Inputs".into(), all.minus(output)),
        ("Outputs".into(), output),
        ("Intermediates".into(), intermediates),
    ]);
    for (at, name) in names.unwrap_or_default().iter().enumerate() {
        for operand in parsed[at].1.operands() {
            let here = if at == i {
                mask_of(&operand.tensor)
            } else {
                Mask::NONE
            };
            known.push((format!("{name}.{}", operand.tensor), here));
        }
    }
    let plain = Scope {
        names: known.clone(),
        memories: Vec::new(),
        all,
    };
    let last = operands.len() - 2;
    let mut roles: Vec<(String, Mask)> = vec![
        ("output".into(), output),
        (
            "weight".into(),
            if last > 0 {
                Mask::one(last)
            } else {
                Mask::NONE
            },
        ),
        (
            "input".into(),
            (0..last.max(1)).fold(Mask::NONE, Mask::with),
        ),
    ];
    for (role, set) in &written.renames.0 {
        let mask = fixed_set(set, &plain, problems);
        match roles.iter_mut().find(|(r, _)| *r == role.value) {
            Some((_, old)) => *old = mask,
            None => roles.push((role.value.clone(), mask)),
        }
    }
    // Roles of other einsums are known here too, and stand for nothing.
    for (role, _) in parsed.iter().flat_map(|(w, _)| &w.renames.0) {
        if !roles.iter().any(|(r, _)| *r == role.value) {
            roles.push((role.value.clone(), Mask::NONE));
        }
    }
    known.extend(roles);
    Scope {
        names: known,
        memories: Vec::new(),
        all,
    }
}

fn einsum(
    written: &EinsumSpec,
    expression: &Expression,
    spec: &CaseSpec,
    tensors: &[CaseTensor],
    problems: &mut Problems,
) -> Option<Einsum> {
    let dims = dims(spec, expression)?;
    let access = |operand: &Operand, place: Home| {
        let stated = spec
            .shapes
            .0
            .iter()
            .find(|(n, _)| n.value == operand.tensor);
        let ranks: Vec<Affine> = operand
            .ranks
            .iter()
            .map(|(i, _)| affine(i, &dims))
            .collect();
        let reached = ranks.iter().map(|r| {
            let (_, high) = reach(&r.terms, r.offset, &dims);
            u64::try_from(high + 1).unwrap_or(u64::MAX)
        });
        Access {
            place,
            extents: match stated {
                Some((_, shape)) => shape.value.clone(),
                None => reached.collect(),
            },
            ranks,
        }
    };
    let inputs: Vec<Access> = (0u8..)
        .zip(&expression.inputs)
        .map(|(i, o)| access(o, Home::Input(i)))
        .collect();
    let map = match inputs.len() {
        1 => MapOperator::Lanes(Vec::new()),
        _ => MapOperator::MultiplyAccumulate,
    };
    let einsum = Einsum {
        output: access(&expression.output, Home::Output(0)),
        inputs,
        dims,
        map,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    };
    let too_many = |n: Option<u64>| n.is_none_or(|n| n > 1 << 62);
    let volume = |t: &CaseTensor| t.extents.iter().try_fold(1u64, |n, e| n.checked_mul(*e));
    if too_many(einsum.points()) || tensors.iter().any(|t| too_many(volume(t))) {
        let message = "the einsum has more than 2^62 points or elements";
        problems.at(
            &written.expression.place,
            message,
            "check the sizes in [ranks]",
        );
        return None;
    }
    Some(einsum)
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
        let operands: Option<Vec<usize>> = expression.operands().map(|o| at(&o.tensor)).collect();
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
        let used = |e: &Expression| e.ranks().contains(&name.value.as_str());
        if !parsed.iter().any(|(_, e)| used(e)) && parsed.len() == spec.einsum.len() {
            let message = format!("no einsum has a rank `{}`", name.value);
            problems.at(&name.place, message, "leave it out");
        }
    }
}
