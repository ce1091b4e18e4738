//! The source: the replication stream, and ordinary SQL for catalog samples, fences and chunks.

pub mod binding;
pub mod catalog;
pub mod connection;
pub mod copy_text;
pub mod desk;
pub mod doctor_sql;
pub mod frames;
mod login;
mod lookup;
pub mod password;
pub mod publication;
mod reread;
pub mod sampling;
pub mod setup;
pub mod slot;
pub mod sql;
pub mod sqlstate;
pub mod statements;
pub mod stream;
pub mod tls;
mod transport;
pub mod url;
pub mod worker;

use std::time::{SystemTime, UNIX_EPOCH};

/// A text that no other call gives, such as a heartbeat's content.
pub fn nonce() -> String {
    let mut bytes = [0u8; 16];
    // Without the system's randomness the clock still tells two heartbeats apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = u128::from(unix_micros().unsigned_abs()).to_be_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Microseconds since 1970.
pub fn unix_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
