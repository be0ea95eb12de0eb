//! Mappings found, as text, JSON or a case file.

use std::fmt::Write;

use presil_mapper::search::Objective;
use serde_json::{Value, json};

use super::Mapped;
use super::explain::Price;
use super::solve::Proof;
use crate::eval::text::{figure, table};
use crate::eval::{json as eval_json, text as eval_text};

/// What is made small, and its unit.
fn unit(objective: Objective) -> &'static str {
    match objective {
        Objective::Latency => "cycles",
        Objective::Energy => "pJ",
        Objective::Edp => "pJ cycles",
    }
}

/// As text; `prices` if they were asked for.
pub fn text(mapped: &Mapped, prices: Option<&[Price]>) -> String {
    let mut text = eval_text::report(&mapped.report);
    text.push('\n');
    text.push_str(&proof_text(&mapped.proof, mapped.objective));
    if let Some(prices) = prices {
        text.push_str(&prices_text(prices, mapped.objective));
    }
    text
}

fn proof_text(proof: &Proof, objective: Objective) -> String {
    let proven = match proof.proven {
        true => "proven: no mapping of the space is better".to_string(),
        false => format!(
            "not proven: nothing goes below {}",
            figure(proof.lower_bound)
        ),
    };
    let mut text = format!(
        "{} {} {}, {proven}\n{} partial mappings looked at, {} cut off by bounds, {} by better ones\n",
        objective.name(),
        figure(proof.found),
        unit(objective),
        figure(proof.expanded as f64),
        figure(proof.bounded as f64),
        figure(proof.dominated as f64),
    );
    if !proof.fused.is_empty() {
        let _ = writeln!(
            text,
            "fused: {} take their intermediates tile by tile from the einsum before",
            proof.fused.join(", ")
        );
    }
    text
}

fn prices_text(prices: &[Price], objective: Objective) -> String {
    let head = format!("{}, {}", objective.name(), unit(objective));
    let mut rows = vec![vec!["one more".to_string(), head, "change".into()]];
    for price in prices {
        let proven = if price.proven { "" } else { " (not proven)" };
        rows.push(vec![
            price.resource.clone(),
            figure(price.value),
            format!("{:+.3} %{proven}", 100.0 * price.change),
        ]);
    }
    let mut text = String::from("\n");
    let _ = write!(text, "{}", table(&rows, 1));
    text
}

/// As JSON.
pub fn json(mapped: &Mapped, prices: Option<&[Price]>) -> Value {
    let mut value = eval_json::report(&mapped.report);
    let price = |p: &Price| {
        json!({
            "resource": p.resource,
            "found": p.value,
            "relative_change": p.change,
            "proven": p.proven,
        })
    };
    if let Some(map) = value.as_object_mut() {
        map.insert("objective".into(), json!(mapped.objective.name()));
        map.insert("proof".into(), json!(mapped.proof));
        if let Some(prices) = prices {
            let prices: Vec<Value> = prices.iter().map(price).collect();
            map.insert("prices".into(), json!(prices));
        }
    }
    value
}
