//! The machine by hand-worked cases, and skipped periods against every event.

#![expect(clippy::unwrap_used, reason = "tests")]

use presil_numerics::Femtoseconds;
use proptest::prelude::*;

use super::account::Times;
use super::machine::{Pace, Stuck, Waiting, run};
use super::program::{
    CauseId, Flow, Pool, PoolId, Program, Queue, QueueId, ResourceId, Step, TagId, Work,
};

/// Causes of all these programs.
const ARRAY: CauseId = CauseId(0);
const TILE: CauseId = CauseId(1);
const ROOM: CauseId = CauseId(2);

fn empty(resources: usize) -> Program {
    Program {
        resources: (0..resources).map(|r| format!("r{r}")).collect(),
        causes: ["array", "tile", "room"].map(String::from).to_vec(),
        tags: 1,
        ..Program::default()
    }
}

fn pool(p: &mut Program, tokens: u64, cause: CauseId) -> PoolId {
    p.pools.push(Pool { tokens, cause });
    PoolId(p.pools.len() as u32 - 1)
}

fn work(p: &mut Program, work: Work) -> Step {
    p.works.push(work);
    Step::Work(p.works.len() as u32 - 1)
}

fn flow(amount: u64, over: &[(u32, f64)]) -> Option<Flow> {
    Some(Flow {
        amount,
        over: over.iter().map(|(r, c)| (ResourceId(*r), *c)).collect(),
        least: 0.0,
    })
}

fn queue(p: &mut Program, name: &str, steps: Vec<Step>) {
    p.queues.push(Queue {
        name: name.into(),
        outstanding: 1,
        told_as: (name == "array").then_some(ARRAY),
        leads: name == "array",
        steps,
    });
}

/// Loads of `load` units and computations of `cycles`, `count` times, with `slots` tiles.
fn stream(count: u64, load: u64, cycles: u64, slots: u64) -> Program {
    let mut p = empty(1);
    let (free, full) = (pool(&mut p, slots, ROOM), pool(&mut p, 0, TILE));
    let fetch = work(
        &mut p,
        Work {
            flow: flow(load, &[(0, 1.0)]),
            signals: vec![(full, 1)],
            ..Work::default()
        },
    );
    let compute = work(
        &mut p,
        Work {
            cycles: Femtoseconds(cycles),
            frees: vec![(free, 1)],
            ..Work::default()
        },
    );
    let repeat = |take: PoolId, step: Step| {
        let acquire = Step::Acquire {
            pool: take,
            tokens: 1,
        };
        vec![Step::Repeat { count, steps: 2 }, acquire, step]
    };
    queue(&mut p, "array", repeat(full, compute));
    queue(&mut p, "dma", repeat(free, fetch));
    p.queues[0].steps.insert(0, Step::Mark(TagId(0)));
    p.retires = Some(QueueId(0));
    p
}

fn end(p: &Program) -> u64 {
    run(p, Pace::EveryEvent).unwrap().end.0
}

#[test]
fn two_tiles_overlap_loads_with_computation() {
    // load(0) + sum of max(load, compute) + compute(last).
    assert_eq!(end(&stream(10, 7, 5, 2)), 7 * 10 + 5);
    assert_eq!(end(&stream(10, 5, 7, 2)), 5 + 7 * 10);
    // One tile: nothing overlaps.
    assert_eq!(end(&stream(10, 5, 7, 1)), 120);
}

#[test]
fn time_is_told_by_class() {
    let times = run(&stream(10, 7, 5, 2), Pace::EveryEvent).unwrap();
    let array = &times.queues[0];
    assert_eq!(array.moving, Femtoseconds(50));
    assert_eq!(array.waiting[TILE.0 as usize], Femtoseconds(25));
    assert_eq!(times.told[0], [50, 25, 0].map(Femtoseconds));
    assert_eq!(times.served, [Femtoseconds(70)]);
}

#[test]
fn flows_share_a_resource_fairly() {
    // Two flows over one resource, one of them over a narrow one too: 1/4 and 3/4 of the wide one.
    let mut p = empty(2);
    let a = work(
        &mut p,
        Work {
            flow: flow(100, &[(0, 1.0), (1, 4.0)]),
            ..Work::default()
        },
    );
    let b = work(
        &mut p,
        Work {
            flow: flow(300, &[(0, 1.0)]),
            ..Work::default()
        },
    );
    queue(&mut p, "a", vec![a]);
    queue(&mut p, "b", vec![b]);
    let times = run(&p, Pace::EveryEvent).unwrap();
    assert_eq!(times.end, Femtoseconds(400));
    // The wide one is full; the second loses a quarter of its rate by it.
    assert_eq!(times.queues[1].contended[0], Femtoseconds(100));
    assert_eq!(times.queues[0].contended[0], Femtoseconds(0));
}

