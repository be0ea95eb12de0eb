//! Other tools' files: text in, cases (and what the tool said of them) out. Nothing here opens a file.

pub mod scalesim;
pub mod zigzag;
