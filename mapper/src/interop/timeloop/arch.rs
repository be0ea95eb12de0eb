//! `architecture`: memories and compute units, v3 and v4.
//!
//! v3: a tree of `subtree` and `local`, where `name[0..15]` repeats everything in it, and `meshX` (`meshY`) of a
//! component tells how its instances lie. v4: a list `nodes` of `!Component` and `!Container`, each inside the one
//! before it (components of a `!Parallel` stand beside each other and keep what they say); `spatial: {meshX, meshY}`
//! repeats a node and all that follow. Both become a [`Hierarchy`], outermost
//! first.
//!
//! Where the number of instances grows, there is a fanout of axes `X` and `Y`. It is called after the level that
//! Timeloop hangs its loops on: `inter_PE_spatial` for a node `PE` (its front end's own name; a storage of class
//! `dummy_storage` is that too), or `GLB.fanout` for loops of a memory `GLB`.

use super::TimeloopError;
use super::components::{compute, memory};
use super::ert::Energies;
use super::problem::Problem;
use super::tree::Cursor;
use crate::hierarchy::{Axis, FanoutLevel, Hierarchy, Level, Mask};

/// A level as mappings and constraints name it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub name: String,
    /// The memory's index in the hierarchy.
    pub memory: Option<usize>,
    /// The fanout that takes its spatial loops.
    pub fanout: Option<usize>,
}

/// An architecture.
#[derive(Debug, Clone)]
pub struct Architecture<'a> {
    /// The machine.
    pub hierarchy: Hierarchy,
    /// Clock, if the cycle's length is given.
    pub clock_hz: Option<f64>,
    pub(super) targets: Vec<Target>,
    /// Targets that stand beside each other in a `!Parallel`, with their nodes.
    pub(super) parallel: Vec<(usize, Cursor<'a>)>,
    /// Constraints written inside the architecture, by target.
    pub(super) embedded: Vec<(usize, Cursor<'a>)>,
}

impl Architecture<'_> {
    /// Word bits of the outermost memory.
    pub fn word_bits(&self) -> f64 {
        let memory = self.hierarchy.levels.iter().find_map(Level::memory);
        memory.and_then(|m| m.bits.first().copied()).unwrap_or(8.0)
    }

    /// What a target's memory may keep.
    pub(super) fn keeps(&self, target: &Target) -> Mask {
        let level = target.memory.and_then(|m| self.hierarchy.levels.get(m));
        level
            .and_then(Level::memory)
            .map_or(Mask::NONE, |m| m.keeps)
    }

    /// The target of temporal loops and bypasses.
    pub(super) fn target(&self, name: &str) -> Option<usize> {
        let named = |n: &str| self.targets.iter().position(|t| t.name == n);
        // Early sets number their levels from the innermost.
        let numbered = || {
            self.targets
                .len()
                .checked_sub(name.parse::<usize>().ok()? + 1)
        };
        named(name)
            .or_else(|| named(&between(name)))
            .or_else(numbered)
    }

    /// The target of spatial loops.
    pub(super) fn spatial_target(&self, name: &str) -> Option<usize> {
        let named = |n: &str| {
            self.targets
                .iter()
                .position(|t| t.name == n && t.fanout.is_some())
        };
        named(name)
            .or_else(|| named(&between(name)))
            .or_else(|| self.target(name))
    }

    pub(super) fn target_names(&self) -> String {
        let names: Vec<&str> = self.targets.iter().map(|t| t.name.as_str()).collect();
        names.join(", ")
    }
}

/// The name that Timeloop's front end gives to the fanout in front of a node.
pub(super) fn between(node: &str) -> String {
    format!("inter_{node}_spatial")
}

/// What a part of the architecture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Keeps data, or computes if it is the last.
    Component,
    /// Carries spatial loops only.
    Loops,
}

/// A part of the architecture, flattened.
pub(super) struct Part<'a> {
    pub name: String,
    kind: Kind,
    pub class: String,
    /// Its attributes, then those of the nodes around it, nearest first.
    attributes: Vec<Cursor<'a>>,
    constraints: Option<Cursor<'a>>,
    /// Whether it stands in a `!Parallel`.
    parallel: bool,
    /// Instances along X and Y.
    mesh: (u64, u64),
    pub at: Cursor<'a>,
}

