//! What vector units, movement and host processors cost.
//!
//! A cascade of lane einsums on a vector unit of `lanes` lanes:
//!
//! ```text
//! busy(lanes) = sum over einsums, primitives of  points x count / (lanes x per_cycle x clock)
//!               points are those of the domain; an einsum that reduces adds one Reduce a point;
//!               an operand in another format than the unit computes in adds one Convert an element
//! latency     = launch + sum over einsums of the program's latency in cycles / clock
//!               + latency and set-up of the operands' memory where it is not the unit's own
//! energy      = operations x energy of the primitive
//! ```
//!
//! The unit computes in its narrowest mode that holds every operand and has every primitive of the cascade. A function of one
//! integer that no mode has the primitives of is looked up where a mode has look-ups: in a table of all its values if it has eight
//! bits at most, else (up to 16 bits) two neighbouring entries of a smaller table are interpolated, as TFLite's kernels do.
//! Lanes read and write the unit's own memory at every einsum. Operands at home elsewhere move between their
//! home and the unit's memory: once a cascade if the chip's compiler fuses cascades and a row (the reduced
//! dimensions) of input and local fits the unit's memory, so that locals never leave it; otherwise once a pass,
//! locals included. Operands that no einsum indexes (a norm's scale and shift) are read whole, once.
//!
//! Moves, look-ups and choices are traffic between the homes of their operands (choices add comparisons). A
//! host op costs `handover + max(operations / rate, bytes / host rate)` beside the traffic at the operands'
//! homes.

use presil_hwmodels::{Chip, Engine, EngineKind, Operand, PrimitiveCost, VectorMode};
use presil_numerics::{Bytes, Format, LanePrimitive, Seconds};
use presil_workloads::einsum::Place;
use presil_workloads::{Einsum, MapOperator};
use thiserror::Error;

use crate::cost::{Cost, Resource};
use crate::formats::holds;
use crate::ledger::{Ledger, Stored, add_energy};
use crate::touched::touched;

/// Why an engine does not run an op.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CannotRun {
    /// No mode is wide enough and has all primitives.
    #[error("`{engine}` computes {needs} in none of its formats that hold {formats}")]
    Mode {
        /// The engine.
        engine: String,
        /// Primitives.
        needs: String,
        /// Operand formats.
        formats: String,
    },
    /// The engine is of another kind.
    #[error("`{engine}` is no {wanted}")]
    Kind {
        /// The engine.
        engine: String,
        /// "vector unit", "host".
        wanted: &'static str,
    },
    /// A cascade that mixes MACs and lanes.
    #[error("`{engine}` runs no cascade that mixes multiply-accumulates and lane programs")]
    Mixed {
        /// The engine.
        engine: String,
    },
}

/// The stored operands of an op: what [`Place::Input`] and [`Place::Output`] count.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// Inputs.
    pub inputs: &'a [Stored],
    /// Outputs.
    pub outputs: &'a [Stored],
}

impl Operands<'_> {
    fn stored(&self, place: Place) -> Option<&Stored> {
        match place {
            Place::Input(i) => self.inputs.get(i as usize),
            Place::Output(i) => self.outputs.get(i as usize),
            Place::Local(_) => None,
        }
    }
}

/// What lanes have to do for a cascade.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LaneWork {
    /// Busy time of the lanes.
    pub busy: Seconds,
    /// Pipeline latency of the programs.
    pub latency: Seconds,
    /// Energy in joules.
    pub energy: f64,
    /// Lane operations.
    pub operations: f64,
}

/// The vector parts of an engine.
pub(crate) struct Unit<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) memory: presil_hwmodels::NodeId,
    lanes: f64,
    hertz: f64,
    modes: &'a [VectorMode],
}

impl<'a> Unit<'a> {
    pub(crate) fn of(chip: &Chip, engine: &'a Engine) -> Result<Self, CannotRun> {
        match &engine.kind {
            EngineKind::Vector {
                memory,
                lanes,
                clock,
                modes,
                ..
            } => Ok(Self {
                engine,
                memory: *memory,
                lanes: *lanes as f64,
                hertz: chip.clocks[*clock].domain.frequency.0,
                modes,
            }),
            _ => Err(CannotRun::Kind {
                engine: engine.name.clone(),
                wanted: "vector unit",
            }),
        }
    }

