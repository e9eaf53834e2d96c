//! Settings of connectors.