impl<'a> Part<'a> {
    pub fn attribute(&self, keys: &[&str]) -> Option<Cursor<'a>> {
        self.attributes.iter().find_map(|a| a.first(keys))
    }
}

impl<'a> Architecture<'a> {
    pub(super) fn read(
        section: &Cursor<'a>,
        energies: &Energies,
        problem: &Problem,
        notes: &mut Vec<String>,
    ) -> Result<Self, TimeloopError> {
        let mut parts = Vec::new();
        let front_end = if let Some(nodes) = section.get("nodes") {
            read_nodes(&nodes, false, &mut (1, 1), &mut Vec::new(), &mut parts)?;
            true
        } else if let Some(subtree) = section.get("subtree") {
            read_subtree(&subtree, 1, &mut Vec::new(), &mut parts)?;
            // The front end writes this form as version 0.4.
            match section.get("version") {
                Some(version) => version.number()? >= 0.4,
                None => false,
            }
        } else {
            return Err(section.fail("needs `nodes` (v4) or `subtree` (v3)"));
        };
        if energies.is_empty() {
            notes.push("no ERT is given: energies of memories and compute units are 0".into());
        }
        Self::build(parts, front_end, energies, problem.operands.len(), section)
    }

    fn build(
        parts: Vec<Part<'a>>,
        front_end: bool,
        energies: &Energies,
        operands: usize,
        section: &Cursor<'_>,
    ) -> Result<Self, TimeloopError> {
        let mut arch = Self {
            hierarchy: Hierarchy {
                name: machine_name(section),
                levels: Vec::new(),
            },
            clock_hz: None,
            targets: Vec::new(),
            parallel: Vec::new(),
            embedded: Vec::new(),
        };
        let last = parts.len().checked_sub(1).filter(|l| *l > 0);
        let Some(last) = last else {
            return Err(section.fail("needs a memory and compute units"));
        };
        let mut mesh = (1, 1);
        for (i, part) in parts.iter().enumerate() {
            arch.widen(&mut mesh, part)?;
            if let Some(seconds) = part.attribute(&["global_cycle_seconds"]) {
                let seconds = seconds.amount()?;
                arch.clock_hz = (seconds > 0.0).then_some(1.0 / seconds);
            }
            if arch.targets.iter().any(|t| t.name == part.name) {
                return Err(part.at.fail(format!("`{}` stands twice", part.name)));
            }
            let given = energies.of(&part.name);
            if i == last {
                if part.kind == Kind::Loops {
                    return Err(part.at.fail("is the last part, but does not compute"));
                }
                arch.hierarchy
                    .levels
                    .push(Level::Compute(compute(part, given, energies)?));
                break;
            }
            let memory = match part.kind {
                Kind::Loops => None,
                Kind::Component => {
                    let memory = memory(part, front_end, given, energies, operands)?;
                    arch.hierarchy.levels.push(Level::Memory(memory));
                    Some(arch.hierarchy.levels.len() - 1)
                }
            };
            arch.targets.push(Target {
                name: part.name.clone(),
                memory,
                fanout: None,
            });
            if part.parallel {
                arch.parallel
                    .push((arch.targets.len() - 1, part.at.clone()));
            }
            if let Some(constraints) = &part.constraints {
                arch.embedded
                    .push((arch.targets.len() - 1, constraints.clone()));
            }
        }
        let outermost = arch.hierarchy.levels.first().and_then(Level::memory);
        if outermost.is_none() {
            return Err(section.fail("the outermost part must be one memory"));
        }
        Ok(arch)
    }

    /// Adds the fanout from the instances there are to those of a part.
    fn widen(&mut self, mesh: &mut (u64, u64), part: &Part<'_>) -> Result<(), TimeloopError> {
        if part.mesh == *mesh {
            return Ok(());
        }
        let ratio = |now: u64, before: u64| now.is_multiple_of(before).then(|| now / before);
        let ratios = (ratio(part.mesh.0, mesh.0), ratio(part.mesh.1, mesh.1));
        let (Some(x), Some(y)) = ratios else {
            return Err(part.at.fail(format!(
                "its {} x {} instances (meshX x meshY) do not divide evenly over the {} x {} above it",
                part.mesh.0, part.mesh.1, mesh.0, mesh.1
            )));
        };
        *mesh = part.mesh;
        let Some(above) = self.targets.last_mut() else {
            return Err(part.at.fail("the outermost part must be one memory"));
        };
        let name = match above.memory {
            Some(_) => format!("{}.fanout", above.name),
            None => above.name.clone(),
        };
        let axes = [("X", x), ("Y", y)].into_iter().filter(|(_, n)| *n > 1);
        self.hierarchy.levels.push(Level::Fanout(FanoutLevel {
            name,
            hop_energy: 0.0,
            axes: axes.map(|(name, size)| axis(name, size)).collect(),
        }));
        above.fanout = Some(self.hierarchy.levels.len() - 1);
        Ok(())
    }
}

