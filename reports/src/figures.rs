//! Figures that reports derive from a [`Run`]: where time and energy go, what binds, throughput, roofline.
//!
//! Nothing here adds to the model; it only sums and divides what the Run holds. Equations, per phase:
//!
//! ```text
//! throughput      = batch / interval                 inferences or, in a decode step, tokens per second
//!                 = batch x prompt / interval        tokens per second of a prefill; interval: the latency, or that
//!                                                    of a pipeline where throughput is asked for
//! average power   = energy / latency
//! power of an op  = dynamic energy of all its runs / their time + static power;  peak power: that of the op with most
//! bound by        = the bottleneck under which most of the ops' time is spent
//! intensity       = executed MACs / bytes of the root memory
//! ridge point     = peak MACs per second / streaming bytes per second of the root memory
//! ```
//!
//! Parts always sum to their whole: what the ops do not account for is a part of its own,
//! [`NOT_ATTRIBUTED`], as soon as it exceeds a millionth of the whole. The root memory is the first one that the
//! traffic of the first phase lists.

use presil_sim::Run;
use presil_sim::run::{Energy, Fidelity, OpRun, Phase, Traffic};

/// Name of the part that no op and no entry accounts for.
pub const NOT_ATTRIBUTED: &str = "not attributed";
/// Name of the part of the energy that is spent whether or not anything happens.
pub const STATIC: &str = "static";

/// What kind of thing a part of time or energy belongs to; reports give each kind its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// MAC arrays.
    Compute,
    /// A memory.
    Memory,
    /// Vector units.
    Vector,
    /// Any other component: links, a host.
    Other,
    /// Launch, fill, drain, handover.
    Latency,
    /// Leakage and background power.
    Static,
    /// What nothing accounts for.
    Rest,
}

/// One part of a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// "compute", a memory's or component's name, "vector", "latency", "static".
    pub name: String,
    /// What it belongs to.
    pub kind: Kind,
    /// Its size, in the unit of the whole.
    pub value: f64,
}

impl Part {
    /// What reports call it.
    pub fn label(&self) -> &str {
        match self.kind {
            Kind::Latency => "launch, fill, drain",
            Kind::Static => "static power",
            _ => &self.name,
        }
    }
}

/// The value, or zero where it is not finite: sums and drawings go on, and the figure itself prints as "n/a".
pub fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}

/// `a / b`, if that is a finite number.
pub fn ratio(a: f64, b: f64) -> Option<f64> {
    let q = a / b;
    (b > 0.0 && q.is_finite()).then_some(q)
}

fn add(parts: &mut Vec<Part>, name: &str, kind: Kind, value: f64) {
    match parts.iter_mut().find(|p| p.kind == kind && p.name == name) {
        Some(p) => p.value += finite(value),
        None => parts.push(Part {
            name: name.to_string(),
            kind,
            value: finite(value),
        }),
    }
}

fn close(parts: &mut Vec<Part>, total: f64) {
    let sum: f64 = parts.iter().map(|p| p.value).sum();
    let rest = finite(total) - sum;
    if rest.abs() > 1e-6 * finite(total).abs().max(sum.abs()) {
        parts.push(Part {
            name: NOT_ATTRIBUTED.into(),
            kind: Kind::Rest,
            value: rest,
        });
    }
}

fn add_time(parts: &mut Vec<Part>, op: &OpRun) {
    add(parts, "compute", Kind::Compute, op.time.compute_s);
    for (memory, t) in &op.time.memory_s {
        add(parts, memory, Kind::Memory, *t);
    }
    add(parts, "vector", Kind::Vector, op.time.vector_s);
    add(parts, "latency", Kind::Latency, op.time.latency_s);
}

/// Whether an energy entry is spent whether or not anything happens.
pub fn is_static(action: &str) -> bool {
    matches!(action, "static" | "leakage" | "background")
}

/// Each text once, in order of first sight.
fn once<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for t in texts {
        if !seen.contains(&t.as_str()) {
            seen.push(t);
        }
    }
    seen
}

/// A Run with what every report asks of it again and again.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The Run.
    pub run: &'a Run,
    /// Every memory that the Run names, root first.
    pub memories: Vec<&'a str>,
    /// Every component that has an energy entry, and its kind, in order of kind.
    pub components: Vec<(&'a str, Kind)>,
    /// Assumptions of the Run and of its phases, each once.
    pub assumptions: Vec<&'a str>,
    /// Ops of the Run and of its phases that have no model, each once.
    pub unmodelled: Vec<&'a str>,
}

