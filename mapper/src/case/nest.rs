//! Mappings as text, a line a node from the outside in:
//!
//! ```text
//! dram: keep A, W, O              the tiles of A, W and O at this point are kept at dram
//! for m in 4                      four trips in time
//! glb: keep A, O
//! for k in 16 across pes.x        sixteen instances along axis x of fanout pes
//! for n in 3 (tile 100)           cuts into tiles of 100: the last one may be partial
//! for n tile 10                   the same, with the trips left out
//! ```
//!
//! A loop's tile is the product of the trips of the loops of its rank inside it, so trips alone tell a mapping:
//! where the outermost loop of a rank leaves a remainder, its trips are the size over the tile, rounded up.

use presil_hwmodels::decode::At;
use presil_hwmodels::document::{Place, Problems, list};
use presil_numerics::diagnostic::nearest_names;
use presil_numerics::ids::Id;
use presil_workloads::{DimId, Einsum};

use super::spec::{NestSpec, place_within};
use crate::hierarchy::Hierarchy;
use crate::looptree::{LoopTree, Node};

/// What the names in a mapping mean.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The einsum.
    pub einsum: &'a Einsum,
    /// The machine.
    pub hierarchy: &'a Hierarchy,
    /// Names of the operands.
    pub operands: &'a [String],
}

/// Reads a mapping; all mistakes become problems.
pub fn read(spec: &NestSpec, names: Names<'_>, problems: &mut Problems) -> Option<LoopTree> {
    let mut nodes = Vec::new();
    let mut loops = Vec::new();
    let mut right = true;
    for (number, line) in spec.lines.iter().enumerate() {
        let mut reader = Reader {
            line,
            number,
            words: words(&line.value),
            at: 0,
            names,
            problems,
        };
        match reader.line() {
            Some(Line::Keep(kept)) => nodes.extend(kept),
            Some(Line::Loop(l)) => {
                loops.push((nodes.len(), l));
                nodes.push(Node::Temporal {
                    dim: l.dim,
                    tile: 0,
                });
            }
            None => right = false,
        }
    }
    right &= set_tiles(spec, &mut nodes, &loops, names, problems);
    if !right {
        return None;
    }
    let tree = LoopTree { nodes };
    if let Err(error) = tree.check(names.einsum, names.hierarchy) {
        let help = "see the rules of mappings in docs/case-files.md";
        problems.at(&spec.place, format!("this is no mapping: {error}"), help);
        return None;
    }
    Some(tree)
}

/// A loop as written.
#[derive(Debug, Clone, Copy)]
struct Loop {
    dim: DimId,
    trips: Option<u64>,
    tile: Option<u64>,
    /// Fanout and axis.
    across: Option<(usize, usize)>,
    /// Index of the line.
    line: usize,
}

enum Line {
    Keep(Vec<Node>),
    Loop(Loop),
}

/// Gives every loop its tile: from the inside out, rank by rank.
fn set_tiles(
    spec: &NestSpec,
    nodes: &mut [Node],
    loops: &[(usize, Loop)],
    names: Names<'_>,
    problems: &mut Problems,
) -> bool {
    let mut right = true;
    for dim in names.einsum.dim_ids() {
        let of_dim: Vec<&(usize, Loop)> = loops.iter().filter(|(_, l)| l.dim == dim).collect();
        let d = names.einsum.dim(dim);
        // The tile inside a loop: 1 for the innermost, else what the loops inside cover.
        let mut inside = Some(1u64);
        let mut tiles = vec![0; of_dim.len()];
        for (at, (_, l)) in of_dim.iter().enumerate().rev() {
            let place = |spec: &NestSpec| place_of(spec, l.line);
            let Some(tile) = l.tile.or(inside) else {
                let help = "write its tile, as in `for m in 4 (tile 16)`";
                let message = format!("the tile of this loop over `{}` is not told", d.name);
                problems.at(&place(spec), message, help);
                return false;
            };
            if let (Some(stated), Some(covered)) = (l.tile, inside)
                && stated != covered
            {
                let help = format!("the loops over `{}` inside it cover {covered}", d.name);
                let message = format!("its tile can't be {stated}");
                problems.at(&place(spec), message, help);
                right = false;
            }
            tiles[at] = tile;
            inside = match l.trips {
                Some(trips) => tile.checked_mul(trips),
                None => None,
            };
        }
        let mut outer = d.size;
        for ((node, l), tile) in of_dim.iter().zip(&tiles) {
            let trips = outer.div_ceil((*tile).max(1));
            if let Some(stated) = l.trips
                && stated != trips
            {
                let message = format!(
                    "{stated} trips over `{}` in tiles of {tile} do not make {outer}",
                    d.name
                );
                let help = format!("write `for {} in {trips}`, or change its tile", d.name);
                problems.at(&place_of(spec, l.line), message, help);
                right = false;
                break;
            }
            nodes[*node] = match l.across {
                Some((level, axis)) => Node::Spatial {
                    level,
                    axis,
                    dim,
                    tile: *tile,
                },
                None => Node::Temporal { dim, tile: *tile },
            };
            outer = *tile;
        }
        if of_dim.is_empty() && d.size != 1 {
            let message = format!("no loop iterates over `{}`", d.name);
            let help = format!("add `for {} in {}`", d.name, d.size);
            problems.at(&spec.place, message, help);
            right = false;
        }
    }
    right
}

