//! Binds contracts to tables and columns: a name is resolved once, then rows follow the ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::TopicId;
use crate::contract::{ContractVersion, Feed};
use crate::engine::{Contract, DeadSet, leaf_without_key};
use crate::error::{Code, Error, Result};
use crate::state::{Binding, CachedId, ContractEntry, ParcelIds, Progress};
use crate::table::{RelationId, ReplicaIdentity, TableImage};

/// Ids of a contract's schemas.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Absent for contracts without key.
    pub key: Option<CachedId>,
    /// The value schema's.
    pub value: CachedId,
    /// The parcels' in the topics beside the contract's; absent without a key for sealing.
    pub parcels: Option<ParcelIds>,
}

/// Binds one contract version: what the checkpoint has stays, unless the text of a `from` changed.
///
/// Of a contract that has begun the table may be gone, or have lost its key since: the stream tells where.
pub fn bind(
    version: Arc<ContractVersion>,
    topic: TopicId,
    ids: Ids,
    known: Option<ContractEntry>,
    relation: RelationId,
    image: Option<&TableImage>,
) -> Result<Contract> {
    if let Some(entry) = known.as_ref().filter(|entry| entry.relation != relation) {
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
    let begun = known.as_ref().filter(|entry| entry.active());
    let bindings = match (begun.filter(|entry| entry.is_parked()), image) {
        // It binds anew when its rows are taken back.
        (Some(entry), _) => entry.bindings.clone(),
        (None, Some(image)) => bindings(&version, known.as_ref().map(|entry| &entry.bindings), image)?,
        (None, None) => begun.map(|entry| entry.bindings.clone()).ok_or_else(|| missing(&version))?,
    };
    if let (None, Some(image)) = (begun, image) {
        check_key(&version, &bindings, image)?;
    }
    let entry = ContractEntry {
        contract: version.contract.clone(),
        major: version.major,
        source: version.source.clone(),
        relation,
        bindings,
        progress: known.as_ref().map_or(Progress::Activating, |entry| entry.progress),
        begun: known.as_ref().and_then(|entry| entry.begun),
        key_id: ids.key,
        value_id: ids.value,
        publication_rel: known.as_ref().and_then(|entry| entry.publication_rel),
        parcel_ids: ids.parcels,
        parked: known.as_ref().and_then(|entry| entry.parked.clone()),
        dead_span: known.as_ref().and_then(|entry| entry.dead_span),
        unlevel: known.as_ref().is_some_and(|entry| entry.unlevel),
        ghosts: known.as_ref().is_some_and(|entry| entry.ghosts),
    };
    let dirty = known.as_ref() != Some(&entry);
    Ok(Contract {
        version,
        entry,
        topic,
        aside: None,
        records: 0,
        dead: DeadSet::default(),
        overflows: 0,
        dead_letters: BTreeMap::new(),
        rereads: 0,
        superseded: 0,
        dirty,
        repairs: 0,
    })
}

/// The table of a contract is not in the database.
pub fn missing(contract: &ContractVersion) -> Error {
    Error::definite(
        Code::SourceUnknown,
        format!(
            "contract `{}` v{} reads table `{}`, the database has none of that name",
            contract.contract, contract.major, contract.source
        ),
    )
    .hint("correct `source:` in the contract, or create the table")
}

fn bindings(
    version: &ContractVersion,
    known: Option<&BTreeMap<String, Binding>>,
    image: &TableImage,
) -> Result<BTreeMap<String, Binding>> {
    let mut bindings = BTreeMap::new();
    for feed in &version.feeds {
        for (key, from) in feed.bindings() {
            bindings.insert(key, binding(version, feed, from, known, image)?);
        }
    }
    Ok(bindings)
}

/// One column of a field: as it was bound, unless the field did not name it then.
fn binding(
    version: &ContractVersion,
    feed: &Feed,
    from: &str,
    known: Option<&BTreeMap<String, Binding>>,
    image: &TableImage,
) -> Result<Binding> {
    let old = known.into_iter().flatten().find(|(key, binding)| feed.owns(key) && binding.from == from);
    if let Some((_, binding)) = old {
        return Ok(binding.clone());
    }
    let column = image.column(from).ok_or_else(|| {
        Error::definite(
            Code::SourceUnknown,
            format!(
                "field `{}` of contract `{}` v{} reads column `{from}`, table `{}` has none of that name",
                feed.field, version.contract, version.major, image.name
            ),
        )
        .hint("correct the field's entry in the contract, or add the column")
    })?;
    Ok(Binding { from: from.to_owned(), attnum: column.attnum, type_oid: column.type_oid })
}

/// Old rows must carry the contract's key, or deletes could not be published.
fn check_key(version: &ContractVersion, bindings: &BTreeMap<String, Binding>, image: &TableImage) -> Result<()> {
    let identity = image.identity();
    let lost = version.key.iter().find(|field| {
        let binding = bindings.get(*field);
        binding.is_none_or(|binding| !identity.contains(&binding.attnum))
    });
    let Some(field) = lost else {
        let of_key = version.key.iter().filter_map(|field| bindings.get(field)).map(|binding| binding.attnum);
        let label = format!("{} v{}", version.contract, version.major);
        return match image.uncarried(of_key) {
            Some(column) => Err(leaf_without_key(&image.name, &column.name, &label)),
            None => Ok(()),
        };
    };
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
