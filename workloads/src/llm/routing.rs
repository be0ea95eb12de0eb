//! How many experts the tokens of a batch touch.
//!
//! Expert `i` is among the `k` that a token uses with probability `p_i`, `sum p_i = k`. Tokens choose
//! independently of each other, so the expected number of distinct experts touched by `T` tokens is exactly
//!
//! ```text
//! E[distinct] = sum_i 1 - (1 - p_i)^T
//! ```
//!
//! whatever the joint choice of a token's `k` experts is (a linearity of expectations). Uniform routing has
//! `p_i = k / E`, so `E (1 - (1 - k/E)^T)`. A power law or histogram gives the experts' shares of the rows, so
//! `p_i` is proportional to them; a token cannot use an expert twice, so `p_i = min(1, c w_i)` with the `c` that
//! makes the sum `k`. Real tokens of one sequence are correlated and touch fewer.

use crate::model::Routing;

/// Why a routing does not fit a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RoutingError {
    /// A power law that grows, or is no number.
    #[error("a power law of routing needs an exponent of 0 or more, not {0}")]
    Exponent(f64),
    /// A histogram of another length.
    #[error("the routing histogram has {given} weights for {experts} experts")]
    Length {
        /// Weights given.
        given: usize,
        /// Experts of the model.
        experts: u64,
    },
    /// A weight that is negative or no number.
    #[error("routing weight {index} is {weight}; weights are 0 or more")]
    Weight {
        /// Its place.
        index: usize,
        /// Its value.
        weight: f64,
    },
    /// Too few experts of positive weight.
    #[error("{used} experts have a positive routing weight, but each token uses {top_k}")]
    Few {
        /// Experts of positive weight.
        used: usize,
        /// Experts that a token uses.
        top_k: u64,
    },
}

/// For each expert, the probability that a token uses it.
pub fn inclusion(routing: &Routing, experts: u64, top_k: u64) -> Result<Vec<f64>, RoutingError> {
    let weights: Vec<f64> = match routing {
        Routing::Uniform => vec![1.0; experts as usize],
        Routing::PowerLaw { exponent } if exponent.is_finite() && *exponent >= 0.0 => {
            (1..=experts).map(|i| (i as f64).powf(-exponent)).collect()
        }
        Routing::PowerLaw { exponent } => return Err(RoutingError::Exponent(*exponent)),
        Routing::Histogram(weights) if weights.len() as u64 == experts => weights.clone(),
        Routing::Histogram(weights) => return Err(RoutingError::Length { given: weights.len(), experts }),
    };
    if let Some((index, &weight)) = weights.iter().enumerate().find(|(_, w)| !(w.is_finite() && **w >= 0.0)) {
        return Err(RoutingError::Weight { index, weight });
    }
    // Heaviest first: those that reach 1 are a prefix. `rest` is the weight of the experts from i on.
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0.0).collect();
    if (order.len() as u64) < top_k {
        return Err(RoutingError::Few { used: order.len(), top_k });
    }
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
    // Scaled by the largest, so that sums neither overflow nor vanish before they are compared.
    let largest = order.first().map_or(1.0, |i| weights[*i]);
    let mut rest = vec![0.0; order.len() + 1];
    for (n, i) in order.iter().enumerate().rev() {
        rest[n] = rest[n + 1] + weights[*i] / largest;
    }
    let mut probabilities = vec![0.0; weights.len()];
    let mut full = 0;
    for (n, &i) in order.iter().enumerate() {
        let left = (top_k - full) as f64;
        let p = left * (weights[i] / largest) / rest[n];
        if full == n as u64 && (p >= 1.0 || !p.is_finite()) && full < top_k {
            probabilities[i] = 1.0;
            full += 1;
        } else {
            // The first below 1 fixes c for all lighter ones.
            let c = left / rest[full as usize];
            probabilities[i] = (c * weights[i] / largest).min(1.0);
        }
    }
    Ok(probabilities)
}

/// Expected number of distinct experts that `tokens` tokens touch.
pub fn distinct(routing: &Routing, experts: u64, top_k: u64, tokens: u64) -> Result<f64, RoutingError> {
    let missed = |p: f64| if p >= 1.0 { 0.0 } else { (tokens as f64 * (-p).ln_1p()).exp() };
    if *routing == Routing::Uniform {
        return Ok(experts as f64 * (1.0 - missed(top_k as f64 / experts as f64)));
    }
    Ok(inclusion(routing, experts, top_k)?.into_iter().map(|p| 1.0 - missed(p)).sum())
}

/// The routing in words.
pub(super) fn describe(routing: &Routing) -> String {
    match routing {
        Routing::Uniform => "uniform routing".into(),
        Routing::PowerLaw { exponent } => format!("power-law routing (shares of rows ~ rank^-{exponent})"),
        Routing::Histogram(_) => "routing by the given histogram".into(),
    }
}
