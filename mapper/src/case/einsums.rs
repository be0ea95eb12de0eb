//! Einsums of a case file: their texts read, their dimensions and tensors found.

use presil_hwmodels::document::{Place, Problems};
use presil_numerics::ids::Id;
use presil_workloads::einsum::Place as Home;
use presil_workloads::expression::{self, Expression, Index, Join, Operand};
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use super::CaseTensor;
use super::spec::{CaseSpec, EinsumSpec, place_within};

/// Most inputs of an einsum.
const INPUTS: usize = 16;

/// Einsums as written and as read.
pub(super) type Parsed<'a> = Vec<(&'a EinsumSpec, Expression<'a>)>;

pub(super) fn expressions<'a>(spec: &'a CaseSpec, problems: &mut Problems) -> Option<Parsed<'a>> {
    let mut parsed = Vec::new();
    for written in &spec.einsum {
        let text = &written.expression;
        match expression::parse(&text.value).and_then(product) {
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

/// An einsum of a case is a sum of products: anything else is wrong, and where.
fn product(expression: Expression<'_>) -> Result<Expression<'_>, expression::Wrong> {
    let (assign, sign) = &expression.assign;
    if !matches!(assign, None | Some(ReduceOperator::Sum)) {
        return Err((sign.clone(), "an einsum of a case sums: write `=`".into()));
    }
    let not_times = |(join, _): &&(Join, _)| *join != Join::Times;
    if let Some((_, sign)) = expression.joins.iter().find(not_times) {
        return Err((sign.clone(), "expected `*` between inputs".into()));
    }
    match expression.inputs.get(INPUTS) {
        Some(input) => {
            let message = format!("an einsum has at most {INPUTS} inputs");
            Err((input.span.clone(), message))
        }
        None => Ok(expression),
    }
}

/// Operands of an expression as an einsum numbers them: the inputs, then the output.
pub(super) fn operands_of<'e, 't>(
    expression: &'e Expression<'t>,
) -> impl Iterator<Item = &'e Operand<'t>> {
    let output = std::iter::once(&expression.output);
    expression.inputs.iter().chain(output)
}

pub(super) fn einsum_names(parsed: &Parsed<'_>, problems: &mut Problems) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut made: Vec<&str> = Vec::new();
    for (written, expression) in parsed {
        let output = &expression.output;
        let name = written
            .name
            .as_ref()
            .map_or(output.tensor, |name| &name.value);
        if names.iter().any(|n| n == name) {
            let place = written
                .name
                .as_ref()
                .map_or(&written.expression.place, |n| &n.place);
            let message = format!("there are two einsums `{name}`");
            problems.at(place, message, "give each a name of its own");
        }
        names.push(name.to_string());
        if made.contains(&output.tensor) {
            let message = format!("`{}` is made twice", output.tensor);
            let help = "an einsum makes a tensor of its own";
            problems.at(&place_of(written, output, problems), message, help);
        }
        made.push(output.tensor);
        if expression.inputs.iter().any(|i| i.tensor == output.tensor) {
            let message = format!("`{}` reads what it makes", output.tensor);
            let help = "name the tensor before and after differently";
            problems.at(&place_of(written, output, problems), message, help);
        }
    }
    for (i, (written, expression)) in parsed.iter().enumerate() {
        let later = |name: &str| parsed[i + 1..].iter().any(|(_, e)| e.output.tensor == name);
        for input in expression.inputs.iter().filter(|o| later(o.tensor)) {
            let message = format!("`{}` is read before it is made", input.tensor);
            let help = "order the einsums so that each reads what earlier ones made";
            problems.at(&place_of(written, input, problems), message, help);
        }
    }
    names
}

pub(super) fn place_of(written: &EinsumSpec, operand: &Operand<'_>, problems: &Problems) -> Place {
    let text = &written.expression;
    place_within(&text.place, &text.value, problems, operand.span.clone())
}

/// The least and largest value of an index.
pub(super) fn reach(terms: &[(DimId, i64)], offset: i64, dims: &[Dim]) -> (i128, i128) {
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

pub(super) fn dims(spec: &CaseSpec, expression: &Expression<'_>) -> Option<Vec<Dim>> {
    let size = |name: &str| spec.ranks.0.iter().find(|(n, _)| n.value == name);
    let dim = |name: &str| {
        Some(Dim {
            name: name.to_string(),
            size: size(name)?.1.value.max(1),
        })
    };
    expression.dimensions().into_iter().map(dim).collect()
}

pub(super) fn affine(index: &Index<'_>, dims: &[Dim]) -> Affine {
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

pub(super) fn einsum(
    written: &EinsumSpec,
    expression: &Expression<'_>,
    spec: &CaseSpec,
    tensors: &[CaseTensor],
    problems: &mut Problems,
) -> Option<Einsum> {
    let dims = dims(spec, expression)?;
    let access = |operand: &Operand<'_>, place: Home| {
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
