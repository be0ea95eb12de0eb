//! presil
