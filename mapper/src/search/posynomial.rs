//! The cost of a shape and an assignment as sums of products of factors, all with positive coefficients.
//!
//! Energy, the time of the compute and the busy time of each memory are each a *group* of terms `c x`, where `x` is
//! a product of factors ([`super::layout`]), and time is at least the largest group of time. A term taken off does not fit this
//! form; there are two, both of the output, and the mappings of a shape are split into *cases* where they cancel.
//! With `G` what a storage is written by the edge below, `D` what it drains and `R` what came back from above:
//!
//! ```text
//! it holds partial sums:  reads = D + (G - (D - R)) = G + R        all wide
//! it never does:          reads = D                                 narrow, and every word is written once
//! ```
//!
//! In the time of an instance, `D` and `G - D` are shared by instances each in its own way: `G` times the lesser share is no more.
//!
//! A home that is updated more than once reads `G - touched`; that stays a constant taken off the energy. What is
//! written for the last time is narrow: `wide G - (wide - narrow) touched`, again a constant of energy; in times
//! `touched <= G / r` with `r` the least `G` over `touched`. What cannot be brought into this form is left out. So each
//! group is a lower bound on what [`Layout::evaluate`] finds for mappings of the case.

use super::layout::{Edge, Factors, KINDS, Layout};

/// The bit of a case in which the output's home is updated more than once; other bits are marks of the output that
/// hold partial sums.
pub(super) const HOME: u32 = 1 << 30;

/// The group of energy, of the compute, and of the first memory's port: reads (or both, where they share it), then
/// writes.
pub(super) const ENERGY: usize = 0;
pub(super) const COMPUTE: usize = 1;
pub(super) const PORTS: usize = 2;

/// A product of factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Monomial {
    columns: [u16; 3],
    many: u8,
}

impl Monomial {
    fn of(columns: &[usize]) -> Self {
        let mut m = Self {
            columns: [0; 3],
            many: columns.len() as u8,
        };
        for (to, from) in m.columns.iter_mut().zip(columns) {
            *to = *from as u16;
        }
        m
    }

    /// Its factors, as columns.
    pub fn columns(&self) -> &[u16] {
        &self.columns[..usize::from(self.many)]
    }

    /// Its value for products of factors.
    fn value(&self, factors: &[f64]) -> f64 {
        let each = self.columns().iter().map(|c| factors[usize::from(*c)]);
        each.product()
    }
}

/// A coefficient of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// Index into [`Posynomial::monomials`].
    pub monomial: usize,
    pub coefficient: f64,
}

/// Tiles of a mark take this share of a memory for each element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub store: usize,
    pub column: usize,
    pub share: f64,
}

/// Energy and times of a case.
#[derive(Debug, Clone, Default)]
pub(super) struct Posynomial {
    /// Products of factors that terms have; the first is that of none.
    pub monomials: Vec<Monomial>,
    /// Terms of each group: of energy (dynamic), of the compute, of each memory's port.
    pub groups: Vec<Vec<Term>>,
    /// Joules taken off.
    pub off: f64,
    pub rooms: Vec<Room>,
}

/// What is known of a case while terms are collected.
struct Collect<'a, 'b, 'm> {
    layout: &'a Layout<'b, 'm>,
    case: u32,
    least: &'a [f64],
    sums: Posynomial,
    constants: Vec<f64>,
}

impl Posynomial {
    /// Compiles a case; `least` is the product of the least factors of its options.
    pub fn new(layout: &Layout, case: u32, least: &[f64]) -> Self {
        let groups = PORTS + 2 * layout.model.stores.len();
        let mut collect = Collect {
            layout,
            case,
            least,
            sums: Self {
                monomials: vec![Monomial::of(&[])],
                groups: vec![Vec::new(); groups],
                ..Self::default()
            },
            constants: vec![layout.fixed; groups],
        };
        collect.constants[ENERGY] = layout.model.frame.mac_energy;
        match layout.compute {
            Some(seconds) => collect.constants[COMPUTE] += seconds,
            None => {
                let iterations = layout.model.density * layout.model.frame.point_time;
                collect.add(COMPUTE, iterations, &[layout.count - 1]);
            }
        }
        for (i, e) in layout.edges.iter().enumerate() {
            if e.operand == 2 {
                collect.output(i, e);
            } else {
                collect.input(i, e);
            }
            collect.room(i, e);
        }
        let Collect {
            mut sums,
            constants,
            ..
        } = collect;
        for (group, c) in sums.groups.iter_mut().zip(constants) {
            if c > 0.0 {
                group.push(Term {
                    monomial: 0,
                    coefficient: c,
                });
            } else if c < 0.0 {
                sums.off = -c;
            }
        }
        // A port that nothing passes has no time.
        for group in &mut sums.groups[PORTS..] {
            if group.iter().all(|t| t.monomial == 0) {
                group.clear();
            }
        }
        sums
    }

