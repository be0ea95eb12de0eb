//! Numbers as text: one way for the terminal and the page.

use presil_numerics::{Bytes, BytesPerSecond, Joules, Seconds, SquareMm, Watts};

const NONE: &str = "n/a";

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:ident) => {
        $(#[$doc])*
        pub fn $name(x: f64) -> String {
            // Plus zero: an empty sum of floats is minus zero.
            if x.is_finite() { $unit(x + 0.0).to_string() } else { NONE.into() }
        }
    };
}

quantity!(
    /// A duration from seconds.
    seconds,
    Seconds
);
quantity!(
    /// An energy from joules.
    joules,
    Joules
);
quantity!(
    /// A power from watts.
    watts,
    Watts
);
quantity!(
    /// A data rate from bytes per second.
    rate,
    BytesPerSecond
);

/// An area from square millimetres, in those unless it is tiny.
pub fn area(x: f64) -> String {
    if x >= 1e-3 {
        format!("{} mm2", number(x))
    } else if x.is_finite() {
        SquareMm(x + 0.0).to_string()
    } else {
        NONE.into()
    }
}

/// A size from bytes. Expected counts have fractions; they are rounded to whole bytes.
pub fn bytes(x: f64) -> String {
    if x.is_finite() {
        Bytes(x.round() as u64).to_string()
    } else {
        NONE.into()
    }
}

/// A number with a prefix of a power of 1000 and its unit: "4.089 GMAC".
pub fn si(x: f64, unit: &str) -> String {
    if !x.is_finite() {
        return NONE.into();
    }
    const PREFIXES: [(&str, f64); 7] = [
        ("E", 1e18),
        ("P", 1e15),
        ("T", 1e12),
        ("G", 1e9),
        ("M", 1e6),
        ("k", 1e3),
        ("", 1.0),
    ];
    let (prefix, factor) = PREFIXES
        .iter()
        .find(|p| x.abs() >= p.1)
        .copied()
        .unwrap_or(("", 1.0));
    format!("{} {prefix}{unit}", number(x / factor))
        .trim_end()
        .to_string()
}

/// A number with four significant digits, without trailing zeros.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return NONE.into();
    }
    if x == 0.0 {
        return "0".into();
    }
    let digits = (3 - x.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// A fraction as a percentage with one decimal.
pub fn percent(x: f64) -> String {
    if x.is_finite() {
        format!("{:.1} %", 100.0 * x)
    } else {
        NONE.into()
    }
}

/// Percentages with one decimal that sum to exactly 100.0, by largest remainder. All zero if the sum is not
/// positive; a negative value counts as zero.
pub fn percents(values: &[f64]) -> Vec<f64> {
    let clean: Vec<f64> = values
        .iter()
        .map(|v| crate::figures::finite(*v).max(0.0))
        .collect();
    let total: f64 = clean.iter().sum();
    if total <= 0.0 {
        return vec![0.0; values.len()];
    }
    let exact: Vec<f64> = clean.iter().map(|v| 1000.0 * (v / total)).collect();
    let mut tenths: Vec<i64> = exact.iter().map(|e| e.floor() as i64).collect();
    let mut missing = 1000 - tenths.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..exact.len()).collect();
    let remainder = |i: &usize| exact.get(*i).map_or(0.0, |e| e.fract());
    order.sort_by(|a, b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(b)));
    for i in order {
        if missing <= 0 {
            break;
        }
        if let Some(t) = tenths.get_mut(i) {
            *t += 1;
            missing -= 1;
        }
    }
    tenths.into_iter().map(|t| t as f64 / 10.0).collect()
}

/// At most `width` characters; the middle is left out, since the ends of a layer's name tell most.
pub fn shorten(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        return text.to_string();
    }
    if width < 5 {
        return text.chars().take(width).collect();
    }
    let head = (width - 2) / 3;
    let tail = width - 2 - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(n - tail).collect();
    format!("{start}..{end}")
}

/// At most `width` characters of a path-like name; leading components go first, since the last ones tell most.
pub fn tail(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_string();
    }
    let starts = name
        .char_indices()
        .filter(|(_, c)| matches!(c, '.' | '/' | ':'))
        .map(|(i, c)| i + c.len_utf8());
    let ends = starts
        .filter_map(|i| name.get(i..))
        .filter(|rest| rest.chars().count() >= 4);
    let fits = ends
        .map(|rest| format!("..{rest}"))
        .find(|short| short.chars().count() <= width);
    fits.unwrap_or_else(|| shorten(name, width))
}

/// A rate of things made: without a prefix up to a million.
pub fn per_second(x: f64, unit: &str) -> String {
    if x.abs() < 1e6 {
        format!("{} {unit}", number(x))
    } else {
        si(x, unit)
    }
}

/// Text without control characters, which would move a terminal's cursor or break a line.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// A quantity as typeset: micro sign, superscripts, and a space that does not break.
pub fn typeset(quantity: &str) -> String {
    match quantity.rsplit_once(' ') {
        Some((n, unit)) => {
            let unit = match unit.strip_prefix('u') {
                Some(rest @ ("s" | "J" | "W" | "m2")) => format!("\u{b5}{rest}"),
                _ => unit.to_string(),
            };
            format!("{n}\u{a0}{}", unit.replace("m2", "m\u{b2}"))
        }
        None => quantity.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(si(4.0892e9, "MAC"), "4.089 GMAC");
        assert_eq!(si(0.5, "MAC"), "0.5 MAC");
        assert_eq!(si(999.0, ""), "999");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(f64::NAN), "n/a");
        assert_eq!(bytes(1536.4), "1.5 KiB");
        assert_eq!(seconds(f64::INFINITY), "n/a");
        assert_eq!((seconds(-0.0), area(-0.0)), ("0 s".into(), "0 mm2".into()));
    }

    #[test]
    fn names_keep_both_ends() {
        assert_eq!(shorten("layer3.2.conv2", 20), "layer3.2.conv2");
        assert_eq!(
            shorten("model.layers.17.self_attn.q_proj", 16),
            "mode..ttn.q_proj"
        );
        assert_eq!(shorten("äöüäöüäöü", 7).chars().count(), 7);
        assert_eq!(
            tail("model.layers.self_attn.q_proj x16", 16),
            "..q_proj x16"
        );
        assert_eq!(
            tail("a_very_long_name_without_parts", 16),
            shorten("a_very_long_name_without_parts", 16)
        );
        assert_eq!(per_second(4988.0, "tokens/s"), "4988 tokens/s");
        assert_eq!(typeset("1.5 us"), "1.5\u{a0}\u{b5}s");
        assert_eq!(typeset("6.3 mm2"), "6.3\u{a0}mm\u{b2}");
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a?[2Jb?");
    }

    proptest! {
        #[test]
        fn percents_sum_to_a_hundred(values in prop::collection::vec(0.0f64..1e12, 1..40)) {
            let p = percents(&values);
            let total: f64 = values.iter().sum();
            let tenths: i64 = p.iter().map(|x| (x * 10.0).round() as i64).sum();
            prop_assert_eq!(tenths, if total > 0.0 { 1000 } else { 0 });
            for (x, v) in p.iter().zip(&values) {
                prop_assert!(total == 0.0 || (x - 100.0 * v / total).abs() <= 0.1 + 1e-9);
            }
        }

        #[test]
        fn shortened_names_fit(text in ".{0,60}", width in 0usize..40) {
            prop_assert!(shorten(&text, width).chars().count() <= width);
            prop_assert!(tail(&text, width).chars().count() <= width);
        }
    }
}
