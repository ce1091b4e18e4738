//! The program: see `gimbal --help`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS provider for everything; a second installation would only repeat the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    gimbal::cli::main()
}
