//! Runs for the tests: a CNN, a language model with two phases, hostile names, nothing at all, and many ops.
//!
//! The figures come from simple closed forms, so that they are consistent (parts sum to totals), not true.
#![expect(clippy::cast_possible_truncation, reason = "small made-up numbers")]

use presil_hwmodels::{Provenance, Status};
use presil_sim::Run;
use presil_sim::run::{
    CoreUse, Energy, Fidelity, MappedAxis, MappedMemory, MappedTile, MemoryPlan, MemoryRegion,
    MemoryUse, OpRun, Phase, PowerUse, SpilledTensor, TimeParts, Timeline, TimelineSlice,
    TimelineTrack, Traffic,
};

const PEAK: f64 = 8.192e12;
const DRAM: f64 = 34.1e9;
const STREAM: f64 = 29.0e9;

/// What one op does.
struct Work<'a> {
    name: String,
    class: &'a str,
    shape: String,
    repeat: u64,
    macs: f64,
    executed: f64,
    /// Bytes from and to DRAM.
    dram: (f64, f64),
    /// Vector elements.
    lanes: f64,
    util: f64,
}

fn op(w: &Work<'_>) -> OpRun {
    let compute_s = w.executed / (PEAK * w.util);
    let dram_s = ((w.dram.0 + w.dram.1) / STREAM - compute_s).max(0.0);
    let glb_bytes = w.executed / 48.0 + w.dram.0 + w.dram.1;
    let glb_s = if w.macs > 0.0 { 0.04 * compute_s } else { 0.0 };
    let vector_s = w.lanes / 2.56e11;
    let latency_s = 1.6e-6 * w.repeat as f64;
    let total_s = compute_s + dram_s + glb_s + vector_s + latency_s;
    let parts = [
        ("compute", compute_s),
        ("lpddr5", dram_s),
        ("glb", glb_s),
        ("vector", vector_s),
        ("latency", latency_s),
    ];
    let bottleneck = parts
        .iter()
        .fold(("", 0.0), |b, p| if p.1 > b.1 { *p } else { b })
        .0;
    let e = |component: &str, action: &str, energy_j: f64| Energy {
        component: component.into(),
        action: action.into(),
        energy_j,
    };
    let energy = vec![
        e("lpddr5", "read", w.dram.0 * 8.0 * 4.2e-12),
        e("lpddr5", "write", w.dram.1 * 8.0 * 4.4e-12),
        e("glb", "read", glb_bytes * 1.1e-12),
        e("glb", "write", glb_bytes * 0.4e-12),
        e("accumulator", "write", w.executed * 0.02e-12),
        e("array", "mac", w.executed * 0.11e-12),
        e("noc", "hop", glb_bytes * 0.25e-12),
        e("vpu", "lane", w.lanes * 0.9e-12),
    ];
    let mapping = if w.macs > 0.0 {
        vec![
            "lpddr5   weights, inputs, outputs".into(),
            "  for k in 0..4".into(),
            "    for p in 0..7".into(),
            "      glb      weights[k16 c64 r3 s3], inputs[c64 h18 w58]".into(),
            "        spatial k 64, c 64".into(),
            "          accumulator outputs[k16 p8 q56]".into(),
            "            for r in 0..3, s in 0..3".into(),
            "              array    64 x 128 MACs, 97 % of them busy".into(),
        ]
    } else {
        vec![]
    };
    let notes = match (w.class, w.lanes == 0.0) {
        ("elementwise", true) => vec!["fused into the op before it".into()],
        ("select", _) => vec!["runs on the host: the vector unit has no sort".into()],
        _ => vec![],
    };
    OpRun {
        name: w.name.clone(),
        class: w.class.into(),
        shape: w.shape.clone(),
        repeat: w.repeat,
        engine: if w.macs > 0.0 { "npu" } else { "vpu" }.into(),
        macs: w.macs as u128,
        executed_macs: w.executed as u128,
        time: TimeParts {
            total_s,
            compute_s,
            memory_s: vec![("lpddr5".into(), dram_s), ("glb".into(), glb_s)],
            vector_s,
            latency_s,
        },
        bottleneck: bottleneck.into(),
        utilization: w.executed / PEAK / total_s,
        cores: None,
        passes: None,
        intensity: (w.dram.0 + w.dram.1 > 0.0).then(|| w.macs / (w.dram.0 + w.dram.1)),
        energy,
        traffic: vec![
            Traffic {
                memory: "lpddr5".into(),
                read_bytes: w.dram.0,
                write_bytes: w.dram.1,
            },
            Traffic {
                memory: "glb".into(),
                read_bytes: glb_bytes,
                write_bytes: 0.4 * glb_bytes,
            },
            Traffic {
                memory: "accumulator".into(),
                read_bytes: w.executed / 16.0,
                write_bytes: w.executed / 16.0,
            },
        ],
        memories: match mapping.is_empty() {
            true => vec![],
            false => vec![MappedMemory {
                memory: "glb".into(),
                capacity_bytes: 262_144,
                capacity_share: 0.75,
                port_utilization: 0.5,
                tiles: vec![MappedTile {
                    operand: "weight".into(),
                    tile_bytes: 98_304.0,
                    home: false,
                }],
            }],
        },
        axes: match mapping.is_empty() {
            true => vec![],
            false => vec![MappedAxis {
                axis: "array.columns".into(),
                size: 128,
                used: 124,
            }],
        },
        mapping,
        group: None,
        notes,
    }
}