impl<'a> View<'a> {
    /// Looks through a Run once.
    pub fn new(run: &'a Run) -> Self {
        let mut memories: Vec<&str> = Vec::new();
        let mut see = |name: &'a str| {
            if !memories.contains(&name) {
                memories.push(name);
            }
        };
        for phase in &run.phases {
            phase.traffic.iter().for_each(|t| see(&t.memory));
        }
        for op in run.phases.iter().flat_map(|p| &p.ops) {
            op.traffic.iter().for_each(|t| see(&t.memory));
            op.time.memory_s.iter().for_each(|t| see(&t.0));
        }
        let mut components: Vec<(&str, Kind)> = Vec::new();
        let of_ops = run
            .phases
            .iter()
            .flat_map(|p| &p.ops)
            .flat_map(|op| &op.energy);
        for e in run.phases.iter().flat_map(|p| &p.energy).chain(of_ops) {
            if is_static(&e.action) {
                continue;
            }
            let kind = match e.action.as_str() {
                _ if memories.contains(&e.component.as_str()) => Kind::Memory,
                "mac" => Kind::Compute,
                "lane" => Kind::Vector,
                _ => Kind::Other,
            };
            match components.iter_mut().find(|c| c.0 == e.component) {
                // One kind a component: a MAC array that also moves data stays a MAC array.
                Some(c) => c.1 = c.1.min(kind),
                None => components.push((&e.component, kind)),
            }
        }
        components.sort_by_key(|c| c.1);
        let of_phases = run.phases.iter().flat_map(|p| &p.assumptions);
        let assumptions = once(run.assumptions.iter().chain(of_phases));
        let of_phases = run.phases.iter().flat_map(|p| &p.unmodelled);
        let unmodelled = once(run.unmodelled.iter().chain(of_phases));
        Self {
            run,
            memories,
            components,
            assumptions,
            unmodelled,
        }
    }

    /// The root memory: the first one that the traffic lists.
    pub fn root(&self) -> Option<&'a str> {
        self.memories.first().copied()
    }

    /// Bytes of the root memory.
    pub fn root_bytes(&self, traffic: &[Traffic]) -> f64 {
        self.root().map_or(0.0, |r| bytes_of(traffic, r))
    }

    /// Executed MACs per byte of the root memory.
    pub fn intensity(&self, executed_macs: u128, traffic: &[Traffic]) -> Option<f64> {
        ratio(executed_macs as f64, self.root_bytes(traffic))
    }

    /// In order of kind and, for memories, from the root down; without what is nothing but rounding.
    fn tidy(&self, mut parts: Vec<Part>) -> Vec<Part> {
        let most = parts.iter().fold(0.0f64, |m, p| m.max(p.value.abs()));
        parts.retain(|p| p.value.abs() > 1e-9 * most);
        parts.sort_by_key(|p| (p.kind, self.memories.iter().position(|m| *m == p.name)));
        parts
    }

    /// Where an op's time goes, in seconds.
    pub fn op_time(&self, op: &OpRun) -> Vec<Part> {
        let mut parts = Vec::new();
        add_time(&mut parts, op);
        close(&mut parts, op.time.total_s);
        self.tidy(parts)
    }

    /// Where a phase's time goes, in seconds.
    pub fn phase_time(&self, phase: &Phase) -> Vec<Part> {
        let mut parts = Vec::new();
        for op in &phase.ops {
            add_time(&mut parts, op);
        }
        close(&mut parts, phase.latency_s);
        self.tidy(parts)
    }

    fn add_energy(&self, parts: &mut Vec<Part>, energy: &[Energy]) {
        for e in energy {
            if is_static(&e.action) {
                add(parts, STATIC, Kind::Static, e.energy_j);
            } else {
                let kind = self
                    .components
                    .iter()
                    .find(|c| c.0 == e.component)
                    .map_or(Kind::Other, |c| c.1);
                add(parts, &e.component, kind, e.energy_j);
            }
        }
    }

    /// Where an op's energy goes, by component, in joules.
    pub fn op_energy(&self, op: &OpRun) -> Vec<Part> {
        let mut parts = Vec::new();
        self.add_energy(&mut parts, &op.energy);
        self.tidy(parts)
    }

    /// Where a phase's energy goes: dynamic energy by component, all static energy as one part, in joules.
    pub fn phase_energy(&self, phase: &Phase) -> Vec<Part> {
        let mut parts = Vec::new();
        self.add_energy(&mut parts, &phase.energy);
        close(&mut parts, phase.energy_j);
        self.tidy(parts)
    }
}

/// Dynamic energy of an op in joules.
pub fn op_joules(op: &OpRun) -> f64 {
    op.energy
        .iter()
        .fold(0.0, |sum, e| sum + finite(e.energy_j))
}

