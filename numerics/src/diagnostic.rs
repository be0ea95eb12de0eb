//! Messages about a user's input: what is wrong, where, and what would be right.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One problem in a user's input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostic {
    /// What is wrong, in one sentence.
    pub message: String,
    /// Bytes of the source text that the problem is about.
    pub span: Option<Range<usize>>,
    /// A label at the span.
    pub label: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem with a place.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: Some(span),
            ..Self::default()
        }
    }
    /// A problem of the whole input.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }
    /// Adds a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Adds a label at the span.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// All problems of one source text. Its `Display` is the full rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// Name of the source, usually a path.
    pub origin: String,
    /// The source text.
    pub source: String,
    /// The problems; at least one.
    pub problems: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for (i, d) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let title = Level::ERROR.primary_title(&d.message);
            let mut groups: Vec<Group<'_>> = Vec::new();
            let span = d
                .span
                .clone()
                .filter(|s| s.start <= s.end && s.end <= self.source.len());
            let mut group = match span {
                Some(span) => title.element(
                    Snippet::source(&self.source)
                        .path(&self.origin)
                        .annotation(AnnotationKind::Primary.span(span).label(&d.label)),
                ),
                None => title.element(Level::NOTE.message(format!("in {}", self.origin))),
            };
            if let Some(help) = &d.help {
                group = group.element(Level::HELP.message(help));
            }
            groups.push(group);
            write!(f, "{}", renderer.render(&groups))?;
        }
        Ok(())
    }
}

/// The known name nearest to one that is unknown, if any is near (edit distance at most a third of its length,
/// or one contains the other).
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest_names(name, known).into_iter().next()
}

/// Up to three known names near to one that is unknown: those that it begins, then the nearest.
pub fn nearest_names<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut near: Vec<(bool, usize, &str)> = known
        .into_iter()
        .filter_map(|k| {
            let distance = edit_distance(&lower, &k.to_lowercase());
            let contains = lower.len() >= 3 && (k.contains(&lower) || lower.contains(k));
            let limit = (lower.chars().count().max(k.chars().count()) / 3).max(1);
            let other = lower.len() < 2 || !k.to_lowercase().starts_with(&lower);
            (distance <= limit || contains).then_some((other, distance, k))
        })
        .collect();
    near.sort();
    near.into_iter()
        .take(3)
        .map(|(_, _, k)| k.to_string())
        .collect()
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let known = ["resnet18", "resnet50", "vgg16"];
        assert_eq!(nearest("resnet5", known), Some("resnet50".into()));
        assert_eq!(nearest("zzz", known), None);
        let formats = ["mxfp8", "fp8_e4m3fn", "fp16"];
        assert_eq!(nearest("fp8", formats), Some("fp8_e4m3fn".into()));
    }

    #[test]
    fn a_diagnostic_shows_the_line() {
        let d = Diagnostics {
            origin: "chip.toml".into(),
            source: "a = 1\nsize = 512\n".into(),
            problems: vec![
                Diagnostic::at(13..16, "`512` has no unit")
                    .label("expected a size")
                    .help("write \"512 KiB\""),
            ],
        };
        let text = d.to_string();
        assert!(
            text.contains("chip.toml:2:8")
                && text.contains("expected a size")
                && text.contains("help:"),
            "{text}"
        );
    }
}
