//! Round trip against an encoder of our own, and totality: no bytes make the decoder panic.

use proptest::prelude::*;

use super::*;

/// A message as plain values, to encode and to compare with.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    Begin { lsn: u64, micros: i64, xid: u32 },
    Commit { lsn: u64, end: u64, micros: i64 },
    Origin { lsn: u64, name: String },
    Relation { oid: u32, namespace: String, name: String, identity: u8, columns: Vec<(bool, String, u32, i32)> },
    Type { oid: u32, namespace: String, name: String },
    Insert { oid: u32, new: Vec<ModelCell> },
    Update { oid: u32, old: Option<(bool, Vec<ModelCell>)>, new: Vec<ModelCell> },
    Delete { oid: u32, full: bool, old: Vec<ModelCell> },
    Truncate { options: u8, oids: Vec<u32> },
    Logical { transactional: bool, lsn: u64, prefix: String, content: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ModelCell {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(0);
}

fn put_tuple(out: &mut Vec<u8>, tag: u8, cells: &[ModelCell]) {
    out.push(tag);
    out.extend((cells.len() as u16).to_be_bytes());
    for cell in cells {
        match cell {
            ModelCell::Null => out.push(b'n'),
            ModelCell::Unchanged => out.push(b'u'),
            ModelCell::Text(text) => {
                out.push(b't');
                out.extend((text.len() as u32).to_be_bytes());
                out.extend(text);
            }
        }
    }
}

impl Model {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Model::Begin { lsn, micros, xid } => {
                out.push(b'B');
                out.extend(lsn.to_be_bytes());
                out.extend((micros - 946_684_800_000_000).to_be_bytes());
                out.extend(xid.to_be_bytes());
            }
            Model::Commit { lsn, end, micros } => {
                out.extend([b'C', 0]);
                out.extend(lsn.to_be_bytes());
                out.extend(end.to_be_bytes());
                out.extend((micros - 946_684_800_000_000).to_be_bytes());
            }
            Model::Origin { lsn, name } => {
                out.push(b'O');
                out.extend(lsn.to_be_bytes());
                put_name(&mut out, name);
            }
            Model::Relation { oid, namespace, name, identity, columns } => {
                out.push(b'R');
                out.extend(oid.to_be_bytes());
                put_name(&mut out, namespace);
                put_name(&mut out, name);
                out.push(*identity);
                out.extend((columns.len() as u16).to_be_bytes());
                for (key, name, type_oid, typmod) in columns {
                    out.push(u8::from(*key));
                    put_name(&mut out, name);
                    out.extend(type_oid.to_be_bytes());
                    out.extend(typmod.to_be_bytes());
                }
            }
            Model::Type { oid, namespace, name } => {
                out.push(b'Y');
                out.extend(oid.to_be_bytes());
                put_name(&mut out, namespace);
                put_name(&mut out, name);
            }
            Model::Insert { oid, new } => {
                out.push(b'I');
                out.extend(oid.to_be_bytes());
                put_tuple(&mut out, b'N', new);
            }
            Model::Update { oid, old, new } => {
                out.push(b'U');
                out.extend(oid.to_be_bytes());
                if let Some((full, old)) = old {
                    put_tuple(&mut out, if *full { b'O' } else { b'K' }, old);
                }
                put_tuple(&mut out, b'N', new);
            }
            Model::Delete { oid, full, old } => {
                out.push(b'D');
                out.extend(oid.to_be_bytes());
                put_tuple(&mut out, if *full { b'O' } else { b'K' }, old);
            }
            Model::Truncate { options, oids } => {
                out.push(b'T');
                out.extend((oids.len() as u32).to_be_bytes());
                out.push(*options);
                oids.iter().for_each(|oid| out.extend(oid.to_be_bytes()));
            }
            Model::Logical { transactional, lsn, prefix, content } => {
                out.extend([b'M', u8::from(*transactional)]);
                out.extend(lsn.to_be_bytes());
                put_name(&mut out, prefix);
                out.extend((content.len() as u32).to_be_bytes());
                out.extend(content);
            }
        }
        out
    }
}

