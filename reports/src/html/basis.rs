//! What the figures rest on: assumptions, the chip's constants and their sources, definitions.

use presil_hwmodels::Status;
use presil_sim::run::Fidelity;

use super::{Page, q};
use crate::figures;
use crate::svg::escape;
use crate::text;

/// The words for how well a constant is known, best first, and what each means.
const STATUSES: [(Status, &str, &str); 6] = [
    (
        Status::Measured,
        "measured",
        "on silicon, or by a tool that was run",
    ),
    (
        Status::Published,
        "published",
        "in a peer-reviewed or technical publication",
    ),
    (
        Status::Vendor,
        "vendor",
        "in a data sheet or a vendor's brief",
    ),
    (
        Status::Derived,
        "derived",
        "exactly from other constants of the chip",
    ),
    (
        Status::Scaled,
        "scaled",
        "from another node, size or format by a named model",
    ),
    (
        Status::Assumed,
        "assumed",
        "the range says how badly it is known",
    ),
];

fn word(status: Status) -> &'static str {
    STATUSES
        .iter()
        .find(|s| s.0 == status)
        .map_or("unknown", |s| s.1)
}

/// What each figure means, in the page's order.
const DEFINITIONS: [(&str, &str); 14] = [
    (
        "Latency",
        "Wall time of one pass in the steady state: weights that the schedule keeps on chip are already there. Passes do not overlap.",
    ),
    (
        "First pass, cold",
        "Wall time of the first pass, when no weight is on chip yet.",
    ),
    (
        "TTFT",
        "Time to first token: the latency of one prefill of the whole prompt, for the whole batch.",
    ),
    (
        "TPOT",
        "Time per output token: the mean latency of a decode step over the tokens that are generated. A step makes one token for each sequence of the batch.",
    ),
    (
        "Throughput",
        "Inferences or tokens of a batch divided by the latency of the pass that makes them.",
    ),
    (
        "Energy",
        "Dynamic energy of every access, MAC, lane operation and transfer, and static power times the latency.",
    ),
    ("Average power", "Energy of a pass divided by its latency."),
    (
        "MACs",
        "Multiply-accumulates by the counting rules: dense, attention included. Executed MACs are those inside a causal or banded mask; time and energy follow them.",
    ),
    (
        "Utilization",
        "Executed MACs divided by the MACs that the chip could do at its dense peak in the same time. An op's utilization is that of its engine.",
    ),
    (
        "Where the time goes",
        "Compute is the time that arrays take at the rate that the mapping allows. Waiting for a memory is what its transfers take beyond that. Vector is vector work that no array hides. Launch, fill and drain overlap with nothing. The parts sum to the latency.",
    ),
    (
        "Bound by",
        "The resource that limits an op; for a pass, the one that limits the ops with most of the time.",
    ),
    (
        "Lower bound",
        "The busiest resource's time at its peak rate. Nothing that runs the same work can be faster.",
    ),
    (
        "Intensity, ridge point",
        "Intensity is executed MACs per byte of the root memory. The ridge point is the intensity at which the root memory's streaming rate just feeds the MAC peak.",
    ),
    (
        "Root memory traffic",
        "Bytes read and written at the memory at the top of the chip, usually DRAM; scales and other metadata included.",
    ),
];

