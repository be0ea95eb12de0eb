//! Constraints of the mappings of a graph's ops: those of a file, op by op.
//!
//! A table that names ops holds for these, and all that it names has to be there. One that names none holds for every op
//! whose array and einsum have what it names. Constrained ops run by themselves: in no fused group and on the whole chip.

use presil_workloads::{Graph, OpId};
use rayon::prelude::*;

use super::pricer::Pricer;
use super::solve::{self, Effort, Memo};
use super::{Execution, ScheduledOp};
use crate::case::on_chip::{OnChip, Scope, read};
use crate::problem::Problem;
use crate::search::Solution;
use presil_numerics::IdVec;

/// A file of constraints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub origin: String,
    /// What it says.
    pub text: String,
}

/// A constrained op of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constrained {
    /// The op.
    pub op: OpId,
    /// Tables of the file that hold for it, by place.
    pub tables: Vec<usize>,
    /// Why it has no mapping that obeys.
    pub unmet: Option<String>,
}

impl Asked {
    /// What is asked of an op's mappings.
    ///
    /// # Errors
    /// What is wrong with the file, or with what it names.
    pub(super) fn of(&self, name: &str, problem: &Problem) -> Result<OnChip, String> {
        let read = read(&self.origin, &self.text, problem, Scope::Graph(name));
        read.map_err(|e| e.to_string())
    }
}

impl Pricer<'_> {
    /// What is asked of an op on an array; none if nothing.
    fn asked_of(&self, id: OpId, problem: &Problem) -> Result<OnChip, String> {
        let name = &self.scene.graph.ops[id].name;
        self.asked
            .map_or_else(|| Ok(OnChip::default()), |a| a.of(name, problem))
    }

    /// Solutions of problems of ops, as far as constraints allow.
    pub(super) fn solved(
        &self,
        ops: &[OpId],
        problems: &[Problem],
        memo: &Memo,
        effort: Effort,
    ) -> Vec<Result<Solution, String>> {
        let objective = self.options.objective;
        if self.asked.is_none() {
            return solve::solve_all(problems, objective, memo, effort);
        }
        let pairs: Vec<(&OpId, &Problem)> = ops.iter().zip(problems).collect();
        let constrained: Vec<Option<Result<Solution, String>>> = pairs
            .par_iter()
            .map(|(id, problem)| match self.asked_of(**id, problem) {
                Err(error) => Some(Err(error)),
                Ok(asked) if asked.is_empty() => None,
                Ok(asked) => Some(solve::constrained(problem, &asked, objective, memo)),
            })
            .collect();
        let free = problems.iter().zip(&constrained).filter(|p| p.1.is_none());
        let free: Vec<Problem> = free.map(|p| p.0.clone()).collect();
        let mut free = solve::solve_all(&free, objective, memo, effort).into_iter();
        let all = constrained
            .into_iter()
            .map(|own| own.or_else(|| free.next()));
        all.flatten().collect()
    }

    /// The ops that constraints hold for.
    pub(super) fn constrained(&self) -> Vec<Constrained> {
        let graph: &Graph = self.scene.graph;
        let mut list = Vec::new();
        let Some(asked) = self.asked else {
            return list;
        };
        for (op, choice) in graph.ops.ids().zip(self.scene.choices) {
            let super::engines::Choice::Array(engines) = choice else {
                continue;
            };
            let mut tables: Vec<usize> = Vec::new();
            let mut unmet = None;
            for (engine, mode) in engines {
                let Some((problem, _)) = self.problem(op, *engine, *mode) else {
                    continue;
                };
                match asked.of(&graph.ops[op].name, &problem) {
                    Ok(found) => tables.extend(found.tables),
                    Err(error) => unmet = Some(error),
                }
            }
            tables.sort_unstable();
            tables.dedup();
            if !tables.is_empty() || unmet.is_some() {
                list.push(Constrained { op, tables, unmet });
            }
        }
        list
    }
}

impl Constrained {
    /// Notes why an op that was to obey is not mapped.
    pub(super) fn check(&mut self, ops: &IdVec<OpId, ScheduledOp>, failure: Option<String>) {
        self.unmet = match ops[self.op].execution {
            Execution::Mapped { .. } => None,
            _ => failure.or(self.unmet.take()),
        };
    }
}
