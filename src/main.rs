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

/// What a panic ends a Rust process with.
const PANICKED: u8 = 101;

fn main() -> ExitCode {
    if let Err(error) = ensure_thread_stacks() {
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

/// The size of new threads' stacks is read from the environment once, before the first of them: so a process that was
/// started without it starts itself again, once.
fn ensure_thread_stacks() -> std::io::Result<()> {
    let given = env::var("RUST_MIN_STACK").ok().and_then(|size| size.parse::<usize>().ok());
    if given.is_some_and(|size| size >= MIN_STACK) {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "cancel-worker".into());
    let error = Command::new(env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .env("RUST_MIN_STACK", MIN_STACK.to_string())
        .exec();
    Err(error)
}
