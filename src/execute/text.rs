//! The report as text.

use presil_execution::evaluate::Metric;

use presil_reports::text;

use super::{DIVERGED_DB, MetricReport, OpReport, Report, Sensitivity};

/// Ops shown without `--json`: a repeated block's ops stand once, but a graph may have thousands.
const MOST_OPS: usize = 60;
/// Samples named of those whose prediction differs.
const MOST_FLIPS: usize = 12;

impl Report {
    /// A table of the ops, the metric, the cost.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} in the arithmetic of {}: weights {}, activations {}, sums {}; {} samples",
            self.model, self.chip, self.weights, self.activations, self.accumulate, self.samples
        )];
        lines.push(String::new());
        lines.extend(self.table());
        if let Some(op) = &self.first_divergence {
            lines.push(format!(
                "first below {DIVERGED_DB:.0} dB, or with numbers lost: {op}"
            ));
        }
        if let Some(metric) = &self.metric {
            lines.push(String::new());
            lines.extend(metric.lines());
        }
        lines.extend(self.sensitivity_lines());
        lines.extend(self.growth_lines());
        lines.push(String::new());
        lines.push(format!(
            "one inference on {}: {}, {}; area {}",
            self.chip,
            text::seconds(self.cost.latency_s),
            text::joules(self.cost.energy_j),
            text::area(self.cost.area_mm2)
        ));
        for assumption in &self.assumptions {
            lines.push(format!("assumed: {assumption}"));
        }
        lines.join("\n")
    }

    fn table(&self) -> Vec<String> {
        let width = self
            .ops
            .iter()
            .take(MOST_OPS)
            .map(|o| o.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(2);
        let head = format!(
            "{:width$}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            "op", "SQNR dB", "cosine", "max ULP", "differ", "overflow", "saturated", "safe bits"
        );
        let mut lines = vec![head];
        lines.extend(self.ops.iter().take(MOST_OPS).map(|o| o.line(width)));
        if self.ops.len() > MOST_OPS {
            lines.push(format!(
                "and {} more: --json has all",
                self.ops.len() - MOST_OPS
            ));
        }
        lines
    }

    fn growth_lines(&self) -> Vec<String> {
        if self.growth.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), "step by step:".into()];
        lines.extend(self.growth.iter().enumerate().map(|(i, s)| {
            let noise = s
                .sqnr_db
                .map_or("no noise".into(), |d| format!("{d:.2} dB"));
            format!(
                "  {:>3}  {noise:>10}  mean squared error {:.3e}  alike {:.1} %",
                i + 1,
                s.mse,
                s.alike * 100.0
            )
        }));
        lines
    }

    fn sensitivity_lines(&self) -> Vec<String> {
        if self.sensitivity.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![
            String::new(),
            "one op alone in this arithmetic, the worst first:".into(),
        ];
        let line = |s: &Sensitivity| {
            let loss = s
                .loss_gain
                .map_or(String::new(), |g| format!("loss {g:+.6}  "));
            let noise = s
                .sqnr_db
                .map_or("no noise".into(), |d| format!("{d:.1} dB at the last op"));
            format!("  {}: {loss}{noise}", s.op)
        };
        lines.extend(self.sensitivity.iter().take(MOST_OPS).map(line));
        lines
    }
}

impl OpReport {
    fn line(&self, width: usize) -> String {
        let sqnr = match self.sqnr_db {
            _ if self.lost > 0 => format!("lost {}", self.lost),
            Some(db) => format!("{db:.2}"),
            None if self.max_abs_error > 0.0 => "no signal".into(),
            None => "exact".into(),
        };
        let bits = self
            .safe_accumulator_bits
            .map_or("-".into(), |b| b.to_string());
        format!(
            "{:width$}  {sqnr:>9}  {:>10.7}  {:>9}  {:>8.2}%  {:>9}  {:>9}  {bits:>9}",
            self.name,
            self.cosine,
            brief(self.max_ulp),
            self.different * 100.0,
            self.overflows,
            self.saturated,
        )
    }
}

/// A count of units in the last place: whole while it is small.
fn brief(ulp: f64) -> String {
    if ulp < 1e6 {
        format!("{ulp:.0}")
    } else {
        format!("{ulp:.1e}")
    }
}

impl MetricReport {
    fn lines(&self) -> Vec<String> {
        let name = match self.metric {
            Metric::Mse => "mean squared error",
            Metric::Classes | Metric::NextToken => "cross entropy",
        };
        let mut lines = vec![format!(
            "{name} {:.6}, reference {:.6} ({:+.6})",
            self.loss,
            self.reference_loss,
            self.loss - self.reference_loss
        )];
        if self.metric == Metric::NextToken {
            lines.push(format!(
                "perplexity {:.6}, reference {:.6}",
                self.loss.exp(),
                self.reference_loss.exp()
            ));
        }
        if let (Some(own), Some(reference)) = (self.accuracy, self.reference_accuracy) {
            lines.push(format!(
                "right {:.3} % of {}, reference {:.3} %",
                own * 100.0,
                self.count,
                reference * 100.0
            ));
            if !self.flips.is_empty() {
                let shown: Vec<String> = self
                    .flips
                    .iter()
                    .take(MOST_FLIPS)
                    .map(usize::to_string)
                    .collect();
                let more = if self.flips.len() > MOST_FLIPS {
                    ", .."
                } else {
                    ""
                };
                lines.push(format!(
                    "{} samples predict otherwise: {}{more}",
                    self.flips.len(),
                    shown.join(", ")
                ));
            }
        }
        lines
    }
}
