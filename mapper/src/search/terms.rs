//! The cost of a mapping of one shape and assignment, of products of factors over dimensions.
//!
//! For plain operands energy and time are exact, else lower bounds ([`super::layout`]).
//!
//! *Bounds.* Every cost grows with every factor. So with the least factor of any option for dimensions that are still open, costs are
//! lower bounds on all mappings that choose the same options otherwise. (Output: a storage's drains grow
//! with `D` at least as fast as what its entries without a value save below, see [`Layout::evaluate`].)

use super::layout::{Factors, KINDS, Layout};
use super::model::{DIMS, STORES};
use super::options::RAGGED;
use crate::analysis::time::Port;

impl Layout<'_, '_> {
    /// Whether tiles fit, of products of factors.
    fn fits(&self, factors: &[f64], tiles: &[[u64; DIMS]], partial: u32) -> bool {
        let model = self.model;
        let mut used = [0.0; STORES];
        for (i, e) in self.edges.iter().enumerate() {
            let Some(m) = e.child else { break };
            let elements = if model.windows(e.operand) {
                model
                    .frame
                    .elements(e.operand, &tiles[m][..model.sizes.len()])
            } else {
                factors[i * KINDS + Factors::Tile as usize]
            };
            let wide = e.operand == 2 && (e.wide || partial & (1 << m) != 0);
            let width = if wide {
                model.frame.partial
            } else {
                model.frame.bits[e.operand]
            };
            used[e.child_store] += elements * width;
            if used[e.child_store] > model.stores[e.child_store].capacity {
                return false;
            }
        }
        true
    }

    /// Time and dynamic energy from products of factors: exact where all dimensions are chosen and the model is exact,
    /// else lower bounds. None if tiles do not fit. `tiles` holds for each mark the tile of every dimension.
    ///
    /// Output, with `M` children merged into one: from one more visit of a storage with `D` drains its drains grow by
    /// `M` wide words, what its entries without a value save below by `M - 1` (all `M` where nothing
    /// comes back), and what is written above by one: the sum never falls.
    pub fn evaluate(
        &self,
        factors: &[f64],
        tiles: &[[u64; DIMS]],
        partial: u32,
        whole: bool,
    ) -> Option<(f64, f64)> {
        let (model, frame) = (self.model, self.model.frame);
        if !self.fits(factors, tiles, partial) {
            return None;
        }
        let exact = whole && model.exact && partial & RAGGED == 0;
        let mut energy = frame.mac_energy;
        let (mut exposed, mut stalled, mut waited) = (0.0, 0.0, 0.0);
        // The outermost store that stalls.
        let mut outermost = usize::MAX;
        let mut ports = [Port::default(); STORES];
        // Exposed time of all transfers that a store takes part in.
        let mut touched = [0.0; STORES];
        let mut fresh = [0.0; 16];
        let wide = frame.partial;
        for (i, e) in self.edges.iter().enumerate() {
            let f = &factors[i * KINDS..(i + 1) * KINDS];
            let base = if e.child.is_some() {
                model.touched[e.operand]
            } else {
                model.points[e.operand]
            };
            let entering = base * f[Factors::Entering as usize];
            let served = base * f[Factors::Served as usize];
            let (entering, served) = if e.child.is_some() {
                (entering.max(base), served.max(base))
            } else {
                (entering, served)
            };
            let width = frame.bits[e.operand];
            let (above, here, ends);
            let mut held = width;
            if e.operand == 2 {
                let before = e.above.map_or(model.touched[2], |a| fresh[a]);
                let again = (served - before).max(0.0);
                let returned = if e.apart { 0.0 } else { again };
                let finals = if e.ever {
                    0.0
                } else {
                    model.touched[2].min(served)
                };
                // Of bounds: no more than as many drains as children merge into what arrives.
                let drains = if exact { entering } else { served * e.merged };
                fresh[i] = drains - returned;
                if let Some(m) = e.child
                    && (e.wide || partial & (1 << m) != 0)
                {
                    held = wide;
                }
                above = [again * wide, finals * width + (served - finals) * wide];
                here = [entering * held, returned * wide];
                ends = (finals, returned);
            } else {
                above = [served * width, 0.0];
                here = [0.0, entering * width];
                ends = (0.0, 0.0);
            }
            for (hop, at) in &e.hops {
                let words = base * factors[*at];
                let bits = if e.operand == 2 {
                    let finals = if words <= served * (1.0 + 1e-12) {
                        ends.0
                    } else {
                        0.0
                    };
                    finals * width + (words - finals + ends.1) * wide
                } else {
                    words * width
                };
                energy += bits * hop;
            }
            let p = &model.stores[e.parent_store];
            energy += above[0] * p.energy[0] + above[1] * p.energy[1];
            let share = f[Factors::ParentShare as usize];
            let above = [above[0] * p.time[0] * share, above[1] * p.time[1] * share];
            ports[e.parent_store].seconds[0] += above[0];
            ports[e.parent_store].seconds[1] += above[1];
            if e.child.is_none() {
                continue;
            }
            let c = &model.stores[e.child_store];
            energy += here[0] * c.energy[0] + here[1] * c.energy[1];
            let share = f[Factors::ChildShare as usize];
            let here = [here[0] * c.time[0] * share, here[1] * c.time[1] * share];
            ports[e.child_store].seconds[0] += here[0];
            ports[e.child_store].seconds[1] += here[1];
            let (up, down) = if e.operand == 2 {
                (above[1], here[0])
            } else {
                (above[0], here[1])
            };
            let slower = up.max(down);
            let part = f[Factors::First as usize].min(1.0);
            let first = slower * part + p.setup;
            exposed += first;
            if c.single {
                outermost = outermost.min(e.child_store);
                stalled += slower * (1.0 - part);
                waited += slower + p.setup;
            } else {
                waited += first;
            }
            ports[e.parent_store].setup += p.setup * f[Factors::Visits as usize];
            // Outputs are written above and read here.
            let out = usize::from(e.operand == 2);
            ports[e.parent_store].exposed[out] += up * part;
            ports[e.parent_store].exposed[2] += p.setup;
            ports[e.child_store].exposed[1 - out] += down * part;
            touched[e.parent_store] += first;
            touched[e.child_store] += first;
        }
        let iterations = factors[self.count - 1] * model.density;
        let compute = iterations * frame.point_time;
        let mut time = if exact {
            self.fixed + exposed + compute + stalled
        } else {
            self.fixed + waited + compute
        };
        let stores = ports.iter().zip(&model.stores).zip(touched).enumerate();
        for (at, ((port, store), touched)) in stores {
            if port.is_idle() {
                continue;
            }
            let (busy, steady) = port.busy(store.shared_port);
            let all = if exact {
                exposed + steady + if at > outermost { stalled } else { 0.0 }
            } else {
                busy + (exposed - touched).max(0.0)
            };
            time = time.max(self.fixed + all).max(busy);
        }
        Some((time, energy))
    }
}
