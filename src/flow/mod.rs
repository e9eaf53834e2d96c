//! Flows: the graph that a run executes, and the pure set moves over it.
//!
//! Every kind of campaign compiles to one graph, and one engine executes it. A *move* takes a set of rows from one node
//! to another; it never looks at a single row, so that a move of ten million contacts is a handful of set operations.
//!
//! - [`graph`]: nodes, exits, edges; a [`Graph`] that exists is valid.
//! - [`nodes`]: the kinds that have parameters, a file each.
//! - [`validate`]: the table of rules that a graph is held against, each with a code.
//! - [`step`]: [`Positions`] and how sets move.
//! - [`split`]: which of the rows at a node leave by which exit.
//! - [`delay`]: when a row may go on, and the rows that wait for it.
//! - [`mod@versions`]: the sends of one message in several languages.
//! - [`mod@dry_run`]: how many contacts would be where, and when.
//! - [`mod@render`]: a graph as text, Mermaid or JSON.
//! - [`winner`]: which variant of a test is better, and what follows from it.
//!
//! Who owns the state: the ledger of a run holds its [`Positions`]; this module only computes.
//! What it must not know: campaigns, messages, ledgers, the clock (instants are handed in), actors.

pub mod delay;
pub mod dry_run;
pub mod graph;
pub mod nodes;
pub mod render;
pub mod split;
pub mod step;
pub mod validate;
pub mod versions;
pub mod winner;

pub use graph::{Edge, EndKind, Exit, Graph, GraphParts, Node, NodeId, NodeKind};
pub use render::{GraphFormat, describe, render};
pub use step::{Move, Positions, StepError, advance, enter};
pub use validate::GraphProblem;
