//! The page: one self-contained HTML file that needs no network and no script to be read.
//!
//! Style and script are files of their own (`assets/`), put into the page when it is written. Everything that comes
//! from a Run is escaped ([`crate::svg::escape`]).
//!
//! - [`parts`](self): headline figures, here; where time and energy go, figures: `phase`; the table: `layers`;
//!   assumptions, constants and definitions: `basis`.

mod basis;
mod layers;
mod phase;

use std::fmt::{Display, Write as _};

use presil_sim::Run;
use presil_sim::run::Phase;

use crate::figures::{self, View};
use crate::plots::PlotError;
use crate::svg::escape;
use crate::{power, text};

const STYLE: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");

/// The page of a Run; `version` is the tool's.
pub fn page(run: &Run, version: &str) -> Result<String, PlotError> {
    let mut page = Page {
        out: String::with_capacity(1 << 18),
        view: View::new(run),
        version,
    };
    page.head();
    page.unmodelled();
    page.headline();
    if run.phases.is_empty() {
        page.raw("<p>Nothing was run: the graph has no phase.</p>\n");
    }
    for (i, p) in run.phases.iter().enumerate() {
        page.phase(i, p)?;
    }
    page.power();
    page.basis();
    page.foot();
    Ok(page.out)
}

struct Page<'a> {
    out: String,
    view: View<'a>,
    version: &'a str,
}

/// A quantity, typeset and escaped.
fn q(quantity: &str) -> String {
    escape(&text::typeset(quantity))
}

