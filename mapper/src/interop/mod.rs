//! Files of peers as cases of presil, and back.

pub mod accelforge;
