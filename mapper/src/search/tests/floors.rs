//! Bounds on all mappings at once, and on all of an assignment, against every mapping of the space.

use presil_hwmodels::{NodeKind, Overlap};
use presil_workloads::Einsum;

use super::chips::{chip, gemm, memory, problem};
use super::exhaustive::{Numbers, costed, some_dram, some_fanout, some_matmul, some_memory, strip};
use crate::search::assign;
use crate::search::frame::Frame;
use crate::search::model::Model;
use crate::search::prove::{Common, prove};
use crate::search::relax;
use crate::search::tree::{Figure, Goal, Judge};
use crate::{Problem, Step};

/// Notes time and energy of every mapping of the space, and cuts nothing off.
struct All<'a> {
    problem: &'a Problem<'a>,
    power: f64,
    costs: Vec<(f64, f64)>,
}

impl Judge for All<'_> {
    fn judge(&mut self, steps: Vec<Step>, _: f64) -> Option<f64> {
        let (_, time, energy) = costed(self.problem, self.power, steps)?;
        self.costs.push((time, energy));
        None
    }
}

fn unlimited(figure: Figure) -> Goal {
    Goal {
        figure,
        limited: figure,
        limit: f64::INFINITY,
    }
}

/// How often a bound on all mappings was more than that of every assignment, and how often it could have been.
#[derive(Default)]
struct Seen {
    better: usize,
    all: usize,
}

/// No mapping is below the bounds of all goals, whatever the incumbent.
fn hold(problem: &Problem, what: &str, seen: &mut Seen) {
    let frame = Frame::new(problem);
    let Ok(Some(model)) = Model::new(problem, &frame) else {
        panic!("{what} does not compile");
    };
    let (none, power) = (f64::INFINITY, frame.static_power);
    let mut all = All {
        problem,
        power,
        costs: Vec::new(),
    };
    let mut common = Common::new(&model, none, u64::MAX);
    let goal = unlimited(Figure::Time);
    prove(&model, goal, none, &mut all, u64::MAX, false, &mut common);
    let costs = all.costs;
    if costs.is_empty() {
        return;
    }
    let fastest = costs.iter().map(|c| c.0).fold(none, f64::min);
    let (assignments, _) = assign::all(&model, none, usize::MAX);
    let times = assignments.iter().map(|a| a.iterations(&model));
    let compute = times.fold(none, f64::min) * frame.point_time;
    let limited = Goal {
        figure: Figure::Energy,
        limited: Figure::Time,
        limit: fastest * 1.2,
    };
    let goals = [Figure::Time, Figure::Energy, Figure::Product].map(unlimited);
    for goal in goals.into_iter().chain([limited]) {
        let of = |(t, e): &(f64, f64)| goal.of(0.0, *t, *e);
        let least = costs.iter().map(of).fold(none, f64::min);
        let each = assignments.iter().map(|a| a.bound(&model));
        let apart = each.map(|(t, e)| goal.of(power, t, e)).fold(none, f64::min);
        let (time, energy) = assign::floor(&model);
        let any = goal.of(power, time, energy);
        assert!(
            any <= least * (1.0 + 1e-9) && apart <= least * (1.0 + 1e-9),
            "{what} {goal:?}: {any} and {apart} of {least}"
        );
        for incumbent in [1.0, 1.1, 3.0] {
            let mut work = 0;
            let best = least * incumbent;
            let floor = relax::floor(&model, goal, best, compute, &mut work);
            assert!(
                floor <= least * (1.0 + 1e-9),
                "{what} {goal:?}: {floor} of {least}, incumbent {best}"
            );
            seen.better += usize::from(floor > apart);
            seen.all += usize::from(work > 0);
        }
    }
}

/// Memories above the first fanout, which all mappings use: one for all operands, or one for two and one for the third.
fn kept(numbers: &mut Numbers, bytes: u64) -> Vec<NodeKind> {
    let sets = numbers.one_of(&[
        &["iwo"][..],
        &["io", "w"],
        &["w", "io"],
        &["iw", "o"],
        &["o"],
    ]);
    let one = |keeps: &&str| {
        let NodeKind::Memory(mut m) = some_memory(numbers, bytes, &[keeps]) else {
            panic!("a memory");
        };
        m.must_keep = m.keeps;
        m.overlap = numbers.one_of(&[Overlap::Keep, Overlap::Refetch]);
        NodeKind::Memory(m)
    };
    sets.iter().map(one).collect()
}