fn phase(name: &str, steps: u64, ops: Vec<OpRun>) -> Phase {
    let latency_s: f64 = ops.iter().map(|o| o.time.total_s).sum();
    let mut traffic: Vec<Traffic> = vec![];
    let mut energy: Vec<Energy> = vec![];
    for o in &ops {
        for t in &o.traffic {
            match traffic.iter_mut().find(|x| x.memory == t.memory) {
                Some(x) => {
                    x.read_bytes += t.read_bytes;
                    x.write_bytes += t.write_bytes;
                }
                None => traffic.push(t.clone()),
            }
        }
        for e in &o.energy {
            match energy
                .iter_mut()
                .find(|x| x.component == e.component && x.action == e.action)
            {
                Some(x) => x.energy_j += e.energy_j,
                None => energy.push(e.clone()),
            }
        }
    }
    for (component, watts) in static_power() {
        energy.push(Energy {
            component,
            action: "static".into(),
            energy_j: watts * latency_s,
        });
    }
    let executed_macs: u128 = ops.iter().map(|o| o.executed_macs).sum();
    Phase {
        name: name.into(),
        steps,
        latency_s,
        interval_s: latency_s,
        cold_latency_s: latency_s * 1.18,
        cold_energy_j: 1.1 * energy.iter().map(|e| e.energy_j).sum::<f64>(),
        lower_bound_s: latency_s * 0.84,
        lower_bound_by: "lpddr5".into(),
        energy_j: energy.iter().map(|e| e.energy_j).sum(),
        macs: ops.iter().map(|o| o.macs).sum(),
        executed_macs,
        utilization: if latency_s > 0.0 {
            executed_macs as f64 / PEAK / latency_s
        } else {
            0.0
        },
        traffic,
        energy,
        weight_bytes: 25_557_032,
        cache_bytes: 0,
        peak_activation_bytes: 1_605_632,
        memory_plan: memory_plan(),
        partition: CoreUse::default(),
        ops,
        ..Phase::default()
    }
}

