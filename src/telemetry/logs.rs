use std::fs::File;
use std::io::{self, IsTerminal as _, Write, stderr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tracing::dispatcher::{self, Dispatch};
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, fmt};

use super::log_writer::{self, LogWriter};
use super::meters::{Label as _, LogLevel};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The format that [`init`] was told.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Puts another filter into what [`init`] has made.
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Puts another filter into a subscriber.
type Reload = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Lines at WARN and ERROR, by the index of their [`LogLevel`].
static LINES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// lapin's WARN lines quote whole messages, and its TRACE lines the login: it is off unless the filter names it.
const UNLESS_NAMED: &str = "lapin=off";

/// Starts logging to standard error. `filter` is as in `RUST_LOG`; one that cannot be read lets errors through. A second
/// call in one process changes nothing.
pub fn init(format: LogFormat, filter: &str) {
    let format = *FORMAT.get_or_init(|| format);
    let (dispatch, reload) = dispatch(format, parsed(filter), || StandardError);
    // An error here says that a subscriber is installed already, which is what was wanted.
    if dispatcher::set_global_default(dispatch).is_ok() {
        let _ = RELOAD.set(reload);
    }
}

/// From now on this filter counts, as for [`init`].
pub fn set_filter(filter: &str) {
    if let Some(reload) = RELOAD.get() {
        reload(parsed(filter));
    }
}

/// From now on, what a thread that panics leaves behind is one log line, whatever the filter: where it was, but not what
/// it said, which may quote what was being handled.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string);
        let line = line(|| {
            error!(
                thread = thread.name().unwrap_or("unnamed"),
                location,
                "a thread panicked, which is a bug; what it said is left out, since it may quote what was being handled"
            );
        });
        StandardError::take(&line);
    }));
}

/// Prints a line on standard error, after all that was logged before. It waits for nobody; one that cannot be written has
/// nowhere else to go.
pub fn print_line(line: &str) {
    StandardError::take(format!("{line}\n").as_bytes());
}

/// Waits, for a moment at most, until what was logged and printed is written. To be called before the process ends.
pub fn flush() {
    if let Some(writer) = writer() {
        writer.flush(LAST_LINES);
    }
}

/// How many lines there were at this level, in this process.
pub(super) fn lines(level: LogLevel) -> u64 {
    LINES[level.index()].load(Relaxed)
}

/// How many lines were lost, in this process.
pub(super) fn lost() -> u64 {
    log_writer::lost()
}

/// Counts the lines that the filter lets through.
struct LineCount;

impl<S: Subscriber> Layer<S> for LineCount {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            _ => return,
        };
        LINES[level.index()].fetch_add(1, Relaxed);
    }
}

fn parsed(filter: &str) -> EnvFilter {
    // Beside another directive, no filter at all would mean "off".
    let filter = if filter.trim().is_empty() { "error" } else { filter };
    // Of two directives for the same target, the later counts.
    EnvFilter::try_new(format!("{UNLESS_NAMED},{filter}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("{UNLESS_NAMED},error")))
}

/// What formats events and hands each over as one line, and what changes its filter.
fn dispatch<W>(format: LogFormat, filter: EnvFilter, writer: W) -> (Dispatch, Reload)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let terminal = stderr().is_terminal();
    // Of its own, the formatter would complain with `eprintln!`, which panics where standard error cannot be written to.
    let builder = fmt().with_env_filter(filter).with_writer(writer).with_target(false).log_internal_errors(false);
    if format == LogFormat::Json || (format == LogFormat::Auto && !terminal) {
        let builder = builder.json().flatten_event(true).with_span_list(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (Dispatch::new(builder.finish().with(LineCount)), Box::new(move |filter| drop(handle.reload(filter))))
    } else {
        let builder = builder.with_ansi(terminal).with_filter_reloading();
        let handle = builder.reload_handle();
        (Dispatch::new(builder.finish().with(LineCount)), Box::new(move |filter| drop(handle.reload(filter))))
    }
}

/// What is logged within `event`, as it would be written, whatever the filter.
fn line(event: impl FnOnce()) -> Vec<u8> {
    let format = FORMAT.get().copied().unwrap_or(LogFormat::Auto);
    let lines = Memory::default();
    let taken = lines.clone();
    let (dispatch, _) = dispatch(format, EnvFilter::new("warn"), move || taken.clone());
    dispatcher::with_default(&dispatch, event);
    lines.take()
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where log lines go: never blocks, never fails.
struct StandardError;

impl StandardError {
    fn take(line: &[u8]) {
        match writer() {
            Some(writer) => writer.take(line),
            None => drop(stderr().write_all(line)),
        }
    }
}

impl Write for StandardError {
    /// One line, whole: the formatter writes each at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Self::take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Started at its first use. None where the system gives no thread for it.
fn writer() -> Option<&'static LogWriter> {
    static WRITER: OnceLock<Option<LogWriter>> = OnceLock::new();
    WRITER.get_or_init(|| LogWriter::start(destination(), lost_lines).ok()).as_ref()
}

/// Standard error by a handle of its own: the library's is locked while it is written to, and a reader that stalls must
/// not keep that lock.
fn destination() -> Box<dyn Write + Send> {
    match stderr().as_fd().try_clone_to_owned() {
        Ok(handle) => Box::new(File::from(handle)),
        Err(_) => Box::new(stderr()),
    }
}

fn lost_lines(lost: u64, problem: Option<&io::Error>) -> Vec<u8> {
    let problem = problem.map_or_else(|| "whoever reads them was too slow".to_owned(), ToString::to_string);
    line(|| warn!(lost, problem, "log lines were lost: standard error did not take them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of lapin and of the worker that this filter lets through.
    fn lets_through(filter: &str) -> String {
        let lines = Memory::default();
        let taken = lines.clone();
        let (dispatch, _) = dispatch(LogFormat::Json, parsed(filter), move || taken.clone());
        dispatcher::with_default(&dispatch, || {
            tracing::warn!(target: "lapin::channel", "lapin-warn");
            tracing::trace!(target: "lapin::frames", "lapin-trace");
            tracing::error!("own-error");
            tracing::debug!("own-debug");
        });
        let text = String::from_utf8(lines.take()).expect("UTF-8");
        let shown = ["lapin-warn", "lapin-trace", "own-error", "own-debug"];
        shown.into_iter().filter(|word| text.contains(word)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lapin_is_silent_unless_the_filter_names_it() {
        for (filter, expected) in [
            ("info", "own-error"),
            ("debug", "own-error own-debug"),
            ("trace", "own-error own-debug"),
            ("", "own-error"),
            ("off", ""),
            ("[{frame}]=trace,debug", "own-error own-debug"),
            ("debug,lapin=off", "own-error own-debug"),
            ("info,lapin=warn", "lapin-warn own-error"),
            ("lapin=trace,info", "lapin-warn lapin-trace own-error"),
            ("lapin::frames=trace,error", "lapin-trace own-error"),
            ("info,=x=", "own-error"),
        ] {
            assert_eq!(lets_through(filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn lost_lines_are_told_in_the_chosen_format_whatever_the_filter() {
        FORMAT.get_or_init(|| LogFormat::Json);
        let line = lost_lines(7, Some(&io::Error::from_raw_os_error(28)));
        let told: serde_json::Value = serde_json::from_slice(&line).expect("one JSON object");
        assert_eq!((&told["level"], &told["lost"]), (&"WARN".into(), &7.into()));
        assert_eq!(told["problem"], "No space left on device (os error 28)");
        assert!(line.ends_with(b"\n"));
    }
}