/// Bytes read and written of a memory.
pub fn bytes_of(traffic: &[Traffic], memory: &str) -> f64 {
    let mine = traffic.iter().filter(|t| t.memory == memory);
    mine.map(|t| finite(t.read_bytes) + finite(t.write_bytes))
        .sum()
}

/// The bottleneck under which most of the ops' time is spent, and its share of that time (0..=1).
pub fn bound_by(phase: &Phase) -> Option<(&str, f64)> {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for op in &phase.ops {
        match sums.iter_mut().find(|s| s.0 == op.bottleneck) {
            Some(s) => s.1 += finite(op.time.total_s),
            None => sums.push((&op.bottleneck, finite(op.time.total_s))),
        }
    }
    let total: f64 = sums.iter().map(|s| s.1).sum();
    let first = sums
        .iter()
        .fold(None::<&(&str, f64)>, |best, s| match best {
            Some(b) if b.1 >= s.1 => Some(b),
            _ => Some(s),
        });
    first.and_then(|s| ratio(s.1, total).map(|share| (s.0, share)))
}

/// What most of the root memory's traffic is ("weights", "caches", "activations"), and its share (0..=1).
pub fn root_mostly(phase: &Phase) -> Option<(&str, f64)> {
    let total: f64 = phase.root_traffic.iter().map(|r| finite(r.1)).sum();
    let first = phase
        .root_traffic
        .iter()
        .fold(None::<&(String, f64)>, |best, r| match best {
            Some(b) if b.1 >= r.1 => Some(b),
            _ => Some(r),
        });
    first.and_then(|r| ratio(r.1, total).map(|share| (r.0.as_str(), share)))
}

/// Throughput of a phase and its unit. `None` where the latency is zero.
pub fn throughput(run: &Run, phase: &Phase) -> Option<(f64, &'static str)> {
    let (work, unit) = match (phase.name.as_str(), run.prompt) {
        ("prefill", Some(prompt)) => (run.batch as f64 * prompt as f64, "tokens/s"),
        ("prefill", None) => (run.batch as f64, "sequences/s"),
        ("decode", _) => (run.batch as f64, "tokens/s"),
        _ => (run.batch as f64, "inferences/s"),
    };
    let interval = if phase.interval_s > 0.0 {
        phase.interval_s.min(phase.latency_s)
    } else {
        phase.latency_s
    };
    ratio(work, interval).map(|r| (r, unit))
}

/// Mean power of a phase in watts.
pub fn average_power(phase: &Phase) -> Option<f64> {
    ratio(phase.energy_j, phase.latency_s)
}

/// Power while an op runs, in watts: its dynamic energy over its time, and what is drawn all the time.
pub fn op_power(phase: &Phase, op: &OpRun) -> Option<f64> {
    let fixed = phase.energy.iter().filter(|e| e.action == STATIC);
    let fixed = ratio(fixed.map(|e| e.energy_j).sum(), phase.latency_s)?;
    Some(ratio(op_joules(op), op.time.total_s)? + fixed)
}

/// The largest power of an op that takes at least a thousandth of the time, in watts, and the op.
pub fn peak_power(phase: &Phase) -> Option<(f64, &OpRun)> {
    let lasts = |o: &&OpRun| o.time.total_s >= 1e-3 * phase.latency_s && o.time.total_s > 0.0;
    let powers = phase.ops.iter().filter(lasts);
    let powers = powers.filter_map(|o| Some((op_power(phase, o)?, o)));
    powers.reduce(|most, p| if p.0 > most.0 { p } else { most })
}

/// The intensity at which the chip changes from memory bound to compute bound, in MACs per byte.
pub fn ridge(run: &Run) -> Option<f64> {
    ratio(run.peak_macs_per_s, run.dram_streaming_bytes_per_s).filter(|r| *r > 0.0)
}

/// The MAC rate that the roofline allows at an intensity, in MACs per second.
pub fn roof(run: &Run, intensity: f64) -> f64 {
    (intensity * run.dram_streaming_bytes_per_s).min(run.peak_macs_per_s)
}

/// The word for a fidelity.
pub fn fidelity(f: Fidelity) -> &'static str {
    match f {
        Fidelity::Analytic => "analytic",
        Fidelity::Simulated => "simulated",
    }
}

/// What a phase is called in headings.
pub fn phase_title(run: &Run, phase: &Phase) -> String {
    match phase.name.as_str() {
        "forward" => "Forward pass".into(),
        "prefill" => match run.prompt {
            Some(n) => format!("Prefill of {n} tokens"),
            None => "Prefill".into(),
        },
        "decode" => "Decode step".into(),
        other => other.to_string(),
    }
}

