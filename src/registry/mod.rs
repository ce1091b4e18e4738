//! Schema registries: ids for schemas, under subjects.

use std::future::Future;
use std::pin::Pin;

use crate::error::Result;

pub mod embedded;
pub mod http;
pub mod inspect;
mod login;
pub mod read_api;

/// A boxed future, so that a registry can stand behind a `dyn`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Gives ids to schemas. Subjects are `<topic>-key` and `<topic>-value` (TopicNameStrategy).
pub trait Registry: Send + Sync {
    /// Registers the schema under the subject (FULL_TRANSITIVE), or finds it there, and returns its id.
    fn register<'a>(&'a self, subject: &'a str, schema: &'a str) -> Answer<'a, u32>;
}
