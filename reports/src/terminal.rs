//! The table on the terminal.
//!
//! Text of a given width; no line is longer. Names come from model and chip files, so control characters are
//! replaced before they reach the terminal.

use std::fmt::Write as _;

use presil_sim::Run;
use presil_sim::run::Phase;

use crate::figures::{self, Kind, Part, View};
use crate::{power, text};

/// Narrowest width that is honoured.
pub const MIN_WIDTH: usize = 72;
const TOP: usize = 15;
const LISTED: usize = 5;

/// What a model on a chip takes, as text of at most `width` columns (at least [`MIN_WIDTH`]), with ANSI colours
/// if `color`.
pub fn table(run: &Run, width: usize, color: bool) -> String {
    let mut out = Table {
        out: String::new(),
        width: width.max(MIN_WIDTH),
        color,
        view: View::new(run),
    };
    out.header();
    out.unmodelled();
    for phase in &run.phases {
        out.phase(phase);
    }
    if run.phases.is_empty() {
        out.line("Nothing was run: the graph has no phase.");
    }
    out.power();
    out.chip();
    out.assumptions();
    out.out
}

struct Table<'a> {
    out: String,
    width: usize,
    color: bool,
    view: View<'a>,
}

/// ANSI codes of the kinds.
fn ansi(kind: Kind) -> &'static str {
    match kind {
        Kind::Compute => "34",
        Kind::Memory => "33",
        Kind::Vector => "32",
        Kind::Other => "36",
        Kind::Latency | Kind::Static | Kind::Rest => "90",
    }
}

