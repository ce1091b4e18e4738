//! Which keys a topic shows, in the order of their hashes, in bounded memory: a topic holds every version of a key, and the
//! newest alone says whether the key is there.
//!
//! ```text
//!  topic ─▶ (key, tombstone) ─▶ buckets by the first bits of the hash, on disk ─▶ one bucket at a time in memory ─▶ pages
//! ```
//!
//! A bucket keeps the order of the topic, so the last entry of a key counts. The order of pages depends on the keys alone:
//! a page behind a place means the same after a restart, when the topic is read again. On disk is what the topic's keys
//! take, until the repair ends; nothing of it is ever read after a crash.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::engine::KeyPage;
use crate::error::{Code, Error, Result};
use crate::sink::disk::failure;
use crate::sink::keys::KeyReader;
use crate::state::KeyPlace;

/// Records of a topic that one bucket is made for.
const BUCKET_RECORDS: u64 = 32_768;

/// Most buckets, as a power of two: an empty one costs little, and a topic of 100 million records has buckets of a megabyte.
const BUCKET_BITS_MAX: u32 = 12;

/// Bytes of all buckets that wait in memory for their files.
const BUFFER_BYTES: usize = 4 << 20;

/// A bucket file beyond this is taken in parts, each part by reading the file again.
const PART_BYTES: u64 = 8 << 20;

/// Length of a key, and whether its record was a tombstone.
const HEAD: usize = 5;

/// A topic's keys, spilled to a folder of its own, which goes with it.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    bits: u32,
    buffers: Vec<Vec<u8>>,
    buffered: usize,
    loaded: Option<Part>,
}

/// The keys of one bucket, or of a part of it.
#[derive(Debug)]
struct Part {
    /// Hashes from here …
    first: u128,
    /// … up to here are in it.
    last: u128,
    keys: BTreeMap<u128, Vec<u8>>,
}

/// A key's place in the order: by its Avro body alone, whatever its frame.
pub fn place(framed: &[u8]) -> KeyPlace {
    KeyPlace(xxhash_rust::xxh3::xxh3_128(framed.get(HEAD..).unwrap_or_default()))
}

impl Spill {
    /// Reads a topic to its present end. Keys up to `after` are left out.
    pub fn read(
        folder: &Path,
        reader: &mut dyn KeyReader,
        topic: &str,
        key_id: u32,
        after: Option<KeyPlace>,
    ) -> Result<Spill> {
        remove(folder)?;
        fs::create_dir_all(folder).map_err(|error| failure(Code::Io, "create", folder, &error))?;
        let buckets = (reader.count(topic)? / BUCKET_RECORDS).max(1).next_power_of_two();
        let bits = buckets.trailing_zeros().min(BUCKET_BITS_MAX);
        let buffers = vec![Vec::new(); 1 << bits];
        let mut spill = Spill { folder: folder.to_owned(), bits, buffers, buffered: 0, loaded: None };
        reader.read(topic, key_id, &mut |key, tombstone| {
            let at = place(key);
            if after.is_some_and(|after| at <= after) { Ok(()) } else { spill.push(at, key, tombstone) }
        })?;
        spill.flush()?;
        spill.buffers = Vec::new();
        Ok(spill)
    }

    fn push(&mut self, at: KeyPlace, key: &[u8], tombstone: bool) -> Result<()> {
        let len = u32::try_from(key.len())
            .map_err(|_| Error::definite(Code::MessageTooLarge, "a key in a topic has more than 4 GiB"))?;
        let bucket = self.bucket(at.0);
        let Some(buffer) = self.buffers.get_mut(bucket) else { return Ok(()) };
        buffer.extend_from_slice(&len.to_le_bytes());
        buffer.push(u8::from(tombstone));
        buffer.extend_from_slice(key);
        self.buffered += HEAD + key.len();
        if self.buffered >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        for (bucket, buffer) in self.buffers.iter_mut().enumerate().filter(|(_, buffer)| !buffer.is_empty()) {
            let path = file(&self.folder, bucket);
            let write = |mut file: File| file.write_all(buffer);
            let opened = OpenOptions::new().create(true).append(true).open(&path);
            opened.and_then(write).map_err(|error| failure(Code::Io, "write", &path, &error))?;
            // Shrunk: one bucket may have grown to the whole bound.
            *buffer = Vec::new();
        }
        self.buffered = 0;
        Ok(())
    }

