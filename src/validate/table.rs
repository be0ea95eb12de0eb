//! The trust table: cases summed up by class, as Markdown.

use std::collections::BTreeMap;

use super::{Case, Class, NUMERICS, Validation};

/// One row a class.
pub(super) fn sum_up(cases: &[Case]) -> Vec<Class> {
    let mut by_class: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        by_class.entry(&case.class).or_default().push(case);
    }
    let class = |(name, cases): (&str, Vec<&Case>)| {
        let mut errors: Vec<(f64, &str)> = cases
            .iter()
            .filter_map(|c| c.error.map(|e| (e.abs(), c.name.as_str())))
            .collect();
        errors.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let mean = errors.iter().map(|e| e.0).sum::<f64>() / errors.len() as f64;
        Class {
            class: name.into(),
            cases: cases.len(),
            judged: cases.iter().filter(|c| c.tolerance.is_some()).count(),
            passed: cases.iter().filter(|c| c.passed).count(),
            mean_error: (!errors.is_empty()).then_some(mean),
            median_error: errors.get(errors.len() / 2).map(|e| e.0),
            max_error: errors.first().map(|e| e.0),
            worst: errors
                .iter()
                .filter(|e| e.0 > 0.0)
                .take(3)
                .map(|e| e.1.to_string())
                .collect(),
        }
    };
    by_class.into_iter().map(class).collect()
}

impl Validation {
    /// The trust table as Markdown: classes, then every case that is no exact count, then counts that differ.
    pub fn markdown(&self) -> String {
        let percent = |e: Option<f64>| e.map_or("-".into(), |e| format!("{:.1} %", 100.0 * e));
        let mut text = format!(
            "# Validation\n\nWritten by `presil validate --out FILE`, presil {}.\n\n",
            self.version
        );
        text.push_str("| class | cases | judged | passed | mean error | median | max | worst |\n|---|---:|---:|---:|---:|---:|---:|---|\n");
        for c in &self.classes {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
                c.class,
                c.cases,
                c.judged,
                c.passed,
                percent(c.mean_error),
                percent(c.median_error),
                percent(c.max_error),
                c.worst.join(", ")
            ));
        }
        text.push_str("\nThe error is (presil - reference) / reference. A class without judged cases is reported as it is.\n");
        text.push_str(&numerics(&self.cases));
        let shown: Vec<&Case> = self
            .cases
            .iter()
            .filter(|c| c.class != "exact counts" || !c.passed)
            .collect();
        if !shown.is_empty() {
            text.push_str("\n| case | class | presil | reference | unit | error | source | note |\n|---|---|---:|---:|---|---:|---|---|\n");
        }
        for c in shown {
            let predicted = c.predicted.map_or("-".into(), |p| format!("{p:.4}"));
            let error = c
                .error
                .map_or("-".into(), |e| format!("{:+.1} %", 100.0 * e));
            text.push_str(&format!(
                "| {} | {} | {predicted} | {} | {} | {error} | {} | {} |\n",
                c.name,
                c.class,
                c.reference,
                c.unit,
                c.source,
                c.note.replace('\n', " ").replace('|', "/")
            ));
        }
        text
    }
}

/// The sums of the class whose cases are groups: empty where there are none.
fn numerics(cases: &[Case]) -> String {
    let groups = cases.iter().filter(|c| c.class == NUMERICS);
    let (mut all, mut passed, mut listed) = (0.0, 0.0, 0.0);
    for group in groups {
        all += group.reference;
        passed += group.predicted.unwrap_or(0.0);
        listed += group.tolerance.unwrap_or(0.0) * group.reference;
    }
    if all == 0.0 {
        return String::new();
    }
    let failed = all - passed - listed.round();
    format!(
        "\nEach `{NUMERICS}` row is a group of cases: {all} in all, {passed} equal, {} listed because their own reference contradicts them (the reason is in the note), {failed} failed.\n",
        listed.round()
    )
}
