//! The `evenkeel` command.

use std::process::ExitCode;

/// Small allocations are most of what a request costs beside the kernel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    evenkeel::cli::main()
}