fn memory_plan() -> MemoryPlan {
    let region = |name: &str, kind: &str, offset_bytes, size_bytes| MemoryRegion {
        name: name.into(),
        kind: kind.into(),
        offset_bytes,
        size_bytes,
        held: vec![("first".into(), "last".into())],
        rank_order: Vec::new(),
        pitch_bits: Vec::new(),
        row_bytes: 0,
        padding_bytes: 0,
    };
    let tensor = MemoryRegion {
        rank_order: vec![0, 2, 3, 1],
        pitch_bits: vec![8 << 20, 8 << 14, 512, 8],
        row_bytes: 64,
        ..region("features", "activation", 0, 1 << 20)
    };
    let tile = |at| region("first", "weight tile", at, 1 << 18);
    let alive = [&tensor, &tile(1 << 20), &tile(5 << 18)]
        .map(|r| (r.name.clone(), r.kind.clone(), r.size_bytes));
    MemoryPlan {
        memories: vec![MemoryUse {
            memory: "glb".into(),
            capacity_bytes: 4 << 20,
            peak_bytes: 3 << 19,
            peak_at: "first".into(),
            peak_alive: alive.to_vec(),
            top_bytes: 3 << 19,
            tensor_top_bytes: 1 << 20,
            tensor_bound_bytes: 1 << 20,
            optimal: true,
            fragmentation: 0.0,
            alignment_bytes: 64,
            regions: vec![tensor, tile(1 << 20), tile(5 << 18)],
        }],
        spills: vec![SpilledTensor {
            name: "skip".into(),
            cause: "room".into(),
            written_bytes: 802_816.0,
            read_bytes: 802_816.0,
        }],
        optimal: true,
        order: Vec::new(),
    }
}

fn static_power() -> Vec<(String, f64)> {
    vec![
        ("lpddr5".into(), 0.045),
        ("glb".into(), 0.021),
        ("array".into(), 0.034),
        ("other".into(), 0.06),
    ]
}

fn run(model: &str, phases: Vec<Phase>) -> Run {
    let p =
        |path: &str, value: &str, range: Option<(&str, &str)>, status, source: &str| Provenance {
            path: path.into(),
            value: value.into(),
            range: range.map(|(a, b)| (a.to_string(), b.to_string())),
            status,
            source: source.into(),
            group: None,
        };
    Run {
        model: model.into(),
        chip: "edge-npu".into(),
        chip_hash: "9f3c1d20a77be514".into(),
        precision: "int8".into(),
        objective: "latency".into(),
        fidelity: Fidelity::Analytic,
        batch: 1,
        prompt: None,
        generate: None,
        phases,
        parameters: 25_557_032,
        peak_macs_per_s: PEAK,
        dram_peak_bytes_per_s: DRAM,
        dram_streaming_bytes_per_s: STREAM,
        power: PowerUse::default(),
        area: vec![
            ("array".into(), 2.31),
            ("glb".into(), 1.87),
            ("accumulator".into(), 0.44),
            ("vpu".into(), 0.38),
            ("noc".into(), 0.21),
            ("other".into(), 1.1),
        ],
        static_power: static_power(),
        assumptions: vec![
            "Weights of an op are fetched while the op before it runs, as far as the global buffer has room.".into(),
            "Activations that fit stay in the global buffer between ops; the residual branch is spilled.".into(),
            "Batch norms are folded into the convolutions before them.".into(),
            "DRAM reaches 85 % of its peak rate in long streams (lpddr5.streaming_efficiency).".into(),
            "Nothing else uses the memory or the processor while the model runs.".into(),
            "Requantization is one lane operation for each output element, inline with the drain.".into(),
            "Static power is charged for the whole latency; there is no power gating between ops.".into(),
        ],
        unmodelled: vec![],
        provenance: vec![
            p("clock.core.frequency", "1 GHz", None, Status::Assumed, "reference design"),
            p("lpddr5.rate", "34.1 GB/s", Some(("25.6 GB/s", "51.2 GB/s")), Status::Vendor, "JEDEC LPDDR5-6400, x32 + x32 at 4266 MT/s, vendor's brief"),
            p("lpddr5.energy", "4.2 pJ/bit", Some(("3.5 pJ/bit", "6 pJ/bit")), Status::Published, "https://example.org/lpddr5-energy: Table 3"),
            p("glb.capacity", "2 MiB", None, Status::Assumed, "reference design"),
            p("glb.read_energy", "1.1 pJ/B", Some(("0.8 pJ/B", "1.6 pJ/B")), Status::Scaled, "SRAM table at 22 nm scaled to 7 nm"),
            p("array.mac_energy", "0.11 pJ", Some(("0.07 pJ", "0.2 pJ")), Status::Scaled, "int8 MAC at 45 nm scaled to 7 nm"),
            p("array.peak", "8.192 TMAC/s", None, Status::Derived, "64 x 128 MACs at 1 GHz"),
            p("vpu.lanes", "256", None, Status::Assumed, "reference design"),
        ],
    }
}

