//! From what a file says to a chip: everything checked, every figure filled in.
//!
//! All mistakes are found in one pass: names that are not there, a tree that is none, counts of zero, figures that
//! contradict each other. What the file leaves out comes from the [`crate::technology`] models; every constant of
//! the result is listed in [`Chip::provenance`](crate::Chip), with what it rests on.

mod blocks;
mod data;
mod engines;
mod kernels;
mod memory;
mod movement;
mod nodes;
mod power;

use std::fmt::Display;

use presil_numerics::diagnostic::nearest_names;
use presil_numerics::{ClockDomain, IdVec, SquareMm, Watts};

use crate::chip::{Chip, Clock, ClockId, Mapspace, NodeId, Numerics};
use crate::decode::{At, Sourced};
use crate::document::{Place, Problems, list};
use crate::sourced::{Provenance, Status};
use crate::spec::{ChipSpec, SECTIONS};
use crate::technology::{DeviceClass, Estimate, NODE_RANGE, Scaling, Technology, nominal_voltage};

/// Status and source of the constants of a text that state none.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Status.
    pub status: Status,
    /// Source.
    pub source: String,
}

/// What resolution works on.
struct Context<'a> {
    spec: &'a ChipSpec,
    defaults: &'a [Defaults],
    technology: Technology,
    clocks: IdVec<ClockId, Clock>,
    provenance: Vec<Provenance>,
    problems: &'a mut Problems,
}

/// Resolves a chip. `defaults` has one entry for each source of `problems`. `None` where anything is wrong.
pub fn resolve(spec: &ChipSpec, defaults: &[Defaults], problems: &mut Problems) -> Option<Chip> {
    let technology = technology(spec);
    let mut cx = Context {
        spec,
        defaults,
        technology,
        clocks: IdVec::new(),
        provenance: Vec::new(),
        problems,
    };
    let node = cx.constant("technology.node", &spec.technology.node);
    let voltage = spec.technology.voltage.clone();
    if let Some(v) = &voltage {
        cx.constant("technology.voltage", v);
    }
    if !(NODE_RANGE.0..=NODE_RANGE.1).contains(&node.0) {
        let message = format!(
            "the technology tables have nodes from {} nm to {} nm",
            NODE_RANGE.0, NODE_RANGE.1
        );
        cx.problems.at(
            &spec.technology.node.place,
            message,
            "write a node in that range, such as `7 nm`",
        );
        return None;
    }
    if let Some(v) = voltage.filter(|v| !(0.3..=2.0).contains(&v.value.0)) {
        let help = format!(
            "the nominal voltage of this node is {}",
            nominal_voltage(node)
        );
        cx.problems.at(
            &v.place,
            "a supply voltage lies between 0.3 V and 2 V",
            help,
        );
        return None;
    }
    cx.names();
    cx.clocks();
    let nodes = nodes::resolve(&mut cx)?;
    let engines = engines::resolve(&mut cx, &nodes)?;
    let blocks = match &spec.blocks {
        Some(b) => Some(blocks::resolve(&mut cx, b, &nodes, &engines)?),
        None => None,
    };
    let prefetch_ops = spec
        .mapspace
        .as_ref()
        .and_then(|m| m.prefetch_ops.as_ref())
        .map(|c| cx.constant("mapspace.prefetch_ops", c));
    let kernels = kernels::resolve(&mut cx, &nodes, &engines);
    let row_stationary = spec
        .mapspace
        .as_ref()
        .and_then(|m| m.row_stationary.as_ref())
        .and_then(|d| data::row_stationary(&mut cx, &nodes, d));
    let nominal = cx.technology.voltage;
    let power = power::resolve(&mut cx, spec.power.as_ref(), nominal);
    let movement = movement::resolve(&mut cx);
    let other = spec.other.as_ref();
    let other_power = other
        .and_then(|o| o.power.as_ref())
        .map_or(Watts::ZERO, |p| cx.constant("other.power", p));
    let other_area = other
        .and_then(|o| o.area.as_ref())
        .map_or(SquareMm::ZERO, |a| cx.constant("other.area", a));
    if !cx.problems.is_empty() {
        return None;
    }
    let m = spec.mapspace.as_ref();
    let numerics = spec.numerics.as_ref();
    let mut chip = Chip {
        name: spec.name.value.clone(),
        description: spec.description.clone(),
        node_nm: node.0,
        clocks: cx.clocks,
        nodes,
        engines,
        mapspace: Mapspace {
            prefetch_weights: m.and_then(|m| m.prefetch_weights).unwrap_or(true),
            keep_activations: m.and_then(|m| m.keep_activations).unwrap_or(true),
            keep_weights: m.and_then(|m| m.keep_weights).unwrap_or(true),
            fuse_cascades: m.and_then(|m| m.fuse_cascades).unwrap_or(true),
            fuse_groups: m.and_then(|m| m.fuse_groups).unwrap_or_default(),
            launch_groups_once: m.and_then(|m| m.launch_groups_once).unwrap_or(false),
            prefetch_ops,
            row_stationary,
        },
        movement,
        blocks,
        kernels,
        power,
        numerics: Numerics {
            activations: numerics.and_then(|n| n.activations),
            precision: numerics.and_then(|n| n.precision),
            units: numerics.map(|n| n.units.clone()).unwrap_or_default(),
            stated: numerics
                .map(|n| {
                    n.arithmetic
                        .0
                        .iter()
                        .map(|(k, v)| (k.value.clone(), v.clone()))
                        .collect()
                })
                .unwrap_or_default(),
        },
        other_power,
        other_area,
        provenance: Vec::new(),
        hash: String::new(),
    };
    chip.hash = hash(&chip);
    chip.provenance = cx.provenance;
    Some(chip)
}

