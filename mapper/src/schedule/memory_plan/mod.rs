//! What each resident memory holds, where and when.

pub mod allocate;
