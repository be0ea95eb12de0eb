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
        Routing::Histogram(weights) => {
            return Err(RoutingError::Length {
                given: weights.len(),
                experts,
            });
        }
    };
    if let Some((index, &weight)) = weights
        .iter()
        .enumerate()
        .find(|(_, w)| !(w.is_finite() && **w >= 0.0))
    {
        return Err(RoutingError::Weight { index, weight });
    }
    // Heaviest first: those that reach 1 are a prefix. `rest` is the weight of the experts from i on.
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0.0).collect();
    if (order.len() as u64) < top_k {
        return Err(RoutingError::Few {
            used: order.len(),
            top_k,
        });
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

/// Expected number of distinct experts that `tokens` tokens touch, `tokens` at least 1.
pub fn distinct(
    routing: &Routing,
    experts: u64,
    top_k: u64,
    tokens: u64,
) -> Result<f64, RoutingError> {
    let missed = |p: f64| {
        if p >= 1.0 {
            0.0
        } else {
            (tokens as f64 * (-p).ln_1p()).exp()
        }
    };
    let sum = match routing {
        Routing::Uniform => experts as f64 * (1.0 - missed(top_k as f64 / experts as f64)),
        _ => inclusion(routing, experts, top_k)?
            .into_iter()
            .map(|p| 1.0 - missed(p))
            .sum(),
    };
    // Rounding must not make a single token touch more or fewer than `top_k`.
    let most = experts.min(top_k.saturating_mul(tokens));
    Ok(sum.max(top_k as f64).min(most as f64))
}

/// The routing in words.
pub(super) fn describe(routing: &Routing) -> String {
    match routing {
        Routing::Uniform => "uniform routing".into(),
        Routing::PowerLaw { exponent } => {
            format!("power-law routing (shares of rows ~ rank^-{exponent})")
        }
        Routing::Histogram(_) => "routing by the given histogram".into(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// All subsets of `k` of `n` as bit masks.
    fn subsets(n: u32, k: u32) -> Vec<u32> {
        (0..1u32 << n).filter(|s| s.count_ones() == k).collect()
    }

    #[test]
    fn uniform_routing_equals_an_enumeration() {
        for (n, k) in [(4, 1), (4, 2), (5, 3), (6, 2), (3, 3)] {
            let all = subsets(n, k);
            let pairs: Vec<u32> = all
                .iter()
                .flat_map(|a| all.iter().map(move |b| a | b))
                .collect();
            let triples = pairs
                .iter()
                .flat_map(|a| all.iter().map(move |b| (a | b).count_ones()));
            let two =
                pairs.iter().map(|s| f64::from(s.count_ones())).sum::<f64>() / pairs.len() as f64;
            let three = triples.map(f64::from).sum::<f64>() / (pairs.len() * all.len()) as f64;
            for (tokens, want) in [(1, f64::from(k)), (2, two), (3, three)] {
                let own = distinct(&Routing::Uniform, u64::from(n), u64::from(k), tokens).unwrap();
                assert!((own - want).abs() < 1e-12, "{n} {k} {tokens}: {own} {want}");
            }
        }
    }

    #[test]
    fn one_token_touches_exactly_its_experts() {
        for experts in 1..200 {
            for top_k in [1, 2, 3, 8, 10].into_iter().filter(|k| *k <= experts) {
                for routing in [Routing::Uniform, Routing::PowerLaw { exponent: 1.7 }] {
                    assert_eq!(distinct(&routing, experts, top_k, 1), Ok(top_k as f64));
                }
            }
        }
    }

    #[test]
    fn probabilities_are_capped_and_sum_to_the_choice() {
        let weights = vec![10.0, 1.0, 1.0, 2.0, 0.0, 40.0];
        let p = inclusion(&Routing::Histogram(weights), 6, 3).unwrap();
        // Two experts are always used; the rest share one choice 1 : 1 : 2.
        assert_eq!(p, [1.0, 0.25, 0.25, 0.5, 0.0, 1.0]);
        for exponent in [0.0, 0.4, 1.01, 1.2, 3.0, 40.0] {
            for (experts, top_k) in [(8, 2), (128, 8), (256, 8), (5, 5)] {
                let p = inclusion(&Routing::PowerLaw { exponent }, experts, top_k).unwrap();
                let sum: f64 = p.iter().sum();
                assert!(
                    (sum - top_k as f64).abs() < 1e-9,
                    "{exponent} {experts} {top_k}: {sum}"
                );
                assert!(p.iter().all(|p| (0.0..=1.0).contains(p)) && p.is_sorted_by(|a, b| a >= b));
            }
        }
        let flat = inclusion(&Routing::PowerLaw { exponent: 0.0 }, 128, 8).unwrap();
        assert!(flat.iter().all(|p| (p - 8.0 / 128.0).abs() < 1e-15));
    }

    /// Systematic sampling draws exactly `k` different experts with given inclusion probabilities: expert `i` is
    /// drawn if one of `u, u + 1, ..` falls into its part of the line of summed probabilities.
    fn draw(probabilities: &[f64], u: f64, touched: &mut [bool]) {
        let mut sum = 0.0f64;
        for (p, t) in probabilities.iter().zip(touched) {
            let before = (sum - u).ceil();
            sum += p;
            *t |= (sum - u).ceil() > before;
        }
    }

    #[test]
    fn skewed_routing_equals_a_simulation() {
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for (routing, experts, top_k) in [
            (Routing::PowerLaw { exponent: 1.2 }, 64, 6),
            (Routing::PowerLaw { exponent: 0.5 }, 8, 2),
            (
                Routing::Histogram((0..32).map(|i| f64::from(i % 5)).collect()),
                32,
                4,
            ),
        ] {
            let p = inclusion(&routing, experts, top_k).unwrap();
            for tokens in [2, 9, 40] {
                let runs = 4000;
                let mut total = 0;
                for _ in 0..runs {
                    let mut touched = vec![false; p.len()];
                    (0..tokens).for_each(|_| draw(&p, random(), &mut touched));
                    total += touched.iter().filter(|t| **t).count();
                }
                let (own, seen) = (
                    distinct(&routing, experts, top_k, tokens).unwrap(),
                    total as f64 / f64::from(runs),
                );
                assert!(
                    (own - seen).abs() < 0.01 * own,
                    "{routing:?} {tokens}: {own} {seen}"
                );
            }
        }
    }

    #[test]
    fn routings_that_do_not_fit_are_refused() {
        let check = |routing| distinct(&routing, 4, 2, 3);
        assert_eq!(
            check(Routing::PowerLaw { exponent: -1.0 }),
            Err(RoutingError::Exponent(-1.0))
        );
        assert!(check(Routing::PowerLaw { exponent: f64::NAN }).is_err());
        assert_eq!(
            check(Routing::Histogram(vec![1.0; 3])),
            Err(RoutingError::Length {
                given: 3,
                experts: 4
            })
        );
        let weight = |weight| check(Routing::Histogram(vec![1.0, 1.0, weight, 1.0]));
        assert_eq!(
            weight(-1.0),
            Err(RoutingError::Weight {
                index: 2,
                weight: -1.0
            })
        );
        assert!(weight(f64::INFINITY).is_err());
        let few = Routing::Histogram(vec![0.0, 3.0, 0.0, 0.0]);
        assert_eq!(check(few), Err(RoutingError::Few { used: 1, top_k: 2 }));
    }
}