fn place_of(spec: &NestSpec, line: usize) -> Place {
    let place = spec.lines.get(line).map(|l| l.place.clone());
    place.unwrap_or_else(|| spec.place.clone())
}

/// A word or sign of a line, and its first byte.
type Word<'l> = (&'l str, usize);

fn words(line: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '-';
    let mut at = 0;
    while let Some(c) = line.get(at..).and_then(|r| r.chars().next()) {
        let rest = line.get(at..).unwrap_or("");
        let length = match part(c) {
            true => rest.find(|c| !part(c)).unwrap_or(rest.len()),
            false => c.len_utf8(),
        };
        if !c.is_whitespace() {
            words.push((rest.get(..length).unwrap_or(""), at));
        }
        at += length;
    }
    words
}

struct Reader<'a> {
    line: &'a At<String>,
    number: usize,
    words: Vec<Word<'a>>,
    at: usize,
    names: Names<'a>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<Line> {
        let line = match self.peek() {
            "for" => self.for_line().map(Line::Loop),
            _ => self.keep_line().map(Line::Keep),
        }?;
        if self.at < self.words.len() {
            let next = self.peek();
            return self.wrong(&format!("`{next}` is too much"), "end the line before it");
        }
        Some(line)
    }

    fn peek(&self) -> &'a str {
        self.words.get(self.at).map_or("", |(word, _)| word)
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        self.at += usize::from(found);
        found
    }

    /// Records a problem at the next word.
    fn wrong<T>(&mut self, message: &str, help: &str) -> Option<T> {
        let at = self.at.min(self.words.len());
        let part = match self.words.get(at) {
            Some((word, start)) => *start..start + word.len(),
            None => self.line.value.len().saturating_sub(1)..self.line.value.len(),
        };
        let place = place_within(&self.line.place, &self.line.value, self.problems, part);
        self.problems.at(&place, message, help);
        None
    }

    /// The number of a name among known ones.
    fn one_of(&mut self, noun: &str, known: &[&str]) -> Option<usize> {
        let name = self.peek();
        if let Some(at) = known.iter().position(|k| *k == name) {
            self.at += 1;
            return Some(at);
        }
        let help = match nearest_names(name, known.iter().copied()).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is {}", list(known)),
        };
        if name.is_empty() {
            return self.wrong(&format!("expected a {noun}"), &help);
        }
        self.wrong(&format!("`{name}` is no {noun}"), &help)
    }

    fn number(&mut self) -> Option<u64> {
        match self.peek().parse::<u64>() {
            Ok(number) if number > 0 => {
                self.at += 1;
                Some(number)
            }
            _ => self.wrong("expected a number of at least 1", "write it in digits"),
        }
    }

    fn keep_line(&mut self) -> Option<Vec<Node>> {
        let levels = &self.names.hierarchy.levels;
        let memories: Vec<usize> = self.names.hierarchy.memories().collect();
        let known: Vec<&str> = memories.iter().map(|l| levels[*l].name()).collect();
        let level = memories[self.one_of("memory", &known)?];
        let colon = self.eat(":");
        if !(self.eat("keep") || self.eat("keeps")) {
            let example = "write `dram: keep A, W` or `for m in 4`";
            let message = if colon {
                "expected `keep`"
            } else {
                "expected `: keep`"
            };
            return self.wrong(message, example);
        }
        let operands = self.names.operands;
        let known: Vec<&str> = operands.iter().map(String::as_str).collect();
        let mut kept = Vec::new();
        loop {
            let name = known[self.one_of("tensor of this einsum", &known)?];
            let same = operands.iter().enumerate().filter(|(_, n)| *n == name);
            kept.extend(same.map(|(operand, _)| Node::Keep { level, operand }));
            if !self.eat(",") {
                return Some(kept);
            }
        }
    }

    fn for_line(&mut self) -> Option<Loop> {
        self.next();
        let names = self.names;
        let dims: Vec<&str> = names.einsum.dims.iter().map(|d| d.name.as_str()).collect();
        let dim = DimId::new(self.one_of("rank of this einsum", &dims)?);
        let trips = match self.eat("in") {
            true => Some(self.number()?),
            false => None,
        };
        let bracket = self.eat("(");
        let tile = match self.eat("tile") {
            true => Some(self.number()?),
            false if bracket => return self.wrong("expected `tile`", "write `(tile 4)`"),
            false => None,
        };
        if bracket && !self.eat(")") {
            return self.wrong("expected `)`", "write `(tile 4)`");
        }
        if trips.is_none() && tile.is_none() {
            return self.wrong("expected `in` and the trips", "write `for m in 4`");
        }
        let across = match self.eat("across") {
            true => Some(self.axis()?),
            false => None,
        };
        Some(Loop {
            dim,
            trips,
            tile,
            across,
            line: self.number,
        })
    }

    fn axis(&mut self) -> Option<(usize, usize)> {
        let hierarchy = self.names.hierarchy;
        let mut known: Vec<(String, (usize, usize))> = Vec::new();
        for (level, fanout) in hierarchy.levels.iter().enumerate() {
            let Some(fanout) = fanout.fanout() else {
                continue;
            };
            for (axis, a) in fanout.axes.iter().enumerate() {
                known.push((format!("{}.{}", fanout.name, a.name), (level, axis)));
            }
            if fanout.axes.len() == 1 {
                known.push((fanout.name.clone(), (level, 0)));
            }
        }
        let names: Vec<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
        let at = self.one_of("axis of a fanout", &names)?;
        known.get(at).map(|(_, axis)| *axis)
    }
}

