//! The figures of a memory: as written, else of its DRAM part, else of the technology models.

use presil_numerics::{Bytes, BytesPerSecond, JoulesPerBit, Seconds, SquareMm, Watts};

use super::{Context, data};
use crate::banks::Banks;
use crate::chip::{InFlight, Memory, MemoryKind, OperandSet, Overlap, Rows, Turns};
use crate::decode::Sourced;
use crate::dram::{self, Demand};
use crate::sourced::Status;
use crate::spec::{MemorySpec, Ports};
use crate::technology::Estimate;
use crate::technology::dram::{self as parts, DramPart};
use crate::technology::sram::MemoryFigures;

/// Default port width of on-chip memories.
const DEFAULT_WORD: Bytes = Bytes(8);
/// Most tiles that a memory holds for each kept one.
const MAX_BUFFERING: u64 = 64;

/// Resolves a memory. `None` where a figure is missing or wrong in a way that leaves no memory.
pub(super) fn memory(cx: &mut Context<'_>, m: &MemorySpec) -> Option<Memory> {
    let name = m.name.value.clone();
    let path = |field: &str| format!("{name}.{field}");
    let on_chip = matches!(m.kind, MemoryKind::Sram | MemoryKind::Register);
    let part = part(cx, m)?;
    let capacity = cx.positive(&path("capacity"), &m.capacity);
    let word = match (&m.word, part) {
        (Some(word), _) => cx.positive(&path("word"), word),
        (None, Some((part, _))) => Bytes(part.burst_bytes),
        (None, None) => DEFAULT_WORD,
    };
    if word > capacity {
        let place = m.word.as_ref().map_or(&m.capacity.place, |w| &w.place);
        cx.problems.at(
            place,
            format!("a word of {word} does not fit into {capacity}"),
            "make the word smaller or the memory larger",
        );
    }
    let ports = m.ports.as_ref().map_or(
        Ports {
            read: 1,
            write: 1,
            shared: !on_chip,
        },
        |p| p.value,
    );
    let (read_rate, write_rate) = rates(cx, m, word, ports, part)?;
    let banks = m.banks.as_ref().map(|b| cx.count(&path("banks"), b));
    let conflicts = conflicts(cx, m, banks);
    let energies = energies(cx, m, capacity, word, banks, part);
    let keeps = m
        .keeps
        .as_ref()
        .map_or(OperandSet::ALL, |k| OperandSet::of(k));
    let must_keep = OperandSet::of(&m.must_keep);
    if must_keep.0 & !keeps.0 != 0 {
        let help = "add the operand to `keeps`, or remove it from `must_keep`";
        cx.problems.at(
            &m.name.place,
            format!("`{name}` must keep an operand that it does not keep"),
            help,
        );
    }
    if m.parent.is_none() && keeps != OperandSet::ALL {
        cx.problems.at(
            &m.name.place,
            "the root memory keeps all operands",
            "remove `keeps`",
        );
    }
    let buffering = m.buffering.as_ref().map_or(1, |b| b.value);
    if let Some(b) = m
        .buffering
        .as_ref()
        .filter(|b| !(1..=MAX_BUFFERING).contains(&b.value))
    {
        cx.problems.at(
            &b.place,
            format!("a memory holds 1 to {MAX_BUFFERING} tiles for each kept one"),
            "2 is double buffering",
        );
    }
    let efficiency = match (&m.streaming_efficiency, part) {
        (Some(e), _) => {
            if !(e.value > 0.0 && e.value <= 1.0) {
                cx.problems.at(
                    &e.place,
                    "an efficiency lies above 0 and at most at 1",
                    "write 0.9 for 90 %",
                );
            }
            cx.constant(&path("streaming_efficiency"), e)
        }
        (None, Some((part, _))) => {
            let e = part.streaming_efficiency * order_share(cx, m, part);
            cx.modelled(
                &path("streaming_efficiency"),
                &of_part(part, e),
                part.status,
                |v| v,
            )
        }
        (None, None) => 1.0,
    };
    let latency = match (&m.latency, part) {
        (Some(l), _) => cx.constant(&path("latency"), l),
        (None, Some((part, _))) => cx.modelled(
            &path("latency"),
            &of_part(part, part.latency_ns * 1e-9),
            part.status,
            Seconds,
        ),
        (None, None) if m.kind == MemoryKind::Sram => {
            let access = energies.access.clone();
            cx.modelled(&path("latency"), &access, Status::Scaled, Seconds)
        }
        (None, None) => Seconds::ZERO,
    };
    let setup = m
        .setup
        .as_ref()
        .map_or(Seconds::ZERO, |s| cx.constant(&path("setup"), s));
    let burst = match (&m.burst, part) {
        (Some(b), _) => cx.positive(&path("burst"), b),
        (None, Some((part, _))) => Bytes(part.burst_bytes),
        (None, None) => word,
    };
    if let (Some(order), true) = (
        &m.address_order,
        m.streaming_efficiency.is_some() || part.is_none(),
    ) {
        cx.problems.at(
            &order.place,
            "an address order says nothing where the efficiency is not that of a DRAM part",
            "remove it, or write `part` and no `streaming_efficiency`",
        );
    }
    let rows = part.map(|(part, channels)| rows(part, channels));
    let turns = match (&m.streaming_efficiency, part) {
        (None, Some((part, channels))) if ports.shared => {
            Some(turns(cx, &path("turnaround"), part, channels))
        }
        _ => None,
    };
    let in_flight = in_flight(cx, m, part, burst, latency);
    let compression = m
        .compression
        .as_ref()
        .and_then(|c| data::compression(cx, &name, c));
    let gating = m.gating.as_ref().map(|g| data::gating(cx, &name, g));
    Some(Memory {
        kind: m.kind,
        capacity,
        word,
        read_rate,
        write_rate,
        shared_port: ports.shared,
        streaming_efficiency: efficiency,
        read_energy: energies.read,
        write_energy: energies.write,
        static_power: energies.static_power,
        area: energies.area,
        keeps,
        must_keep,
        buffering: u32::try_from(buffering).unwrap_or(1),
        resident: m.resident.unwrap_or(!on_chip),
        overlap: m.overlap.unwrap_or(Overlap::Keep),
        latency,
        setup,
        burst,
        rows,
        turns,
        in_flight,
        banks: conflicts,
        compression,
        gating,
        clock: m.clock.as_ref().and_then(|c| cx.clock(c)),
    })
}