/// Shares by raising all rates in small steps, each as long as its flow has room: nothing in common with the filling but the definition.
fn water(flows: &[Flow], resources: usize, step: f64) -> Vec<f64> {
    let mut rates = vec![0.0; flows.len()];
    let mut open = vec![true; flows.len()];
    while open.iter().any(|o| *o) {
        for at in 0..flows.len() {
            if !open[at] {
                continue;
            }
            rates[at] += step;
            let full = (0..resources).any(|r| {
                let cost = |f: &Flow| {
                    let own = f.over.iter().filter(|o| o.0.0 as usize == r);
                    own.map(|o| o.1).sum::<f64>()
                };
                let used: f64 = flows.iter().zip(&rates).map(|(f, x)| x * cost(f)).sum();
                used > 1.0 && cost(&flows[at]) > 0.0
            });
            if full || rates[at] * flows[at].least > 1.0 {
                rates[at] -= step;
                open[at] = false;
            }
        }
    }
    rates
}

#[test]
fn shares_are_those_of_rising_water() {
    let mut r = Random(7);
    for _ in 0..60 {
        let resources = 1 + r.below(4) as usize;
        let flows: Vec<Flow> = (0..2 + r.below(5))
            .map(|_| {
                let mut over = Vec::new();
                for n in 0..resources as u32 {
                    let cost = 0.5 + r.below(8) as f64 / 4.0;
                    if r.below(2) == 0 {
                        over.push((ResourceId(n), cost));
                    }
                }
                if over.is_empty() {
                    over.push((ResourceId(0), 1.0));
                }
                Flow {
                    amount: 100,
                    over,
                    least: r.below(3) as f64 * 2.0,
                }
            })
            .collect();
        let all: Vec<&Flow> = flows.iter().collect();
        let mut given = Vec::new();
        super::share::Filling::new(resources).fill(&all, &mut given);
        let step = 1e-4;
        for (own, slow) in given.iter().zip(water(&flows, resources, step)) {
            let apart = (own.rate - slow).abs();
            assert!(apart < 40.0 * step, "{} {slow} {flows:?}", own.rate);
        }
    }
}

#[test]
fn requests_in_flight_limit_a_flow() {
    let mut p = empty(1);
    let mut slow = flow(10, &[(0, 1.0)]);
    slow.as_mut().unwrap().least = 3.0;
    let a = work(
        &mut p,
        Work {
            flow: slow,
            setup: Femtoseconds(5),
            tail: Femtoseconds(2),
            ..Work::default()
        },
    );
    queue(&mut p, "a", vec![a, a]);
    // Set-ups and tails of one queue: the second is set up when the first has moved.
    assert_eq!(end(&p), 5 + 30 + 5 + 30 + 2);
    p.queues[0].outstanding = 2;
    assert_eq!(end(&p), 5 + 30 + 30 + 2);
}

#[test]
fn queues_that_wait_for_each_other_are_named() {
    let mut p = empty(0);
    let never = pool(&mut p, 0, TILE);
    let acquire = Step::Acquire {
        pool: never,
        tokens: 1,
    };
    queue(&mut p, "array", vec![acquire]);
    let stuck = Stuck::Deadlock(vec![Waiting {
        queue: "array".into(),
        cause: "tile".into(),
        step: 0,
    }]);
    assert_eq!(run(&p, Pace::SkipPeriods), Err(stuck));
}

#[test]
fn what_a_program_does_not_have_is_refused() {
    let pool = PoolId(0);
    let acquire = Step::Acquire { pool, tokens: 1 };
    let body = |count, steps| vec![Step::Repeat { count, steps }, Step::Work(0)];
    let run = |steps: Vec<Step>| {
        let mut p = empty(1);
        // The second crosses a resource that there is not, the third takes no time.
        for flow in [None, flow(1, &[(1, 1.0)]), flow(1, &[(0, 0.0)])] {
            work(
                &mut p,
                Work {
                    flow,
                    ..Work::default()
                },
            );
        }
        queue(&mut p, "array", steps);
        run(&p, Pace::SkipPeriods)
    };
    assert!(run(body(3, 1)).is_ok());
    let wrong = [
        vec![acquire],
        vec![Step::Mark(TagId(1))],
        vec![Step::Work(1)],
        vec![Step::Work(2)],
        vec![Step::Work(3)],
        body(0, 1),
        body(1, 0),
        body(1, 2),
    ];
    for steps in wrong {
        let told = format!("{steps:?}");
        assert!(matches!(run(steps), Err(Stuck::Malformed { .. })), "{told}");
    }
}