    /// The narrowest mode that holds the formats and has the primitives; converting between integers and floats
    /// needs [`LanePrimitive::Convert`].
    fn mode(
        &self,
        formats: &[Format],
        primitives: &[LanePrimitive],
    ) -> Result<&'a VectorMode, CannotRun> {
        let able = |m: &&VectorMode| {
            let crosses = formats.iter().any(|f| f.is_float() != m.format.is_float());
            formats.iter().all(|f| holds(m.format, *f))
                && primitives.iter().all(|p| m.cost(*p).is_some())
                && (!crosses || m.cost(LanePrimitive::Convert).is_some())
        };
        self.modes
            .iter()
            .filter(able)
            .min_by_key(|m| m.format.bits())
            .ok_or_else(|| {
                let list = |mut names: Vec<String>| {
                    names.sort_unstable();
                    names.dedup();
                    names.join(", ")
                };
                CannotRun::Mode {
                    engine: self.engine.name.clone(),
                    needs: list(primitives.iter().map(|p| p.name().to_string()).collect()),
                    formats: list(formats.iter().map(Format::to_string).collect()),
                }
            })
    }
}

/// The primitives that one point of a lane einsum takes; `None` for MACs.
fn program(einsum: &Einsum) -> Option<Vec<LanePrimitive>> {
    let MapOperator::Lanes(program) = &einsum.map else {
        return None;
    };
    let reduces = einsum
        .dim_ids()
        .any(|d| einsum.is_reduced(d) && einsum.dim(d).size > 1);
    Some(
        program
            .iter()
            .copied()
            .chain(reduces.then_some(LanePrimitive::Reduce))
            .collect(),
    )
}

/// Most bits of an integer of which every value has an entry in a table, and of one whose function is interpolated.
const TABLE_BITS: [u64; 2] = [8, 16];

/// The primitives that give a cascade by table, if it is a function of one integer at a time.
fn by_table(einsums: &[Einsum], operands: Operands) -> Option<Vec<LanePrimitive>> {
    let [einsum] = einsums else {
        return None;
    };
    let [input] = einsum.inputs.as_slice() else {
        return None;
    };
    let each = |d| !einsum.is_reduced(d) && Einsum::names(input, d);
    let format = operands.stored(input.place)?.format;
    if format.is_float() || !einsum.dim_ids().all(each) {
        return None;
    }
    let [whole, interpolated] = TABLE_BITS;
    match format.bits() {
        bits if bits <= whole => Some(vec![LanePrimitive::Lookup]),
        bits if bits <= interpolated => Some(vec![
            LanePrimitive::Lookup,
            LanePrimitive::Lookup,
            LanePrimitive::Fma,
        ]),
        _ => None,
    }
}

/// The work of a cascade on a vector unit.
pub fn lane_work(
    chip: &Chip,
    engine: &Engine,
    einsums: &[Einsum],
    operands: Operands,
) -> Result<LaneWork, CannotRun> {
    let unit = Unit::of(chip, engine)?;
    let mixed = || CannotRun::Mixed {
        engine: engine.name.clone(),
    };
    let programs = einsums
        .iter()
        .map(program)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(mixed)?;
    let places = einsums.iter().flat_map(Einsum::operands).map(|a| a.place);
    let formats: Vec<Format> = places
        .filter_map(|p| operands.stored(p))
        .map(|s| s.format)
        .collect();
    let all: Vec<LanePrimitive> = programs.iter().flatten().copied().collect();
    let (mode, programs) = match unit.mode(&formats, &all) {
        Ok(mode) => (mode, programs),
        Err(cannot) => {
            let table = by_table(einsums, operands);
            let mode = table.as_ref().and_then(|t| unit.mode(&formats, t).ok());
            (mode.ok_or(cannot)?, table.into_iter().collect())
        }
    };

    let mut work = LaneWork::default();
    let mut add = |cost: &PrimitiveCost, operations: f64| {
        work.busy += Seconds(operations / (unit.lanes * cost.per_cycle * unit.hertz));
        work.energy += operations * cost.energy.0;
        work.operations += operations;
    };
    let mut cycles = 0.0;
    for (einsum, program) in einsums.iter().zip(&programs) {
        let points = einsum.executed_points().unwrap_or(u64::MAX) as f64;
        for cost in program.iter().filter_map(|p| mode.cost(*p)) {
            add(cost, points);
            cycles += cost.latency;
        }
        let converted = einsum.operands().filter(|a| {
            operands
                .stored(a.place)
                .is_some_and(|s| s.format != mode.format)
        });
        if let Some(cost) = mode.cost(LanePrimitive::Convert) {
            for access in converted {
                add(cost, touched(einsum, access) as f64);
            }
        }
    }
    work.latency = Seconds(cycles / unit.hertz);
    Ok(work)
}