/// Rows of some channels of a part.
fn rows(part: &DramPart, channels: u64) -> Rows {
    Rows {
        page: Bytes(part.page_bytes.saturating_mul(channels)),
        banks: part.banks,
        channels,
        activate: Seconds(part.activate_ns * 1e-9),
        row_cycle: Seconds(part.row_cycle_ns * 1e-9),
    }
}

/// The banks in which accesses may meet, where the file gives their width.
fn conflicts(cx: &mut Context<'_>, m: &MemorySpec, banks: Option<u64>) -> Option<Banks> {
    let width = m.bank_width.as_ref()?;
    let Some(count) = banks else {
        let help = "add `banks`, or remove `bank_width`";
        cx.problems.at(
            &width.place,
            "a width of banks without a number of them",
            help,
        );
        return None;
    };
    let width = cx.positive(&format!("{}.bank_width", m.name.value), width);
    Some(Banks { count, width })
}

/// Turns of the bus of some channels of a part.
fn turns(cx: &mut Context<'_>, path: &str, part: &DramPart, channels: u64) -> Turns {
    let channel = part.channel();
    let turn = of_part(part, channel.turn().0);
    let group = channel.write_group();
    let told = turn.because(format!(
        "each {group} written to a channel: CL + tRTRS + tWTR, {}",
        part.source
    ));
    Turns {
        time: cx.modelled(path, &told, part.status, Seconds),
        group: group.0 as f64 * channels as f64,
    }
}

/// The share of the rate of long streams that the address order leaves: neighbours in one bank group are further
/// apart in time.
fn order_share(cx: &mut Context<'_>, m: &MemorySpec, part: &DramPart) -> f64 {
    let mut channel = part.channel();
    if let Some(order) = &m.address_order {
        match order.value.parse() {
            Ok(order) => channel.order = order,
            Err(error) => {
                let help = "the parts' own is the order that loses least";
                cx.problems.at(&order.place, error.to_string(), help);
            }
        }
    }
    channel.timing.burst.0 / channel.burst_time(Demand::Stream).0
}