/// Indices of a phase's ops from the longest to the shortest; equal ones stay in execution order.
pub fn by_time(phase: &Phase) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = phase
        .ops
        .iter()
        .enumerate()
        .map(|(i, op)| (i, finite(op.time.total_s)))
        .collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.into_iter().map(|o| o.0).collect()
}

/// Whether an op takes neither time nor energy of its own: fused into another one, or a mere view.
pub fn is_free(op: &OpRun) -> bool {
    op.time.total_s == 0.0 && op_joules(op) == 0.0
}

/// The constants of the chip that are only assumed.
pub fn assumed(run: &Run) -> usize {
    run.provenance
        .iter()
        .filter(|p| p.status == presil_hwmodels::Status::Assumed)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    fn sum(parts: &[Part]) -> f64 {
        parts.iter().map(|p| p.value).sum()
    }

    #[test]
    fn parts_close_and_what_is_missing_is_a_part() {
        let mut run = sample::cnn();
        let view = View::new(&run);
        let phase = &run.phases[0];
        assert!(
            view.phase_time(phase)
                .iter()
                .chain(&view.phase_energy(phase))
                .all(|p| p.kind != Kind::Rest)
        );
        assert!((sum(&view.phase_time(phase)) - phase.latency_s).abs() < 1e-9 * phase.latency_s);
        assert!((sum(&view.phase_energy(phase)) - phase.energy_j).abs() < 1e-9 * phase.energy_j);

        let hole = 0.25 * run.phases[0].latency_s;
        run.phases[0].latency_s += hole;
        let parts = View::new(&run).phase_time(&run.phases[0]);
        let rest: Vec<&Part> = parts.iter().filter(|p| p.name == NOT_ATTRIBUTED).collect();
        assert!(rest.len() == 1 && (rest[0].value - hole).abs() < 1e-9 * hole);
    }

    #[test]
    fn the_bottleneck_of_a_phase_is_the_one_with_most_time() {
        let mut run = sample::llm();
        assert_eq!(bound_by(&run.phases[0]).map(|b| b.0), Some("compute"));
        assert_eq!(bound_by(&run.phases[1]).map(|b| b.0), Some("lpddr5"));
        for op in &mut run.phases[1].ops {
            op.bottleneck = if op.class == "linear" {
                "compute".into()
            } else {
                "vector".into()
            };
        }
        assert_eq!(bound_by(&run.phases[1]).map(|b| b.0), Some("compute"));
        assert_eq!(bound_by(&sample::zeros().phases[0]), None);
    }

    #[test]
    fn throughput_counts_what_a_pass_makes() {
        let mut run = sample::llm();
        run.batch = 4;
        let (prefill, decode) = (&run.phases[0], &run.phases[1]);
        assert_eq!(
            throughput(&run, prefill),
            Some((4.0 * 512.0 / prefill.latency_s, "tokens/s"))
        );
        assert_eq!(
            throughput(&run, decode),
            Some((4.0 / decode.latency_s, "tokens/s"))
        );
        assert_eq!(
            throughput(&sample::zeros(), &sample::zeros().phases[0]),
            None
        );
    }

    #[test]
    fn components_have_one_kind_and_the_root_comes_first() {
        let run = sample::cnn();
        let view = View::new(&run);
        assert_eq!(view.root(), Some("lpddr5"));
        assert_eq!(view.memories, ["lpddr5", "glb", "accumulator"]);
        let kind = |n: &str| view.components.iter().find(|c| c.0 == n).map(|c| c.1);
        assert_eq!(kind("array"), Some(Kind::Compute));
        assert_eq!(kind("glb"), Some(Kind::Memory));
        assert_eq!(kind("vpu"), Some(Kind::Vector));
        assert_eq!(kind("noc"), Some(Kind::Other));
    }

    proptest! {
        #[test]
        fn the_roof_meets_itself_at_the_ridge(peak in 1e9f64..1e15, rate in 1e8f64..1e13, x in 1e-3f64..1e6) {
            let run = Run { peak_macs_per_s: peak, dram_streaming_bytes_per_s: rate, ..sample::empty() };
            let at = ridge(&run).unwrap_or(0.0);
            prop_assert!((roof(&run, at) / peak - 1.0).abs() < 1e-9);
            let slope = roof(&run, x) / x;
            let right = if x < at { (slope / rate - 1.0).abs() < 1e-9 } else { roof(&run, x) == peak };
            prop_assert!(right, "slope {} at {}", slope, x);
        }
    }
}
