//! The table of layers. It is complete without scripts; scripts add sorting, a filter and rows that unfold.

use presil_sim::run::{OpRun, Phase};

use super::{Page, q};
use crate::figures;
use crate::palette;
use crate::svg::escape;
use crate::text;

/// Ops whose mapping and parts the page holds, the longest first; run.json has those of all.
const DETAILED: usize = 600;
/// Heading, and whether it is a number.
const COLUMNS: [(&str, bool); 10] = [
    ("#", true),
    ("Layer", false),
    ("Class", false),
    ("Time", true),
    ("Share", true),
    ("Bound by", false),
    ("Utilization", true),
    ("Energy", true),
    ("Root traffic", true),
    ("MACs", true),
];

fn key(x: f64) -> String {
    format!("{:e}", if x.is_finite() { x } else { -1.0 })
}

/// A path-like name, escaped, that may break after its separators.
fn breakable(name: &str) -> String {
    let mut out = String::new();
    for piece in name.split_inclusive(['.', '/', '_', ':']) {
        out.push_str(&escape(piece));
        out.push_str("<wbr>");
    }
    out
}

impl Page<'_> {
    pub(super) fn layers(&mut self, index: usize, phase: &Phase) {
        self.put(format_args!(
            "<section class=\"layers\" id=\"layers-{index}\" aria-labelledby=\"layers-{index}-title\">\n\
             <h3 id=\"layers-{index}-title\">Layers</h3>\n"
        ));
        if phase.ops.is_empty() {
            self.raw("<p class=\"note\">There is no op.</p>\n</section>\n");
            return;
        }
        self.controls(index, phase);
        self.put(format_args!(
            "<div class=\"scroll tall\" role=\"region\" aria-labelledby=\"layers-{index}-title\" tabindex=\"0\">\n\
             <table class=\"ops\" data-table=\"{index}\">\n<thead><tr>"
        ));
        for (name, number) in COLUMNS {
            let name = match (name, self.view.root()) {
                ("Root traffic", Some(root)) => escape(root),
                _ => name.to_string(),
            };
            let class = if number { " class=\"num\"" } else { "" };
            self.put(format_args!("<th scope=\"col\"{class}>{name}</th>"));
        }
        self.raw("</tr></thead>\n");
        let order = figures::by_time(phase);
        let mut detailed = vec![false; phase.ops.len()];
        for i in order.iter().take(DETAILED) {
            if let Some(d) = detailed.get_mut(*i) {
                *d = true;
            }
        }
        let total: f64 = phase
            .ops
            .iter()
            .map(|op| figures::finite(op.time.total_s))
            .sum();
        let longest = phase
            .ops
            .iter()
            .map(|op| figures::finite(op.time.total_s))
            .fold(0.0, f64::max);
        for ((i, op), detailed) in phase.ops.iter().enumerate().zip(detailed) {
            self.put(format_args!(
                "<tbody id=\"op-{index}-{i}\" data-class=\"{}\" data-bound=\"{}\"{}>\n",
                escape(&op.class),
                escape(&op.bottleneck),
                if figures::is_free(op) {
                    " data-free"
                } else {
                    ""
                }
            ));
            self.row(i, op, total, longest);
            if detailed {
                self.detail(op);
            }
            self.raw("</tbody>\n");
        }
        self.raw("</table>\n</div>\n");
        if phase.ops.len() > DETAILED {
            self.put(format_args!(
                "<p class=\"note\">The {DETAILED} longest ops have their mapping here; run.json has those of all.</p>\n"
            ));
        }
        self.raw("</section>\n");
    }

    fn controls(&mut self, index: usize, phase: &Phase) {
        self.put(format_args!(
            "<div class=\"controls\"><label>Filter <input type=\"search\" data-for=\"{index}\" placeholder=\"name or shape\"></label>\n"
        ));
        let classes = phase.ops.iter().map(|op| op.class.as_str()).collect();
        let bounds = phase.ops.iter().map(|op| op.bottleneck.as_str()).collect();
        let choices: [(&str, &str, Vec<&str>); 2] =
            [("Class", "class", classes), ("Bound by", "bound", bounds)];
        for (label, field, mut values) in choices {
            values.sort_unstable();
            values.dedup();
            self.put(format_args!(
                "<label>{label} <select data-for=\"{index}\" data-field=\"{field}\"><option value=\"\">all</option>"
            ));
            for v in values {
                let v = escape(v);
                self.put(format_args!("<option value=\"{v}\">{v}</option>"));
            }
            self.raw("</select></label>\n");
        }
        if phase.ops.iter().any(figures::is_free) {
            self.put(format_args!(
                "<label><input type=\"checkbox\" data-for=\"{index}\" checked> without ops that take neither time nor energy</label>\n"
            ));
        }
        self.put(format_args!(
            "<output data-for=\"{index}\" aria-live=\"polite\"></output></div>\n"
        ));
    }

    fn row(&mut self, i: usize, op: &OpRun, total: f64, longest: f64) {
        let times = if op.repeat > 1 {
            format!(" <small>\u{d7}{}</small>", op.repeat)
        } else {
            String::new()
        };
        let share = figures::ratio(op.time.total_s, total).unwrap_or(0.0);
        let mut strip = String::new();
        for p in self.view.op_time(op).iter().filter(|p| p.value > 0.0) {
            if let Some(w) = figures::ratio(100.0 * p.value, longest).filter(|w| *w >= 0.05) {
                strip.push_str(&format!(
                    "<i class=\"s{}\" style=\"width:{w:.2}%\"></i>",
                    palette::ink(&self.view, p).0
                ));
            }
        }
        let joules = figures::op_joules(op);
        let bytes = self.view.root_bytes(&op.traffic);
        let none = "<span class=\"none\">\u{2013}</span>".to_string();
        let or_none = |x: f64, s: String| if x > 0.0 { s } else { none.clone() };
        let macs = op.executed_macs as f64;
        self.put(format_args!(
            "<tr><td class=\"num dim\" data-v=\"{i}\">{n}</td>\
             <th scope=\"row\"><span class=\"name\">{name}{times}</span><span class=\"shape\">{shape}</span></th>\
             <td>{class}</td>\
             <td class=\"num time\" data-v=\"{time_v}\">{time}<span class=\"strip\" aria-hidden=\"true\">{strip}</span></td>\
             <td class=\"num\" data-v=\"{share_v}\">{share}</td><td>{bound}</td>\
             <td class=\"num\" data-v=\"{use_v}\">{used}</td><td class=\"num\" data-v=\"{joules_v}\">{joules}</td>\
             <td class=\"num\" data-v=\"{bytes_v}\">{bytes}</td><td class=\"num\" data-v=\"{macs_v}\">{macs}</td></tr>\n",
            n = i + 1,
            name = breakable(&op.name),
            shape = escape(&op.shape),
            class = escape(&op.class),
            time_v = key(op.time.total_s),
            time = q(&text::seconds(op.time.total_s)),
            share_v = key(share),
            share = q(&text::percent(share)),
            bound = escape(&op.bottleneck),
            use_v = key(op.utilization),
            used = or_none(op.utilization, q(&text::percent(op.utilization))),
            joules_v = key(joules),
            joules = or_none(joules, q(&text::joules(joules))),
            bytes_v = key(bytes),
            bytes = or_none(bytes, q(&text::bytes(bytes))),
            macs_v = key(macs),
            macs = or_none(macs, q(&text::si(macs, ""))),
        ));
    }

    fn detail(&mut self, op: &OpRun) {
        self.put(format_args!(
            "<tr class=\"more\"><td colspan=\"{}\"><details><summary>Mapping and parts</summary><div class=\"detail\">\n",
            COLUMNS.len()
        ));
        self.raw("<div><h4>Mapping</h4>\n");
        if op.mapping.is_empty() {
            self.raw("<p class=\"note\">This op has no loop nest.</p>\n");
        } else {
            self.put(format_args!(
                "<pre>{}</pre>\n",
                escape(&op.mapping.join("\n"))
            ));
        }
        self.raw("</div>\n<dl>");
        let parts = self.view.op_time(op);
        let mut entry = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                let values: Vec<String> = values.iter().map(|v| escape(v)).collect();
                self.put(format_args!(
                    "<dt>{name}</dt><dd>{}</dd>",
                    values.join("<br>")
                ));
            }
        };
        let tile = |t: &presil_sim::run::MappedTile| {
            let bytes = text::typeset(&text::bytes(t.tile_bytes));
            format!(
                "{} {bytes}{}",
                t.operand,
                if t.home { " at home" } else { "" }
            )
        };
        let memory = |m: &presil_sim::run::MappedMemory| {
            let tiles: Vec<String> = m.tiles.iter().map(tile).collect();
            format!(
                "{}: {}; {} of room, port {} busy",
                m.memory,
                tiles.join(", "),
                text::typeset(&text::percent(m.capacity_share)),
                text::typeset(&text::percent(m.port_utilization))
            )
        };
        entry("Tiles", op.memories.iter().map(memory).collect());
        let axis = |a: &presil_sim::run::MappedAxis| format!("{} {} of {}", a.axis, a.used, a.size);
        entry("Axes", op.axes.iter().map(axis).collect());
        entry("Notes", op.notes.clone());
        entry("Engine", vec![op.engine.clone()]);
        if op.macs != op.executed_macs {
            let dense = text::si(op.macs as f64, "MAC");
            entry(
                "MACs",
                vec![format!(
                    "{} run of {dense} counted",
                    text::si(op.executed_macs as f64, "MAC")
                )],
            );
        }
        entry(
            "Intensity",
            op.intensity
                .map(|x| format!("{} MAC/B", text::number(x)))
                .into_iter()
                .collect(),
        );
        let said =
            |p: &figures::Part| format!("{} {}", text::typeset(&text::seconds(p.value)), p.label());
        entry(
            "Time",
            parts.iter().filter(|p| p.value != 0.0).map(said).collect(),
        );
        let energy = op.energy.iter().filter(|e| e.energy_j != 0.0);
        let said = |e: &presil_sim::run::Energy| {
            format!(
                "{} {} {}",
                text::typeset(&text::joules(e.energy_j)),
                e.component,
                e.action
            )
        };
        entry("Energy", energy.map(said).collect());
        let moved = op
            .traffic
            .iter()
            .filter(|t| t.read_bytes + t.write_bytes > 0.0);
        let said = |t: &presil_sim::run::Traffic| {
            let (r, w) = (text::bytes(t.read_bytes), text::bytes(t.write_bytes));
            format!(
                "{} {} read, {} written",
                t.memory,
                text::typeset(&r),
                text::typeset(&w)
            )
        };
        entry("Traffic", moved.map(said).collect());
        self.raw("</dl>\n</div></details></td></tr>\n");
    }
}
