//! A projection: one contract version compiled against one table version, so that a row costs only copies and parses.