/// What requests in flight allow: the queues of a part's controllers, and what the file says of who asks.
fn in_flight(
    cx: &mut Context<'_>,
    m: &MemorySpec,
    part: Option<(&DramPart, u64)>,
    burst: Bytes,
    latency: Seconds,
) -> InFlight {
    let name = &m.name.value;
    let request = match &m.request {
        Some(r) => cx.positive(&format!("{name}.request"), r),
        None => burst,
    };
    let asked = m.outstanding.as_ref().map(|o| {
        let requests = cx.count(&format!("{name}.outstanding"), o);
        dram::in_flight(requests, request, latency)
    });
    if let (None, Some(r)) = (&m.outstanding, &m.request) {
        let help = "add `outstanding`, the requests in flight";
        cx.problems.at(
            &r.place,
            "a request without a number of them says nothing",
            help,
        );
    }
    let controller = part.map(|(part, channels)| {
        let channel = part.channel();
        let requests = channel.queues.reads.saturating_mul(channels);
        dram::in_flight(requests, channel.burst, Seconds(part.latency_ns * 1e-9))
    });
    InFlight { controller, asked }
}

/// The DRAM part and its channels, if the file names one. `None` where the name is wrong.
fn part(cx: &mut Context<'_>, m: &MemorySpec) -> Option<Option<(&'static DramPart, u64)>> {
    let name = &m.name.value;
    let Some(part_name) = &m.part else {
        if let Some(c) = &m.channels {
            cx.problems.at(
                &c.place,
                "channels of what?",
                "add `part = \"LPDDR5-6400\"`, or give `bandwidth`",
            );
        }
        return Some(None);
    };
    if matches!(m.kind, MemoryKind::Sram | MemoryKind::Register) {
        cx.problems.at(
            &part_name.place,
            "only off-chip memories are parts",
            "remove `part`, or write `kind = \"dram\"`",
        );
        return None;
    }
    let Some(found) = parts::part(&part_name.value) else {
        let known: Vec<String> = parts::part_names()
            .iter()
            .map(ToString::to_string)
            .collect();
        cx.unknown("DRAM part", part_name, &known);
        return None;
    };
    let channels = m
        .channels
        .as_ref()
        .map_or(1, |c| cx.count(&format!("{name}.channels"), c));
    Some(Some((found, channels)))
}

fn of_part(part: &DramPart, value: f64) -> Estimate {
    Estimate {
        value,
        low: value,
        high: value,
        source: format!("{}: {}", part.part, part.source),
    }
}

/// Rates of reads and writes: as written, else word x ports x clock, else the part's.
fn rates(
    cx: &mut Context<'_>,
    m: &MemorySpec,
    word: Bytes,
    ports: Ports,
    part: Option<(&DramPart, u64)>,
) -> Option<(BytesPerSecond, BytesPerSecond)> {
    let name = m.name.value.clone();
    if let (Some(_), Some(one)) = (
        &m.bandwidth,
        m.read_bandwidth.as_ref().or(m.write_bandwidth.as_ref()),
    ) {
        cx.problems.at(
            &one.place,
            "`bandwidth` gives the rate of reads and of writes already",
            "remove one of them",
        );
    }
    let clock = match &m.clock {
        Some(clock) => Some(cx.clock(clock)?),
        None => None,
    };
    let port_rate = |cx: &mut Context<'_>, field: &str, count: u64| -> Option<BytesPerSecond> {
        let clock = cx.clocks.get(clock?)?;
        let rate = word.0 as f64 * count as f64 * clock.domain.frequency.0;
        let source = format!("{word} x {count} port(s) x {}", clock.domain.frequency);
        let estimate = Estimate {
            value: rate,
            low: rate,
            high: rate,
            source,
        };
        Some(cx.modelled(
            &format!("{name}.{field}"),
            &estimate,
            Status::Derived,
            BytesPerSecond,
        ))
    };
    let mut one = |field: &str,
                   written: Option<&Sourced<BytesPerSecond>>,
                   count: u64|
     -> Option<BytesPerSecond> {
        if let Some(c) = written {
            return Some(cx.positive(&format!("{name}.{field}"), c));
        }
        if let Some(rate) = port_rate(cx, field, count) {
            return Some(rate);
        }
        if let Some((part, channels)) = part {
            let peak = part.peak_gb_s * 1e9 * channels as f64;
            let estimate =
                of_part(part, peak).because(format!("{channels} x {} of {}", part.unit, part.part));
            return Some(cx.modelled(
                &format!("{name}.{field}"),
                &estimate,
                Status::Derived,
                BytesPerSecond,
            ));
        }
        let help = "add `bandwidth`, or `word` and `clock`, or a DRAM `part` and its `channels`";
        cx.problems
            .at(&m.name.place, format!("`{name}` has no rate"), help);
        None
    };
    if let Some(both) = &m.bandwidth {
        let rate = one("bandwidth", Some(both), 1)?;
        return Some((rate, rate));
    }
    if m.read_bandwidth.is_none() && m.write_bandwidth.is_none() && ports.read == ports.write {
        let rate = one("bandwidth", None, ports.read)?;
        return Some((rate, rate));
    }
    let read = one("read_bandwidth", m.read_bandwidth.as_ref(), ports.read);
    let write = one("write_bandwidth", m.write_bandwidth.as_ref(), ports.write);
    Some((read?, write?))
}

