//! Shapes of mappings: in which order operands are stored, and from where on their tiles stay.
//!
//! A shape is a sequence of *marks*, from the outside in. Storage of an operand stands at its mark, between the fanouts that its
//! memory lies between. But a tile may stay while loops further out run that the operand is not
//! indexed by, also loops above a fanout: then its mark stands among the marks of an outer section, its storage at the head of its own, and
//! no loop in time in between may index the operand.
//!
//! Loops in time stand in the *gap* right before a mark, or innermost, right above the compute. A gap holds loops over
//! dimensions that index the mark's operand, and of those only
//!
//! - the ones that do not index the operand of the mark before: a loop further out makes smaller tiles of both and
//!   repeats neither;
//! - all, where the operand of the mark before has sliding windows: smaller tiles mean more halo, and what repeats a sweep keeps part of it;
//! - all, where each transfer into the mark before takes a set-up.
//!
//! For plain operands this loses nothing. Take any mapping, and for each storage its mark right below the innermost loop in
//! time above it that indexes its operand. A loop that does not index the mark's operand can move in past the mark: it repeats
//! the operand less and others no more, since each of them has its mark where its last own loop stands. A loop that indexes the operands of the
//! marks on both sides of it can move out past the outer one: its tile gets smaller, and repetitions stay.
//! A loop right above a fanout can move in below it: words, tiles and iterations stay.
//!
//! Where constraints tell loops of a dimension apart by the memory that they stand at ([`super::rules`]), they stand in any gap, but not
//! between the mark and the storage of an operand that they index. Then it matters where a storage stands below its mark: it
//! may also wait for a *turn*, a place further in at which its memory takes over from another one. Other dimensions keep their gaps: to move
//! their loops, past turns too, changes nothing that constraints speak of.

use super::model::Model;

/// Marks at most.
pub(super) const MARKS: usize = 12;

/// A mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Index into [`Model::slots`].
    pub slot: usize,
    /// The section that the mark stands in.
    pub section: usize,
    /// No mark of its own: the place where storage of the slot's memory stands whose marks stand further out.
    pub turn: bool,
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub marks: Vec<Mark>,
    /// Of each gap, slots whose mark stands further out and whose storage further in, as bits.
    waiting: Vec<u32>,
    /// Of each gap, the memory that loops in time stand at, if it has rules; empty where none has.
    owners: Vec<Option<usize>>,
}

/// All shapes, and whether none has more marks than are told apart.
pub(super) fn all(model: &Model) -> (Vec<Shape>, bool) {
    let mut grower = Grower {
        model,
        marks: Vec::new(),
        owners: Vec::new(),
        waitings: Vec::new(),
        found: Vec::new(),
        whole: true,
    };
    let start = Part {
        used: 0,
        waiting: 0,
        owner: model.rules.and_then(|r| r.class(r.outermost)),
    };
    grower.grow(0, start);
    (grower.found, grower.whole)
}

/// What a shape comes to down to a place.
#[derive(Clone, Copy)]
struct Part {
    /// Slots that have a mark or were passed by, as bits.
    used: u32,
    /// Slots whose storage is still to come.
    waiting: u32,
    owner: Option<usize>,
}

struct Grower<'a, 'm> {
    model: &'a Model<'m>,
    /// Marks so far, and what the gap above each is.
    marks: Vec<Mark>,
    owners: Vec<Option<usize>>,
    waitings: Vec<u32>,
    found: Vec<Shape>,
    whole: bool,
}

impl Grower<'_, '_> {
    /// The memory of a slot, if loops at it have rules.
    fn class(&self, slot: usize) -> Option<usize> {
        let store = self.model.slots[slot].store;
        self.model.rules.and_then(|r| r.class(store))
    }

    /// Slots of a section that wait for storage in a class of memories, and not for storage of the same operand further out in
    /// another one.
    fn due(&self, part: Part, section: usize, class: Option<usize>) -> u32 {
        let slots = &self.model.slots;
        let waits = |s: usize| part.waiting & (1 << s) != 0;
        let mine = |s: &usize| waits(*s) && slots[*s].section == section && self.class(*s) == class;
        let free = |s: &usize| {
            let mut outer = 0..*s;
            !outer.any(|o| {
                waits(o) && slots[o].operand == slots[*s].operand && self.class(o) != class
            })
        };
        let due = (0..slots.len()).filter(mine).filter(free);
        due.fold(0, |s, x| s | 1 << x)
    }

    /// Goes on to the next section, if what must be kept is kept and no mark of a later one stands last; then adds marks.
    fn grow(&mut self, section: usize, part: Part) {
        let model = self.model;
        let Some(here) = model.sections.get(section) else {
            let last = std::iter::once(part.waiting);
            let waiting = self.waitings.iter().copied().chain(last).collect();
            let last = std::iter::once(part.owner);
            let owners = match model.rules {
                Some(_) => self.owners.iter().copied().chain(last).collect(),
                None => Vec::new(),
            };
            self.found.push(Shape {
                marks: self.marks.clone(),
                waiting,
                owners,
            });
            return;
        };
        let mut slots = here.slots.clone();
        let missing = slots.any(|s| {
            let unused = part.used & (1 << s) == 0 && model.slots[s].required;
            unused || part.waiting & (1 << s) != 0
        });
        let last_is_early = self
            .marks
            .last()
            .is_some_and(|m| m.section == section && model.slots[m.slot].section > section);
        if !missing && !last_is_early {
            let mut next = part;
            next.used = here.slots.clone().fold(part.used, |u, s| u | 1 << s);
            // Where no rule tells the difference, storage stands at the head of its section.
            next.waiting &= !self.due(next, section + 1, part.owner);
            self.grow(section + 1, next);
        }
        self.add_marks(section, part);
        self.add_turns(section, part);
    }

