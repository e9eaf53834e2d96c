//! Configuration: the TOML file as written, and the validated settings.

pub mod connectors;
