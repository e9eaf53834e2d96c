//! Rate, time left, and why nothing moves.
