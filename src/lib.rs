//! gimbal: a change-data-capture replicator and schema-evolution gateway.
//!
//! ```text
//!  contracts/*.yaml, schemas/**.avsc ─▶ contract ─▶ compat ─▶ projection   (compiled once per contract version and table version)
//!                                                               │
//!  postgres::stream ─bytes─▶ pgoutput ─Message─▶ engine::step ──┴─▶ batch ─▶ sink ─durable─▶ state ─▶ confirmed LSN
//!                                                │       ▲        (the confirmed LSN is the one arrow that runs back)
//!                                     Request ───┘       └── answer:  catalog sample · fence · chunk · keys · re-read
//! ```
//!
//! The core (`pgoutput`, `identity`, `history`, `diff`, `contract`, `compat`, `pairs`, `projection`, `engine`, `batch`,
//! `state`, `seal`, `parcel`) knows no socket, file, clock, async runtime, randomness or log. The shell (`postgres`, `sink`,
//! `registry`, `daemon`, `doctor`, `server`, `cli`) does what the core asks for, and nothing else. `docs/design.md` tells why.

pub mod avro;
pub mod batch;
pub mod cli;
pub mod compat;
pub mod config;
pub mod contract;
pub mod daemon;
pub mod diagnostic;
pub mod diff;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod history;
pub mod identity;
pub mod killpoint;
pub mod lsn;
pub mod metrics;
pub mod pairs;
pub mod parcel;
pub mod pgoutput;
pub mod position;
pub mod postgres;
pub mod project;
pub mod projection;
pub mod registry;
pub mod row;
pub mod seal;
pub mod server;
pub mod sink;
pub mod state;
pub mod table;
pub mod yaml;
