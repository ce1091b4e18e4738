use proptest::prelude::*;

use super::*;
use crate::error::Kind;

const BOUND: usize = 1 << 20;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

fn data(lsn: u64, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![b'w'];
    body.extend(lsn.to_be_bytes());
    body.extend((lsn + 1).to_be_bytes());
    body.extend([0; 8]);
    body.extend(payload);
    message(b'd', &body)
}

fn keepalive(lsn: u64, reply: bool) -> Vec<u8> {
    let mut body = vec![b'k'];
    body.extend(lsn.to_be_bytes());
    body.extend([0; 8]);
    body.push(u8::from(reply));
    message(b'd', &body)
}

/// Feeds `wire` in pieces, as a socket would, and returns what came out of the buffers.
fn feed(wire: &[u8], mut pieces: impl Iterator<Item = usize>) -> (Vec<(u64, Vec<u8>)>, Option<Error>) {
    let mut filling = Filling::new(&[]);
    let mut spare = None;
    let (mut frames, mut rest) = (Vec::new(), wire);
    while !rest.is_empty() {
        if filling.needs_growth() {
            filling.grow();
        }
        let room = filling.room();
        assert!(!room.is_empty(), "a full buffer that does not want to grow");
        let read = pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len().min(room.len()));
        room[..read].copy_from_slice(&rest[..read]);
        rest = &rest[read..];
        let scan = filling.scan(read, BOUND);
        if filling.has_frames() {
            let buffer = filling.take(spare.take());
            for frame in buffer.frames() {
                match frame {
                    Frame::Data { wal_start, message, .. } => frames.push((wal_start.0, message.to_vec())),
                    Frame::Keepalive { wal_end, .. } => frames.push((wal_end.0, b"keepalive".to_vec())),
                }
            }
            spare = Some(buffer);
        }
        if scan.ended.is_some() {
            return (frames, scan.ended);
        }
    }
    (frames, None)
}

proptest! {
    #[test]
    fn frames_come_out_whole_and_in_order_however_the_bytes_arrive(
        sizes in proptest::collection::vec(prop_oneof![9 => 0_usize..300, 1 => 0_usize..700_000], 1..30),
        pieces in proptest::collection::vec(1_usize..60_000, 1..50),
    ) {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (at, size) in (1_u64..).zip(&sizes) {
            if at % 5 == 0 {
                wire.extend(message(b'N', b"\0"));
                wire.extend(keepalive(at, false));
                expected.push((at, b"keepalive".to_vec()));
            }
            let payload = vec![at as u8; *size];
            wire.extend(data(at, &payload));
            expected.push((at, payload));
        }
        let (frames, ended) = feed(&wire, pieces.iter().copied().cycle());
        prop_assert!(ended.is_none(), "{ended:?}");
        prop_assert!(frames == expected);
    }

    #[test]
    fn no_bytes_make_the_scan_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        feed(&bytes, std::iter::repeat(7));
    }

    #[test]
    fn no_offset_makes_a_buffer_panic(payload in proptest::collection::vec(any::<u8>(), 0..80), offset in 0_usize..200) {
        let mut filling = Filling::new(&data(1, &payload));
        filling.scan(0, BOUND);
        let buffer = filling.take(None);
        let mut offset = offset;
        while buffer.next_frame(&mut offset).is_some() {}
    }
}

#[test]
fn a_frame_is_offered_again_at_its_offset() {
    let wire: Vec<u8> = [data(1, b"a"), keepalive(2, true), data(3, b"b")].concat();
    let mut filling = Filling::new(&wire);
    let scan = filling.scan(0, BOUND);
    assert_eq!((scan.received, scan.reply), (Lsn(4), true));
    let buffer = filling.take(None);
    let mut offset = 0;
    assert!(buffer.next_frame(&mut offset).is_some());
    let before = offset;
    let first = buffer.next_frame(&mut offset);
    assert_eq!(first, Some(Frame::Keepalive { wal_end: Lsn(2), reply: true }));
    offset = before;
    assert_eq!(buffer.next_frame(&mut offset), first);
    assert!(buffer.next_frame(&mut offset).is_some());
    assert_eq!(buffer.next_frame(&mut offset), None);
}

#[test]
fn a_message_over_the_bound_is_refused_by_its_header_alone() {
    let wire = [data(1, b"a"), vec![b'd', 0x7F, 0, 0, 0]].concat();
    let (frames, ended) = feed(&wire, std::iter::empty());
    assert_eq!(frames.len(), 1, "the frames before it are good");
    let error = ended.expect("refused");
    assert_eq!((error.code(), error.kind()), (Code::MessageTooLarge, Kind::Definite));
}

#[test]
fn an_error_of_the_server_ends_the_stream_after_the_frames_before_it() {
    let wire = [data(1, b"a"), message(b'E', b"SFATAL\0C57P01\0Mterminating connection\0\0")].concat();
    let (frames, ended) = feed(&wire, std::iter::empty());
    assert_eq!(frames.len(), 1);
    let error = ended.expect("ended");
    assert_eq!((error.code(), error.kind()), (Code::SourceUnreachable, Kind::Transient));
    assert!(error.diagnosis().contains("terminating connection"), "{error}");
}

#[test]
fn a_notice_ends_the_stream_only_if_it_says_that_changes_are_left_out() {
    let skipped = message(b'N', b"SWARNING\0C55000\0Mskipped loading publication \"p\"\0\0");
    let other = message(b'N', b"SWARNING\0C01000\0Mnothing of note\0\0");
    let (frames, ended) = feed(&[data(1, b"a"), other, skipped, data(2, b"b")].concat(), std::iter::empty());
    assert_eq!(frames.len(), 1, "nothing after the gap is taken");
    let error = ended.expect("ended");
    assert_eq!((error.code(), error.kind()), (Code::PublicationInvalid, Kind::Definite));
    assert!(error.diagnosis().contains("skipped loading publication"), "{error}");
}

#[test]
fn memory_of_one_large_message_is_not_kept() {
    let large = data(1, &vec![7; 900_000]);
    let mut filling = Filling::new(&[]);
    let mut rest = large.as_slice();
    while !rest.is_empty() {
        if filling.needs_growth() {
            filling.grow();
        }
        let read = rest.len().min(filling.room().len());
        filling.room()[..read].copy_from_slice(&rest[..read]);
        rest = &rest[read..];
        filling.scan(read, BOUND);
    }
    let buffer = filling.take(None);
    assert_eq!(buffer.frames().count(), 1);
    assert_eq!(filling.room().len(), BUFFER_BYTES);
    filling.take(Some(buffer));
    assert_eq!(filling.room().len(), BUFFER_BYTES);
    assert!(filling.bytes.capacity() <= 2 * BUFFER_BYTES);
}