/// Bits of a local: those of the widest operand of the cascade.
fn local_bits(operands: Operands) -> f64 {
    operands
        .inputs
        .iter()
        .chain(operands.outputs)
        .map(|s| s.format.bits() as f64)
        .fold(0.0, f64::max)
}

/// Whether one row of input and local fits a capacity.
fn row_fits(einsums: &[Einsum], operands: Operands, available: Bytes) -> bool {
    let row = |e: &Einsum| {
        let reduced = e
            .dim_ids()
            .filter(|d| e.is_reduced(*d))
            .map(|d| e.dim(d).size);
        reduced.fold(1u64, u64::saturating_mul)
    };
    let longest = einsums.iter().map(row).max().unwrap_or(1);
    longest as f64 * 2.0 * local_bits(operands) / 8.0 <= available.0 as f64
}

/// The cost of a cascade of lane einsums on a vector unit; `available` is what is left of the unit's memory.
pub fn cascade(
    chip: &Chip,
    engine: &Engine,
    einsums: &[Einsum],
    operands: Operands,
    available: Bytes,
) -> Result<Cost, CannotRun> {
    let unit = Unit::of(chip, engine)?;
    let work = lane_work(chip, engine, einsums, operands)?;
    let one_pass = chip.mapspace.fuse_cascades && row_fits(einsums, operands, available);
    let spill = operands.outputs.first().map_or(chip.root(), |s| s.home);
    let wide = local_bits(operands);

    let mut ledger = Ledger::default();
    let mut moved: Vec<(Place, u64)> = Vec::new();
    let mut latency = engine.launch + work.latency;
    let mut away = Seconds::ZERO;
    for einsum in einsums {
        for (access, is_output) in einsum
            .inputs
            .iter()
            .map(|a| (a, false))
            .chain([(&einsum.output, true)])
        {
            let elements = touched(einsum, access);
            let stored = operands.stored(access.place);
            let (home, bits, role) = match stored {
                Some(s) => (s.home, s.bits, s.role),
                None => (spill, wide, Operand::Output),
            };
            if is_output {
                ledger.write(unit.memory, role, u128::from(elements), bits);
            } else {
                ledger.read(unit.memory, role, u128::from(elements), bits);
            }
            if home == unit.memory || (one_pass && stored.is_none()) {
                continue;
            }
            // In one pass only what earlier einsums did not bring yet moves.
            let brought = if one_pass {
                moved.iter_mut().find(|m| m.0 == access.place)
            } else {
                None
            };
            let missing = match brought {
                Some(m) => {
                    let missing = elements.saturating_sub(m.1);
                    m.1 = m.1.max(elements);
                    missing
                }
                None => {
                    moved.push((access.place, elements));
                    elements
                }
            };
            let (from, to) = if is_output {
                (unit.memory, home)
            } else {
                (home, unit.memory)
            };
            ledger.transfer(from, to, role, u128::from(missing), bits);
            away = away.max(start_of(chip, home));
        }
    }
    // Scales and shifts that programs use without indexing them.
    let indexed = |i: usize| {
        einsums
            .iter()
            .flat_map(|e| &e.inputs)
            .any(|a| a.place == Place::Input(i as u8))
    };
    for (_, s) in operands
        .inputs
        .iter()
        .enumerate()
        .filter(|(i, _)| !indexed(*i))
    {
        ledger.transfer(s.home, unit.memory, s.role, u128::from(s.elements), s.bits);
        ledger.read(unit.memory, s.role, u128::from(s.elements), s.bits);
    }
    latency += away;
    let mut energy = Vec::new();
    add_energy(&mut energy, &engine.name, "lane", work.energy);
    Ok(ledger.close(chip, &[(Resource::Vector, work.busy)], latency, energy))
}

