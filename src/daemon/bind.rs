//! Binds contracts to tables and columns: a name is resolved once, then rows follow the ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::TopicId;
use crate::contract::{ContractVersion, FeedSource};
use crate::engine::Contract;
use crate::error::{Code, Error, Result};
use crate::state::{Binding, CachedId, ContractEntry, Progress};
use crate::table::{ReplicaIdentity, TableImage};

/// Ids of a contract's schemas.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Absent for contracts without key.
    pub key: Option<CachedId>,
    /// The value schema's.
    pub value: CachedId,
}

/// Binds one contract version: what the checkpoint has stays, unless the text of a `from` changed.
pub fn bind(
    version: Arc<ContractVersion>,
    topic: TopicId,
    ids: Ids,
    known: Option<ContractEntry>,
    image: &TableImage,
) -> Result<Contract> {
    if let Some(entry) = known.as_ref().filter(|entry| entry.relation != image.relation) {
        return Err(Error::definite(
            Code::ContractInvalid,
            format!(
                "contract `{}` v{} is published from `{}`, its file now says `{}`",
                version.contract, version.major, entry.source, version.source
            ),
        )
        .hint("another table is another major: add a version with its own `source:`"));
    }
    if let Some(Progress::Ended { since }) = known.as_ref().map(|entry| entry.progress) {
        return Err(Error::definite(
            Code::ContractInvalid,
            format!(
                "contract `{}` v{} was taken out at {since}, its topic `{}` lacks what happened since",
                version.contract, version.major, version.topic
            ),
        )
        .hint("publish a new major, which begins with a snapshot"));
    }
    let bindings = bindings(&version, known.as_ref().map(|entry| &entry.bindings), image)?;
    check_key(&version, &bindings, image)?;
    let entry = ContractEntry {
        contract: version.contract.clone(),
        major: version.major,
        source: version.source.clone(),
        relation: image.relation,
        bindings,
        progress: known.as_ref().map_or(Progress::Activating, |entry| entry.progress),
        begun: known.as_ref().and_then(|entry| entry.begun),
        key_id: ids.key,
        value_id: ids.value,
    };
    let dirty = known.as_ref() != Some(&entry);
    Ok(Contract { version, entry, topic, records: 0, dirty, repairs: 0 })
}

fn bindings(
    version: &ContractVersion,
    known: Option<&BTreeMap<String, Binding>>,
    image: &TableImage,
) -> Result<BTreeMap<String, Binding>> {
    let mut bindings = BTreeMap::new();
    for feed in &version.feeds {
        let FeedSource::Column { from, .. } = &feed.source else { continue };
        let old = known.and_then(|known| known.get(&feed.field)).filter(|binding| binding.from == *from);
        let binding = match old {
            Some(binding) => binding.clone(),
            None => {
                let column = image.column(from).ok_or_else(|| {
                    Error::definite(
                        Code::SourceUnknown,
                        format!(
                            "field `{}` of contract `{}` v{} reads column `{from}`, table `{}` has none of that name",
                            feed.field, version.contract, version.major, image.name
                        ),
                    )
                    .hint("correct `from:` in the contract, or add the column")
                })?;
                Binding { from: from.clone(), attnum: column.attnum, type_oid: column.type_oid }
            }
        };
        bindings.insert(feed.field.clone(), binding);
    }
    Ok(bindings)
}

/// Old rows must carry the contract's key, or deletes could not be published.
fn check_key(version: &ContractVersion, bindings: &BTreeMap<String, Binding>, image: &TableImage) -> Result<()> {
    let identity = image.identity();
    let lost = version.key.iter().find(|field| {
        let binding = bindings.get(*field);
        binding.is_none_or(|binding| !identity.contains(&binding.attnum))
    });
    let Some(field) = lost else { return Ok(()) };
    let has = match image.replica_identity {
        ReplicaIdentity::Nothing => "has REPLICA IDENTITY NOTHING",
        ReplicaIdentity::Default if identity.is_empty() => "has REPLICA IDENTITY DEFAULT and no primary key",
        ReplicaIdentity::Index if identity.is_empty() => "has a replica identity index that is gone",
        ReplicaIdentity::Default | ReplicaIdentity::Index | ReplicaIdentity::Full => {
            "has a replica identity without it"
        }
    };
    Err(Error::definite(
        Code::ReplicaIdentityLost,
        format!(
            "table `{}` {has}, contract `{}` v{} needs key field `{field}` in old rows",
            image.name, version.contract, version.major
        ),
    )
    .hint("run `ALTER TABLE … REPLICA IDENTITY USING INDEX …` with a unique index over the key, or FULL"))
}
