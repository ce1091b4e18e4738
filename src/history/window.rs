//! Resolves a Relation message between two catalog images.

use super::{Candidate, Certainty, ListedColumn, Listing, Resolution};
use crate::identity::{self, Place, Places};
use crate::table::{ColumnImage, ColumnKind, TableImage, TableVersion, VersionColumn};

/// The two images around a Relation message.
pub(super) struct Window<'a> {
    /// Absent if every sample sees the transaction.
    pub(super) older: Option<&'a TableImage>,
    pub(super) newer: &'a TableImage,
}

impl Window<'_> {
    pub(super) fn resolve(&self, listing: &Listing) -> Resolution {
        let kinds = |image: &TableImage| image.columns.iter().map(|column| column.kind).collect::<Vec<_>>();
        let (older, newer) = (self.older.map(kinds).unwrap_or_default(), kinds(self.newer));
        let places = match identity::places(&older, &newer, listing.columns.len()) {
            Ok(places) => places,
            Err(contradiction) => return Resolution::Contradiction(contradiction),
        };
        let version = self.version(listing, &places);
        let candidates: Vec<Candidate> =
            places.ambiguous().map(|(attnum, place)| self.candidate(attnum, place, listing)).collect();
        match candidates.is_empty() {
            true if older == newer => Resolution::Version(version, Certainty::Exact),
            true => Resolution::Version(version, Certainty::Inferred),
            false => Resolution::Unknown { version, candidates },
        }
    }

    fn version(&self, listing: &Listing, places: &Places) -> TableVersion {
        let columns =
            listing.columns.iter().enumerate().map(|(place, listed)| self.column(listed, places.attnum_at(place)));
        TableVersion {
            relation: listing.relation,
            name: listing.name.clone(),
            replica_identity: listing.replica_identity,
            columns: columns.collect(),
        }
    }

    /// Names and types as the stream says; what only the catalog knows from the image that shows this very type. The newer
    /// image is asked first: its enums have all labels that the older one's have.
    fn column(&self, listed: &ListedColumn, attnum: Option<i16>) -> VersionColumn {
        let images = || attnum.into_iter().flat_map(|attnum| self.images(attnum));
        let shown = images().find(|image| (image.type_oid, image.typmod) == (listed.type_oid, listed.typmod));
        VersionColumn {
            attnum,
            name: listed.name.clone(),
            type_oid: listed.type_oid,
            typmod: listed.typmod,
            type_name: shown.map_or_else(|| format!("type {}", listed.type_oid), |image| image.type_name.clone()),
            source_type: shown.map(|image| image.source_type.clone()),
            not_null: images().next().is_some() && images().all(|image| image.not_null),
            identity: listed.identity,
        }
    }

    fn candidate(&self, attnum: i16, place: &Place, listing: &Listing) -> Candidate {
        let (places, maybe_unlisted) = match place {
            Place::Certain(place) => (std::slice::from_ref(place), false),
            Place::NotListed => (&[][..], true),
            Place::Ambiguous { places, maybe_unlisted } => (places.as_slice(), *maybe_unlisted),
        };
        let named = |&place: &usize| listing.columns.get(place).map(|column| (place, column.name.clone()));
        Candidate {
            attnum,
            name: self.images(attnum).last().map(|image| image.name.clone()).unwrap_or_default(),
            places: places.iter().filter_map(named).collect(),
            maybe_unlisted,
        }
    }

    /// The column in the newer image, then in the older one, where it is not dropped.
    fn images(&self, attnum: i16) -> impl Iterator<Item = &ColumnImage> {
        let both = [Some(self.newer), self.older];
        both.into_iter()
            .flatten()
            .filter_map(move |image| image.attnum(attnum))
            .filter(|c| c.kind != ColumnKind::Dropped)
    }
}