fn conv(name: String, k: u32, c: u32, p: u32, r: u32, spill: bool) -> OpRun {
    let macs = f64::from(k) * f64::from(c) * f64::from(p * p) * f64::from(r * r);
    let weights = f64::from(k) * f64::from(c) * f64::from(r * r);
    let acts = f64::from(p * p) * f64::from(c + k);
    let util = match (c < 16, p < 14, r) {
        (true, _, _) => 0.21,
        (_, true, 1) => 0.58,
        (_, true, _) => 0.66,
        (_, _, 1) => 0.83,
        _ => 0.93,
    };
    op(&Work {
        name,
        class: "conv",
        shape: format!("n1 k{k} c{c} p{p} q{p} r{r} s{r}"),
        repeat: 1,
        macs,
        executed: macs,
        dram: (
            weights + if spill { acts * 0.6 } else { 0.0 },
            if spill { acts * 0.4 } else { 0.0 },
        ),
        lanes: f64::from(k * p * p) * 0.05,
        util,
    })
}

fn vector(name: String, class: &'static str, elements: f64, lanes: bool) -> OpRun {
    op(&Work {
        name,
        class,
        shape: format!("n{elements}"),
        repeat: 1,
        macs: 0.0,
        executed: 0.0,
        dram: (0.0, 0.0),
        lanes: if lanes { elements } else { 0.0 },
        util: 1.0,
    })
}

/// ResNet-50's shape, 70 ops.
pub fn cnn() -> Run {
    let mut ops = vec![conv("conv1".into(), 64, 3, 112, 7, true)];
    ops.push(vector("maxpool".into(), "pool", 64.0 * 112.0 * 112.0, true));
    let stages = [
        (1u32, 3u32, 64u32, 56u32),
        (2, 4, 128, 28),
        (3, 6, 256, 14),
        (4, 3, 512, 7),
    ];
    let mut c = 64;
    for (stage, blocks, width, p) in stages {
        for b in 0..blocks {
            let at = format!("layer{stage}.{b}");
            ops.push(conv(format!("{at}.conv1"), width, c, p, 1, stage == 1));
            ops.push(conv(format!("{at}.conv2"), width, width, p, 3, false));
            ops.push(conv(
                format!("{at}.conv3"),
                4 * width,
                width,
                p,
                1,
                stage < 3,
            ));
            if b == 0 {
                ops.push(conv(
                    format!("{at}.downsample.0"),
                    4 * width,
                    c,
                    p,
                    1,
                    stage < 3,
                ));
            }
            ops.push(vector(
                format!("{at}.add"),
                "elementwise",
                f64::from(4 * width * p * p),
                b % 2 == 0,
            ));
            c = 4 * width;
        }
    }
    ops.push(vector("avgpool".into(), "pool", 2048.0 * 49.0, true));
    ops.push(op(&Work {
        name: "fc".into(),
        class: "linear",
        shape: "m1 n1000 k2048".into(),
        repeat: 1,
        macs: 2.048e6,
        executed: 2.048e6,
        dram: (2.048e6, 1000.0),
        lanes: 1000.0,
        util: 0.016,
    }));
    let mut run = run("resnet50", vec![phase("forward", 1, ops)]);
    run.unmodelled = vec!["preprocess/NonMaxSuppression_7: presil has no model of NonMaxSuppression; its 1.2 MB of inputs and outputs are costed as data movement only.".into()];
    run
}

