//! Tensors of a case file: extents and widths.

use presil_hwmodels::decode::At;
use presil_hwmodels::document::{Place, Problems};
use presil_workloads::Dim;
use presil_workloads::expression::{Expression, Operand};

use super::CaseTensor;
use super::einsums::{Parsed, affine, dims, operands_of, place_of, reach};
use super::machine::{fixed_set, unknown};
use super::sets::Scope;
use super::spec::{BitsSpec, CaseSpec, place_within};
use crate::hierarchy::Mask;

/// All tensors with their extents: those stated, else what their indices reach.
pub(super) fn tensors(
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
            .dimensions()
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
        for operand in operands_of(expression) {
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
    operand: &Operand<'_>,
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
            name: operand.tensor.to_string(),
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

fn extents(
    operand: &Operand<'_>,
    dims: &[Dim],
    place: &Place,
    problems: &mut Problems,
) -> Vec<u64> {
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
pub(super) fn set_bits(
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
            for (operand, o) in operands_of(expression).enumerate() {
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
pub(super) fn scope(
    parsed: &Parsed<'_>,
    i: usize,
    names: Option<&[String]>,
    tensors: &[CaseTensor],
    problems: &mut Problems,
) -> Scope {
    let (written, expression) = &parsed[i];
    let operands: Vec<&str> = operands_of(expression).map(|o| o.tensor).collect();
    let mask_of = |name: &str| {
        let found = operands.iter().enumerate().filter(|(_, o)| **o == name);
        found.fold(Mask::NONE, |m, (o, _)| m.with(o))
    };
    let all = (0..operands.len()).fold(Mask::NONE, Mask::with);
    let output = Mask::one(operands.len() - 1);
    let inner = |name: &str| {
        let made = parsed.iter().any(|(_, e)| e.output.tensor == name);
        let read = |e: &Expression<'_>| e.inputs.iter().any(|o| o.tensor == name);
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
        for operand in operands_of(&parsed[at].1) {
            let here = if at == i {
                mask_of(operand.tensor)
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
