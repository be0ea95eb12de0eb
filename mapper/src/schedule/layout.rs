//! How a tensor lies in a memory: the order of its ranks, which of them are packed, pitches.
//!
//! ```text
//! order   outermost rank first. Images that convolutions or pools touch have their channels innermost
//!         ([n, c, h, w] lies as n, h, w, c), as arrays that reduce over channels read them; others lie as written
//! row     the fewest innermost ranks such that rows padded to whole words take at most 1/8 more than packed
//!         elements; else all ranks. Within a row elements are packed, a row starts at a word
//! bytes   rows x pitch(row) + scales, zero points and metadata, behind the elements, in whole words
//! ```
//!
//! Weights and constants are laid out before they are loaded: all their ranks are one row.

use presil_numerics::Bytes;
use presil_workloads::{Access, Graph, OpClass, Role, Tensor, TensorId};

use crate::problem::Lies;

/// Rows are padded where it costs at most one part in so many.
const PADDING: u64 = 8;

/// How a tensor lies in a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The tensor's ranks (indices into its shape), outermost first.
    pub order: Vec<usize>,
    /// For each rank in that order, bits from one index to the next.
    pub pitch_bits: Vec<u64>,
    /// How many of the innermost ranks make a row, whose elements are packed.
    pub row_ranks: usize,
    /// Bytes of a row, in whole words.
    pub row_bytes: Bytes,
    /// Bytes that hold nothing: the ends of rows.
    pub padding: Bytes,
    /// All bytes, scales and metadata included, in whole words.
    pub bytes: Bytes,
}

/// The layout of a tensor in a memory of a word; `image`: convolutions or pools touch it.
pub fn layout(tensor: &Tensor, image: bool, word: Bytes) -> Layout {
    let word = word.0.max(1);
    let n = tensor.shape.len();
    let order: Vec<usize> = match (image, n) {
        (true, 4) => vec![0, 2, 3, 1],
        _ => (0..n).collect(),
    };
    let extents: Vec<u64> = order.iter().map(|r| tensor.shape[*r]).collect();
    let up = |bytes: u64| bytes.checked_next_multiple_of(word).unwrap_or(u64::MAX);
    let (payload, total) = tensor
        .storage()
        .map_or((u64::MAX, u64::MAX), |s| (s.payload.0, s.total().0));
    let packed = payload.div_ceil(8);
    let elements = tensor.elements();
    let held = matches!(tensor.role, Role::Weight | Role::Constant);
    // Rows of the k innermost ranks: how many, and bytes of each.
    let rows = |k: usize| -> (u64, u64) {
        let inner: u64 = extents[n - k..].iter().fold(1, |p, e| p.saturating_mul(*e));
        let rows = elements.checked_div(inner).unwrap_or(0);
        let bits = if rows == 0 { 0 } else { payload.div_ceil(rows) };
        (rows, up(bits.div_ceil(8)))
    };
    let all = |k: usize| {
        let (rows, bytes) = rows(k);
        rows.saturating_mul(bytes)
    };
    let row_ranks = (1..=n)
        .find(|k| !held && all(*k) <= packed.saturating_add(packed / PADDING))
        .unwrap_or(n);
    let (_, row_bytes) = rows(row_ranks);
    let mut pitch_bits = vec![0; n];
    let mut pitch = tensor.quantization.format.bits();
    for k in 0..n {
        if k == row_ranks {
            pitch = row_bytes.saturating_mul(8);
        }
        pitch_bits[n - 1 - k] = pitch;
        pitch = pitch.saturating_mul(extents[n - 1 - k]);
    }
    let padding = all(row_ranks).saturating_sub(packed);
    let beside = up((total.saturating_sub(payload)).div_ceil(8));
    Layout {
        order,
        pitch_bits,
        row_ranks,
        row_bytes: Bytes(row_bytes),
        padding: Bytes(padding),
        bytes: Bytes(all(row_ranks).saturating_add(beside)),
    }
}