/// A small pseudo-random number generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A core: weights stay over an inner loop, inputs come and outputs leave each time, last tiles are smaller. It shares DRAM (0), and
/// a link (1) with the others; its clock is its own.
fn core(p: &mut Program, r: &mut Random, number: usize) {
    let period = 700_000 + r.below(900_000);
    let (outer, inner) = (1 + r.below(30), 2 + r.below(40));
    let dram = 20.0 + r.below(1000) as f64 / 7.0;
    let mut slots = |p: &mut Program| {
        let free = pool(p, 1 + r.below(3), ROOM);
        (free, pool(p, 0, TILE))
    };
    let [w, i, o] = [slots(p), slots(p), slots(p)];
    let take = |pool: PoolId| Step::Acquire { pool, tokens: 1 };
    let (setup, tail) = (r.below(3) * 50_000_000, r.below(3) * 10_000_000);
    let load = |p: &mut Program, signals: PoolId, bits: u64| {
        let step = Work {
            setup: Femtoseconds(setup),
            flow: flow(bits, &[(0, dram), (1, 40.0)]),
            tail: Femtoseconds(tail),
            signals: vec![(signals, 1)],
            ..Work::default()
        };
        work(p, step)
    };
    let bits = 1 + r.below(100_000);
    let weights = load(p, w.1, 1 + r.below(300_000));
    let (tile, last) = (load(p, i.1, bits), load(p, i.1, bits / 2 + 1));
    let (back, back_last) = (load(p, o.0, bits / 3 + 1), load(p, o.0, bits / 5 + 1));
    let depth = r.below(20);
    let compute = |p: &mut Program, cycles: u64| {
        let step = Work {
            cycles: Femtoseconds(period * cycles),
            tail: Femtoseconds(period * depth),
            frees: vec![(i.0, 1)],
            signals: vec![(o.1, 1)],
            ..Work::default()
        };
        work(p, step)
    };
    let cycles = 1 + r.below(4000);
    let (full, part) = (compute(p, cycles), compute(p, cycles / 2 + 1));
    let drop = work(
        p,
        Work {
            frees: vec![(w.0, 1)],
            ..Work::default()
        },
    );
    let nest = |before: &[Step], body: &[Step], last: &[Step], after: &[Step]| {
        let mut inside = before.to_vec();
        inside.push(Step::Repeat {
            count: inner - 1,
            steps: body.len() as u32,
        });
        inside.extend(body);
        inside.extend(last);
        inside.extend(after);
        let mut steps = vec![Step::Repeat {
            count: outer,
            steps: inside.len() as u32,
        }];
        steps.extend(inside);
        steps
    };
    let body = |step: Step| [take(i.1), take(o.0), step];
    let array = nest(&[take(w.1)], &body(full), &body(part), &[drop]);
    let inputs = nest(&[], &[take(i.0), tile], &[take(i.0), last], &[]);
    let stores = nest(&[], &[take(o.1), back], &[take(o.1), back_last], &[]);
    let fetch = [
        Step::Repeat {
            count: outer,
            steps: 2,
        },
        take(w.0),
        weights,
    ];
    let first = p.queues.len();
    queue(p, "array", array);
    queue(p, "inputs", inputs);
    queue(p, "stores", stores);
    queue(p, "weights", fetch.to_vec());
    for q in &mut p.queues[first..] {
        q.name = format!("{}{number}", q.name);
        q.outstanding = 1 + (number as u32 % 2);
    }
    if number == 0 {
        p.queues[first].steps.insert(0, Step::Mark(TagId(0)));
        p.retires = Some(QueueId(first as u32));
    }
}

fn chip(seed: u64) -> Program {
    let mut r = Random(seed);
    let mut p = empty(2);
    for number in 0..1 + r.below(3) as usize {
        core(&mut p, &mut r, number);
    }
    p
}

/// What must be the same however a program was gone through.
fn result(times: &Times) -> Times {
    Times {
        events: 0,
        skipped: Femtoseconds(0),
        ..times.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn skipped_periods_are_exact(seed in any::<u64>()) {
        let p = chip(seed);
        let (every, skip) = (run(&p, Pace::EveryEvent).unwrap(), run(&p, Pace::SkipPeriods).unwrap());
        prop_assert_eq!(result(&every), result(&skip));
        prop_assert_eq!(every.events, every.represented);
        prop_assert_eq!(every.skipped, Femtoseconds(0));
    }

    #[test]
    fn the_time_of_each_queue_is_told_whole(seed in any::<u64>()) {
        let times = run(&chip(seed), Pace::SkipPeriods).unwrap();
        for q in &times.queues {
            let waits = q.waiting.iter().chain(&q.contended).map(|t| t.0).sum::<u64>();
            prop_assert_eq!(q.moving.0 + q.setting_up.0 + q.draining.0 + q.done.0 + waits, times.end.0);
        }
        prop_assert_eq!(times.told.iter().flatten().map(|t| t.0).sum::<u64>(), times.end.0);
        // No resource serves more than it can, but for flows' ends that are rounded up.
        for served in &times.served {
            prop_assert!(served.0 <= times.end.0);
        }
    }
}

#[test]
fn most_of_regular_programs_is_skipped() {
    let (mut all, mut skipped) = (0, 0);
    for seed in 0..200 {
        let times = run(&chip(seed), Pace::SkipPeriods).unwrap();
        all += times.represented;
        skipped += times.represented - times.events;
    }
    let share = skipped as f64 / all as f64;
    println!("{all} events, {:.1} % of them skipped", 100.0 * share);
    assert!(share > 0.3, "{share}");
    // A long stream takes a few periods.
    let times = run(&stream(1_000_000_000, 7_000, 5_003, 2), Pace::SkipPeriods).unwrap();
    assert!(times.events < 100, "{}", times.events);
    assert_eq!(times.end.0, 7_000 * 1_000_000_000 + 5_003);
}