    /// The value of a group for products of factors.
    pub fn value(&self, group: usize, factors: &[f64]) -> f64 {
        let terms = self.groups[group].iter();
        terms
            .map(|t| t.coefficient * self.monomials[t.monomial].value(factors))
            .sum()
    }
}

impl Collect<'_, '_, '_> {
    fn add(&mut self, group: usize, coefficient: f64, columns: &[usize]) {
        if coefficient > 0.0 {
            let monomial = self.monomial(columns);
            self.sums.groups[group].push(Term {
                monomial,
                coefficient,
            });
        }
    }

    /// The place of a product of factors.
    fn monomial(&mut self, columns: &[usize]) -> usize {
        let (one, all) = (Monomial::of(columns), &mut self.sums.monomials);
        all.iter().position(|m| *m == one).unwrap_or_else(|| {
            all.push(one);
            all.len() - 1
        })
    }

    /// Whether what an edge's parent holds is updated more than once.
    fn again(&self, e: &Edge) -> bool {
        self.case & e.parent.map_or(HOME, |m| 1 << m) != 0
    }

    fn column(i: usize, f: Factors) -> usize {
        i * KINDS + f as usize
    }

    fn room(&mut self, i: usize, e: &Edge) {
        let Some(m) = e.child else { return };
        let frame = self.layout.model.frame;
        let wide = e.operand == 2 && (e.wide || self.case & (1 << m) != 0);
        let width = if wide {
            frame.partial
        } else {
            frame.bits[e.operand]
        };
        self.sums.rooms.push(Room {
            store: e.child_store,
            column: Self::column(i, Factors::Tile),
            share: width / self.layout.model.stores[e.child_store].capacity,
        });
    }

    /// First tiles: one way to bound them from below.
    fn first(&mut self, i: usize, e: &Edge, up: f64, down: f64) {
        let model = self.layout.model;
        let setup = model.stores[e.parent_store].setup;
        let [served, entering, parent, child, first] = [
            Factors::Served,
            Factors::Entering,
            Factors::ParentShare,
            Factors::ChildShare,
            Factors::First,
        ]
        .map(|f| Self::column(i, f));
        let above = up * self.least[served] * self.least[parent];
        let here = down * self.least[entering] * self.least[child];
        let (c, pair) = if above >= here {
            (up, [served, parent])
        } else {
            (down, [entering, child])
        };
        let single = model.stores[e.child_store].single;
        let part = Term {
            monomial: self.monomial(&[pair[0], pair[1], first]),
            coefficient: c,
        };
        for group in COMPUTE..self.sums.groups.len() {
            if group == COMPUTE && single {
                self.add(group, c, &pair);
                self.constants[group] += setup;
            } else if group == COMPUTE
                || ![e.parent_store, e.child_store].contains(&((group - PORTS) / 2))
            {
                if c > 0.0 {
                    self.sums.groups[group].push(part);
                }
                self.constants[group] += setup;
            }
        }
        let visits = Self::column(i, Factors::Visits);
        for group in 0..2 {
            self.add(PORTS + 2 * e.parent_store + group, setup, &[visits]);
        }
    }

    fn input(&mut self, i: usize, e: &Edge) {
        let model = self.layout.model;
        let width = model.frame.bits[e.operand];
        let base = if e.child.is_some() {
            model.touched[e.operand]
        } else {
            model.points[e.operand]
        };
        let bits = base * width;
        let [served, entering] = [Factors::Served, Factors::Entering].map(|f| Self::column(i, f));
        let [parent, child] =
            [Factors::ParentShare, Factors::ChildShare].map(|f| Self::column(i, f));
        let p = &model.stores[e.parent_store];
        self.add(ENERGY, bits * p.energy[0], &[served]);
        self.port(e.parent_store, true, bits * p.time[0], &[served, parent]);
        for (hop, at) in &e.hops {
            self.add(ENERGY, bits * hop, &[*at]);
        }
        if e.child.is_some() {
            let c = &model.stores[e.child_store];
            self.add(ENERGY, bits * c.energy[1], &[entering]);
            self.port(e.child_store, false, bits * c.time[1], &[entering, child]);
            self.first(i, e, bits * p.time[0], bits * c.time[1]);
        }
    }

    /// Adds to the time of a port.
    fn port(&mut self, store: usize, reads: bool, coefficient: f64, columns: &[usize]) {
        let apart = !reads && !self.layout.model.stores[store].shared_port;
        let group = PORTS + 2 * store + usize::from(apart);
        self.add(group, coefficient, columns);
    }

    fn output(&mut self, i: usize, e: &Edge) {
        let model = self.layout.model;
        let (width, wide) = (model.frame.bits[2], model.frame.partial);
        let touched = model.touched[2];
        let base = if e.child.is_some() {
            touched
        } else {
            model.points[2]
        };
        let [served, entering] = [Factors::Served, Factors::Entering].map(|f| Self::column(i, f));
        let [parent, child] =
            [Factors::ParentShare, Factors::ChildShare].map(|f| Self::column(i, f));
        let p = &model.stores[e.parent_store];
        let finals = if e.ever { 0.0 } else { touched };
        let ratio = (base * self.least[served] / touched).max(1.0);
        // Bits of a word written above, on average at least.
        let again = self.again(e);
        let (written, narrower) = if again {
            (wide, finals * (wide - width))
        } else {
            (width, 0.0)
        };
        let mean = written - narrower / touched / ratio;
        let up = base * mean * p.time[1];
        self.add(ENERGY, base * written * p.energy[1], &[served]);
        self.constants[ENERGY] -= narrower * p.energy[1];
        self.port(e.parent_store, false, up, &[served, parent]);
        // What comes back: none, or at least so much.
        let (mut back, mut back_off) = (0.0, 0.0);
        if again && e.parent.is_none() {
            self.add(ENERGY, base * wide * p.energy[0], &[served]);
            self.constants[ENERGY] -= touched * wide * p.energy[0];
            let some = base * wide * (1.0 - 1.0 / ratio);
            self.port(e.parent_store, true, some * p.time[0], &[served, parent]);
            if !e.apart {
                (back, back_off) = (base * wide, touched * wide);
            }
        } else if again {
            self.add(ENERGY, base * wide * p.energy[0], &[served]);
            let lesser = Self::column(i, Factors::LesserShare);
            let columns = [served, lesser];
            self.port(e.parent_store, true, base * wide * p.time[0], &columns);
        }
        for (hop, at) in &e.hops {
            self.add(ENERGY, base * written * hop, &[*at]);
            self.constants[ENERGY] -= narrower * hop;
            self.add(ENERGY, back * hop, &[served]);
            self.constants[ENERGY] -= back_off * hop;
        }
        let Some(m) = e.child else { return };
        let c = &model.stores[e.child_store];
        self.add(ENERGY, back * c.energy[1], &[served]);
        self.constants[ENERGY] -= back_off * c.energy[1];
        self.port(
            e.child_store,
            false,
            back * (1.0 - 1.0 / ratio) * c.time[1],
            &[served, child],
        );
        let mut down = 0.0;
        if self.case & (1 << m) == 0 {
            down = base * width;
            self.add(ENERGY, down * c.energy[0], &[entering]);
            self.port(e.child_store, true, down * c.time[0], &[entering, child]);
        } else {
            self.add(ENERGY, back * c.energy[0], &[served]);
            self.constants[ENERGY] -= back_off * c.energy[0];
        }
        self.first(i, e, up, down * c.time[0]);
    }
}