/// The name of the outermost node.
fn machine_name(section: &Cursor<'_>) -> String {
    let nodes = section.first(&["nodes", "subtree"]);
    let first = nodes
        .and_then(|n| n.items().ok())
        .and_then(|n| n.into_iter().next());
    let name = first.and_then(|n| ranged(&n).ok()).map(|(name, _)| name);
    name.unwrap_or_else(|| "architecture".into())
}

fn axis(name: &str, size: u64) -> Axis {
    Axis {
        name: name.into(),
        size,
        shares: Mask::ALL,
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic: false,
    }
}

/// A name without its range, and how many the range repeats.
fn ranged(at: &Cursor<'_>) -> Result<(String, u64), TimeloopError> {
    let text = at.need("name")?.text()?.trim().to_string();
    let Some((name, range)) = text.split_once('[') else {
        return Ok((text, 1));
    };
    let bounds = range
        .strip_suffix(']')
        .and_then(|r| match r.split_once("..") {
            Some((from, to)) => Some((
                from.trim().parse::<u64>().ok()?,
                to.trim().parse::<u64>().ok()?,
            )),
            // `PE[16]` is sixteen of them.
            None => Some((1, r.trim().parse::<u64>().ok()?)),
        });
    match bounds {
        Some((from, to)) if from <= to && to < 1 << 32 => Ok((name.into(), to - from + 1)),
        _ => Err(at.fail(format!("`{text}`: write a range as name[0..15]"))),
    }
}

fn read_subtree<'a>(
    subtree: &Cursor<'a>,
    instances: u64,
    around: &mut Vec<Cursor<'a>>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), TimeloopError> {
    let nodes = subtree.items()?;
    if nodes.len() > 1 {
        return Err(subtree
            .fail("several branches of one tree are not a path of memories; give one of them"));
    }
    for node in nodes {
        let (_, times) = ranged(&node)?;
        let instances = times_of(&node, instances, times)?;
        let depth = around.len();
        if let Some(attributes) = node.get("attributes") {
            around.insert(0, attributes);
        }
        if let Some(local) = node.get("local") {
            for component in local.items()? {
                let (name, times) = ranged(&component)?;
                let instances = times_of(&component, instances, times)?;
                component_part(&component, name, around, Some(instances), parts)?;
            }
        }
        if let Some(inner) = node.get("subtree") {
            read_subtree(&inner, instances, around, parts)?;
        }
        around.drain(..around.len() - depth);
    }
    Ok(())
}

fn times_of(at: &Cursor<'_>, instances: u64, times: u64) -> Result<u64, TimeloopError> {
    let product = instances.checked_mul(times).filter(|n| *n < 1 << 32);
    product.ok_or_else(|| at.fail("has more than 2^32 instances"))
}

fn is_enabled(node: &Cursor<'_>) -> Result<bool, TimeloopError> {
    node.get("enabled").map_or(Ok(true), |e| e.truth())
}

fn component_part<'a>(
    component: &Cursor<'a>,
    name: String,
    around: &[Cursor<'a>],
    instances: Option<u64>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), TimeloopError> {
    if !is_enabled(component)? {
        return Ok(());
    }
    let text = |key: &str| match component.get(key) {
        Some(class) => class.text().map(str::to_string),
        None => Ok(String::new()),
    };
    let class = format!("{} {}", text("class")?, text("subclass")?);
    let lower = class.to_ascii_lowercase();
    if lower.contains("network") || lower.contains("noc") {
        return Err(component.fail("networks of their own are not told; remove the component"));
    }
    let mut attributes: Vec<Cursor<'a>> = component.get("attributes").into_iter().collect();
    attributes.extend(around.iter().cloned());
    let mut part = Part {
        kind: if lower.contains("dummy_storage") {
            Kind::Loops
        } else {
            Kind::Component
        },
        name,
        class,
        constraints: component.get("constraints"),
        parallel: false,
        mesh: (1, 1),
        attributes,
        at: component.clone(),
    };
    if let Some(instances) = instances {
        part.mesh = mesh(&part, instances)?;
    }
    parts.push(part);
    Ok(())
}

