//! Damage is told, with a hint, before anything is written over it.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::error::{Code, Kind};
use crate::sink::Sink;
use crate::sink::manifest::MANIFEST;

/// A folder with one topic of two closed files and an open one.
fn three_files() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = folder();
    let mut sink = Hand::default().sink(Disk::default(), folder.path(), 2_000).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    for n in 0..5 {
        let row = Row { topic: 0, number: n, text: Some(if n == 4 { 10 } else { 700 }), last: true };
        sink.commit(&batch(&[row], u64::from(n) + 1, 0)).unwrap();
    }
    let files = files_in_order(&folder.path().join(TOPICS[0]));
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["0000000001.avro", "0000000002.avro", "0000000003.avro.open"]);
    (folder, files)
}

fn snapshot_of(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| fs::read(file).ok()).collect()
}

/// Loading is refused as damage, and nothing is changed by it.
fn assert_refused(folder: &tempfile::TempDir, files: &[PathBuf], what: &str) {
    let before = snapshot_of(files);
    let error = Hand::default().sink(Disk::default(), folder.path(), 1_000).unwrap().load().unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Definite, Code::SinkDamaged), "{what}: {error}");
    assert!(error.hint_text().is_some(), "{what}");
    assert_eq!(snapshot_of(files), before, "{what}");
}

fn cut(path: &PathBuf, by: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

#[test]
fn a_flipped_byte_in_the_manifest_is_damage() {
    let (folder, files) = three_files();
    let path = folder.path().join(MANIFEST);
    let mut text = fs::read(&path).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 4;
    fs::write(&path, text).unwrap();
    assert_refused(&folder, &files, "manifest");
    assert_eq!(TopicReader::open(folder.path(), TOPICS[0]).err().unwrap().code(), Code::SinkDamaged);
}

#[test]
fn a_missing_manifest_beside_data_is_damage_and_not_a_first_start() {
    let (folder, files) = three_files();
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    assert_refused(&folder, &files, "no manifest");
}

#[test]
fn a_file_shorter_than_committed_is_damage() {
    for i in 0..3 {
        let (folder, files) = three_files();
        cut(&files[i], 1);
        assert_refused(&folder, &files, &format!("file {i}"));
        assert_eq!(read_to_the_end(&folder).unwrap_err().code(), Code::SinkDamaged, "file {i}");
    }
}

#[test]
fn a_closed_file_cut_at_a_block_border_is_damage() {
    let (folder, files) = three_files();
    // The last of the file's two blocks: one byte of count, two of length, 700 of text and the rest of the envelope.
    let sync = fs::read(&files[1]).unwrap();
    let marker = sync[sync.len() - 16..].to_vec();
    let borders: Vec<usize> = (16..sync.len()).filter(|end| sync[end - 16..*end] == marker[..]).collect();
    cut(&files[1], (sync.len() - borders[1]) as u64);
    assert_refused(&folder, &files, "block border");
    assert_eq!(read_to_the_end(&folder).unwrap_err().code(), Code::SinkDamaged);
}

#[test]
fn a_missing_file_and_an_unknown_closed_one_are_damage() {
    for i in 0..3 {
        let (folder, files) = three_files();
        fs::remove_file(&files[i]).unwrap();
        assert_refused(&folder, &files, &format!("file {i}"));
        assert_eq!(read_to_the_end(&folder).unwrap_err().code(), Code::SinkDamaged, "file {i}");
    }
    let (folder, mut files) = three_files();
    files.push(folder.path().join(TOPICS[0]).join("0000000004.avro"));
    fs::write(&files[3], b"").unwrap();
    assert_refused(&folder, &files, "unknown");
}

#[test]
fn any_flipped_byte_of_a_block_is_found_by_readers_or_changes_a_text_only() {
    let (folder, files) = three_files();
    let whole = fs::read(&files[2]).unwrap();
    let header = whole.len() - 130;
    for i in header..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0x40;
        fs::write(&files[2], damaged).unwrap();
        // No checksum in the format: what counts is that no byte makes a reader panic or read beyond.
        if let Ok(records) = read_to_the_end(&folder) {
            assert_eq!(records, 5, "byte {i}");
        }
    }
}

fn read_to_the_end(folder: &tempfile::TempDir) -> Result<usize> {
    let mut reader = TopicReader::open(folder.path(), TOPICS[0])?;
    let mut records = 0;
    while reader.next()?.is_some() {
        records += 1;
    }
    Ok(records)
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let (folder, _) = three_files();
    let strange = folder.path().join(TOPICS[0]).join("notes.txt");
    fs::write(&strange, b"mine").unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    Hand::default().sink(Disk::default(), folder.path(), 1_000).unwrap().load().unwrap();
    assert_eq!(fs::read(&strange).unwrap(), b"mine");
}
