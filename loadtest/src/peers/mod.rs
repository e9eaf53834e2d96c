//! Peers that need more than a command line: what others reach in the same run, against the same sink.
//!
//! Owns nothing; `smtp-source` stands in [`crate::peer`], the bare pipelined client in [`crate::client`], the empty handler
//! in [`crate::tracking`].

pub mod http;
pub mod listmonk;
pub mod sets;
