//! Constraints of a graph's ops.

use super::{OPTIONS, chip, op, residual};
use crate::mapping::Step;
use crate::schedule::{Asked, Execution, Memo, PlanOptions, Schedule, schedule_planned};
use presil_workloads::Graph;

fn scheduled(graph: &Graph, text: Option<&str>) -> Schedule {
    let asked = text.map(|text| Asked {
        origin: "asked.toml".into(),
        text: text.into(),
    });
    let plan = PlanOptions {
        asked,
        ..PlanOptions::default()
    };
    let memo = Memo::default();
    schedule_planned(graph, &chip::chip(), &OPTIONS, &plan, &memo).unwrap()
}

/// Trips of a dimension across fanouts.
fn across(graph: &Graph, schedule: &Schedule, name: &str, dim: &str) -> u64 {
    let Execution::Mapped { mapping, .. } = &op(graph, schedule, name).execution else {
        panic!("{name} is not mapped");
    };
    let found = graph.ops.iter_ids().find(|(_, o)| o.name == name).unwrap();
    let einsum = found.1.contraction().unwrap();
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut trips = 1;
    for step in mapping.steps() {
        if let Step::Temporal { dim: d, tile } | Step::Spatial { dim: d, tile, .. } = *step {
            let outer = std::mem::replace(&mut tiles[d.0 as usize], tile);
            if matches!(step, Step::Spatial { .. }) && einsum.dim(d).name == dim {
                trips *= outer.div_ceil(tile);
            }
        }
    }
    trips
}

#[test]
fn constraints_hold_for_the_ops_that_they_name() {
    let graph = residual();
    let free = scheduled(&graph, None);
    assert!(free.constrained.is_empty() && across(&graph, &free, "c1", "k") > 4);
    let one = "[[constraint]]\nop = [\"c1\"]\nlevel = \"grid\"\ntrips = { k = 4 }\n";
    let some = scheduled(&graph, Some(one));
    assert_eq!(across(&graph, &some, "c1", "k"), 4);
    assert_eq!(op(&graph, &some, "c2").cost, op(&graph, &free, "c2").cost);
    assert!(op(&graph, &some, "c1").cost.time > op(&graph, &free, "c1").cost.time);
    let [constrained] = some.constrained.as_slice() else {
        panic!("{:?}", some.constrained);
    };
    assert!(constrained.tables == [0] && constrained.unmet.is_none());
    for text in [
        &one.replace("c1", "c*"),
        &one.replace("op = [\"c1\"]\n", ""),
    ] {
        let all = scheduled(&graph, Some(text));
        assert_eq!(
            ["c1", "c2", "c3"].map(|c| across(&graph, &all, c, "k")),
            [4; 3]
        );
        assert_eq!(all.constrained.len(), 3);
    }
}

#[test]
fn what_an_op_cannot_meet_is_told_and_what_it_has_not_is_not_of_it() {
    let graph = residual();
    let unmet = |text: &str| {
        let list = scheduled(&graph, Some(text)).constrained;
        list.first().and_then(|c| c.unmet.clone())
    };
    let text = |op: &str, level: &str| {
        format!("[[constraint]]\n{op}level = \"{level}\"\ntrips = {{ k = 17 }}\n")
    };
    let told = unmet(&text("", "grid")).unwrap();
    assert!(told.contains("17 trips of `k`"), "{told}");
    let told = unmet(&text("op = [\"c1\"]\n", "gird")).unwrap();
    assert!(told.contains("`gird` is no memory or fanout"), "{told}");
    assert!(
        scheduled(&graph, Some(&text("", "gird")))
            .constrained
            .is_empty()
    );
    assert!(
        scheduled(&graph, Some(&text("op = [\"d*\"]\n", "grid")))
            .constrained
            .is_empty()
    );
}
