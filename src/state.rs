//! The checkpoint: small JSON entries by key, each versioned and checksummed, committed together with the records.
