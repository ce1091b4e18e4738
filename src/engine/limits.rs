//! What the engine puts up with.

/// Bounds of batches and copies. Production takes the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most records of one commit.
    pub batch_records: usize,
    /// Most bytes of one commit; a single row event may go beyond.
    pub batch_bytes: usize,
    /// Most rows of one chunk. Half a batch by default, so that a chunk never has to be split over two commits.
    pub chunk_rows: usize,
    /// Most rows of the first chunk, when nobody knows yet how long they are.
    pub chunk_rows_first: usize,
    /// Most bytes of one chunk; a longer range is cut at the row where this is reached.
    pub chunk_bytes: usize,
    /// Microseconds that one read should take: the next range is sized by the last one's time.
    pub chunk_micros: u64,
    /// Blocks of the first chunk (8 KiB each).
    pub chunk_blocks: u32,
    /// Fewest blocks of a later one.
    pub chunk_blocks_min: u32,
    /// Most blocks of a later one.
    pub chunk_blocks_max: u32,
    /// Most keys of a topic that are looked up at a time. Half a batch by default, as for `chunk_rows`.
    pub page_keys: usize,
    /// Most copies at a time; each holds one connection to production.
    pub copies: usize,
    /// Most hashes of recently touched keys, of 16 bytes each. Beyond, the open chunks are dropped and taken again later.
    pub touched_keys: usize,
    /// Most keys of a contract whose newest row is a dead letter (16 bytes each, and an entry of the checkpoint). Beyond, the
    /// whole topic counts as not level.
    pub dead_keys: usize,
    /// Most rows that one query reads again by their keys.
    pub reread_keys: usize,
    /// Most bytes of their values; beyond, what was read so far is taken, and fewer rows are asked for.
    pub reread_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            batch_records: 20_000,
            batch_bytes: 8 << 20,
            chunk_rows: 10_000,
            chunk_rows_first: 1_000,
            chunk_bytes: 4 << 20,
            chunk_micros: 200_000,
            chunk_blocks: 64,
            chunk_blocks_min: 16,
            chunk_blocks_max: 4096,
            page_keys: 10_000,
            copies: 3,
            touched_keys: 1 << 19,
            dead_keys: 10_000,
            reread_keys: 512,
            reread_bytes: 8 << 20,
        }
    }
}