impl Page<'_> {
    /// Markup.
    fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Markup from a format.
    fn put(&mut self, markup: impl Display) {
        let _ = write!(self.out, "{markup}");
    }

    fn head(&mut self) {
        let run = self.view.run;
        let title = format!("{} on {}", run.model, run.chip);
        self.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"generator\" content=\"presil {}\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
            escape(self.version),
            escape(&title)
        ));
        let mut facts = vec![
            ("precision", run.precision.clone()),
            ("batch", run.batch.to_string()),
        ];
        facts.extend(run.prompt.map(|n| ("prompt", format!("{n} tokens"))));
        facts.extend(run.generate.map(|n| ("generate", format!("{n} tokens"))));
        facts.push(("objective", run.objective.clone()));
        facts.push(("model", figures::fidelity(run.fidelity).to_string()));
        self.put(format_args!(
            "<header>\n<h1><span>{}</span> <small>on</small> <span>{}</span></h1>\n<ul class=\"facts\">\n",
            escape(&run.model),
            escape(&run.chip)
        ));
        for (name, value) in facts {
            self.put(format_args!(
                "<li><span>{name}</span> {}</li>\n",
                escape(&value)
            ));
        }
        self.raw("</ul>\n<nav aria-label=\"Sections\">\n");
        for (i, p) in run.phases.iter().enumerate() {
            let title = escape(&figures::phase_title(run, p));
            let layers = match run.phases.len() {
                1 => "Layers".to_string(),
                _ => format!("Layers of the {}", escape(&p.name)),
            };
            self.put(format_args!(
                "<a href=\"#phase-{i}\">{title}</a>\n<a href=\"#layers-{i}\">{layers}</a>\n"
            ));
        }
        self.raw("<a href=\"#assumptions\">Assumptions</a>\n<a href=\"#chip\">Chip</a>\n<a href=\"#definitions\">Definitions</a>\n");
        self.raw("</nav>\n</header>\n<main>\n");
    }

    fn unmodelled(&mut self) {
        let list = self.view.unmodelled.clone();
        if list.is_empty() {
            return;
        }
        self.raw(
            "<section class=\"warning\" id=\"unmodelled\" aria-labelledby=\"unmodelled-title\">\n\
             <h2 id=\"unmodelled-title\">Not fully in these figures</h2>\n<ul>\n",
        );
        for u in list {
            self.put(format_args!("<li>{}</li>\n", escape(u)));
        }
        self.raw("</ul>\n</section>\n");
    }

    /// Operating points and periods, where they were asked for.
    fn power(&mut self) {
        let sentences = power::sentences(&self.view.run.power);
        if sentences.is_empty() {
            return;
        }
        self.raw("<section id=\"power\" aria-labelledby=\"power-title\">\n<h2 id=\"power-title\">Power</h2>\n<ul>\n");
        for s in sentences {
            self.put(format_args!(
                "<li>{}</li>\n",
                escape(&s.replace(" us", "\u{a0}\u{b5}s"))
            ));
        }
        self.raw("</ul>\n</section>\n");
    }

    /// One headline figure.
    fn card(&mut self, label: &str, value: &str, note: &str) {
        let (number, unit) = value.rsplit_once(' ').unwrap_or((value, ""));
        let unit = text::typeset(&format!(" {unit}")).replace('\u{a0}', " ");
        self.put(format_args!(
            "<div class=\"card\"><dt>{}</dt><dd><strong>{}<small>{}</small></strong><span>{}</span></dd></div>\n",
            escape(label),
            escape(number),
            escape(unit.trim_end()),
            escape(note)
        ));
    }

    fn headline(&mut self) {
        let run = self.view.run;
        self.raw("<dl class=\"cards\">\n");
        let prefill = run.phases.iter().find(|p| p.name == "prefill");
        let decode = run.phases.iter().find(|p| p.name == "decode");
        if prefill.is_some() || decode.is_some() {
            if let Some(p) = prefill {
                self.prefill_cards(p);
            }
            if let Some(p) = decode {
                self.decode_cards(p);
            }
        } else {
            for p in &run.phases {
                self.forward_cards(p);
            }
        }
        if prefill.is_some() && decode.is_some() {
            self.raw("</dl>\n");
            return;
        }
        let peak = text::si(2.0 * run.peak_macs_per_s, "OPS");
        let root = self.view.root().unwrap_or("root memory");
        let rate = text::typeset(&text::rate(run.dram_peak_bytes_per_s));
        self.card("Peak", &peak, &format!("dense; {root} {rate}"));
        if run.area_total().0 > 0.0 {
            let power = text::typeset(&text::watts(run.static_total().0));
            self.card(
                "Die area",
                &text::area(run.area_total().0),
                &format!("{power} static power"),
            );
        }
        self.raw("</dl>\n");
    }

    fn bound_card(&mut self, label: &str, phase: &Phase) {
        match figures::bound_by(phase) {
            Some((by, share)) => {
                let mut note = format!("limits ops with {} of the time", text::percent(share));
                if self.view.root() == Some(by)
                    && let Some((what, share)) = figures::root_mostly(phase)
                {
                    note = format!("{note}; its traffic is {} {what}", text::percent(share));
                }
                self.put(format_args!(
                    "<div class=\"card\"><dt>{}</dt><dd><strong class=\"word\">{}</strong><span>{}</span></dd></div>\n",
                    escape(label),
                    escape(by),
                    escape(&text::typeset(&note))
                ));
            }
            None => self.card(label, "n/a", "no op takes time"),
        }
    }

    fn use_card(&mut self, label: &str, phase: &Phase) {
        let rate = figures::ratio(phase.executed_macs as f64, phase.latency_s).unwrap_or(0.0);
        let note = format!("of the peak: {}", text::typeset(&text::si(rate, "MAC/s")));
        self.card(label, &text::percent(phase.utilization), &note);
    }

    fn forward_cards(&mut self, p: &Phase) {
        let run = self.view.run;
        let cold = text::typeset(&text::seconds(p.cold_latency_s));
        self.card(
            "Latency",
            &text::seconds(p.latency_s),
            &format!("first pass, cold: {cold}"),
        );
        match figures::throughput(run, p) {
            Some((r, unit)) => {
                self.card(
                    "Throughput",
                    &text::per_second(r, unit),
                    &format!("batch {}", run.batch),
                );
            }
            None => self.card("Throughput", "n/a", "the latency is zero"),
        }
        let power = figures::average_power(p).map_or("n/a".into(), text::watts);
        let label = if run.batch == 1 {
            "Energy per inference"
        } else {
            "Energy per pass"
        };
        self.card(
            label,
            &text::joules(p.energy_j),
            &format!("{} on average", text::typeset(&power)),
        );
        self.use_card("Utilization", p);
        self.bound_card("Bound by", p);
        let root = self.view.root().unwrap_or("root memory").to_string();
        let traffic = self.view.root_bytes(&p.traffic);
        let rate = figures::ratio(traffic, p.latency_s).map_or("n/a".into(), text::rate);
        let rate = text::typeset(&rate);
        self.card(
            &format!("{root} traffic"),
            &text::bytes(traffic),
            &format!("{rate} on average"),
        );
    }

    fn prefill_cards(&mut self, p: &Phase) {
        let run = self.view.run;
        let prompt = run
            .prompt
            .map_or("the prompt".into(), |n| format!("{n} tokens"));
        self.card(
            "Time to first token",
            &text::seconds(p.latency_s),
            &format!("prefill of {prompt}"),
        );
        if let Some((r, unit)) = figures::throughput(run, p) {
            self.card(
                "Prefill",
                &text::per_second(r, unit),
                &format!("{} of peak", text::percent(p.utilization)),
            );
        }
        let power = text::typeset(&figures::average_power(p).map_or("n/a".into(), text::watts));
        self.card(
            "Energy of the prefill",
            &text::joules(p.energy_j),
            &format!("{power} on average"),
        );
        self.bound_card("Prefill bound by", p);
    }

    fn decode_cards(&mut self, p: &Phase) {
        let run = self.view.run;
        let steps = if p.steps == 1 {
            "one step".to_string()
        } else {
            format!("mean of {} steps", p.steps)
        };
        self.card("Time per output token", &text::seconds(p.latency_s), &steps);
        if let Some((r, unit)) = figures::throughput(run, p) {
            let note = match run.batch {
                1 => "one sequence".to_string(),
                n => format!("{n} sequences together"),
            };
            self.card("Decode", &text::per_second(r, unit), &note);
        }
        let each = p.energy_j / run.batch.max(1) as f64;
        let power = text::typeset(&figures::average_power(p).map_or("n/a".into(), text::watts));
        self.card(
            "Energy per output token",
            &text::joules(each),
            &format!("{power} on average"),
        );
        self.bound_card("Decode bound by", p);
    }

    fn foot(&mut self) {
        let run = self.view.run;
        self.put(format_args!(
            "</main>\n<footer>\n<p>presil {} \u{b7} {} model \u{b7} chip file {} \u{b7} the same figures are in run.json and layers.csv</p>\n</footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            escape(self.version),
            figures::fidelity(run.fidelity),
            escape(&run.chip_hash)
        ));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sample;

    /// Tags and attributes of a page, outside style, script and text.
    fn tags(html: &str) -> Vec<&str> {
        let mut tags = vec![];
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            let end = rest[at..].find('>').unwrap();
            let tag = &rest[at..at + end + 1];
            tags.push(tag);
            rest = &rest[at + end + 1..];
            for raw in ["style", "script"] {
                if tag.starts_with(&format!("<{raw}")) {
                    rest = &rest[rest.find(&format!("</{raw}>")).unwrap()..];
                }
            }
        }
        tags
    }

    #[test]
    fn tags_nest_and_nothing_comes_from_outside() {
        const VOID: [&str; 9] = [
            "meta", "wbr", "input", "br", "!doctype", "rect", "circle", "line", "polyline",
        ];
        for run in sample::all() {
            let html = page(&run, "1.2.3").unwrap();
            let mut open: Vec<&str> = vec![];
            for tag in tags(&html) {
                let name = tag.trim_start_matches("</").trim_start_matches('<');
                let name = name.split([' ', '>', '/', '\n']).next().unwrap();
                if tag.starts_with("</") {
                    assert_eq!(open.pop(), Some(name), "{} closes in {}", tag, run.model);
                } else if !VOID.contains(&name) {
                    open.push(name);
                }
                // What is left outside quotes are names of attributes.
                let names: Vec<&str> = tag.split('"').step_by(2).collect();
                for bad in [
                    "http-equiv",
                    "src",
                    "<link",
                    "<img",
                    "<iframe",
                    " on",
                    "\'",
                    "`",
                ] {
                    assert!(names.iter().all(|n| !n.contains(bad)), "{tag}");
                }
                let href = tag.split(" href=\"").nth(1);
                assert!(href.is_none_or(|h| h.starts_with('#')), "{tag}");
            }
            assert!(open.is_empty(), "{open:?} stay open in {}", run.model);
            assert!(
                !STYLE.contains("url(") && !STYLE.contains("@import") && !SCRIPT.contains("</")
            );
        }
    }

    #[test]
    fn names_cannot_inject_markup() {
        let html = page(&sample::hostile(), "1").unwrap();
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script").count(), 1);
        assert!(!html.contains("<img"));
        assert!(html.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn every_op_every_assumption_and_every_source_is_there() {
        for run in [sample::cnn(), sample::llm(), sample::many()] {
            let html = page(&run, "1.2.3").unwrap();
            for op in run.phases.iter().flat_map(|p| &p.ops) {
                assert!(html.contains(&escape(&op.name)), "{}", op.name);
            }
            let sources = run.provenance.iter().map(|p| &p.source);
            for s in run.assumptions.iter().chain(&run.unmodelled).chain(sources) {
                assert!(html.contains(&escape(s)), "{s}");
            }
        }
    }

    #[test]
    fn ids_are_unique() {
        let html = page(&sample::llm(), "1").unwrap();
        let mut ids: Vec<&str> = html
            .split(" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
