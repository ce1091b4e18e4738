//! A row costs no allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gimbal::avro::{BaseType, FieldType};
use gimbal::contract::{Encoding, FeedOptions, JsonPath, Mask, Rounding};
use gimbal::row::Row;
use gimbal::table::SourceType;

use super::Fed;

/// The system's allocator, with a count of what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_row_of_every_kind_costs_no_allocation() {
    let array = |item: SourceType, base| {
        let items = FieldType { null_branch: Some(0), base };
        (SourceType::Array(Box::new(item)), BaseType::Array(Box::new(items)))
    };
    let numeric = || SourceType::Numeric { precision: None, scale: None };
    let decimal = |precision, scale| BaseType::Decimal { precision, scale };
    let columns = [
        ((SourceType::Int8, BaseType::Long), "123456789012345"),
        ((numeric(), decimal(12, 2)), "-1234567.89"),
        ((numeric(), decimal(90, 20)), "123456789012345678901234567890123456789012345678901234567890.123"),
        ((SourceType::Text, BaseType::String), "a note of some length, é"),
        ((SourceType::Char, BaseType::String), "padded   "),
        ((SourceType::Timestamptz, BaseType::TimestampMicros), "2026-07-01 12:34:56.789+00"),
        ((SourceType::Date, BaseType::Date), "0044-03-15 BC"),
        ((SourceType::Float8, BaseType::Double), "3.141592653589793"),
        ((SourceType::Bytea, BaseType::Bytes), "\\x00112233445566778899aabbccddeeff"),
        ((SourceType::Uuid, BaseType::UuidFixed), "00112233-4455-6677-8899-aabbccddeeff"),
        (array(SourceType::Text, BaseType::String), r#"{plain,"quoted, \"escaped\" \\",NULL}"#),
        (array(SourceType::Bytea, BaseType::Bytes), r#"{"\\x00ff","\\x"}"#),
        ((SourceType::Money, BaseType::String), "-$1,234.56"),
    ];
    let mut feeds: Vec<Fed> = columns
        .iter()
        .map(|((source, base), _)| Fed::plain(source.clone(), FieldType { null_branch: Some(0), base: base.clone() }))
        .collect();
    let mut zoned = Fed::plain(SourceType::Timestamp, FieldType { null_branch: None, base: BaseType::TimestampMicros });
    zoned.options.timezone = Some("America/New_York".to_owned());
    feeds.push(zoned);
    let mut with = |source, base, option: &dyn Fn(&mut FeedOptions)| {
        let mut fed = Fed::plain(source, FieldType { null_branch: Some(0), base });
        option(&mut fed.options);
        feeds.push(fed);
    };
    with(SourceType::Jsonb, BaseType::String, &|options| options.path = JsonPath::parse("$.a[1]").ok());
    with(SourceType::Float8, decimal(12, 2), &|options| options.round = Some(Rounding::HalfEven));
    with(SourceType::Bytea, BaseType::String, &|options| options.encode = Some(Encoding::Base64));
    with(SourceType::Text, BaseType::String, &|options| options.mask = Some(Mask::KeepLast(4)));
    let mapped = [r#"{"b": 1, "a": [0, "x\n\u00e9"]}"#, "1.5e+03", "\\x00ff", "4111111111111111"];
    let projection = super::projection(&feeds);
    let texts = columns.iter().map(|(_, text)| *text).chain(["2026-07-01 12:34:56"]).chain(mapped);
    let (buffer, cells) = super::cells(texts.map(Some));
    let row = Row { buffer: buffer.as_bytes(), cells: &cells };
    let mut out = Vec::new();
    projection.value(row, &mut out).unwrap();
    let rows = allocations(|| {
        for _ in 0..1_000 {
            out.clear();
            projection.value(row, &mut out).unwrap();
        }
    });
    assert_eq!(rows, 0);
    assert_ne!(allocations(|| drop(Vec::<u8>::with_capacity(1))), 0, "the counter counts");
}