fn read_cells(message: &[u8], tuple: &Tuple<'_>) -> Vec<ModelCell> {
    let mut cells = vec![Cell::Null; 3];
    tuple.cells(&mut cells);
    assert_eq!(cells.len(), tuple.len());
    cells
        .iter()
        .map(|cell| match *cell {
            Cell::Null => ModelCell::Null,
            Cell::Unchanged => ModelCell::Unchanged,
            Cell::Text { start, len } => ModelCell::Text(message[start as usize..(start + len) as usize].to_vec()),
        })
        .collect()
}

fn read_old(message: &[u8], old: &OldTuple<'_>) -> (bool, Vec<ModelCell>) {
    (matches!(old, OldTuple::Full(_)), read_cells(message, &old.tuple()))
}

/// Reads everything that a message offers.
fn touch(bytes: &[u8]) {
    let Ok(message) = decode(bytes) else { return };
    match message {
        Message::Relation(relation) => assert_eq!(relation.columns().count(), relation.columns().len()),
        Message::Truncate(truncate) => assert_eq!(truncate.relations().count(), truncate.relations().len()),
        Message::Insert { new, .. } => drop(read_cells(bytes, &new)),
        Message::Update { old, new, .. } => {
            drop(old.map(|old| read_old(bytes, &old)));
            read_cells(bytes, &new);
        }
        Message::Delete { old, .. } => drop(read_old(bytes, &old)),
        _ => {}
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_ü\"][a-z0-9_ é]{0,12}"
}

fn cells() -> impl Strategy<Value = Vec<ModelCell>> {
    let cell = prop_oneof![
        Just(ModelCell::Null),
        Just(ModelCell::Unchanged),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(ModelCell::Text),
    ];
    proptest::collection::vec(cell, 0..12)
}

fn model() -> impl Strategy<Value = Model> {
    let micros = -4_000_000_000_000_000_i64..9_000_000_000_000_000;
    let column = (any::<bool>(), name(), any::<u32>(), any::<i32>());
    let identity = prop_oneof![Just(b'd'), Just(b'f'), Just(b'i'), Just(b'n')];
    prop_oneof![
        (any::<u64>(), micros.clone(), any::<u32>()).prop_map(|(lsn, micros, xid)| Model::Begin { lsn, micros, xid }),
        (any::<u64>(), any::<u64>(), micros).prop_map(|(lsn, end, micros)| Model::Commit { lsn, end, micros }),
        (any::<u64>(), name()).prop_map(|(lsn, name)| Model::Origin { lsn, name }),
        (any::<u32>(), name(), name(), identity, proptest::collection::vec(column, 0..8)).prop_map(
            |(oid, namespace, name, identity, columns)| Model::Relation { oid, namespace, name, identity, columns }
        ),
        (any::<u32>(), name(), name()).prop_map(|(oid, namespace, name)| Model::Type { oid, namespace, name }),
        (any::<u32>(), cells()).prop_map(|(oid, new)| Model::Insert { oid, new }),
        (any::<u32>(), proptest::option::of((any::<bool>(), cells())), cells())
            .prop_map(|(oid, old, new)| Model::Update { oid, old, new }),
        (any::<u32>(), any::<bool>(), cells()).prop_map(|(oid, full, old)| Model::Delete { oid, full, old }),
        (0_u8..4, proptest::collection::vec(any::<u32>(), 0..6))
            .prop_map(|(options, oids)| Model::Truncate { options, oids }),
        (any::<bool>(), any::<u64>(), name(), proptest::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(transactional, lsn, prefix, content)| Model::Logical { transactional, lsn, prefix, content }),
    ]
}

fn assert_same(model: &Model, bytes: &[u8]) {
    match (model, decode(bytes).expect("a valid message")) {
        (Model::Begin { lsn, micros, xid }, Message::Begin(begin)) => {
            assert_eq!(begin, Begin { commit_lsn: Lsn(*lsn), timestamp: *micros, xid: *xid });
        }
        (Model::Commit { lsn, end, micros }, Message::Commit(commit)) => {
            let expected = Commit { flags: 0, commit_lsn: Lsn(*lsn), end_lsn: Lsn(*end), timestamp: *micros };
            assert_eq!(commit, expected);
        }
        (Model::Origin { lsn, name }, Message::Origin(origin)) => {
            assert_eq!(origin, Origin { commit_lsn: Lsn(*lsn), name });
        }
        (Model::Relation { oid, namespace, name, identity, columns }, Message::Relation(relation)) => {
            assert_eq!((relation.relation.0, relation.namespace, relation.name), (*oid, &**namespace, &**name));
            let letter = match relation.replica_identity {
                ReplicaIdentity::Default => b'd',
                ReplicaIdentity::Full => b'f',
                ReplicaIdentity::Index => b'i',
                ReplicaIdentity::Nothing => b'n',
            };
            assert_eq!(letter, *identity);
            let seen: Vec<_> = relation.columns().map(|c| (c.key, c.name.to_string(), c.type_oid, c.typmod)).collect();
            assert_eq!(&seen, columns);
        }
        (Model::Type { oid, namespace, name }, Message::Type(seen)) => {
            assert_eq!(seen, Type { oid: *oid, namespace, name });
        }
        (Model::Insert { oid, new }, Message::Insert { relation, new: seen }) => {
            assert_eq!((relation.0, &read_cells(bytes, &seen)), (*oid, new));
        }
        (Model::Update { oid, old, new }, Message::Update { relation, old: seen_old, new: seen }) => {
            assert_eq!((relation.0, &read_cells(bytes, &seen)), (*oid, new));
            assert_eq!(&seen_old.map(|seen| read_old(bytes, &seen)), old);
        }
        (Model::Delete { oid, full, old }, Message::Delete { relation, old: seen }) => {
            assert_eq!((relation.0, read_old(bytes, &seen)), (*oid, (*full, old.clone())));
        }
        (Model::Truncate { options, oids }, Message::Truncate(seen)) => {
            assert_eq!(u8::from(seen.cascade) + 2 * u8::from(seen.restart_identity), *options);
            assert_eq!(&seen.relations().map(|relation| relation.0).collect::<Vec<_>>(), oids);
        }
        (Model::Logical { transactional, lsn, prefix, content }, Message::Logical(seen)) => {
            assert_eq!(seen, Logical { transactional: *transactional, lsn: Lsn(*lsn), prefix, content });
        }
        (model, message) => panic!("{model:?} was decoded as {message:?}"),
    }
}

proptest! {
    #[test]
    fn every_message_decodes_to_what_was_encoded(model in model()) {
        assert_same(&model, &model.encode());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        touch(&bytes);
    }

    #[test]
    fn every_truncation_is_an_error(model in model()) {
        let bytes = model.encode();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes of {model:?} were accepted", bytes.len());
        }
    }

    #[test]
    fn a_trailing_byte_is_an_error(model in model(), byte in any::<u8>()) {
        let mut bytes = model.encode();
        bytes.push(byte);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn no_mutation_of_one_byte_makes_the_decoder_panic(model in model(), byte in any::<u8>()) {
        let mut bytes = model.encode();
        for at in 0..bytes.len() {
            let before = bytes[at];
            for mutant in [byte, before.wrapping_add(1), before.wrapping_sub(1), before ^ 0x80, 0, 0xFF] {
                bytes[at] = mutant;
                touch(&bytes);
            }
            bytes[at] = before;
        }
    }
}

#[test]
fn a_binary_cell_is_refused() {
    let bytes = [b'I', 0, 0, 0, 1, b'N', 0, 1, b'b', 0, 0, 0, 1, 7];
    assert_eq!(decode(&bytes).map_err(|error| error.problem), Err(Problem::BinaryCell));
}

#[test]
fn a_count_below_zero_is_refused() {
    let bytes = [b'I', 0, 0, 0, 1, b'N', 0xFF, 0xFF];
    assert_eq!(decode(&bytes).map_err(|error| error.problem), Err(Problem::Count));
}

#[test]
fn the_empty_namespace_is_pg_catalog() {
    let model = Model::Type { oid: 7, namespace: String::new(), name: "t".to_string() };
    let bytes = model.encode();
    assert_eq!(decode(&bytes), Ok(Message::Type(Type { oid: 7, namespace: "pg_catalog", name: "t" })));
}

#[test]
fn printing_a_message_shows_no_row() {
    let bytes = Model::Insert { oid: 1, new: vec![ModelCell::Text(b"secret".to_vec())] }.encode();
    let printed = format!("{:?}", decode(&bytes));
    assert!(!printed.contains("secret") && !printed.contains("115"), "{printed}");
}
