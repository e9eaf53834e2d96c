//! Estafette: an actor-based campaign send engine.

pub mod clock;
pub mod ids;
pub mod limits;

pub mod config;
pub mod metrics;

pub mod contacts;
pub mod segments;

pub mod content;

pub mod flow;

pub mod campaigns;

pub mod ledger;

pub mod journal;

pub mod channels;

pub mod actors;

pub mod engine;

pub mod api;

pub mod cli;
