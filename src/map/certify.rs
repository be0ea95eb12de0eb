//! Certificates of the best mapping of a case, and their check.

use presil_mapper::case::Case;
use presil_mapper::case::write::write;
use presil_mapper::conventions::evaluate;
use presil_mapper::optimum::certificate::{Certificate, CertifyError, certify};
use presil_mapper::optimum::check::{Refusal, Verdict, check as check_parts};
use presil_mapper::optimum::{Mapped as Found, SpaceError};
use presil_mapper::search::Objective;
use serde_json::{Value, json};
use thiserror::Error;

use super::solve::{CONVENTION, options_of};
use super::{Mapped, Options};
use crate::eval::text::figure;

/// Why a certificate is refused.
#[derive(Debug, Error)]
pub enum CheckError {
    /// No certificate at all.
    #[error("this is no certificate: {0}")]
    Form(#[from] serde_json::Error),
    /// Another case.
    #[error(
        "the certificate is of another case, or of the same case with another machine or constraints"
    )]
    Case,
    /// Another objective than the one asked for.
    #[error("the certificate is of objective {found}, not {asked}")]
    Objective {
        /// What it is of.
        found: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// Something in it is not so.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
}

/// The certificate of the mappings that were found.
///
/// # Errors
/// If the search was cut off, or the certificate gets too large.
pub fn certificate(mapped: &Mapped, options: &Options) -> Result<Certificate, CertifyError> {
    let mut case = mapped.report.case.clone();
    case.objective = mapped.objective;
    let mut found = Vec::new();
    for e in &case.einsums {
        let tree = e.mapping.clone().ok_or(SpaceError::Nothing)?;
        let told = evaluate(CONVENTION, &e.einsum, &e.hierarchy, &tree);
        let told = told.map_err(|_| SpaceError::Nothing)?;
        found.push(Found {
            tree,
            energy: told.energy_total(),
            cycles: told.cycles,
        });
    }
    let mut certificate = certify(&case, &options_of(&case, options), &found)?;
    certificate.space.case = statement(&case, mapped.objective);
    Ok(certificate)
}

/// Checks a certificate of a case; `objective`: what it must be of, if that is asked for.
///
/// # Errors
/// If anything in it is not so.
pub fn check(
    case: &Case,
    objective: Option<Objective>,
    text: &str,
) -> Result<(Certificate, Verdict), CheckError> {
    let certificate: Certificate = serde_json::from_str(text)?;
    let stated = &certificate.space.objective;
    if let Some(asked) = objective.map(Objective::name).filter(|a| a != stated) {
        let found = stated.clone();
        return Err(CheckError::Objective { found, asked });
    }
    let objectives = [Objective::Latency, Objective::Energy, Objective::Edp];
    let objective = objectives.into_iter().find(|o| o.name() == stated);
    if statement(case, objective.unwrap_or(case.objective)) != certificate.space.case {
        return Err(CheckError::Case);
    }
    let verdict = check_parts(case, &certificate)?;
    Ok((certificate, verdict))
}

/// A case as text, without its mappings.
fn statement(case: &Case, objective: Objective) -> String {
    let mut case = case.clone();
    case.einsums.iter_mut().for_each(|e| e.mapping = None);
    case.convention = CONVENTION;
    case.objective = objective;
    // Cases that no case file can say are compared by their extents and levels only.
    write(&case, &[]).unwrap_or_default()
}

/// What was checked, as text.
pub fn text(certificate: &Certificate, verdict: &Verdict) -> String {
    let space = &certificate.space;
    let tiles = match space.tiles.as_str() {
        "factors" => "tiles that divide their extents",
        _ => "partial last tiles",
    };
    let said = match verdict.proven {
        true => "no mapping of the space is better".to_string(),
        false => format!(
            "no mapping of the space is below {}",
            figure(verdict.lower_bound)
        ),
    };
    let placements = certificate.einsums.iter().map(|e| e.placements.len());
    let joins = match certificate.einsums.len() {
        0 | 1 => String::new(),
        n => format!(
            "{n} einsums: {} mappings may be part of something better, {} chains of them were looked at\n",
            figure(verdict.parts as f64),
            figure(verdict.joins as f64),
        ),
    };
    format!(
        "the certificate holds: {} {}, {said}\n{} placements, {tiles}; {} partial mappings with all extensions, {} cut off by bounds, {} by better ones, {} that do not fit or obey, {} unhelpful, {} whole mappings\n{joins}",
        space.objective,
        figure(verdict.found),
        placements.sum::<usize>(),
        figure(verdict.open as f64),
        figure(verdict.bounded as f64),
        figure(verdict.dominated as f64),
        figure(verdict.infeasible as f64),
        figure(verdict.unhelpful as f64),
        figure(verdict.whole as f64),
    )
}

/// What was checked, as JSON.
pub fn json(certificate: &Certificate, verdict: &Verdict) -> Value {
    json!({
        "holds": true,
        "objective": certificate.space.objective,
        "tiles": certificate.space.tiles,
        "found": verdict.found,
        "lower_bound": verdict.lower_bound,
        "proven": verdict.proven,
        "open": verdict.open,
        "bounded": verdict.bounded,
        "dominated": verdict.dominated,
        "infeasible": verdict.infeasible,
        "unhelpful": verdict.unhelpful,
        "whole": verdict.whole,
        "parts": verdict.parts,
        "joins": verdict.joins,
    })
}
