//! Epochs, views, snapshots and dead lists: what is alive where.

pub mod history;