    fn bucket(&self, hash: u128) -> usize {
        // All bits shifted out would overflow.
        hash.checked_shr(u128::BITS - self.bits).unwrap_or(0) as usize
    }

    /// The next keys behind a place.
    pub fn page(&mut self, after: Option<KeyPlace>, keys_max: usize, bytes_max: usize) -> Result<KeyPage> {
        let mut page = KeyPage::default();
        let mut from = match after {
            None => Some(0),
            Some(KeyPlace(after)) => after.checked_add(1),
        };
        let mut bytes = 0;
        while let Some(first) = from {
            let part = self.part(first)?;
            for (hash, key) in part.keys.range(first..) {
                if page.keys.len() >= keys_max || (bytes >= bytes_max && !page.keys.is_empty()) {
                    return Ok(page);
                }
                bytes += key.len();
                page.keys.push(key.clone());
                page.place = Some(KeyPlace(*hash));
            }
            from = part.last.checked_add(1);
        }
        page.end = true;
        Ok(page)
    }

    /// The part that a hash falls into.
    fn part(&mut self, hash: u128) -> Result<&Part> {
        let part = match self.loaded.take().filter(|part| (part.first..=part.last).contains(&hash)) {
            Some(part) => part,
            None => self.load(hash)?,
        };
        Ok(self.loaded.insert(part))
    }

    fn load(&self, hash: u128) -> Result<Part> {
        let path = file(&self.folder, self.bucket(hash));
        let opened = match File::open(&path) {
            Ok(opened) => Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failure(Code::Io, "open", &path, &error)),
        };
        let unreadable = |error: io::Error| failure(Code::Io, "read", &path, &error);
        let len = opened.as_ref().map_or(Ok(0), |file| file.metadata().map(|about| about.len())).map_err(unreadable)?;
        let parts = len.div_ceil(PART_BYTES).max(1).next_power_of_two();
        let width = u128::BITS - self.bits - parts.trailing_zeros();
        let mask = 1u128.checked_shl(width).map_or(u128::MAX, |range| range - 1);
        let (first, last) = (hash & !mask, hash | mask);
        let mut keys = BTreeMap::new();
        let Some(opened) = opened else { return Ok(Part { first, last, keys }) };
        let mut reader = BufReader::with_capacity(64 << 10, opened);
        let mut key = Vec::new();
        while let Some(tombstone) = read_entry(&mut reader, &mut key).map_err(unreadable)? {
            let KeyPlace(hash) = place(&key);
            if !(first..=last).contains(&hash) {
                continue;
            }
            if tombstone {
                keys.remove(&hash);
            } else {
                keys.entry(hash).or_insert_with(|| key.clone());
            }
        }
        Ok(Part { first, last, keys })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // What is left is removed before the next use.
        let _ = remove(&self.folder);
    }
}

/// Removes a spill's folder, or what a crash left of it.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure(Code::Io, "remove", folder, &error)),
        _ => Ok(()),
    }
}

fn file(folder: &Path, bucket: usize) -> PathBuf {
    folder.join(format!("{bucket:04x}"))
}

