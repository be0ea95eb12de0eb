//! The clock that a board's power limit leaves.

use super::{Kernel, Machine};

/// Slows a kernel down until its dynamic power is within the limit. `energy`: its dynamic energy at the full clock.
///
/// The kernel's work takes `time - launch`; at a clock lower by `x`, power is lower by `x^exponent` and energy by
/// `x^(exponent - 1)`.
pub(super) fn limit(machine: &Machine, mut kernel: Kernel, energy: f64) -> Kernel {
    let work = kernel.time - kernel.parts.launch;
    let power = energy / work;
    let slowdown = if work > 0.0 && power > machine.power_limit {
        (power / machine.power_limit).powf(1.0 / machine.power_exponent)
    } else {
        1.0
    };
    kernel.parts.throttle = work * (slowdown - 1.0);
    kernel.time += kernel.parts.throttle;
    let less = slowdown.powf(machine.power_exponent - 1.0);
    kernel.energy = energy / less;
    kernel.multiply_energy /= less;
    kernel.slowdown = slowdown;
    kernel
}