/// Time until a transfer from or to a memory runs: its latency and set-up.
fn start_of(chip: &Chip, memory: presil_hwmodels::NodeId) -> Seconds {
    chip.nodes[memory]
        .memory()
        .map_or(Seconds::ZERO, |m| m.latency + m.setup)
}

/// Elements of an operand that an op without arithmetic reads or writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// Where and how they are stored.
    pub stored: Stored,
    /// How many.
    pub elements: u64,
}

/// The cost of reading some elements and writing others. `comparisons` run on the vector unit `by`, in a mode
/// that holds the elements read.
pub fn movement(
    chip: &Chip,
    by: Option<&Engine>,
    reads: &[Moved],
    writes: &[Moved],
    comparisons: u64,
) -> Result<Cost, CannotRun> {
    let mut ledger = Ledger::default();
    let mut latency = by.map_or(Seconds::ZERO, |e| e.launch);
    book(&mut ledger, reads, writes);
    let starts = reads
        .iter()
        .chain(writes)
        .map(|m| start_of(chip, m.stored.home));
    latency += starts.fold(Seconds::ZERO, Seconds::max);
    let (mut other, mut energy) = (Vec::new(), Vec::new());
    if let (Some(engine), true) = (by, comparisons > 0) {
        let unit = Unit::of(chip, engine)?;
        let formats: Vec<Format> = reads.iter().map(|m| m.stored.format).collect();
        let mode = unit.mode(&formats, &[LanePrimitive::Compare])?;
        if let Some(cost) = mode.cost(LanePrimitive::Compare) {
            let n = comparisons as f64;
            other.push((
                Resource::Vector,
                Seconds(n / (unit.lanes * cost.per_cycle * unit.hertz)),
            ));
            add_energy(&mut energy, &engine.name, "lane", n * cost.energy.0);
        }
    }
    Ok(ledger.close(chip, &other, latency, energy))
}

fn book(ledger: &mut Ledger, reads: &[Moved], writes: &[Moved]) {
    for m in reads {
        ledger.read(
            m.stored.home,
            m.stored.role,
            u128::from(m.elements),
            m.stored.bits,
        );
    }
    for m in writes {
        ledger.write(
            m.stored.home,
            m.stored.role,
            u128::from(m.elements),
            m.stored.bits,
        );
    }
}

/// The cost of an op of so many operations on a host processor.
pub fn host(
    chip: &Chip,
    engine: &Engine,
    operations: f64,
    reads: &[Moved],
    writes: &[Moved],
) -> Result<Cost, CannotRun> {
    let EngineKind::Host {
        operations_per_second,
        rate,
        energy,
        handover,
    } = &engine.kind
    else {
        return Err(CannotRun::Kind {
            engine: engine.name.clone(),
            wanted: "host",
        });
    };
    let mut ledger = Ledger::default();
    book(&mut ledger, reads, writes);
    // The host sees the root memory alone: what lives elsewhere passes through it.
    for Moved {
        stored: s,
        elements,
    } in reads
        .iter()
        .chain(writes)
        .filter(|m| m.stored.home != chip.root())
    {
        ledger.write(chip.root(), s.role, u128::from(*elements), s.bits);
        ledger.read(chip.root(), s.role, u128::from(*elements), s.bits);
    }
    let bytes: f64 = reads
        .iter()
        .chain(writes)
        .map(|m| m.elements as f64 * m.stored.bits / 8.0)
        .sum();
    let busy = Seconds((operations / operations_per_second).max(bytes / rate.0));
    let mut entries = Vec::new();
    add_energy(
        &mut entries,
        &engine.name,
        "operation",
        operations * energy.0,
    );
    Ok(ledger.close(
        chip,
        &[(Resource::Host, busy)],
        engine.launch + *handover,
        entries,
    ))
}

/// Operations of a cascade on a host: a MAC counts two, a lane primitive one.
pub fn host_operations(einsums: &[Einsum]) -> f64 {
    let each = |e: &Einsum| {
        let points = e.executed_points().unwrap_or(u64::MAX) as f64;
        points * program(e).map_or(2.0, |p| p.len().max(1) as f64)
    };
    einsums.iter().map(each).sum()
}
