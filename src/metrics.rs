//! The metrics catalogue.