fn technology(spec: &ChipSpec) -> Technology {
    let t = &spec.technology;
    Technology {
        node: t.node.value,
        device: t.device.unwrap_or(DeviceClass::Lstp),
        voltage: t
            .voltage
            .as_ref()
            .map_or_else(|| nominal_voltage(t.node.value), |v| v.value),
        scaling: t.scaling.unwrap_or(Scaling::Jouppi),
    }
}

/// FNV-1a, 64 bit, of the resolved chip without hash and provenance: two files that mean the same chip have one hash.
pub(crate) fn hash(chip: &Chip) -> String {
    let bare = Chip {
        hash: String::new(),
        provenance: Vec::new(),
        ..chip.clone()
    };
    let text = format!("{bare:?}");
    let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}

impl Context<'_> {
    /// A constant of the file, recorded.
    fn constant<T: Clone + Display>(&mut self, path: &str, c: &Sourced<T>) -> T {
        let default = self.defaults.get(c.place.source);
        let status = c
            .status
            .or(default.map(|d| d.status))
            .unwrap_or(Status::Assumed);
        let source = c
            .source
            .clone()
            .or_else(|| default.map(|d| d.source.clone()))
            .unwrap_or_default();
        self.provenance.push(Provenance {
            path: path.into(),
            value: c.value.to_string(),
            range: c
                .range
                .as_ref()
                .map(|(low, high)| (low.to_string(), high.to_string())),
            status,
            source,
            group: c.group.clone(),
        });
        c.value.clone()
    }

    /// A modelled figure, recorded.
    fn modelled<T: Display>(
        &mut self,
        path: &str,
        estimate: &Estimate,
        status: Status,
        unit: impl Fn(f64) -> T,
    ) -> T {
        let ends = (estimate.low < estimate.high).then(|| {
            (
                unit(estimate.low).to_string(),
                unit(estimate.high).to_string(),
            )
        });
        self.provenance.push(Provenance {
            path: path.into(),
            value: unit(estimate.value).to_string(),
            range: ends,
            status,
            source: estimate.source.clone(),
            group: Some(estimate.source.clone()),
        });
        unit(estimate.value)
    }

    /// The file's constant where there is one, else the model's figure.
    fn or_modelled<T: Clone + Display>(
        &mut self,
        path: &str,
        written: Option<&Sourced<T>>,
        estimate: &Estimate,
        unit: impl Fn(f64) -> T,
    ) -> T {
        match written {
            Some(c) => self.constant(path, c),
            None => self.modelled(path, estimate, Status::Scaled, unit),
        }
    }

    /// A count that must be at least one.
    fn count(&mut self, path: &str, c: &Sourced<u64>) -> u64 {
        if c.value == 0 {
            self.problems.at(
                &c.place,
                format!("`{path}` is zero"),
                "write a count of at least 1",
            );
        }
        self.constant(path, c)
    }

    /// A quantity that must be above zero.
    fn positive<T: Clone + Display + Default + PartialOrd>(
        &mut self,
        path: &str,
        c: &Sourced<T>,
    ) -> T {
        if c.value <= T::default() {
            self.problems.at(
                &c.place,
                format!("`{path}` is zero"),
                "write a value above zero",
            );
        }
        self.constant(path, c)
    }

    /// Every node, engine and clock has a name of its own that is no section's.
    fn names(&mut self) {
        let spec = self.spec;
        let nodes = spec
            .memory
            .iter()
            .map(|m| &m.name)
            .chain(spec.fanout.iter().map(|f| &f.name));
        let nodes = nodes.chain(spec.compute.iter().map(|c| &c.name));
        let engines = spec
            .array
            .iter()
            .map(|a| &a.name)
            .chain(spec.vector.iter().map(|v| &v.name));
        let host = spec.host.iter().filter_map(|h| h.name.as_ref());
        let mut seen: Vec<&str> = Vec::new();
        for name in nodes.chain(engines).chain(host) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.value.is_empty() || !name.value.chars().all(allowed) {
                let help = "use letters, digits, `_` and `-`";
                self.problems
                    .at(&name.place, format!("`{}` is no name", name.value), help);
            } else if seen.contains(&name.value.as_str()) {
                let message = format!("the name `{}` is taken", name.value);
                self.problems.at(
                    &name.place,
                    message,
                    "nodes and engines need names of their own",
                );
            } else if SECTIONS.contains(&name.value.as_str()) && name.value != "host" {
                self.problems.at(
                    &name.place,
                    format!("`{}` is the name of a section", name.value),
                    "choose another name",
                );
            }
            seen.push(&name.value);
        }
    }

    fn clocks(&mut self) {
        for clock in &self.spec.clock {
            if self.clocks.iter().any(|c| c.name == clock.name.value) {
                self.problems.at(
                    &clock.name.place,
                    format!("the clock `{}` is there twice", clock.name.value),
                    "remove one",
                );
                continue;
            }
            let frequency =
                self.constant(&format!("{}.frequency", clock.name.value), &clock.frequency);
            match ClockDomain::new(frequency) {
                Some(domain) => {
                    self.clocks.push(Clock {
                        name: clock.name.value.clone(),
                        domain,
                    });
                }
                None => {
                    let help = "write a frequency such as `1.2 GHz`";
                    self.problems.at(
                        &clock.frequency.place,
                        "a clock's period lies between 1 fs and 1 s",
                        help,
                    );
                }
            }
        }
    }

    /// The clock of a name; a problem where there is none.
    fn clock(&mut self, name: &At<String>) -> Option<ClockId> {
        let found = self
            .clocks
            .iter_ids()
            .find(|(_, c)| c.name == name.value)
            .map(|(id, _)| id);
        // A clock with a wrong frequency is told of where it stands.
        let stands = self.spec.clock.iter().any(|c| c.name.value == name.value);
        if found.is_none() && !stands {
            let known: Vec<String> = self
                .spec
                .clock
                .iter()
                .map(|c| c.name.value.clone())
                .collect();
            self.unknown("clock", name, &known);
        }
        found
    }

    /// Records a name that is not there.
    fn unknown(&mut self, noun: &str, name: &At<String>, known: &[String]) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let near = nearest_names(&name.value, names.iter().copied());
        let help = match near.first() {
            Some(n) => format!("did you mean `{n}`?"),
            None if names.is_empty() => format!("the file has no {noun}"),
            None => format!("there is {}", list(&names)),
        };
        self.problems.at(
            &name.place,
            format!("there is no {noun} `{}`", name.value),
            help,
        );
    }

    /// A problem of the whole file.
    fn whole(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let place = Place {
            source: self.spec.name.place.source,
            span: 0..0,
        };
        self.problems.at(&place, message, help);
    }
}

/// The node of a name.
fn node_named(nodes: &IdVec<NodeId, crate::chip::Node>, name: &str) -> Option<NodeId> {
    nodes
        .iter_ids()
        .find(|(_, n)| n.name == name)
        .map(|(id, _)| id)
}
