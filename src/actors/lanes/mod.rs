//! Lanes at work: claimed batches, the queue that lanes pull from, and the threads that run them.
//!
//! ```text
//! CampaignActor ──claim durable──▶ LaneQueue (one per connector, a deque per limit class)
//!                                     │ a chunk at a time: read, release check
//!                                     ▼
//!                                  Bench (one per thread and connector) ──▶ Feed (one per lane) ──▶ lane task
//!                                     │ outcomes, gathered by batch
//!                                     ▼
//!                                  CampaignActor
//! ```
//!
//! Invariants: LN-1 every row of a batch is answered, handed back or withdrawn exactly once; LN-2 a mark byte is touched
//! only by holders of the batch, so its position is reused only when the last of them is gone ([`batch::LiveBatch`]);
//! LN-3 an outcome is in the mark file before it is anywhere else.
//!
//! Must not know: how a campaign is defined, HTTP, the journal's files.

pub mod batch;
pub mod bench;
pub mod feed;
pub mod positions;
pub mod queue;
pub mod release;
pub mod threads;

pub use batch::{LiveBatch, SendContext};
pub use positions::PositionPool;
pub use queue::LaneQueue;
