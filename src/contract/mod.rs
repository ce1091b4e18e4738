//! Contracts: what is promised to subscribers, and how production feeds it.

pub mod model;

pub use model::{Backfill, ContractKind, ContractVersion, Feed, FeedOptions, FeedSource, VersionStatus};