fn some_einsum(numbers: &mut Numbers, case: u64) -> Einsum {
    match case % 4 {
        0 => some_matmul(numbers, 5),
        1 => strip(
            1 + numbers.below(2),
            1 + numbers.below(3),
            4 + numbers.below(4),
            1 + numbers.below(2),
        ),
        _ => {
            let mut size = || 1 + numbers.below(7);
            gemm(size(), size().min(4), size().min(5))
        }
    }
}

#[test]
fn no_mapping_is_below_the_bound_of_its_outer_memories() {
    for seed in [41, 159_380] {
        outer_memories(seed);
    }
}

fn outer_memories(seed: u64) {
    let mut numbers = Numbers(seed);
    let mut seen = Seen::default();
    for case in 0..48 {
        let einsum = some_einsum(&mut numbers, case);
        let bytes = 5 + numbers.below(25);
        let mut nodes = vec![some_dram(&mut numbers)];
        nodes.extend(kept(&mut numbers, bytes));
        if case % 3 > 0 {
            nodes.push(some_fanout(&mut numbers));
            let bytes = 3 + numbers.below(6);
            nodes.push(some_memory(&mut numbers, bytes, &["w", "o", "i"]));
        }
        let chip = chip(nodes);
        hold(&problem(&chip, &einsum), &format!("case {case}"), &mut seen);
    }
    println!("better in {} of {}", seen.better, seen.all);
    assert!(seen.better > 50, "{} of {}", seen.better, seen.all);
}

/// Set-ups and latencies against first transfers: no mapping is faster than the bound of its assignment.
#[test]
fn first_transfers_and_set_ups_are_bounded_together() {
    let mut numbers = Numbers(43);
    let mut seen = Seen::default();
    for case in 0..24 {
        let mut outer = memory(1 << 40, "iwo", 0.5 + numbers.below(3) as f64, 100.0);
        outer.setup = presil_numerics::Seconds(1e-9 * (1 + numbers.below(6)) as f64);
        outer.latency = presil_numerics::Seconds(1e-9 * numbers.below(4) as f64);
        outer.shared_port = numbers.below(2) == 0;
        let mut nodes = vec![NodeKind::Memory(outer)];
        let bytes = 6 + numbers.below(30);
        nodes.extend(kept(&mut numbers, bytes));
        if let Some(NodeKind::Memory(m)) = nodes.last_mut() {
            m.setup = presil_numerics::Seconds(1e-9 * numbers.below(3) as f64);
            m.latency = presil_numerics::Seconds(1e-9 * numbers.below(3) as f64);
        }
        if case % 2 == 0 {
            nodes.push(some_fanout(&mut numbers));
            nodes.push(some_memory(&mut numbers, 6, &["w", "o", "i"]));
        }
        let einsum = some_einsum(&mut numbers, case);
        let chip = chip(nodes);
        hold(&problem(&chip, &einsum), &format!("case {case}"), &mut seen);
    }
    assert!(seen.all > 100, "{}", seen.all);
}

/// Where only first transfers and set-ups stand against each other, the bound is close: a long vector through a fast memory.
#[test]
fn the_bound_of_first_transfers_is_close() {
    let mut closest: f64 = 0.0;
    for (rate, setup) in [
        (4.0, 3.0),
        (4.0, 12.0),
        (3.0, 12.0),
        (3.0, 30.0),
        (4.0, 40.0),
    ] {
        let mut outer = memory(1 << 40, "iwo", rate, 100.0);
        outer.setup = presil_numerics::Seconds(setup * 1e-9);
        let mut inner = memory(1 << 20, "w", 1024.0, 1.0);
        inner.must_keep = inner.keeps;
        inner.buffering = 2;
        let chip = chip(vec![NodeKind::Memory(outer), NodeKind::Memory(inner)]);
        let einsum = gemm(1, 720, 1);
        let problem = problem(&chip, &einsum);
        let frame = Frame::new(&problem);
        let Ok(Some(model)) = Model::new(&problem, &frame) else {
            panic!("it does not compile");
        };
        let mut all = All {
            problem: &problem,
            power: 0.0,
            costs: Vec::new(),
        };
        let none = f64::INFINITY;
        let mut common = Common::new(&model, none, u64::MAX);
        let goal = unlimited(Figure::Time);
        prove(&model, goal, none, &mut all, u64::MAX, false, &mut common);
        let least = all.costs.iter().map(|c| c.0).fold(none, f64::min);
        let bound = assign::Assignment::none().bound(&model).0;
        println!("{rate} {setup}: {bound:e} of {least:e}");
        assert!(bound <= least * (1.0 + 1e-9), "{bound} of {least}");
        closest = closest.max(bound / least);
    }
    assert!(closest > 0.97, "{closest}");
}
