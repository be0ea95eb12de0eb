#![expect(clippy::panic, reason = "tests")]
use super::*;

#[test]
fn every_row_reads() {
    let d = data();
    assert_eq!(d.nodes.len(), table::lines(text::NODES));
    assert_eq!(d.constants.len(), table::lines(text::CONSTANTS));
    assert_eq!(d.operations.len(), table::lines(text::OPERATIONS));
    assert_eq!(d.parts.len(), table::lines(text::DRAM));
}
