//! A convolution as the passes see it.

use presil_workloads::{Affine, DimId, Domain, Einsum};

/// Sizes of a plain 2-D convolution (dilation 1) and where its input lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conv {
    /// Images, groups, filters and channels of a group.
    pub(super) n: u64,
    pub(super) g: u64,
    pub(super) k: u64,
    pub(super) c: u64,
    /// Output rows and columns.
    pub(super) out: [u64; 2],
    /// Filter rows and columns.
    pub(super) filter: [u64; 2],
    pub(super) stride: [u64; 2],
    /// Rows above and columns left of the input that are padding.
    pub(super) padding: [u64; 2],
    /// Input rows and columns.
    pub(super) input: [u64; 2],
}

/// The dimensions of a convolution, in the order of [`Conv`].
pub(super) const DIMS: [&str; 8] = ["n", "g", "k", "c", "p", "q", "r", "s"];

impl Conv {
    /// The convolution that an einsum is, if it is one.
    pub(super) fn of(einsum: &Einsum) -> Option<Self> {
        if einsum.domain != Domain::Dense || einsum.dims.len() != DIMS.len() {
            return None;
        }
        let size = |name: &str| Some(einsum.dim(dim(einsum, name)?).size);
        let input = einsum.inputs.first()?;
        let axis = |out: &str, tap: &str| {
            let (out, tap) = (dim(einsum, out)?, dim(einsum, tap)?);
            let at = input.ranks.iter().position(|r| of(r, out).is_some())?;
            let rank = &input.ranks[at];
            let plain = rank.terms.len() == 2 && of(rank, tap) == Some(1) && rank.offset <= 0;
            let stride = u64::try_from(of(rank, out)?).ok().filter(|_| plain)?;
            let extent = input.extents.get(at).copied()?;
            Some((stride, rank.offset.unsigned_abs(), extent))
        };
        let (rows, columns) = (axis("p", "r")?, axis("q", "s")?);
        Some(Self {
            n: size("n")?,
            g: size("g")?,
            k: size("k")?,
            c: size("c")?,
            out: [size("p")?, size("q")?],
            filter: [size("r")?, size("s")?],
            stride: [rows.0, columns.0],
            padding: [rows.1, columns.1],
            input: [rows.2, columns.2],
        })
    }

    /// Input rows (axis 0) or columns (axis 1) of so many outputs, padding included.
    pub(super) fn reach(&self, axis: usize, outputs: u64) -> u64 {
        (self.stride[axis] * outputs.saturating_sub(1)).saturating_add(self.filter[axis])
    }

    /// The same summed over all tiles of `tile` outputs, without padding.
    pub(super) fn fetched(&self, axis: usize, tile: u64) -> u64 {
        let starts = (0..self.out[axis]).step_by(usize::try_from(tile.max(1)).unwrap_or(1));
        let rows = starts.map(|first| {
            let outputs = tile.min(self.out[axis] - first);
            let low = self.stride[axis] * first;
            let high = low.saturating_add(self.reach(axis, outputs));
            let inside = |x: u64| x.saturating_sub(self.padding[axis]).min(self.input[axis]);
            inside(high) - inside(low)
        });
        rows.sum()
    }
}

/// The dimension of a name.
pub(super) fn dim(einsum: &Einsum, name: &str) -> Option<DimId> {
    let at = einsum.dims.iter().position(|d| d.name == name)?;
    u32::try_from(at).ok().map(DimId)
}

/// The coefficient of a dimension.
fn of(rank: &Affine, dim: DimId) -> Option<i64> {
    rank.terms.iter().find(|t| t.0 == dim).map(|t| t.1)
}
