//! Evaluations as JSON. Keys carry their unit; counts of elements and operations are plain.

use presil_mapper::case::Case;
use presil_mapper::case::nest::{self, Names};
use presil_mapper::conventions::{Convention, ConventionError, Evaluation};
use presil_mapper::looptree::LoopTree;
use serde_json::{Value, json};

use super::Report;

/// A report.
pub fn report(report: &Report) -> Value {
    let case = &report.case;
    let einsums = report.einsums.iter().enumerate().map(|(i, told)| {
        let e = &case.einsums[i];
        let told = report.conventions.iter().zip(told);
        json!({
            "einsum": e.name,
            "mapping": e.mapping.as_ref().map(|tree| mapping(case, i, tree)),
            "conventions": told.map(|(c, t)| outcome(case, i, *c, t)).collect::<Vec<_>>(),
        })
    });
    let totals = report
        .conventions
        .iter()
        .enumerate()
        .filter_map(|(c, name)| {
            let (energy, cycles) = report.totals(c)?;
            let mut total = json!({
                "convention": name.name(),
                "energy_pj": energy,
                "cycles": cycles,
            });
            with_seconds(&mut total, case, cycles);
            Some(total)
        });
    json!({
        "case": case.name,
        "einsums": einsums.collect::<Vec<_>>(),
        "totals": totals.collect::<Vec<_>>(),
        "notes": report.notes,
        "version": crate::VERSION,
    })
}

/// A mapping, line by line.
pub fn mapping(case: &Case, einsum: usize, tree: &LoopTree) -> Vec<String> {
    let e = &case.einsums[einsum];
    let operands = case.operand_names(einsum);
    let names = Names {
        einsum: &e.einsum,
        hierarchy: &e.hierarchy,
        operands: &operands,
    };
    nest::write(tree, names)
}

fn with_seconds(value: &mut Value, case: &Case, cycles: f64) {
    if let (Some(hz), Some(map)) = (case.clock_hz, value.as_object_mut()) {
        map.insert("latency_s".into(), json!(cycles / hz));
    }
}

fn outcome(
    case: &Case,
    einsum: usize,
    convention: Convention,
    told: &Result<Evaluation, ConventionError>,
) -> Value {
    match told {
        Ok(e) => evaluation(case, einsum, convention, e),
        Err(error) => json!({ "convention": convention.name(), "error": error.to_string() }),
    }
}

/// What a mapping costs in a convention.
pub fn evaluation(case: &Case, einsum: usize, convention: Convention, e: &Evaluation) -> Value {
    let hierarchy = &case.einsums[einsum].hierarchy;
    let level = |l: usize| hierarchy.levels.get(l).map_or("?", |l| l.name());
    let names = case.operand_names(einsum);
    let tensor = |o: usize| names.get(o).cloned().unwrap_or_default();
    let accesses = e.accesses.iter().map(|a| {
        json!({
            "level": level(a.level),
            "tensor": tensor(a.operand),
            "tile": a.tile,
            "instances": a.instances,
            "reads": a.reads,
            "fills": a.fills,
            "updates": a.updates,
            "drains": a.drains,
        })
    });
    let energy = e.energy.iter().map(|a| {
        json!({
            "level": level(a.level),
            "tensor": a.operand.map(tensor),
            "action": a.action,
            "energy_pj": a.energy,
        })
    });
    let parts = e
        .parts
        .iter()
        .map(|p| json!({ "part": p.name, "cycles": p.cycles }));
    let mut value = json!({
        "convention": convention.name(),
        "operations": e.operations,
        "instances_used": e.instances_used,
        "cycles": e.cycles,
        "energy_pj": e.energy_total(),
        "accesses": accesses.collect::<Vec<_>>(),
        "energy": energy.collect::<Vec<_>>(),
        "cycle_parts": parts.collect::<Vec<_>>(),
    });
    with_seconds(&mut value, case, e.cycles);
    value
}
