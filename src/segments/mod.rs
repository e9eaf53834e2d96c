//! segments.
