//! The HTTP surface: handlers, the table of public errors, tracking endpoints.

pub mod adapter;
pub mod errors;
pub mod port;