/// Reads one entry; gives whether it was a tombstone, or `None` at the end.
fn read_entry(reader: &mut impl Read, key: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let mut head = [0; HEAD];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [a, b, c, d, tombstone] = head;
    key.resize(u32::from_le_bytes([a, b, c, d]) as usize, 0);
    reader.read_exact(key)?;
    Ok(Some(tombstone == 1))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;
    use crate::identity::tests::Rng;
    use crate::sink::keys::EachKey;

    /// Records that a function makes by their number.
    struct Made<F>(u64, F);

    impl<F: FnMut(u64, &mut Vec<u8>) -> bool + Send> KeyReader for Made<F> {
        fn count(&mut self, _topic: &str) -> Result<u64> {
            Ok(self.0)
        }

        fn read(&mut self, _topic: &str, _key_id: u32, each: &mut EachKey<'_>) -> Result<()> {
            let mut key = Vec::new();
            for number in 0..self.0 {
                key.clear();
                key.extend_from_slice(&[0, 0, 0, 0, 7]);
                let tombstone = (self.1)(number, &mut key);
                each(&key, tombstone)?;
            }
            Ok(())
        }
    }

    fn all(spill: &mut Spill, keys_max: usize) -> Vec<Vec<u8>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = spill.page(after, keys_max, usize::MAX).unwrap();
            assert!(page.keys.len() <= keys_max && page.place >= after);
            found.extend(page.keys);
            if page.end {
                return found;
            }
            after = page.place;
        }
    }

    #[test]
    fn each_key_whose_newest_record_is_no_tombstone_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = Rng(7);
        let records: Vec<(u16, bool)> = (0..9000).map(|_| (rng.between(0, 2000) as u16, rng.chance(40))).collect();
        let newest: HashMap<u16, bool> = records.iter().copied().collect();
        let wanted: BTreeSet<u16> = newest.iter().filter(|(_, gone)| !**gone).map(|(key, _)| *key).collect();
        let make = |number: u64, key: &mut Vec<u8>| {
            key.extend_from_slice(&records[number as usize].0.to_le_bytes());
            records[number as usize].1
        };
        let mut spill = Spill::read(&folder.path().join("s"), &mut Made(9000, make), "t", 7, None).unwrap();
        for keys_max in [1, 7, 100_000] {
            let found = all(&mut spill, keys_max);
            let numbers: BTreeSet<u16> = found.iter().map(|key| u16::from_le_bytes([key[5], key[6]])).collect();
            assert_eq!((found.len(), &numbers), (wanted.len(), &wanted));
        }
        drop(spill);
        assert!(!folder.path().join("s").exists());
    }

    #[test]
    fn a_topic_that_is_read_again_goes_on_behind_the_same_place() {
        let folder = tempfile::tempdir().unwrap();
        let number = |number: u64, key: &mut Vec<u8>| {
            key.extend_from_slice(&number.to_le_bytes());
            false
        };
        let mut spill = Spill::read(folder.path(), &mut Made(500, number), "t", 7, None).unwrap();
        let first = spill.page(None, 200, usize::MAX).unwrap();
        // Four times as many records: another number of buckets does not change the order.
        let mut again = Spill::read(folder.path(), &mut Made(100_000, number), "t", 7, first.place).unwrap();
        assert!(again.bits > 0);
        let (done, left): (BTreeSet<_>, BTreeSet<_>) =
            (first.keys.into_iter().collect(), all(&mut again, 999).into_iter().collect());
        assert!(done.is_disjoint(&left));
        let known = |key: &Vec<u8>| u64::from_le_bytes(key[5..].try_into().unwrap()) < 500;
        assert_eq!(left.iter().filter(|key| known(key)).count() + done.len(), 500);
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_holds_at_least_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let long = |number: u64, key: &mut Vec<u8>| {
            key.resize(5 + 3000, number as u8);
            false
        };
        let mut spill = Spill::read(folder.path(), &mut Made(20, long), "t", 7, None).unwrap();
        assert_eq!(spill.page(None, 1000, 10).unwrap().keys.len(), 1);
        assert_eq!(spill.page(None, 1000, 7000).unwrap().keys.len(), 3);
        assert_eq!(all(&mut spill, 3).len(), 20);
    }

    /// What the process has at most had in memory, in bytes.
    fn peak() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Most keys that were in memory at once, with their buffers.
    fn read_pages(records: u64, distinct: u64) -> (u64, usize) {
        let folder = tempfile::tempdir().unwrap();
        let make = |number: u64, key: &mut Vec<u8>| {
            key.extend_from_slice(&(number % distinct).to_le_bytes());
            false
        };
        let mut spill = Spill::read(&folder.path().join("s"), &mut Made(records, make), "t", 7, None).unwrap();
        let (mut found, mut loaded, mut after) = (0, 0, None);
        loop {
            let page = spill.page(after, 10_000, 4 << 20).unwrap();
            found += page.keys.len() as u64;
            loaded = loaded.max(spill.loaded.as_ref().map_or(0, |part| part.keys.len()));
            after = page.place;
            if page.end {
                return (found, loaded);
            }
        }
    }

    #[test]
    fn of_many_keys_few_are_in_memory_at_a_time() {
        let (found, loaded) = read_pages(400_000, 200_000);
        assert_eq!(found, 200_000);
        assert!(loaded < 40_000, "{loaded} keys at a time");
    }

    /// `cargo test --lib --release spill::tests::five -- --ignored --test-threads=1`
    #[test]
    #[ignore = "heavy: 10 million records, 260 MB on disk"]
    fn five_million_keys_take_little_memory() {
        let before = peak();
        let (found, loaded) = read_pages(10_000_000, 5_000_000);
        let grown = (peak() - before) >> 20;
        println!("{found} keys, at most {loaded} at a time, {grown} MiB");
        assert_eq!(found, 5_000_000);
        assert!(grown < 48, "{grown} MiB");
    }
}
