//! What blocks that run side by side share: the panels of A and B that a wave reads.
//!
//! Blocks of one matrix are walked in bands of rows, down each column of a band before the next column, so that a
//! wave covers a region that is as square as the tiles allow. `region` gives the panels of it in closed form; the
//! tests walk the blocks and count.

/// The tiles of one output that a wave covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Rows of tiles: panels of A.
    pub rows: f64,
    /// Columns of tiles: panels of B.
    pub columns: f64,
    /// Height of the bands in which blocks are walked.
    pub band: f64,
}

/// The region of the first `outputs` tiles of a grid of `rows x columns` tiles of `bm x bn`, of `batch` matrices.
pub fn region(outputs: f64, rows: f64, columns: f64, batch: f64, bm: f64, bn: f64) -> Region {
    let whole = rows * columns;
    if outputs >= whole {
        let matrices = (outputs / whole).min(batch).max(1.0);
        return Region {
            rows: rows * matrices,
            columns: columns * matrices,
            band: rows,
        };
    }
    let square = (outputs * bn / bm).sqrt().round();
    let least = (outputs / columns).ceil();
    let band = square.max(least).clamp(1.0, rows);
    Region {
        rows: band.min(outputs),
        columns: (outputs / band).ceil(),
        band,
    }
}