/// Writes a mapping: the lines that [`read`] reads.
pub fn write(tree: &LoopTree, names: Names<'_>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut tiles: Vec<u64> = names.einsum.dims.iter().map(|d| d.size).collect();
    let mut last = None;
    for node in &tree.nodes {
        let (dim, tile) = match *node {
            Node::Keep { level, operand } => {
                let name = names.operands.get(operand).map_or("?", String::as_str);
                match lines.last_mut() {
                    Some(line) if last == Some(level) => {
                        // An operand that appears twice is kept by one name.
                        if !line.ends_with(&format!(" {name}")) {
                            line.push_str(&format!(", {name}"));
                        }
                    }
                    _ => lines.push(format!(
                        "{}: keep {name}",
                        names.hierarchy.levels[level].name()
                    )),
                }
                last = Some(level);
                continue;
            }
            Node::Temporal { dim, tile } | Node::Spatial { dim, tile, .. } => (dim, tile),
        };
        last = None;
        let outer = std::mem::replace(&mut tiles[dim.index()], tile);
        let trips = outer.div_ceil(tile.max(1));
        let mut line = format!("for {} in {trips}", names.einsum.dim(dim).name);
        if trips * tile != outer {
            line.push_str(&format!(" (tile {tile})"));
        }
        if let Node::Spatial { level, axis, .. } = *node {
            let fanout = names.hierarchy.levels[level].fanout();
            let axis = fanout.and_then(|f| f.axes.get(axis));
            let axis = axis.map_or("?", |a| a.name.as_str());
            line.push_str(&format!(
                " across {}.{axis}",
                names.hierarchy.levels[level].name()
            ));
        }
        lines.push(line);
    }
    lines
}
