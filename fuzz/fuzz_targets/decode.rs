//! No bytes make the pgoutput decoder panic, and every cell of an accepted tuple lies inside the message.

#![no_main]

use gimbal::pgoutput::{Message, Tuple, decode};
use gimbal::row::Cell;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = decode(bytes) else { return };
    match message {
        Message::Relation(relation) => assert_eq!(relation.columns().count(), relation.columns().len()),
        Message::Truncate(truncate) => assert_eq!(truncate.relations().count(), truncate.relations().len()),
        Message::Insert { new, .. } => check(bytes, &new),
        Message::Update { old, new, .. } => {
            if let Some(old) = old {
                check(bytes, &old.tuple());
            }
            check(bytes, &new);
        }
        Message::Delete { old, .. } => check(bytes, &old.tuple()),
        _ => {}
    }
});

fn check(bytes: &[u8], tuple: &Tuple<'_>) {
    let mut cells = Vec::new();
    tuple.cells(&mut cells);
    assert_eq!(cells.len(), tuple.len());
    for cell in cells {
        if let Cell::Text { start, len } = cell {
            assert!(bytes.get(start as usize..start as usize + len as usize).is_some());
        }
    }
}
