//! The equation of a layer as an einsum.

use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use super::record::Layer;

/// An equation `O[b][k] = I[b][c] * W[c][k]`: names of the inputs, then of the output, each with its ranks.
pub(super) struct Equation {
    pub(super) operands: Vec<String>,
    ranks: Vec<Vec<String>>,
}

impl Equation {
    pub(super) fn parse(layer: &Layer) -> Result<Self, String> {
        let fail = || format!("`{}` is no equation", layer.equation);
        let (output, inputs) = layer.equation.split_once('=').ok_or_else(fail)?;
        let (mut operands, mut ranks) = (Vec::new(), Vec::new());
        for text in inputs
            .split('*')
            .chain([output.trim_end().trim_end_matches('+')])
        {
            let mut parts = text
                .split('[')
                .map(|p| p.trim().trim_end_matches(']').trim());
            let name = parts.next().filter(|n| !n.is_empty()).ok_or_else(fail)?;
            operands.push(name.to_string());
            ranks.push(parts.map(str::to_uppercase).collect());
        }
        Ok(Self { operands, ranks })
    }

    pub(super) fn einsum(&self, layer: &Layer) -> Result<Einsum, String> {
        let sizes = &layer.loop_sizes.0;
        if sizes.len() > 32 {
            return Err("more than 32 dimensions".into());
        }
        if let Some((name, _)) = sizes.iter().find(|(_, s)| *s == 0) {
            return Err(format!("dimension `{name}` has size 0"));
        }
        let dim = |name: &str| {
            let at = sizes.iter().position(|(n, _)| n == name);
            at.map(|i| DimId(i as u32))
                .ok_or_else(|| format!("no loop `{name}`"))
        };
        let rank = |name: &String| match dim(name) {
            Ok(d) => Ok((Affine::dim(d), sizes[d.index()].1)),
            Err(_) => {
                let extent = layer.pr_dims.get(name);
                let extent = extent.ok_or_else(|| format!("no loop and no size `{name}`"))?;
                let mut relations = layer.dimension_relations.iter();
                let sum =
                    relations.find_map(|r| r.split_once('=').filter(|(n, _)| n.trim() == name));
                let (_, sum) = sum.ok_or_else(|| format!("no relation for `{name}`"))?;
                let terms = sum.split('+').map(|term| {
                    let (factor, name) = term.split_once('*').unwrap_or(("1", term));
                    let factor = factor.trim().parse::<i64>();
                    Ok((
                        dim(name.trim())?,
                        factor.map_err(|e| format!("`{term}`: {e}"))?,
                    ))
                });
                let terms = terms.collect::<Result<_, String>>()?;
                Ok((Affine { terms, offset: 0 }, *extent))
            }
        };
        let access = |place: Place, names: &Vec<String>| -> Result<Access, String> {
            let ranks = names.iter().map(rank).collect::<Result<Vec<_>, String>>()?;
            let (ranks, extents) = ranks.into_iter().unzip();
            Ok(Access {
                place,
                ranks,
                extents,
            })
        };
        let inputs = self.ranks[..self.ranks.len() - 1].iter().enumerate();
        let inputs = inputs.map(|(i, names)| access(Place::Input(i as u8), names));
        Ok(Einsum {
            dims: sizes
                .iter()
                .map(|(name, size)| Dim {
                    name: name.clone(),
                    size: *size,
                })
                .collect(),
            inputs: inputs.collect::<Result<_, String>>()?,
            output: access(Place::Output(0), &self.ranks[self.ranks.len() - 1])?,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        })
    }
}
