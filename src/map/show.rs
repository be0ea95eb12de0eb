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

/// As text; `prices` for each einsum, if they were asked for.
pub fn text(mapped: &Mapped, prices: Option<&[Vec<Price>]>) -> String {
    let mut text = eval_text::report(&mapped.report);
    text.push('\n');
    for (i, proof) in mapped.proofs.iter().enumerate() {
        let name = &mapped.report.case.einsums[i].name;
        text.push_str(&proof_text(name, proof, mapped.objective));
        if let Some(prices) = prices.and_then(|p| p.get(i)) {
            text.push_str(&prices_text(prices, mapped.objective));
        }
    }
    text
}

fn proof_text(name: &str, proof: &Proof, objective: Objective) -> String {
    let proven = match proof.proven {
        true => "proven: no mapping of the space is better",
        false => "not proven: the budget ended before the search",
    };
    format!(
        "{name}: {} {} {}, {proven}; {} partial mappings looked at, {} cut off by bounds, {} by better ones\n",
        objective.name(),
        figure(proof.value(objective)),
        unit(objective),
        figure(proof.expanded as f64),
        figure(proof.bounded as f64),
        figure(proof.dominated as f64),
    )
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
pub fn json(mapped: &Mapped, prices: Option<&[Vec<Price>]>) -> Value {
    let mut value = eval_json::report(&mapped.report);
    let proofs = mapped.proofs.iter().enumerate().map(|(i, proof)| {
        let mut told = json!(proof);
        let prices = prices.and_then(|p| p.get(i)).map(|prices| {
            let price = |p: &Price| {
                json!({
                    "resource": p.resource,
                    "value": p.value,
                    "relative_change": p.change,
                    "proven": p.proven,
                })
            };
            prices.iter().map(price).collect::<Vec<_>>()
        });
        if let Some(map) = told.as_object_mut() {
            let name = &mapped.report.case.einsums[i].name;
            map.insert("einsum".into(), json!(name));
            map.insert("value".into(), json!(proof.value(mapped.objective)));
            if let Some(prices) = prices {
                map.insert("prices".into(), json!(prices));
            }
        }
        told
    });
    let proofs: Vec<Value> = proofs.collect();
    if let Some(map) = value.as_object_mut() {
        map.insert("objective".into(), json!(mapped.objective.name()));
        map.insert("proofs".into(), json!(proofs));
    }
    value
}
