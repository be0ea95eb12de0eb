//! What memories hold and what passes through them, by position.

use super::select::{Choices, Item, Share, Space};

/// Bytes at home in each memory and passing through it, by position.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) held: Vec<Vec<u64>>,
    pub(super) passing: Vec<Vec<u64>>,
}

impl Load {
    pub(super) fn new(choices: &Choices) -> Self {
        Self {
            held: choices
                .memories
                .iter()
                .map(|m| m.reserved.clone())
                .collect(),
            passing: choices.memories.iter().map(|m| m.passing.clone()).collect(),
        }
    }

    pub(super) fn add(&mut self, item: &Item, home: Option<usize>) {
        let Some(m) = home else { return };
        for piece in &item.pieces {
            for span in &piece.live {
                for held in self.held[m].iter_mut().take(span.to + 1).skip(span.from) {
                    *held = held.saturating_add(piece.bytes[m]);
                }
            }
            for &(p, bytes) in &piece.passes[m] {
                self.passing[m][p] = self.passing[m][p].saturating_sub(bytes);
            }
        }
    }

    pub(super) fn excess(&self, space: &Space, m: usize, p: usize) -> bool {
        over(space, self.held[m][p], self.passing[m][p])
    }

    pub(super) fn remove(&mut self, item: &Item, memory: usize) {
        for piece in &item.pieces {
            for p in piece.live.iter().flat_map(|s| s.from..=s.to) {
                let held = &mut self.held[memory][p];
                *held = held.saturating_sub(piece.bytes[memory]);
            }
            for &(p, bytes) in &piece.passes[memory] {
                self.passing[memory][p] = self.passing[memory][p].saturating_add(bytes);
            }
        }
    }

    /// Takes off what two pieces in one place count twice, or adds it again.
    pub(super) fn share(&mut self, choices: &Choices, s: &Share, memory: usize, off: bool) {
        let bytes = choices.items[s.from.0].pieces[s.from.1].bytes[memory];
        let held = &mut self.held[memory][s.at];
        *held = if off {
            held.saturating_sub(bytes)
        } else {
            held.saturating_add(bytes)
        };
    }

    pub(super) fn fits_in(&self, choices: &Choices, memory: usize) -> bool {
        let space = &choices.memories[memory];
        (0..choices.positions).all(|p| !self.excess(space, memory, p))
    }

    /// Whether everything fits everywhere.
    pub(super) fn fits(&self, choices: &Choices) -> bool {
        (0..choices.memories.len()).all(|m| self.fits_in(choices, m))
    }
}

/// Whether what is held and what passes is more than a memory's capacity.
pub(super) fn over(space: &Space, held: u64, passing: u64) -> bool {
    held.saturating_add(working(space, passing)) > space.capacity
}

/// Room for tiles.
fn working(space: &Space, passing: u64) -> u64 {
    (space.capacity / 2).min(passing.saturating_mul(space.buffering))
}
