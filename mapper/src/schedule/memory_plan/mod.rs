//! What each resident memory holds, where and when.

pub mod allocate;

use presil_workloads::TensorId;

/// Why an activation is not at home on chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Others that save more take the room.
    Room,
    /// There is room, but not in one piece.
    Gaps,
    /// A host op, or an op that nobody runs, touches it in the root memory.
    Host,
    /// No resident memory is on the path of every array that uses it.
    Path,
}

/// An activation that goes through the root memory although the chip keeps activations. Bytes of one inference,
/// over all repetitions, each use counted once; what mappings fetch again is in the ops' counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spill {
    /// The tensor.
    pub tensor: TensorId,
    /// Why.
    pub cause: Cause,
    /// Bytes written to the root memory.
    pub written_bytes: f64,
    /// Bytes read from it.
    pub read_bytes: f64,
}
