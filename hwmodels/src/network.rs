//! How a memory reaches the instances of a fanout, and how far ahead data moves.
//!
//! ```text
//! one transfer = hops x hop latency + bytes over the busiest link / link rate
//! ```
//!
//! A multicast crosses each link of its tree once, and so does a sum on its way up; the energy of a bit is the fanout's `hop_energy`
//! for each link that it crosses. Links carry data in both directions at once, but for a bus. Routing is deterministic and minimal.
//!
//! | topology | links that a word crosses to some instances | shared by all words |
//! |---|---|---|
//! | `bus` | the wire, which passes all instances | the wire, in both directions |
//! | `tree` | from the memory to the root switch, then every switch that leads to one of them | the link to the root |
//! | `mesh` | into the row of the entrance, along it to their columns, then along these | the link of the entrance |
//! | `systolic` | into the chain of neighbours at the edge and on to the last of them | the edge link of its chain |
//!
//! Entrances of a mesh lie in its first column, each at the first of as many neighbouring rows as it serves. On a systolic network each operand
//! has wires of its own; an operand that one axis multicasts (or sums) moves along that axis, others along the first one.

use presil_numerics::{BytesPerSecond, Seconds};

/// How a fanout's instances are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One wire.
    Bus,
    /// Switches, each with so many below it.
    Tree {
        /// Links below each switch; at least 2.
        radix: u64,
    },
    /// Routers in rows and columns, instances row by row.
    Mesh {
        /// Instances in a row; at least 1.
        columns: u64,
        /// Rows at which the memory above is attached; at least 1.
        entrances: u64,
    },
    /// Neighbours pass data on, each operand on wires of its own.
    Systolic,
}

/// The network of a fanout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Its links.
    pub topology: Topology,
    /// From one router (or neighbour) to the next.
    pub hop_latency: Seconds,
    /// Of one link in one direction. None: links limit nothing.
    pub link_rate: Option<BytesPerSecond>,
}

/// How far ahead and in which pieces data moves, on the whole chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Transfers into a memory that the mover of one operand has set up or under way at once.
    pub loads: u32,
    /// The same, out of a memory.
    pub stores: u32,
    /// Parts of a memory's room that it gives back, one by one, to a stream that feeds it.
    pub credits: u64,
    /// Strips in which a vector op passes through its memory at most.
    pub strips: u64,
}

impl Movement {
    /// What a file that says nothing means. A descriptor ahead is double buffering of commands. Sixteen credits and strips are small against the
    /// room that tiles have: what is exposed of a stream is a sixteenth of a tile.
    pub const DEFAULT: Self = Self {
        loads: 2,
        stores: 2,
        credits: 16,
        strips: 16,
    };
}