fn decoder(tokens: f64, context: f64) -> Vec<OpRun> {
    let repeat = 16;
    let r = repeat as f64;
    let linear = |name: &str, n: f64, k: f64| {
        op(&Work {
            name: format!("model.layers.self_attn_and_mlp.block.{name}"),
            class: "linear",
            shape: format!("m{tokens} n{n} k{k}"),
            repeat,
            macs: r * tokens * n * k,
            executed: r * tokens * n * k,
            dram: (r * n * k * 0.53, r * tokens * n * 0.1),
            lanes: r * tokens * n,
            util: if tokens > 64.0 { 0.88 } else { 0.04 },
        })
    };
    let attention = |name: &str, class: &'static str| {
        let macs = r * 32.0 * tokens * context * 64.0;
        op(&Work {
            name: format!("model.layers.self_attn.{name}"),
            class,
            shape: format!("h32 m{tokens} n{context} k64"),
            repeat,
            macs,
            executed: if tokens > 1.0 { macs * 0.5 } else { macs },
            dram: (r * context * 8.0 * 64.0, 0.0),
            lanes: 0.0,
            util: if tokens > 64.0 { 0.61 } else { 0.02 },
        })
    };
    let elementwise = |name: &str, class: &'static str, n: f64| {
        op(&Work {
            name: format!("model.layers.{name}"),
            class,
            shape: format!("m{tokens} n{n}"),
            repeat,
            macs: 0.0,
            executed: 0.0,
            dram: (0.0, 0.0),
            lanes: r * 4.0 * tokens * n,
            util: 1.0,
        })
    };
    vec![
        vector("model.embed_tokens".into(), "gather", tokens * 2048.0, true),
        elementwise("input_layernorm", "norm", 2048.0),
        linear("q_proj", 2048.0, 2048.0),
        linear("k_proj", 512.0, 2048.0),
        linear("v_proj", 512.0, 2048.0),
        elementwise("self_attn.rotary", "position", 2560.0),
        elementwise("self_attn.cache_write", "cache_write", 128.0),
        attention("qk", "attn_qk"),
        elementwise("self_attn.softmax", "softmax", 32.0 * context),
        attention("pv", "attn_pv"),
        linear("o_proj", 2048.0, 2048.0),
        elementwise("residual_add", "elementwise", 2048.0),
        elementwise("post_attention_layernorm", "norm", 2048.0),
        linear("gate_proj", 8192.0, 2048.0),
        linear("up_proj", 8192.0, 2048.0),
        elementwise("mlp.silu_gate", "activation", 8192.0),
        linear("down_proj", 2048.0, 8192.0),
        vector("model.norm".into(), "norm", 2048.0, true),
        linear("lm_head", 128_256.0, 2048.0 / 16.0),
        vector("sample.topk".into(), "select", 128_256.0, true),
    ]
}

/// A small language model, prefill and decode.
pub fn llm() -> Run {
    let mut prefill = phase("prefill", 1, decoder(512.0, 512.0));
    let mut decode = phase("decode", 128, decoder(1.0, 576.0));
    for p in [&mut prefill, &mut decode] {
        p.weight_bytes = 680_000_000;
        p.cache_bytes = 10_485_760;
    }
    let mut run = run("llama3.2-1b", vec![prefill, decode]);
    run.precision = "w4a16kv8".into();
    run.prompt = Some(512);
    run.generate = Some(128);
    run.parameters = 1_235_814_400;
    run
}

