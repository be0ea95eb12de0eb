//! Engines, epilogues, order and homes: what is decided before mappings are searched.

use presil_hwmodels::Chip;
use presil_workloads::{Graph, OpId, TensorId};

use super::ScheduleOptions;
use super::engines::{self, Choice};
use super::operands::stored_operands;
use super::planned::{self, PlanOptions, Planned};
use super::residency::{Residency, Scene};
use super::tails;
use crate::vector::Operands;

/// What is decided of a graph on a chip.
pub(super) struct Ground {
    pub(super) base: Vec<TensorId>,
    pub(super) choices: Vec<Choice>,
    pub(super) tails: tails::Tails,
    pub(super) residency: Residency,
    pub(super) order: Vec<OpId>,
    pub(super) reordered: bool,
}

impl Ground {
    pub(super) fn new(
        graph: &Graph,
        chip: &Chip,
        options: &ScheduleOptions,
        plan: &PlanOptions,
    ) -> Self {
        let base = tails::bases(graph);
        let root = vec![chip.root(); graph.tensors.len()];
        let mut choices: Vec<Choice> = graph
            .ops
            .iter()
            .map(|op| {
                let [inputs, outputs] = stored_operands(graph, op, |t| root[t.0 as usize]);
                engines::choose(
                    chip,
                    graph,
                    op,
                    Operands {
                        inputs: &inputs,
                        outputs: &outputs,
                    },
                )
            })
            .collect();
        let tails = tails::find(chip, graph, &choices, &base);
        // Nobody runs what weights have taken in.
        for (choice, _) in choices
            .iter_mut()
            .zip(&tails.folded)
            .filter(|(_, folded)| **folded)
        {
            *choice = Choice::View;
        }
        let Planned {
            residency,
            tails,
            order,
            reordered,
        } = planned::plan(chip, graph, &base, &choices, tails, options.objective, plan);
        Self {
            base,
            choices,
            tails,
            residency,
            order,
            reordered,
        }
    }

    pub(super) fn scene<'a>(&'a self, graph: &'a Graph, chip: &'a Chip) -> Scene<'a> {
        Scene {
            chip,
            graph,
            base: &self.base,
            choices: &self.choices,
            tails: &self.tails,
        }
    }
}