/// How a component's instances lie; in one row unless it says otherwise.
fn mesh(part: &Part<'_>, mut instances: u64) -> Result<(u64, u64), TimeloopError> {
    // Its own attributes only: those of nodes around it are of other counts.
    let own = part.at.get("attributes");
    let read = |key: &str| match own.as_ref().and_then(|a| a.get(key)) {
        Some(n) => n.count().map(Some),
        None => Ok(None),
    };
    if let Some(stated) = read("instances")? {
        instances = stated;
    }
    let (x, y) = match (read("meshX")?, read("meshY")?) {
        (None, None) => (instances, 1),
        (Some(x), None) => (x, instances / x),
        (None, Some(y)) => (instances / y, y),
        (Some(x), Some(y)) => (x, y),
    };
    if x.checked_mul(y) != Some(instances) {
        return Err(part.at.fail(format!(
            "has {instances} instances, which are not {x} x {y} (meshX x meshY)"
        )));
    }
    Ok((x, y))
}

fn read_nodes<'a>(
    nodes: &Cursor<'a>,
    parallel: bool,
    mesh: &mut (u64, u64),
    around: &mut Vec<Cursor<'a>>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), TimeloopError> {
    for node in nodes.items()? {
        match node.node.tag.as_deref() {
            Some("Hierarchical") if !parallel => {
                read_nodes(&node.need("nodes")?, false, mesh, around, parts)?;
                continue;
            }
            Some("Parallel") if !parallel => {
                read_nodes(&node.need("nodes")?, true, mesh, around, parts)?;
                continue;
            }
            Some("Component") => {}
            Some(tag @ ("Hierarchical" | "Parallel" | "Pipelined" | "Container")) if parallel => {
                return Err(node.fail(format!(
                    "!{tag} in a !Parallel is a branch of its own; only components can stand beside each other"
                )));
            }
            Some(tag @ "Pipelined") => {
                return Err(node.fail(format!(
                    "!{tag} is not a path of memories; give one of its nodes"
                )));
            }
            Some("Container" | "ArrayContainer") => {}
            Some("Nothing") => continue,
            other => {
                return Err(node.fail(format!(
                    "a node is a !Component or a !Container, not {}",
                    other.map_or("untagged".into(), |t| format!("!{t}"))
                )));
            }
        }
        let (name, times) = ranged(&node)?;
        let container = node.node.tag.as_deref() != Some("Component");
        if !is_enabled(&node)? {
            continue;
        }
        let spatial = spatial_of(&node, times)?;
        let constraints = node.get("constraints");
        if spatial != (1, 1) {
            // The fanout in front of the node carries its spatial loops.
            parts.push(Part {
                name: between(&name),
                kind: Kind::Loops,
                class: String::new(),
                attributes: Vec::new(),
                constraints: constraints.clone(),
                parallel: false,
                mesh: *mesh,
                at: node.clone(),
            });
            mesh.0 = times_of(&node, mesh.0, spatial.0)?;
            mesh.1 = times_of(&node, mesh.1, spatial.1)?;
        }
        if container {
            if let Some(attributes) = node.get("attributes") {
                around.insert(0, attributes);
            }
            continue;
        }
        let before = parts.len();
        component_part(&node, name, around, None, parts)?;
        if let Some(part) = parts.get_mut(before) {
            part.mesh = *mesh;
            part.parallel = parallel;
        }
    }
    Ok(())
}

fn spatial_of(node: &Cursor<'_>, times: u64) -> Result<(u64, u64), TimeloopError> {
    let Some(spatial) = node.get("spatial") else {
        return Ok((times, 1));
    };
    let along = |key: &str| match spatial.get(key) {
        Some(n) => n.count().map(Some),
        None => Ok(None),
    };
    match (along("meshX")?, along("meshY")?) {
        (None, None) => Ok((times, 1)),
        (x, y) => {
            let mesh = (x.unwrap_or(1), y.unwrap_or(1));
            times_of(node, mesh.0, mesh.1)?;
            Ok(mesh)
        }
    }
}