/// A shape without its dimensions of size one, which say little and take room.
fn squeezed(shape: &str) -> String {
    let one = |d: &&str| {
        d.strip_suffix('1')
            .is_some_and(|name| name.chars().all(char::is_alphabetic))
    };
    let kept: Vec<&str> = shape.split_whitespace().filter(|d| !one(d)).collect();
    if kept.is_empty() {
        shape.to_string()
    } else {
        kept.join(" ")
    }
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const DIM: &str = "90";

impl Table<'_> {
    fn paint(&self, code: &str, s: &str) -> String {
        if self.color && !s.is_empty() {
            format!("\u{1b}[{code}m{s}\u{1b}[0m")
        } else {
            s.to_string()
        }
    }

    fn line(&mut self, s: &str) {
        let s = text::shorten(&text::plain(s), self.width);
        self.out.push_str(s.trim_end());
        self.out.push('\n');
    }

    fn heading(&mut self, code: &str, s: &str) {
        let s = self.paint(code, &text::shorten(&text::plain(s), self.width));
        self.out.push('\n');
        self.out.push_str(&s);
        self.out.push('\n');
    }

    /// A paragraph with a first-line mark, wrapped at words.
    fn wrapped(&mut self, mark: &str, s: &str) {
        let room = self.width - mark.chars().count();
        let mut row = String::new();
        let mut first = true;
        let mut flush = |out: &mut String, row: &mut String| {
            let lead = if first {
                mark.to_string()
            } else {
                " ".repeat(mark.chars().count())
            };
            first = false;
            out.push_str(format!("{lead}{row}").trim_end());
            out.push('\n');
            row.clear();
        };
        for word in text::plain(s).split_whitespace() {
            let word = text::shorten(word, room);
            if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > room {
                flush(&mut self.out, &mut row);
            }
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(&word);
        }
        flush(&mut self.out, &mut row);
    }

    fn header(&mut self) {
        let run = self.view.run;
        let title = text::shorten(
            &text::plain(&format!("{} on {}", run.model, run.chip)),
            self.width,
        );
        let title = self.paint(BOLD, &title);
        self.out.push_str(&title);
        self.out.push('\n');
        let mut facts = vec![run.precision.clone(), format!("batch {}", run.batch)];
        facts.extend(run.prompt.map(|n| format!("prompt {n}")));
        facts.extend(run.generate.map(|n| format!("generate {n}")));
        facts.push(format!("objective {}", run.objective));
        facts.push(format!("{} model", figures::fidelity(run.fidelity)));
        facts.push(format!("presil {}", env!("CARGO_PKG_VERSION")));
        self.wrapped("", &facts.join(", "));
        let rule = "\u{2500}".repeat(self.width);
        let rule = self.paint(DIM, &rule);
        let _ = writeln!(self.out, "{rule}");
        if run.ttft().is_some() || run.tpot().is_some() {
            let mut facts = Vec::new();
            facts.extend(run.ttft().map(|t| format!("TTFT {}", text::seconds(t.0))));
            facts.extend(run.tpot().map(|t| format!("TPOT {}", text::seconds(t.0))));
            let decode = run.phases.iter().find(|p| p.name == "decode");
            let rate = decode.and_then(|p| figures::throughput(run, p));
            facts.extend(rate.map(|(r, _)| format!("{} tokens/s", text::number(r))));
            let s = self.paint(BOLD, &facts.join("   "));
            let _ = writeln!(self.out, "{s}");
        }
    }

    fn unmodelled(&mut self) {
        let list = self.view.unmodelled.clone();
        let n = list.len();
        if n == 0 {
            return;
        }
        self.heading(RED, "! Not fully in these figures:");
        for u in list {
            self.wrapped("  ! ", u);
        }
    }

    fn phase(&mut self, phase: &Phase) {
        let view = self.view.clone();
        let run = view.run;
        let mut title = figures::phase_title(run, phase);
        if phase.steps > 1 {
            let _ = write!(title, " (mean of {})", phase.steps);
        }
        self.heading(BOLD, &title);
        let none = || "n/a".to_string();
        let bound = match figures::bound_by(phase) {
            Some((b, share)) => format!("{b} ({} of time)", text::percent(share)),
            None => none(),
        };
        let rate = match figures::throughput(run, phase) {
            Some((r, unit)) => text::per_second(r, unit),
            None => none(),
        };
        let floor = format!(
            "{} ({})",
            text::seconds(phase.lower_bound_s),
            phase.lower_bound_by
        );
        let intensity = view.intensity(phase.executed_macs, &phase.traffic);
        let roofline = match (intensity, figures::ridge(run)) {
            (Some(i), Some(ridge)) => {
                let side = if i < ridge { "memory" } else { "compute" };
                format!(
                    "{} MAC/B, ridge {}: {side} side",
                    text::number(i),
                    text::number(ridge)
                )
            }
            _ => none(),
        };
        let root = view.root().unwrap_or("memory");
        let bytes = view.root_bytes(&phase.traffic);
        let mean = match figures::ratio(bytes, phase.latency_s) {
            Some(mean) => {
                format!(
                    "{} of {} streaming",
                    text::rate(mean),
                    text::rate(run.dram_streaming_bytes_per_s)
                )
            }
            None => none(),
        };
        let mut power = figures::average_power(phase).map_or_else(none, text::watts);
        if let Some((peak, op)) = figures::peak_power(phase) {
            power = format!("{power}, peak {} ({})", text::watts(peak), op.name);
        }
        let size = |n: u64| text::bytes(n as f64);
        let count = |n: u128| text::si(n as f64, "");
        let pairs = [
            (
                "latency",
                text::seconds(phase.latency_s),
                "throughput",
                rate,
            ),
            (
                "first pass, cold",
                text::seconds(phase.cold_latency_s),
                "lower bound",
                floor,
            ),
            (
                "energy",
                text::joules(phase.energy_j),
                "average power",
                power,
            ),
            (
                "utilization",
                text::percent(phase.utilization),
                "bound by",
                bound,
            ),
            ("MACs", count(phase.macs), "roofline", roofline),
            (
                "executed MACs",
                count(phase.executed_macs),
                "root traffic",
                match figures::root_mostly(phase) {
                    Some((what, share)) => format!(
                        "{} ({root}), {} {what}",
                        text::bytes(bytes),
                        text::percent(share)
                    ),
                    None => format!("{} ({root})", text::bytes(bytes)),
                },
            ),
            (
                "weights stored",
                size(phase.weight_bytes),
                "root rate",
                mean,
            ),
            (
                "peak activations",
                size(phase.peak_activation_bytes),
                "caches stored",
                size(phase.cache_bytes),
            ),
        ];
        let right = self.width - 50;
        for (a, x, b, y) in pairs {
            let (x, y) = (text::shorten(&x, 16), text::shorten(&y, right));
            self.line(&format!("  {a:<17}{x:<17}{b:<14}{y}"));
        }
        self.parts(
            "Where the time goes",
            &view.phase_time(phase),
            text::seconds,
        );
        self.parts(
            "Where the energy goes",
            &view.phase_energy(phase),
            text::joules,
        );
        self.traffic(phase);
        self.cores(phase);
        self.memories(phase);
        self.groups(phase);
        self.layers(phase);
    }

    fn parts(&mut self, title: &str, parts: &[Part], unit: fn(f64) -> String) {
        let parts: Vec<&Part> = parts.iter().filter(|p| p.value != 0.0).collect();
        if parts.is_empty() {
            return;
        }
        let values: Vec<f64> = parts.iter().map(|p| p.value).collect();
        let shares = text::percents(&values);
        let name = parts
            .iter()
            .map(|p| p.label().chars().count())
            .max()
            .unwrap_or(0)
            .clamp(7, 20);
        let room = self.width - name - 26;
        self.heading(BOLD, title);
        for (part, share) in parts.iter().zip(shares) {
            let blocks = ((share / 100.0) * room as f64).round() as usize;
            let bar = if blocks == 0 {
                "\u{258f}".to_string()
            } else {
                "\u{2588}".repeat(blocks)
            };
            let label = text::shorten(&text::plain(part.label()), name);
            let bar = self.paint(ansi(part.kind), &bar);
            let _ = writeln!(
                self.out,
                "  {label:<name$} {share:>5.1} % {:>11}  {bar}",
                unit(part.value)
            );
        }
    }

    fn traffic(&mut self, phase: &Phase) {
        if phase.traffic.is_empty() {
            return;
        }
        self.heading(BOLD, "Memory traffic");
        let name = phase
            .traffic
            .iter()
            .map(|t| t.memory.chars().count())
            .max()
            .unwrap_or(0)
            .clamp(7, 20);
        for t in &phase.traffic {
            let memory = text::shorten(&text::plain(&t.memory), name);
            let all = figures::finite(t.read_bytes) + figures::finite(t.write_bytes);
            let rate = figures::ratio(all, phase.latency_s)
                .map(text::rate)
                .unwrap_or_default();
            let (read, write) = (text::bytes(t.read_bytes), text::bytes(t.write_bytes));
            self.line(&format!(
                "  {memory:<name$} {read:>11} read {write:>11} written {rate:>12}"
            ));
        }
    }

    fn cores(&mut self, phase: &Phase) {
        let partition = &phase.partition;
        let sets = ("Ops that run at once", crate::cores::lines(partition));
        let stages = ("As a pipeline", crate::cores::pipeline_lines(partition));
        for (title, lines) in [sets, stages] {
            if lines.is_empty() {
                continue;
            }
            self.heading(BOLD, title);
            for line in lines {
                let line = text::shorten(&line, self.width - 2);
                self.line(&format!("  {line}"));
            }
        }
    }

    fn memories(&mut self, phase: &Phase) {
        let lines = crate::memory::lines(&phase.memory_plan);
        if lines.is_empty() {
            return;
        }
        self.heading(BOLD, "Memory on chip");
        for line in lines {
            let long = line.chars().count() > self.width - 2;
            let rows = match line.split_once(": saves ") {
                Some((what, saved)) if long => vec![what.to_string(), format!("  saves {saved}")],
                _ => vec![line],
            };
            for row in rows {
                let row = text::shorten(&row, self.width - 2);
                self.line(&format!("  {row}"));
            }
        }
    }

    fn groups(&mut self, phase: &Phase) {
        let lines = crate::groups::lines(phase);
        if lines.is_empty() {
            return;
        }
        self.heading(BOLD, "Fused groups");
        for line in lines {
            let line = text::shorten(&line, self.width - 2);
            self.line(&format!("  {line}"));
        }
    }

    fn layers(&mut self, phase: &Phase) {
        if phase.ops.is_empty() {
            self.line("  No op.");
            return;
        }
        let total: f64 = phase
            .ops
            .iter()
            .map(|op| figures::finite(op.time.total_s))
            .sum();
        let order = figures::by_time(phase);
        let root = text::shorten(&text::plain(self.view.root().unwrap_or("root")), 9);
        let mut rows: Vec<[String; 9]> = vec![
            [
                "layer", "class", "shape", "time", "share", "bound by", "util", "energy", &root,
            ]
            .map(String::from),
        ];
        let mut shown = 0.0;
        for op in order.iter().take(TOP).filter_map(|i| phase.ops.get(*i)) {
            shown += figures::finite(op.time.total_s);
            let mut name = text::plain(&op.name);
            if op.repeat > 1 {
                let _ = write!(name, " x{}", op.repeat);
            }
            rows.push([
                name,
                text::plain(&op.class),
                squeezed(&text::plain(&op.shape)),
                text::seconds(op.time.total_s),
                figures::ratio(op.time.total_s, total)
                    .map(|s| format!("{:.1}%", 100.0 * s))
                    .unwrap_or_default(),
                text::plain(&op.bottleneck),
                format!("{:.0}%", 100.0 * figures::finite(op.utilization)),
                text::joules(figures::op_joules(op)),
                text::bytes(self.view.root_bytes(&op.traffic)),
            ]);
        }
        let mut widths: [usize; 9] = std::array::from_fn(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|s| s.chars().count())
                .max()
                .unwrap_or(0)
        });
        let [name, class, shape, .., bound, _, _, _] = &mut widths;
        *class = (*class).min(12);
        *bound = (*bound).min(10);
        let fixed = |w: &[usize; 9]| w.iter().sum::<usize>() + 2 + 8;
        let (wide, tall) = (*name, *shape);
        // What is left over goes to the name and the shape, the name at most two fifths of it.
        *name = 0;
        *shape = 0;
        let room = self.width.saturating_sub(fixed(&widths)).max(16);
        let for_name = wide.min((room * 2 / 5).max(room.saturating_sub(tall)));
        let [name, _, shape, ..] = &mut widths;
        *name = for_name;
        *shape = tall.min(room - for_name);
        let count = phase.ops.len();
        let title = match count > TOP {
            true => format!(
                "Top {TOP} of {count} layers by time ({} of the layers' time)",
                text::percent(figures::ratio(shown, total).unwrap_or(0.0))
            ),
            false => "Layers by time".to_string(),
        };
        self.heading(BOLD, &title);
        for (r, row) in rows.iter().enumerate() {
            let mut line = String::from(" ");
            for (c, (cell, w)) in row.iter().zip(widths).enumerate() {
                let cell = if c == 0 {
                    text::tail(cell, w)
                } else {
                    text::shorten(cell, w)
                };
                let left = matches!(c, 0..=2 | 5);
                let _ = if left {
                    write!(line, " {cell:<w$}")
                } else {
                    write!(line, " {cell:>w$}")
                };
            }
            let line = text::shorten(line.trim_end(), self.width);
            let line = if r == 0 { self.paint(DIM, &line) } else { line };
            self.out.push_str(&line);
            self.out.push('\n');
        }
    }

    fn power(&mut self) {
        let sentences = power::sentences(&self.view.run.power);
        if sentences.is_empty() {
            return;
        }
        self.heading(BOLD, "Power");
        for s in sentences {
            self.wrapped("  ", &s);
        }
    }

    fn chip(&mut self) {
        let run = self.view.run;
        self.heading(BOLD, "Chip");
        let peak = text::si(2.0 * run.peak_macs_per_s, "OPS");
        let mut facts = vec![
            format!("{} ({})", run.chip, run.chip_hash),
            format!("peak {peak} dense in {}", run.precision),
            format!(
                "root memory {} peak, {} streaming",
                text::rate(run.dram_peak_bytes_per_s),
                text::rate(run.dram_streaming_bytes_per_s)
            ),
        ];
        facts.push(format!("area {}", text::area(run.area_total().0)));
        facts.push(format!(
            "static power {}",
            text::watts(run.static_total().0)
        ));
        facts.push(format!(
            "{} constants, {} of them assumed",
            run.provenance.len(),
            figures::assumed(run)
        ));
        facts.push(format!(
            "model with {} parameters",
            text::si(run.parameters as f64, "")
        ));
        let facts = facts.join("; ");
        self.wrapped("  ", &facts);
    }

    fn assumptions(&mut self) {
        let all = self.view.assumptions.clone();
        if all.is_empty() {
            return;
        }
        self.heading(BOLD, &format!("Assumptions ({})", all.len()));
        for a in all.iter().take(LISTED) {
            self.wrapped("  - ", a);
        }
        if all.len() > LISTED {
            let more = all.len() - LISTED;
            self.line(&format!(
                "  and {more} more, in the report and in the JSON document"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn strip(s: &str) -> String {
        let mut out = String::new();
        let mut inside = false;
        for c in s.chars() {
            match c {
                '\u{1b}' => inside = true,
                'm' if inside => inside = false,
                _ if !inside => out.push(c),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn no_line_is_too_long() {
        for run in sample::all() {
            for width in [0, 72, 80, 100, 132, 200] {
                for line in table(&run, width, false).lines() {
                    let n = line.chars().count();
                    assert!(
                        n <= width.max(MIN_WIDTH),
                        "{n} columns at width {width}: {line}"
                    );
                }
            }
        }
    }

    #[test]
    fn shapes_lose_only_sizes_of_one() {
        assert_eq!(squeezed("n1 g1 k512 c11 p7 r1 s3"), "k512 c11 p7 s3");
        assert_eq!(squeezed("n1 m1"), "n1 m1");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        for run in sample::all() {
            let plain = table(&run, 100, false);
            assert!(!plain.contains('\u{1b}'));
            assert_eq!(strip(&table(&run, 100, true)), plain);
        }
    }

    #[test]
    fn figures_of_the_run_are_there() {
        let t = table(&sample::cnn(), 100, false);
        for part in [
            "resnet50 on edge-npu",
            "inferences/s",
            "Where the time goes",
            "ridge",
            "Assumptions (",
        ] {
            assert!(t.contains(part), "{part} is missing in\n{t}");
        }
        assert!(t.contains("! Not fully in these figures"));
        let t = table(&sample::llm(), 100, false);
        for part in [
            "TTFT",
            "TPOT",
            "tokens/s",
            "Prefill of 512 tokens",
            "Decode step (mean of 128)",
        ] {
            assert!(t.contains(part), "{part} is missing in\n{t}");
        }
    }

    #[test]
    fn shares_of_time_sum_to_a_hundred() {
        for run in [sample::cnn(), sample::llm()] {
            let t = table(&run, 100, false);
            let mut inside = false;
            let mut sums = vec![];
            for line in t.lines() {
                if line.starts_with("Where the") {
                    inside = true;
                    sums.push(0i64);
                } else if inside {
                    match line
                        .split_once(" % ")
                        .and_then(|(l, _)| l.split_whitespace().last())
                    {
                        Some(n) => {
                            let tenths = n.replace('.', "").parse::<i64>().unwrap_or(-1);
                            if let Some(s) = sums.last_mut() {
                                *s += tenths;
                            }
                        }
                        None => inside = false,
                    }
                }
            }
            assert_eq!(sums, vec![1000; 2 * run.phases.len()], "{t}");
        }
    }
}