    /// Goes on below one more mark, above which it comes to `part`.
    fn below(&mut self, mark: Mark, part: Part, section: usize, next: Part) {
        self.marks.push(mark);
        self.owners.push(part.owner);
        self.waitings.push(part.waiting);
        self.grow(section, next);
        self.marks.pop();
        self.owners.pop();
        self.waitings.pop();
    }

    /// Adds a mark of each slot that may have one.
    fn add_marks(&mut self, section: usize, part: Part) {
        let model = self.model;
        for (s, slot) in model.slots.iter().enumerate() {
            if slot.section < section || part.used & (1 << s) != 0 {
                continue;
            }
            // Slots of the operand further out are passed by, unless they are required.
            let outer = (0..s)
                .filter(|x| model.slots[*x].operand == slot.operand && part.used & (1 << x) == 0);
            if outer.clone().any(|x| model.slots[x].required) {
                continue;
            }
            if self.marks.len() == MARKS {
                self.whole = false;
                return;
            }
            let mut next = part;
            next.used = outer.fold(part.used | 1 << s, |u, x| u | 1 << x);
            let class = self.class(s);
            let mut later = next;
            later.waiting |= 1 << s;
            let mark = Mark {
                slot: s,
                section,
                turn: false,
            };
            if slot.section > section {
                self.below(mark, part, section, later);
                continue;
            }
            // Its storage stands here, and with it what waits for storage in this memory.
            let due = self.due(later, section, class);
            if due & (1 << s) != 0 {
                next.waiting &= !due;
                next.owner = class;
                self.below(mark, part, section, next);
            }
            let differs = |x: usize| model.slots[x].section == section && self.class(x) != class;
            let open = model.slots.len();
            let others = (0..open).any(|x| {
                let gone = next.used & (1 << x) != 0 && next.waiting & (1 << x) == 0;
                differs(x) && !gone
            });
            if part.owner != class || others {
                self.below(mark, part, section, later);
            }
        }
    }

    /// Adds the place of storage that waits for another memory than the one that loops stand at.
    fn add_turns(&mut self, section: usize, part: Part) {
        let mut seen = Vec::new();
        for slot in self.model.sections[section].slots.clone() {
            let class = self.class(slot);
            if part.waiting & (1 << slot) == 0 || class == part.owner || seen.contains(&class) {
                continue;
            }
            seen.push(class);
            let due = self.due(part, section, class);
            if due == 0 {
                continue;
            }
            if self.marks.len() == MARKS {
                self.whole = false;
                return;
            }
            let mut next = part;
            next.waiting &= !due;
            next.owner = class;
            let mark = Mark {
                slot: due.trailing_zeros() as usize,
                section,
                turn: true,
            };
            self.below(mark, part, section, next);
        }
    }
}

impl Shape {
    /// Gaps that a dimension may have loops in: that before mark `i` is gap `i`.
    pub fn gaps(&self, model: &Model, dim: usize) -> Vec<u8> {
        let named = |m: &Mark| model.has(model.slots[m.slot].operand, dim);
        let mut gaps = Vec::new();
        // Whether the gap of the mark before, or one that its loops can move out to, is open.
        let mut covered = false;
        let mut before: Option<usize> = None;
        for (i, mark) in self.marks.iter().enumerate() {
            // A tile stays until its storage.
            let mut waiting = (0..model.slots.len()).filter(|s| self.waits(i, *s));
            let stays = waiting.any(|s| model.has(model.slots[s].operand, dim));
            if model.rules.is_some_and(|r| r.tells(dim)) {
                if !stays {
                    gaps.push(i as u8);
                }
                continue;
            }
            if mark.turn {
                continue;
            }
            let last = before.replace(mark.slot);
            if !named(mark) || stays {
                covered = false;
                continue;
            }
            let free = last.is_some_and(|slot| {
                !model.loose && !model.windows(model.slots[slot].operand) && !model.sets_up(slot)
            });
            if !(covered && free) {
                gaps.push(i as u8);
            }
            covered = true;
        }
        gaps
    }

    /// Whether a slot's storage stands further in than a gap, and its mark further out.
    pub fn waits(&self, gap: usize, slot: usize) -> bool {
        self.waiting[gap] & (1 << slot) != 0
    }

    /// The memory that loops in time in a gap stand at, if it has rules.
    pub fn owner(&self, gap: usize) -> Option<usize> {
        self.owners.get(gap).copied().flatten()
    }

    /// The first gap that does not lie above a mark's storage.
    pub fn below(&self, mark: usize) -> u8 {
        let slot = self.marks[mark].slot;
        let mut inside = mark + 1..self.marks.len();
        inside
            .find(|g| !self.waits(*g, slot))
            .unwrap_or(self.marks.len()) as u8
    }
}
