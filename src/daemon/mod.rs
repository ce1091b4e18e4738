//! The daemon: wires source, engine and sink, and does nothing else.