/// Energies, leakage, area and access time of a memory.
struct Energies {
    read: JoulesPerBit,
    write: JoulesPerBit,
    static_power: Watts,
    area: SquareMm,
    access: Estimate,
}

fn energies(
    cx: &mut Context<'_>,
    m: &MemorySpec,
    capacity: Bytes,
    word: Bytes,
    banks: Option<u64>,
    part: Option<(&DramPart, u64)>,
) -> Energies {
    let technology = cx.technology.with_device(m.device);
    let figures = match (m.kind, part) {
        (MemoryKind::Register, _) => technology.registers(capacity, word),
        (MemoryKind::Sram, _) => technology.sram(capacity, word, banks),
        (_, Some((part, channels))) => {
            let word_bits = (word.0 * 8) as f64;
            let nothing = Estimate {
                value: 0.0,
                low: 0.0,
                high: 0.0,
                source: "off chip".into(),
            };
            MemoryFigures {
                read: part.energy().times(word_bits),
                write: part.energy().times(word_bits),
                leakage: technology.dram_background(part, channels),
                area: nothing.clone(),
                access: nothing,
            }
        }
        (_, None) => {
            let nothing = Estimate {
                value: 0.0,
                low: 0.0,
                high: 0.0,
                source: "off chip".into(),
            };
            if m.energy.is_none() && (m.read_energy.is_none() || m.write_energy.is_none()) {
                let help = "add `energy = \"... pJ/bit\"`, or a DRAM `part`";
                cx.problems.at(
                    &m.name.place,
                    format!("`{}` has no energy per bit", m.name.value),
                    help,
                );
            }
            MemoryFigures {
                read: nothing.clone(),
                write: nothing.clone(),
                leakage: nothing.clone(),
                area: nothing.clone(),
                access: nothing,
            }
        }
    };
    let name = m.name.value.clone();
    let bits = (word.0.max(1) * 8) as f64;
    let per_bit = |e: &Estimate| e.clone().times(1.0 / bits);
    let status = part.map_or(Status::Scaled, |(p, _)| p.status);
    let mut energy =
        |field: &str, written: Option<&Sourced<JoulesPerBit>>, model: &Estimate| match written {
            Some(c) => cx.constant(&format!("{name}.{field}"), c),
            None => cx.modelled(&format!("{name}.{field}"), model, status, JoulesPerBit),
        };
    let read = energy(
        "read_energy",
        m.read_energy.as_ref().or(m.energy.as_ref()),
        &per_bit(&figures.read),
    );
    let write = energy(
        "write_energy",
        m.write_energy.as_ref().or(m.energy.as_ref()),
        &per_bit(&figures.write),
    );
    let static_power = match &m.static_power {
        Some(c) => cx.constant(&format!("{name}.static_power"), c),
        None => cx.modelled(
            &format!("{name}.static_power"),
            &figures.leakage,
            status,
            Watts,
        ),
    };
    let area = cx.or_modelled(
        &format!("{name}.area"),
        m.area.as_ref(),
        &figures.area,
        SquareMm,
    );
    Energies {
        read,
        write,
        static_power,
        area,
        access: figures.access,
    }
}
