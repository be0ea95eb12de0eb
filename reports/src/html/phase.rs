//! One phase: where time and energy go, roofline, layers, memory traffic.

use presil_sim::run::Phase;

use super::{Page, q};
use crate::figures::{self, Kind, Part};
use crate::palette;
use crate::plots::{self, PlotError, Shape};
use crate::svg::{Ink, escape};
use crate::text;

impl Page<'_> {
    pub(super) fn phase(&mut self, index: usize, phase: &Phase) -> Result<(), PlotError> {
        let run = self.view.run;
        let title = escape(&figures::phase_title(run, phase));
        self.put(format_args!(
            "<section class=\"phase\" id=\"phase-{index}\" aria-labelledby=\"phase-{index}-title\">\n\
             <h2 id=\"phase-{index}-title\">{title}</h2>\n"
        ));
        self.summary(phase);
        self.raw("<div class=\"pair\">\n");
        let time = self.view.phase_time(phase);
        self.whole("Where the time goes", &time, text::seconds);
        let energy = self.view.phase_energy(phase);
        self.whole("Where the energy goes", &energy, text::joules);
        self.raw("</div>\n");
        self.roofline(index, phase)?;
        self.by_layer(index, phase)?;
        self.timeline(phase)?;
        self.traffic(phase)?;
        self.cores(phase);
        self.layers(index, phase);
        self.raw("</section>\n");
        Ok(())
    }

    /// Engines over time: the whole pass, and the longest run of an op.
    fn timeline(&mut self, phase: &Phase) -> Result<(), PlotError> {
        let Some(timeline) = &phase.timeline else {
            return Ok(());
        };
        let classes = palette::classes(self.view.run);
        let mut windows = vec![("The pass over time".to_string(), (0.0, timeline.end_s()))];
        if let Some((op, window)) = plots::longest(timeline)
            && let Some(op) = phase.ops.get(op)
        {
            windows.push((format!("The longest op over time: {}", op.name), window));
        }
        self.raw("<figure>\n");
        for (title, window) in windows {
            self.put(format_args!("<h3>{}</h3>\n", escape(&title)));
            for shape in [Shape::Wide, Shape::Narrow] {
                self.raw(&plots::gantt(phase, timeline, window, &classes, shape)?);
            }
        }
        self.raw(
            "<figcaption>Each row is an engine or a mover of tiles. Strong bars are single tiles, pale ones many in a row; repetitions \
             that are alike are told once, grey. The file trace.pftrace beside this page shows every row in ui.perfetto.dev.</figcaption>\n</figure>\n",
        );
        Ok(())
    }

    /// Ops that run at once, and the pipeline.
    fn cores(&mut self, phase: &Phase) {
        let sets = crate::cores::lines(&phase.partition);
        let stages = crate::cores::pipeline_lines(&phase.partition);
        for (title, lines) in [("Ops that run at once", sets), ("As a pipeline", stages)] {
            if lines.is_empty() {
                continue;
            }
            self.put(format_args!(
                "<section>\n<h3>{title}</h3>\n<ul class=\"cores\">\n"
            ));
            for line in lines {
                self.put(format_args!("<li>{}</li>\n", escape(line.trim())));
            }
            self.raw("</ul>\n</section>\n");
        }
    }

    /// The phase in one line of figures.
    fn summary(&mut self, phase: &Phase) {
        let run = self.view.run;
        let mut facts: Vec<(&str, String)> = Vec::new();
        let floor = match phase.lower_bound_by.is_empty() {
            true => text::seconds(phase.lower_bound_s),
            false => format!(
                "{} ({})",
                text::typeset(&text::seconds(phase.lower_bound_s)),
                phase.lower_bound_by
            ),
        };
        if run.phases.len() > 1 {
            facts.push(("latency", text::typeset(&text::seconds(phase.latency_s))));
            facts.push(("cold", text::typeset(&text::seconds(phase.cold_latency_s))));
            facts.push(("energy", text::typeset(&text::joules(phase.energy_j))));
            facts.push((
                "utilization",
                text::typeset(&text::percent(phase.utilization)),
            ));
        }
        facts.push(("lower bound", floor));
        facts.push(("MACs", text::typeset(&text::si(phase.macs as f64, ""))));
        if phase.executed_macs != phase.macs {
            facts.push((
                "executed MACs",
                text::typeset(&text::si(phase.executed_macs as f64, "")),
            ));
        }
        if let Some(x) = self.view.intensity(phase.executed_macs, &phase.traffic) {
            facts.push((
                "intensity",
                text::typeset(&format!("{} MAC/B", text::number(x))),
            ));
        }
        facts.push((
            "weights",
            text::typeset(&text::bytes(phase.weight_bytes as f64)),
        ));
        if phase.cache_bytes > 0 {
            facts.push((
                "caches",
                text::typeset(&text::bytes(phase.cache_bytes as f64)),
            ));
        }
        facts.push((
            "peak activations",
            text::typeset(&text::bytes(phase.peak_activation_bytes as f64)),
        ));
        for m in &phase.memory_plan.memories {
            facts.push((
                "peak on chip",
                text::typeset(&format!(
                    "{} ({})",
                    text::bytes(m.peak_bytes as f64),
                    m.memory
                )),
            ));
        }
        for line in crate::groups::lines(phase) {
            facts.push(("fused", text::typeset(&line)));
        }
        self.raw("<ul class=\"facts\">\n");
        for (name, value) in facts {
            self.put(format_args!(
                "<li><span>{name}</span> {}</li>\n",
                escape(&value)
            ));
        }
        self.raw("</ul>\n");
    }

    /// A whole and its parts: a bar of all and a table that says what each is.
    fn whole(&mut self, title: &str, parts: &[Part], unit: fn(f64) -> String) {
        let parts: Vec<&Part> = parts.iter().filter(|p| p.value != 0.0).collect();
        self.put(format_args!("<section>\n<h3>{title}</h3>\n"));
        if parts.is_empty() {
            self.raw("<p class=\"note\">Nothing is spent.</p>\n</section>\n");
            return;
        }
        let values: Vec<f64> = parts.iter().map(|p| p.value).collect();
        let shares = text::percents(&values);
        self.raw("<div class=\"bar\" aria-hidden=\"true\">");
        for (p, share) in parts.iter().zip(&shares) {
            let n = palette::ink(&self.view, p).0;
            let name = escape(p.label());
            self.put(format_args!(
                "<i class=\"s{n}\" style=\"flex-grow:{share}\" title=\"{name} {share:.1} %\"></i>"
            ));
        }
        self.raw("</div>\n<table class=\"parts\"><tbody>\n");
        for (p, share) in parts.iter().zip(&shares) {
            let n = palette::ink(&self.view, p).0;
            let name = match p.kind {
                Kind::Memory if title.contains("time") => format!("waiting for {}", p.name),
                _ => p.label().to_string(),
            };
            self.put(format_args!(
                "<tr><th scope=\"row\"><i class=\"key s{n}\"></i>{}</th><td>{share:.1}\u{a0}%</td><td>{}</td></tr>\n",
                escape(&name),
                q(&unit(p.value))
            ));
        }
        self.raw("</tbody></table>\n</section>\n");
    }

    fn legend(&mut self, entries: &[(String, Ink)]) {
        if entries.is_empty() {
            return;
        }
        self.raw("<ul class=\"legend\">\n");
        for (name, ink) in entries {
            self.put(format_args!(
                "<li><i class=\"key s{}\"></i>{}</li>\n",
                ink.0,
                escape(name)
            ));
        }
        self.raw("</ul>\n");
    }

    fn roofline(&mut self, index: usize, phase: &Phase) -> Result<(), PlotError> {
        let run = self.view.run;
        let classes = palette::classes(run);
        let Some(wide) = plots::roofline(&self.view, index, phase, &classes, Shape::Wide)? else {
            return Ok(());
        };
        let narrow =
            plots::roofline(&self.view, index, phase, &classes, Shape::Narrow)?.unwrap_or_default();
        self.raw("<figure>\n<h3>Roofline</h3>\n");
        let drawn = |op: &&presil_sim::run::OpRun| {
            self.view
                .intensity(op.executed_macs, &op.traffic)
                .is_some_and(|x| x > 0.0)
        };
        let mut legend: Vec<(String, Ink)> = Vec::new();
        for op in phase.ops.iter().filter(drawn) {
            let ink = palette::class(&classes, &op.class);
            let name = if classes.iter().any(|c| c.0 == op.class) {
                op.class.clone()
            } else {
                "other".into()
            };
            if !legend.iter().any(|l| l.0 == name) {
                legend.push((name, ink));
            }
        }
        let total: f64 = phase
            .ops
            .iter()
            .map(|op| figures::finite(op.time.total_s))
            .sum();
        let shown: f64 = phase
            .ops
            .iter()
            .filter(drawn)
            .map(|op| figures::finite(op.time.total_s))
            .sum();
        let hidden = phase.ops.len() - phase.ops.iter().filter(drawn).count();
        let rest = figures::ratio(total - shown, total).unwrap_or(0.0).max(0.0);
        let root = escape(self.view.root().unwrap_or("the root memory"));
        self.legend(&legend);
        self.raw(&wide);
        self.raw(&narrow);
        self.put(format_args!(
            "<figcaption>One dot for each op; its area is its share of the time, the cross is the whole pass. \
             Left of the ridge point {root} limits, right of it the MAC rate."
        ));
        if hidden > 0 {
            let (are, rest) = (
                if hidden == 1 { "op has" } else { "ops have" },
                q(&text::percent(rest)),
            );
            self.put(format_args!(
                " {hidden} {are} no MACs or no {root} traffic and {} not shown; {} {rest} of the time.",
                if hidden == 1 { "is" } else { "are" },
                if hidden == 1 { "it takes" } else { "they take" }
            ));
        }
        let above = |op: &presil_sim::run::OpRun| {
            let x = self.view.intensity(op.executed_macs, &op.traffic);
            let y = figures::ratio(op.executed_macs as f64, op.time.total_s);
            x.zip(y)
                .is_some_and(|(x, y)| y > 1.001 * figures::roof(run, x))
        };
        if phase.ops.iter().any(above) {
            self.raw(" Ops above the roof had their data fetched while earlier ops ran.");
        }
        self.raw("</figcaption>\n</figure>\n");
        Ok(())
    }

    fn by_layer(&mut self, index: usize, phase: &Phase) -> Result<(), PlotError> {
        if phase.ops.is_empty() {
            return Ok(());
        }
        let view = self.view.clone();
        let time = plots::bars(&view, index, phase, |op| view.op_time(op), text::seconds);
        let keys = self.keys(
            self.view
                .phase_time(phase)
                .into_iter()
                .filter(|p| p.name != figures::NOT_ATTRIBUTED),
        );
        let what = "The colours say what the time goes to.";
        self.layered("Time by layer", &time, &keys, what, text::seconds)?;
        let energy = plots::bars(&view, index, phase, |op| view.op_energy(op), text::joules);
        let all = view.phase_energy(phase);
        let fixed: f64 = all
            .iter()
            .filter(|p| p.kind == Kind::Static)
            .map(|p| p.value)
            .sum();
        let keys = self.keys(
            all.into_iter()
                .filter(|p| !matches!(p.kind, Kind::Static | Kind::Rest)),
        );
        let what = match fixed > 0.0 {
            true => format!(
                "Dynamic energy by component. Static power adds {} over the whole pass.",
                text::typeset(&text::joules(fixed))
            ),
            false => "Dynamic energy by component.".into(),
        };
        self.layered("Energy by layer", &energy, &keys, &what, text::joules)
    }

    /// The legend of parts that are not nothing.
    fn keys(&self, parts: impl Iterator<Item = Part>) -> Vec<(String, Ink)> {
        parts
            .filter(|p| p.value > 0.0)
            .map(|p| (p.label().to_string(), palette::ink(&self.view, &p)))
            .collect()
    }

    fn layered(
        &mut self,
        title: &str,
        bars: &[plots::Bar],
        keys: &[(String, Ink)],
        caption: &str,
        unit: fn(f64) -> String,
    ) -> Result<(), PlotError> {
        if bars.is_empty() {
            return Ok(());
        }
        self.put(format_args!("<figure>\n<h3>{title}</h3>\n"));
        self.legend(keys);
        let label = format!("{title}, stacked");
        self.raw(&plots::stacked(bars, Shape::Wide, &label, unit)?);
        self.raw(&plots::stacked(bars, Shape::Narrow, &label, unit)?);
        self.put(format_args!("<figcaption><span class=\"wide\">Ops in execution order.</span><span class=\"narrow\">Ops with most first.</span> {}</figcaption>\n</figure>\n",
            escape(caption)
        ));
        Ok(())
    }

    fn traffic(&mut self, phase: &Phase) -> Result<(), PlotError> {
        if phase.traffic.is_empty() {
            return Ok(());
        }
        self.raw("<figure>\n<h3>Memory traffic</h3>\n");
        self.raw(&plots::traffic(&self.view, phase, Shape::Wide)?);
        self.raw(&plots::traffic(&self.view, phase, Shape::Narrow)?);
        let root = self.view.root().unwrap_or_default();
        let bytes = self.view.root_bytes(&phase.traffic);
        let run = self.view.run;
        let mean = figures::ratio(bytes, phase.latency_s);
        if let (Some(mean), Some(part)) = (
            mean,
            mean.and_then(|m| figures::ratio(m, run.dram_streaming_bytes_per_s)),
        ) {
            self.put(format_args!(
                "<figcaption>{} moves {} in a pass: {} on average, {} of the {} that long streams reach.</figcaption>\n",
                escape(root),
                q(&text::bytes(bytes)),
                q(&text::rate(mean)),
                q(&text::percent(part)),
                q(&text::rate(run.dram_streaming_bytes_per_s))
            ));
        }
        self.raw("</figure>\n");
        Ok(())
    }
}
