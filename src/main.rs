//! The `cancel-worker` command. What it does is in the library, from [`cancel_worker::cli`] down.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread::Builder;

use cancel_worker::{cli, telemetry};

/// One message whose headers are 26,000 nested arrays, as deep as a frame can hold, overflows the stack of the
/// thread that parses it, and with it the process. 64 MiB survive it, 32 MiB do not; without optimization it takes
/// more than 256 MiB. A stack takes up memory only as far as it is used.
const MIN_STACK: usize = if cfg!(debug_assertions) { 512 << 20 } else { 64 << 20 };

/// By glibc, a block of this size has pages of its own, which go back to the system when it is freed, in bytes. Unless it is
/// told so, it raises the bound to the largest block that it has seen freed, and keeps what large messages took.
const OWN_PAGES: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// What a panic ends a Rust process with.
const PANICKED: u8 = 101;

fn main() -> ExitCode {
    if let Err(error) = ensure_environment() {
        telemetry::print_line(&format!(
            "cancel-worker: failed to start itself again with larger thread stacks: {error}"
        ));
        telemetry::flush();
        return ExitCode::FAILURE;
    }
    telemetry::report_panics();
    let exit = run();
    telemetry::flush();
    exit
}

/// Carries out the command in a thread, since the first thread's stack is not ours to size, and what parses copies and
/// writes such a message needs a deep one too.
fn run() -> ExitCode {
    match Builder::new().name("main".to_owned()).spawn(cli::main) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(PANICKED)),
        Err(error) => {
            telemetry::print_line(&format!("cancel-worker: failed to start a thread: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The size of new threads' stacks and what the memory allocator goes by are read from the environment once, before the first
/// thread: so a process that was started without them starts itself again, once.
fn ensure_environment() -> std::io::Result<()> {
    let given = env::var("RUST_MIN_STACK").ok().and_then(|size| size.parse::<usize>().ok());
    let stack = given.unwrap_or_default().max(MIN_STACK);
    let (name_of_bound, bound) = OWN_PAGES;
    let given_bound = env::var_os(name_of_bound);
    if given == Some(stack) && given_bound.is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "cancel-worker".into());
    let error = Command::new(env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .env("RUST_MIN_STACK", stack.to_string())
        .env(name_of_bound, given_bound.unwrap_or_else(|| bound.into()))
        .exec();
    Err(error)
}
