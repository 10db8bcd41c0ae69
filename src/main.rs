//! The binary: picks the allocator and hands over to the command line.

/// Sessions are many small buffers on a few threads, which is what mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    pgturnstile::cli::main()
}
