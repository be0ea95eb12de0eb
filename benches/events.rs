//! Events a second of the event engine, gone through one by one and with periods skipped, on one thread.
//!
//! The program: cores with a clock of their own each, which fetch weights once in a while, an input tile each time, and
//! write an output tile back, over one DRAM and one link.

use std::time::Instant;

use presil::numerics::Femtoseconds;
use presil::sim::timing::program::{
    CauseId, Flow, Pool, PoolId, Program, Queue, ResourceId, Step, Work,
};
use presil::sim::timing::{Pace, run};

/// Tiles of each core: so many weights, so many inputs for each.
const OUTER: u64 = 2_000;
const INNER: u64 = 50;

fn pool(p: &mut Program, tokens: u64) -> PoolId {
    p.pools.push(Pool {
        tokens,
        cause: CauseId(0),
    });
    PoolId(p.pools.len() as u32 - 1)
}

fn work(p: &mut Program, work: Work) -> Step {
    p.works.push(work);
    Step::Work(p.works.len() as u32 - 1)
}

/// Moves bits over the DRAM and the link.
fn transfer(p: &mut Program, bits: u64, signals: PoolId) -> Step {
    let over = vec![(ResourceId(0), 2_500.0), (ResourceId(1), 1_000.0)];
    work(
        p,
        Work {
            setup: Femtoseconds(50_000_000),
            flow: Some(Flow {
                amount: bits,
                over,
                least: 0.0,
            }),
            signals: vec![(signals, 1)],
            ..Work::default()
        },
    )
}

fn core(p: &mut Program, period: u64) {
    let slots = |p: &mut Program| (pool(p, 2), pool(p, 0));
    let [w, i, o] = [slots(p), slots(p), slots(p)];
    let take = |pool: PoolId| Step::Acquire { pool, tokens: 1 };
    let weights = transfer(p, 262_144, w.1);
    let input = transfer(p, 65_536, i.1);
    let output = transfer(p, 16_384, o.0);
    let compute = work(
        p,
        Work {
            cycles: Femtoseconds(period * 512),
            tail: Femtoseconds(period * 40),
            frees: vec![(i.0, 1)],
            signals: vec![(o.1, 1)],
            ..Work::default()
        },
    );
    let drop = work(
        p,
        Work {
            frees: vec![(w.0, 1)],
            ..Work::default()
        },
    );
    let repeat = |count: u64, body: &[Step]| {
        let header = Step::Repeat {
            count,
            steps: body.len() as u32,
        };
        [&[header], body].concat()
    };
    let inner = repeat(INNER, &[take(i.1), take(o.0), compute]);
    let array = repeat(OUTER, &[&[take(w.1)], &inner[..], &[drop]].concat());
    let steps = [
        array,
        repeat(OUTER, &[take(w.0), weights]),
        repeat(OUTER * INNER, &[take(i.0), input]),
        repeat(OUTER * INNER, &[take(o.1), output]),
    ];
    for (n, steps) in steps.into_iter().enumerate() {
        p.queues.push(Queue {
            name: ["array", "weights", "inputs", "outputs"][n].into(),
            outstanding: 4,
            told_as: None,
            leads: n == 0,
            steps,
        });
    }
}

fn main() {
    println!("cores     events  one by one      with periods skipped");
    for cores in [1u64, 2, 4] {
        let mut p = Program {
            resources: vec!["dram".into(), "link".into()],
            causes: vec!["tile".into()],
            ..Program::default()
        };
        for c in 0..cores {
            core(&mut p, 1_000_000 + 1_003 * c);
        }
        let time = |pace: Pace| {
            let start = Instant::now();
            let times = run(&p, pace);
            (start.elapsed().as_secs_f64(), times)
        };
        let (every, skip) = (time(Pace::EveryEvent), time(Pace::SkipPeriods));
        let (Ok(a), Ok(b)) = (every.1, skip.1) else {
            println!("{cores}: stuck");
            continue;
        };
        assert_eq!((a.end, a.represented), (b.end, b.represented));
        println!(
            "{cores}  {:12}  {:5.2} M/s   {:8.3} ms, {} events gone through",
            a.events,
            a.events as f64 / every.0 / 1e6,
            skip.0 * 1e3,
            b.events
        );
    }
}
