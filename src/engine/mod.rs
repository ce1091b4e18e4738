//! The engine: one state machine without I/O.
