//! The suite: everything that needs more than one module, most of it against real servers (see [`lab`]).
//!
//! `make test` installs what the servers need and runs this. A server that is missing fails the tests that want it.

mod catalog;
mod connection;
mod crash;
mod demo;
mod docs;
mod files;
mod kafka;
mod lab;
mod pg;
mod projection;
mod proofs;
mod readme;
mod registry;
mod repair;
mod servers;
mod stream;
mod tidy;
