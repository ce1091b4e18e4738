//! The source: the replication stream, and ordinary SQL for catalog samples, fences and chunks.
