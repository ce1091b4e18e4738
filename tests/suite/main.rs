//! The suite: everything that needs more than one module, most of it against real servers (see [`lab`]).
//!
//! `make test` installs what the servers need and runs this. A server that is missing fails the tests that want it.

mod anchor;
mod catalog;
mod check;
mod compat;
mod connection;
mod crash;
mod demo;
mod docs;
mod doctor;
mod files;
mod kafka;
mod lab;
mod pairs;
mod pg;
mod projection;
mod proofs;
mod readme;
mod registry;
mod repair;
mod semantics;
mod servers;
mod statements;
mod stream;
mod tidy;