/// Tensors that convolutions or pools touch.
pub(crate) fn images(graph: &Graph, stored: impl Fn(TensorId) -> usize) -> Vec<bool> {
    let mut images = vec![false; graph.tensors.len()];
    for op in graph.ops.iter() {
        if matches!(
            op.class,
            OpClass::Conv | OpClass::ConvTranspose | OpClass::Pool
        ) {
            for t in op.inputs.iter().chain(&op.outputs) {
                images[stored(*t)] = true;
            }
        }
    }
    images
}

/// How an operand lies in a memory where its tensor has a layout: none for weights, which are packed for the mapping,
/// and for views that the layout's order does not reach. `whole`: what the tensor is a tile of, or itself.
pub(crate) fn lies(
    tensor: &Tensor,
    whole: &Tensor,
    image: bool,
    word: Bytes,
    access: &Access,
) -> Option<Lies> {
    if matches!(tensor.role, Role::Weight | Role::Constant) {
        return None;
    }
    let same = whole.shape.len() == tensor.shape.len();
    let layout = layout(if same { whole } else { tensor }, image, word);
    if access.extents == tensor.shape {
        let mut pitch_bits = vec![0; layout.order.len()];
        for (rank, pitch) in layout.order.iter().zip(&layout.pitch_bits) {
            pitch_bits[*rank] = *pitch;
        }
        return Some(Lies { pitch_bits });
    }
    // Another view of packed elements in their written order.
    let written = layout.order.iter().enumerate().all(|(i, r)| i == *r);
    if !written || layout.padding > Bytes::ZERO {
        return None;
    }
    let mut pitch = tensor.quantization.format.bits();
    let mut pitch_bits = vec![0; access.extents.len()];
    for (slot, extent) in pitch_bits.iter_mut().zip(&access.extents).rev() {
        *slot = pitch;
        pitch = pitch.saturating_mul(*extent);
    }
    Some(Lies { pitch_bits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use presil_numerics::{Format, Quantization};

    fn tensor(shape: &[u64], format: Format, role: Role) -> Tensor {
        Tensor {
            name: "t".into(),
            shape: shape.to_vec(),
            quantization: Quantization::from(format),
            role,
            shared: false,
            density: 1.0,
        }
    }

    #[test]
    fn channels_are_innermost_and_rows_are_whole_words() {
        let t = tensor(&[1, 60, 7, 5], Format::INT8, Role::Activation);
        let l = layout(&t, true, Bytes(16));
        // 60 channels take 64 bytes: a row of one rank, 1/15 more.
        assert_eq!(
            (l.order.as_slice(), l.row_ranks),
            ([0, 2, 3, 1].as_slice(), 1)
        );
        assert_eq!(l.pitch_bits, [64 * 8 * 35, 64 * 8 * 5, 64 * 8, 8]);
        assert_eq!(
            (l.row_bytes, l.bytes, l.padding),
            (Bytes(64), Bytes(64 * 35), Bytes(4 * 35))
        );
        // As written: 5 pixels of 16 bits in 16 bytes waste 6 of them, 35 pixels take 70 of 80, all 4200 of 4208.
        let t = tensor(&[1, 60, 7, 5], Format::BF16, Role::Activation);
        let l = layout(&t, false, Bytes(16));
        assert_eq!((l.row_ranks, l.bytes), (3, Bytes(4208)));
        assert_eq!(l.pitch_bits, [4208 * 8, 16 * 35, 16 * 5, 16]);
    }

    #[test]
    fn weights_are_packed_and_scales_stand_behind_them() {
        let mut t = tensor(&[3, 5], Format::INT8, Role::Weight);
        assert_eq!(layout(&t, false, Bytes(8)).bytes, Bytes(16));
        let int4: Quantization = "int4_g128".parse().unwrap_or(t.quantization);
        t = Tensor {
            shape: vec![256, 256],
            quantization: int4,
            ..t
        };
        let l = layout(&t, false, Bytes(64));
        assert_eq!(l.bytes.0, 256 * 256 / 2 + 256 * 2 * 2);
        assert_eq!(l.pitch_bits, [256 * 4, 4]);
        let scalar = tensor(&[], Format::FP32, Role::Activation);
        assert_eq!(layout(&scalar, false, Bytes(8)).bytes, Bytes(8));
    }
}