/// Names that try to break out of whatever they are put in.
pub fn hostile() -> Run {
    let mut run = cnn();
    let evil =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;\u{1b}[2J\n=cmd()";
    run.model = evil.into();
    run.chip = format!("chip {evil}");
    run.precision = evil.into();
    run.unmodelled.push(evil.into());
    run.assumptions.push(evil.into());
    for p in &mut run.phases {
        for (i, o) in p.ops.iter_mut().enumerate() {
            o.name = format!("{evil}{i}");
            o.class = evil.into();
            o.shape = evil.into();
            o.engine = evil.into();
            o.bottleneck = evil.into();
            o.notes = vec![evil.into()];
            o.mapping = vec![evil.into()];
            for m in &mut o.memories {
                m.memory = evil.into();
                for t in &mut m.tiles {
                    t.operand = evil.into();
                }
            }
            for a in &mut o.axes {
                a.axis = evil.into();
            }
            for e in &mut o.energy {
                e.component = format!("{evil}{}", e.component);
            }
            for t in &mut o.traffic {
                t.memory = format!("{evil}{}", t.memory);
            }
            for m in &mut o.time.memory_s {
                m.0 = format!("{evil}{}", m.0);
            }
        }
        for e in &mut p.energy {
            e.component = format!("{evil}{}", e.component);
        }
        for t in &mut p.traffic {
            t.memory = format!("{evil}{}", t.memory);
        }
    }
    for p in &mut run.provenance {
        p.path = evil.into();
        p.source = evil.into();
        p.value = evil.into();
    }
    run
}

/// No phase at all.
pub fn empty() -> Run {
    let mut r = run("nothing", vec![]);
    r.assumptions.clear();
    r.provenance.clear();
    r.area.clear();
    r.static_power.clear();
    r.peak_macs_per_s = 0.0;
    r.dram_streaming_bytes_per_s = 0.0;
    r
}

/// A phase of ops that take nothing, one without ops, and figures that are not finite.
pub fn zeros() -> Run {
    let mut free = vector("free".into(), "move", 0.0, false);
    free.time = TimeParts::default();
    free.energy.clear();
    free.traffic.clear();
    free.intensity = None;
    let mut broken = free.clone();
    broken.name = "broken".into();
    broken.time.total_s = f64::NAN;
    broken.time.memory_s = vec![("lpddr5".into(), f64::INFINITY)];
    broken.utilization = f64::NAN;
    broken.macs = u128::MAX;
    let mut a = phase("forward", 1, vec![free, broken]);
    a.latency_s = 0.0;
    a.energy_j = f64::INFINITY;
    run("zeros", vec![a, phase("empty", 0, vec![])])
}

/// Several hundred ops.
pub fn many() -> Run {
    let mut ops = vec![];
    for i in 0..700u32 {
        let width = 320 << ((i / 90) % 3);
        ops.push(match i % 5 {
            0 => conv(
                format!("down_blocks.{}.resnets.{i}.conv1", i / 60),
                width,
                width,
                32,
                3,
                i % 2 == 0,
            ),
            1 => vector(
                format!("down_blocks.{}.resnets.{i}.norm1", i / 60),
                "norm",
                f64::from(width) * 1024.0,
                true,
            ),
            2 => conv(
                format!("mid_block.attentions.{i}.proj_in"),
                width,
                width,
                32,
                1,
                true,
            ),
            3 => vector(
                format!("mid_block.attentions.{i}.softmax"),
                "softmax",
                f64::from(width) * 4096.0,
                true,
            ),
            _ => vector(
                format!("up_blocks.{i}.nonlinearity"),
                "activation",
                f64::from(width) * 1024.0,
                false,
            ),
        });
    }
    run("sd15-unet", vec![phase("forward", 1, ops)])
}

/// All of them.
pub fn all() -> Vec<Run> {
    vec![cnn(), llm(), hostile(), empty(), zeros(), many()]
}

/// A network that was simulated.
pub fn simulated() -> Run {
    let mut run = cnn();
    run.fidelity = Fidelity::Simulated;
    for phase in &mut run.phases {
        phase.timeline = Some(timeline(phase));
    }
    run
}

/// Ops one after the other, each with some tiles on an array and a mover.
fn timeline(phase: &Phase) -> Timeline {
    let mut told = Timeline::default();
    let mut tracks = [("array", 0.2), ("input into buffer, from dram", 0.0)]
        .map(|(name, shift)| (name, shift, Vec::new()));
    let mut at = 0.0;
    for (i, op) in phase.ops.iter().enumerate() {
        let time = op.time.total_s;
        let slice = |from: f64, to: f64, tiles| TimelineSlice {
            op: Some(i),
            start_s: at + time * from,
            end_s: at + time * to,
            tiles,
        };
        told.ops.push(slice(0.0, 1.0, 1));
        for (_, shift, slices) in &mut tracks {
            for tile in 0..4 {
                let from = *shift + 0.2 * f64::from(tile);
                slices.push(slice(from, from + 0.15, if tile == 3 { 40 } else { 1 }));
            }
        }
        at += time;
    }
    told.tracks = tracks
        .into_iter()
        .map(|(name, _, slices)| TimelineTrack {
            name: name.into(),
            slices,
        })
        .collect();
    told.ports = vec![("dram".into(), vec![0.2, 0.9, 0.9, 0.4])];
    told
}
