//! Leaf partitions whose old rows lack a contract's key.
//!
//! A change of a partitioned table is logged with the replica identity of its leaf. Where that lacks a column of the key, a
//! changed key comes without the old one, and the topic would keep a row that is gone; nothing in the stream tells.

use crate::engine::{Engine, Sample};
use crate::error::{Code, Error, Result};
use crate::table::QualifiedName;

impl Engine {
    /// Notes the contracts whose key some leaf's old rows lack.
    pub(super) fn look_at_leaves(&mut self, sample: &Sample) {
        for image in sample.images.iter().filter(|image| image.carried_by_leaves.is_some()) {
            for (index, contract) in self.contracts.iter().enumerate() {
                if contract.entry.relation != image.relation || contract.entry.is_parked() {
                    continue;
                }
                if let Some(column) = image.uncarried(contract.key()) {
                    self.uncarried.push((index, leaf_without_key(&image.name, &column.name, &contract.label())));
                }
            }
        }
    }

    /// Parks them, between two transactions.
    pub(super) fn park_uncarried(&mut self) -> Result<()> {
        let since = self.position.position();
        while let Some((index, error)) = self.uncarried.pop() {
            self.park(index, error, since)?;
            self.settle_parked();
        }
        Ok(())
    }
}

/// The error of a leaf whose old rows lack a key column of a contract.
pub fn leaf_without_key(table: &QualifiedName, column: &str, contract: &str) -> Error {
    Error::definite(
        Code::ReplicaIdentityLost,
        format!(
            "a partition of `{table}` has a replica identity without column `{column}`, contract `{contract}` needs it in old rows"
        ),
    )
    .hint(
        "`\\d+ PARTITION` in psql shows it: run `ALTER TABLE PARTITION REPLICA IDENTITY …` on the partition itself, as partitions \
         do not inherit it; keys that were changed in between need `gimbal repair` or a new major",
    )
}