impl Page<'_> {
    pub(super) fn basis(&mut self) {
        let run = self.view.run;
        let how = match run.fidelity {
            Fidelity::Analytic => {
                "Every figure comes from the analytic model: exact counts of the mapped loop nests, in closed form, and \
                 rates and energies of the chip file. It does not see contention between engines from tile to tile."
            }
            Fidelity::Simulated => {
                "Times come from the event simulation: tiles flow through queues, DMA engines and buffers, and engines \
                 overlap where dependences and buffers allow. Energy comes from exact counts of the mapped loop nests."
            }
        };
        self.put(format_args!(
            "<section id=\"assumptions\" aria-labelledby=\"assumptions-title\">\n<h2 id=\"assumptions-title\">What the figures rest on</h2>\n<p>{how}</p>\n"
        ));
        let assumptions = self.view.assumptions.clone();
        if assumptions.is_empty() {
            self.raw("<p class=\"note\">No assumption is stated.</p>\n");
        } else {
            self.raw("<ol class=\"assumptions\">\n");
            for a in assumptions {
                self.put(format_args!("<li>{}</li>\n", escape(a)));
            }
            self.raw("</ol>\n");
        }
        self.raw("</section>\n");
        self.chip();
        self.raw("<section id=\"definitions\" aria-labelledby=\"definitions-title\">\n<h2 id=\"definitions-title\">Definitions</h2>\n<dl class=\"definitions\">\n");
        for (name, meaning) in DEFINITIONS {
            self.put(format_args!(
                "<div><dt>{name}</dt><dd>{meaning}</dd></div>\n"
            ));
        }
        self.raw("</dl>\n</section>\n");
    }

    fn chip(&mut self) {
        let run = self.view.run;
        self.put(format_args!(
            "<section id=\"chip\" aria-labelledby=\"chip-title\">\n<h2 id=\"chip-title\">Chip</h2>\n<ul class=\"facts\">\n\
             <li><span>name</span> {}</li>\n<li><span>file</span> {}</li>\n<li><span>peak</span> {}</li>\n\
             <li><span>{}</span> {} peak, {} streaming</li>\n<li><span>parameters of the model</span> {}</li>\n</ul>\n",
            escape(&run.chip),
            escape(&run.chip_hash),
            q(&text::si(2.0 * run.peak_macs_per_s, "OPS")),
            escape(self.view.root().unwrap_or("root memory")),
            q(&text::rate(run.dram_peak_bytes_per_s)),
            q(&text::rate(run.dram_streaming_bytes_per_s)),
            q(&text::si(run.parameters as f64, ""))
        ));
        self.raw("<div class=\"pair\">\n");
        self.components("Area", &run.area, text::area);
        self.components("Static power", &run.static_power, text::watts);
        self.raw("</div>\n");
        if run.provenance.is_empty() {
            self.raw("<p class=\"note\">The chip file states no sources.</p>\n</section>\n");
            return;
        }
        self.put(format_args!(
            "<h3>Constants and their sources</h3>\n<ul class=\"statuses\">\n"
        ));
        for (status, word, meaning) in STATUSES {
            let n = run.provenance.iter().filter(|p| p.status == status).count();
            if n > 0 {
                self.put(format_args!(
                    "<li><b>{n}</b> <span class=\"status {word}\">{word}</span> {meaning}</li>\n"
                ));
            }
        }
        self.put(format_args!(
            "</ul>\n<details class=\"constants\"><summary>All {} constants, {} of them assumed</summary>\n\
             <div class=\"scroll\" role=\"region\" aria-label=\"Constants of the chip\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">Constant</th><th scope=\"col\">Value</th>\
             <th scope=\"col\">Range</th><th scope=\"col\">Status</th><th scope=\"col\">Source</th></tr></thead><tbody>\n",
            run.provenance.len(),
            figures::assumed(run)
        ));
        for p in &run.provenance {
            let range = match &p.range {
                Some((low, high)) => format!("{} to {}", q(low), q(high)),
                None => String::new(),
            };
            let status = word(p.status);
            self.put(format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{range}</td><td><span class=\"status {status}\">{status}</span></td><td>{}</td></tr>\n",
                escape(&p.path),
                q(&p.value),
                escape(&p.source)
            ));
        }
        self.raw("</tbody></table></div></details>\n</section>\n");
    }

    fn components(&mut self, title: &str, list: &[(String, f64)], unit: fn(f64) -> String) {
        self.put(format_args!("<section>\n<h3>{title}</h3>\n"));
        if list.is_empty() {
            self.raw("<p class=\"note\">The chip file states none.</p>\n</section>\n");
            return;
        }
        let shares = text::percents(&list.iter().map(|c| c.1).collect::<Vec<_>>());
        self.raw("<table class=\"parts\"><tbody>\n");
        for ((name, value), share) in list.iter().zip(shares) {
            self.put(format_args!(
                "<tr><th scope=\"row\">{}</th><td>{share:.1}\u{a0}%</td><td>{}</td></tr>\n",
                escape(name),
                q(&unit(*value))
            ));
        }
        let sum: f64 = list.iter().map(|c| c.1).sum();
        self.put(format_args!("</tbody><tfoot><tr><th scope=\"row\">total</th><td></td><td>{}</td></tr></tfoot></table>\n</section>\n", q(&unit(sum))));
    }
}
