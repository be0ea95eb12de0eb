//! Ops that have a closed form of their own: kernels of GPUs, block engines, passes of row-stationary arrays.
//!
//! What overlaps with nothing is waited for before they start, as a launch is; then the engine works as long as its form says, pass
//! by pass where there are passes, beside what the memories are busy with, which flows as it does for others. So alone
//! they take their analytic time.

use presil_hwmodels::{EngineId, EngineKind};
use presil_mapper::analysis::tiles::Port;
use presil_mapper::cost::Resource;
use presil_mapper::schedule::{Execution, ScheduledOp};
use presil_numerics::ids::Id;
use presil_workloads::OpId;

use super::Lowering;
use super::parts::{Lane, Steps, Tokens, Who, femto};
use super::walk::repeated;
use crate::timing::program::{Step, Work};

impl Lowering<'_> {
    /// Whether an op's time is a closed form of its own and not its mapping's or its lanes'.
    pub(super) fn is_closed(&self, op: &ScheduledOp) -> bool {
        let engine = match op.execution {
            Execution::Mapped { .. } => false,
            Execution::Blocked { .. } => true,
            Execution::Vector => self.chip.blocks.is_some() || self.chip.kernels.is_some(),
            _ => false,
        };
        engine || op.kernel.is_some() || op.passes.is_some()
    }

    /// A run of such an op.
    pub(super) fn closed(&mut self, id: OpId, lane: Lane, share: f64, go: &mut Vec<Who>) -> Steps {
        let op = &self.schedule.ops[id];
        let engine = op.engine.unwrap_or(EngineId(0));
        let who = match self.chip.engines.get(engine).map(|e| &e.kind) {
            Some(EngineKind::Vector { .. }) => Who::Vector(engine),
            _ => Who::Array(lane, engine),
        };
        let mut steps = Steps::default();
        go.push(who);
        steps.push(who, self.parts.take(Tokens::Go(who)));
        let ports = self.busy_ports(id, share);
        let beside = Who::Beside(lane);
        if !ports.is_empty() {
            go.push(beside);
            steps.push(beside, self.parts.take(Tokens::Go(beside)));
            let flow = self.parts.flow(lane, &ports, 0.0);
            let signals = vec![(self.parts.pool(Tokens::Beside(lane)), 1)];
            let work = self.parts.work(Work {
                flow,
                signals,
                ..Work::default()
            });
            steps.push(beside, work);
        }
        let passes = self.engine_works(op, share);
        steps.extend(who, passes);
        if !ports.is_empty() {
            steps.push(who, self.parts.take(Tokens::Beside(lane)));
        }
        let done = self.parts.give(&[Tokens::Done], 0.0);
        steps.push(who, done);
        steps
    }

    /// What the engine does: passes of each kind, or one work.
    fn engine_works(&mut self, op: &ScheduledOp, share: f64) -> Vec<Step> {
        let busy = |b: &&(Resource, _)| matches!(b.0, Resource::Compute | Resource::Vector);
        let busy = op.cost.busy.iter().filter(busy);
        let cycles = busy.fold(0.0f64, |t, b| t.max(b.1.0)) * share;
        let mut work = |seconds: f64| {
            self.parts.work(Work {
                cycles: femto(seconds),
                ..Work::default()
            })
        };
        match op.passes.as_ref().filter(|p| p.cycles() > 0.0) {
            Some(passes) => {
                let cycle = cycles / passes.cycles();
                let kinds = passes.kinds.iter();
                kinds
                    .flat_map(|k| repeated(k.count, vec![work(k.time.total() * cycle)]))
                    .collect()
            }
            None => vec![work(cycles)],
        }
    }

    /// Seconds that memories are busy, weights that were fetched ahead left out.
    fn busy_ports(&self, id: OpId, share: f64) -> Vec<(presil_hwmodels::NodeId, Port, f64)> {
        let op = &self.schedule.ops[id];
        let root = self.chip.root();
        let ahead = self.ahead.get(id.index()).copied().unwrap_or(0.0);
        let fetched = self.port(root, op.weights.streamed * ahead, 0.0);
        let memories = op.cost.busy.iter().filter_map(|(r, t)| match r {
            Resource::Memory(n) => Some((*n, t.0)),
            _ => None,
        });
        memories
            .map(|(n, t)| {
                let t = if n == root { (t - fetched).max(0.0) } else { t };
                (n, Port::Read, t * share)
            })
            .filter(|p| p.2 > 0.0)
            .collect()
    }
}
