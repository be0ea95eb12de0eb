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
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub marks: Vec<Mark>,
}

/// All shapes.
pub(super) fn all(model: &Model) -> Vec<Shape> {
    let mut found = Vec::new();
    grow(model, 0, &mut Vec::new(), 0, &mut found);
    found
}

/// Adds marks in a section, then goes on to the next one. `used` are slots that have a mark or were passed by, as bits.
fn grow(model: &Model, section: usize, marks: &mut Vec<Mark>, used: u32, found: &mut Vec<Shape>) {
    let Some(here) = model.sections.get(section) else {
        found.push(Shape {
            marks: marks.clone(),
        });
        return;
    };
    // On to the next section, if what must be kept is kept and no mark of a later one stands last.
    let missing = here
        .slots
        .clone()
        .any(|s| used & (1 << s) == 0 && model.slots[s].required);
    let last_is_early = marks
        .last()
        .is_some_and(|m| m.section == section && model.slots[m.slot].section > section);
    if !missing && !last_is_early {
        let passed = here.slots.clone().fold(used, |u, s| u | 1 << s);
        grow(model, section + 1, marks, passed, found);
    }
    if marks.len() == MARKS {
        return;
    }
    for (s, slot) in model.slots.iter().enumerate() {
        if slot.section < section || used & (1 << s) != 0 {
            continue;
        }
        // Slots of the operand further out are passed by, unless they are required.
        let outer =
            (0..s).filter(|x| model.slots[*x].operand == slot.operand && used & (1 << x) == 0);
        if outer.clone().any(|x| model.slots[x].required) {
            continue;
        }
        let next = outer.fold(used | 1 << s, |u, x| u | 1 << x);
        marks.push(Mark { slot: s, section });
        grow(model, section, marks, next, found);
        marks.pop();
    }
}

impl Shape {
    /// Gaps that a dimension may have loops in: that before mark `i` is gap `i`.
    pub fn gaps(&self, model: &Model, dim: usize) -> Vec<u8> {
        let named = |m: &Mark| model.has(model.slots[m.slot].operand, dim);
        let mut gaps = Vec::new();
        // Whether the gap of the mark before, or one that its loops can move out to, is open.
        let mut covered = false;
        for (i, mark) in self.marks.iter().enumerate() {
            // The tile of an early mark stays until its storage.
            let stays = |m: &Mark| {
                let natural = model.slots[m.slot].section;
                m.section < natural && mark.section < natural && named(m)
            };
            if !named(mark) || self.marks[..i].iter().any(stays) {
                covered = false;
                continue;
            }
            let before = i.checked_sub(1).map(|p| self.marks[p].slot);
            let free = before.is_some_and(|slot| {
                !model.loose && !model.windows(model.slots[slot].operand) && !model.sets_up(slot)
            });
            if !(covered && free) {
                gaps.push(i as u8);
            }
            covered = true;
        }
        gaps
    }

    /// Whether a mark stands in an outer section of its storage's.
    pub fn early(&self, model: &Model, mark: usize) -> bool {
        self.marks[mark].section < model.slots[self.marks[mark].slot].section
    }

    /// The first gap that does not lie above a mark's storage.
    pub fn below(&self, model: &Model, mark: usize) -> u8 {
        let natural = model.slots[self.marks[mark].slot].section;
        if self.early(model, mark) {
            let inner = |m: &Mark| m.section >= natural;
            self.marks
                .iter()
                .position(inner)
                .unwrap_or(self.marks.len()) as u8
        } else {
            mark as u8 + 1
        }
    }
}
