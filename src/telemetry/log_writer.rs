use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// Lines wait in two buffers of this many bytes: one is filled while the other is written.
const ROOM: usize = 512 << 10;

/// What a pipe takes in one piece: lines of several processes do not get mixed up.
const PIECE: usize = 4096;

/// While the destination takes nothing: between two attempts to tell of the lines that were lost.
const RETRY: Duration = Duration::from_secs(1);

/// A destination that another process has made non-blocking is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Its thread needs little: it moves bytes, and formats a line once in a while.
const STACK: usize = 1 << 20;

/// Lines that this process has lost.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines this process has lost.
pub(super) fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// The line that tells how many lines were lost, and what the system said, if it was the system.
type Notice = fn(u64, Option<&io::Error>) -> Vec<u8>;

/// Takes log lines at once, whatever their destination does, and writes them in a thread of its own. Lines that find no
/// room, because the destination is slow, and lines that it refuses are lost; their number is told when it takes lines again.
pub(super) struct LogWriter {
    queue: Arc<Queue>,
}

impl LogWriter {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(destination: impl Write + Send + 'static, notice: Notice) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let pen = Pen { destination, notice, lost: 0, torn: false, problem: None, refused: None };
        let lines = Arc::clone(&queue);
        thread::Builder::new()
            .name("log-writer".to_owned())
            .stack_size(STACK)
            .spawn(move || pen.write_all_of(&lines))?;
        Ok(Self { queue })
    }

    /// Takes one line, with its line break.
    pub(super) fn take(&self, line: &[u8]) {
        self.queue.push(line);
    }

    /// Waits until everything is written, but not longer than this.
    pub(super) fn flush(&self, limit: Duration) {
        let pending = |lines: &mut Lines| !(lines.idle && lines.waiting.is_empty());
        // A time-out is as good an end.
        drop(self.queue.written.wait_timeout_while(self.queue.lines(), limit, pending));
    }
}

/// Between those who log and the thread that writes.
#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    filled: Condvar,
    written: Condvar,
}

struct Lines {
    waiting: Vec<u8>,
    /// They found no room.
    lost: u64,
    /// All that was taken is written, or lost.
    idle: bool,
}

impl Default for Lines {
    fn default() -> Self {
        // Never grows, and takes up memory only as far as it has been filled.
        Self { waiting: Vec::with_capacity(ROOM), lost: 0, idle: false }
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        if lines.waiting.len() + line.len() > ROOM {
            lines.lost = lines.lost.saturating_add(1);
            LOST.fetch_add(1, Relaxed);
            return;
        }
        let wake = lines.idle && lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        drop(lines);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Swaps what waits with the empty `batch`, as soon as something does or the time is over; tells how many lines found
    /// no room since.
    fn swap(&self, batch: &mut Vec<u8>, limit: Option<Duration>) -> u64 {
        let mut lines = self.lines();
        lines.idle = true;
        self.written.notify_all();
        let nothing = |lines: &mut Lines| lines.waiting.is_empty();
        let mut lines = match limit {
            None => self.filled.wait_while(lines, nothing).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.filled.wait_timeout_while(lines, limit, nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        lines.idle = false;
        std::mem::swap(&mut lines.waiting, batch);
        std::mem::take(&mut lines.lost)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing side.
struct Pen<W> {
    destination: W,
    notice: Notice,
    /// Lines that were lost and have not been told of.
    lost: u64,
    /// The last write ended within a line.
    torn: bool,
    /// What the system said to the last write that failed.
    problem: Option<io::Error>,
    /// When the notice was last refused, unless something was written since.
    refused: Option<Instant>,
}

impl<W: Write> Pen<W> {
    fn write_all_of(mut self, queue: &Queue) {
        let mut batch = Vec::with_capacity(ROOM);
        loop {
            let no_room = queue.swap(&mut batch, (self.lost > 0).then_some(RETRY));
            // Lost before this batch.
            self.tell();
            self.write_batch(&batch);
            batch.clear();
            // And after it.
            self.lost = self.lost.saturating_add(no_room);
            self.tell();
        }
    }

    /// Tells of lost lines, if there are any and the destination takes it. While it does not, once every [`RETRY`]: however
    /// much is logged meanwhile, a full disk costs no more than that.
    fn tell(&mut self) {
        if self.lost == 0 || self.refused.is_some_and(|refused| refused.elapsed() < RETRY) {
            return;
        }
        let notice = (self.notice)(self.lost, self.problem.as_ref());
        if self.write(&notice).is_ok() {
            self.lost = 0;
            self.problem = None;
        } else {
            self.refused = Some(Instant::now());
        }
    }

    fn write_batch(&mut self, mut batch: &[u8]) {
        while !batch.is_empty() {
            let (piece, rest) = batch.split_at(piece_end(batch));
            if let Err(unwritten) = self.write(piece) {
                let lost = lines_in(unwritten) + lines_in(rest);
                LOST.fetch_add(lost, Relaxed);
                self.lost = self.lost.saturating_add(lost);
                return;
            }
            batch = rest;
        }
    }

    /// Writes all of it, or returns the rest. What was torn ends first, so that the next line stands alone.
    fn write<'a>(&mut self, bytes: &'a [u8]) -> Result<(), &'a [u8]> {
        if self.torn && self.write_through(b"\n").is_err() {
            return Err(bytes);
        }
        self.write_through(bytes)
    }

    fn write_through<'a>(&mut self, mut bytes: &'a [u8]) -> Result<(), &'a [u8]> {
        while !bytes.is_empty() {
            match self.destination.write(bytes) {
                Ok(0) => return Err(self.failed(bytes, ErrorKind::WriteZero.into())),
                Ok(written) => {
                    let (done, rest) = bytes.split_at(written.min(bytes.len()));
                    self.torn = !done.ends_with(b"\n");
                    self.refused = None;
                    bytes = rest;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ASK_AGAIN),
                Err(error) => return Err(self.failed(bytes, error)),
            }
        }
        Ok(())
    }

    fn failed<'a>(&mut self, unwritten: &'a [u8], problem: io::Error) -> &'a [u8] {
        self.problem = Some(problem);
        unwritten
    }
}

/// As many whole lines as a pipe takes in one piece, at least one.
fn piece_end(batch: &[u8]) -> usize {
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let within = end(batch.get(..PIECE).unwrap_or(batch));
    let first = || batch.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    within.or_else(first).unwrap_or(batch.len())
}

fn lines_in(bytes: &[u8]) -> u64 {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn notice(lost: u64, problem: Option<&io::Error>) -> Vec<u8> {
        let problem = problem.map_or_else(|| "slow".to_owned(), |problem| format!("{:?}", problem.kind()));
        format!("{lost} lost: {problem}\n").into_bytes()
    }

    #[test]
    fn lines_are_written_in_their_order_and_a_flush_waits_for_them() {
        let mut file = tempfile::tempfile().expect("a file");
        let writer = LogWriter::start(file.try_clone().expect("a handle"), notice).expect("a thread");
        let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
        for line in lines.split_inclusive('\n') {
            writer.take(line.as_bytes());
        }
        writer.flush(SOON);
        let mut written = String::new();
        io::Seek::rewind(&mut file).expect("a file");
        file.read_to_string(&mut written).expect("text");
        assert_eq!(written, lines);
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_is_told_what_it_missed() {
        let (reader, pipe) = io::pipe().expect("a pipe");
        let writer = LogWriter::start(pipe, notice).expect("a thread");
        let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
        let began = Instant::now();
        const LINES: u64 = 100_000;
        for _ in 0..LINES {
            writer.take(&line);
        }
        writer.flush(Duration::from_millis(10));
        assert!(began.elapsed() < SOON, "100 MB were taken in {:?}", began.elapsed());

        let capacity = writer.queue.lines().waiting.capacity();
        assert!(capacity < 2 * ROOM, "{capacity} bytes are kept");
        let (mut whole, mut lost) = (0, 0);
        let mut texts = BufReader::new(reader).lines();
        while whole + lost < LINES {
            let text = texts.next().expect("more").expect("text");
            match text.strip_suffix(" lost: slow") {
                Some(number) => lost += number.parse::<u64>().expect("a number"),
                None => whole += u64::from(text.len() == 999),
            }
        }
        assert_eq!(whole + lost, LINES);
        // The room may end within a line.
        let kept = (whole + 1) * 1000;
        assert!(kept >= 512 << 10, "{kept} bytes were kept");
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let full = File::options().write(true).open("/dev/full").expect("a full disk");
        let mut pen = Pen { destination: full, notice, lost: 0, torn: false, problem: None, refused: None };
        pen.write_batch(b"one\ntwo\n");
        pen.tell();
        assert_eq!(pen.lost, 2);
        assert_eq!(pen.problem.expect("a problem").kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn while_the_disk_is_full_nothing_is_tried_to_be_told_with_each_line() {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        fn counted(lost: u64, problem: Option<&io::Error>) -> Vec<u8> {
            TRIED.fetch_add(1, Relaxed);
            notice(lost, problem)
        }
        let destination = SmallDisk { taken: Vec::new(), size: 0 };
        let mut pen = Pen { destination, notice: counted, lost: 0, torn: false, problem: None, refused: None };
        for _ in 0..1000 {
            pen.write_batch(b"one\n");
            pen.tell();
        }
        assert!(TRIED.load(Relaxed) <= 2, "{TRIED:?}");
        pen.destination.size = 1000;
        pen.write_batch(b"two\n");
        pen.tell();
        assert_eq!(String::from_utf8(pen.destination.taken).expect("text"), "two\n1000 lost: StorageFull\n");
    }

    /// Takes so many bytes, then is full, until it is emptied.
    struct SmallDisk {
        taken: Vec<u8>,
        size: usize,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.size - self.taken.len());
            self.taken.extend_from_slice(&bytes[..fits]);
            if fits == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(fits) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_by_a_full_disk_ends_before_the_next_one_and_counts_as_lost() {
        let destination = SmallDisk { taken: Vec::new(), size: 6 };
        let mut pen = Pen { destination, notice, lost: 0, torn: false, problem: None, refused: None };
        pen.write_batch(b"one\ntwo\nthree\n");
        assert_eq!(pen.lost, 2);
        pen.destination.size = 1000;
        pen.tell();
        pen.write_batch(b"four\n");
        let written = String::from_utf8(pen.destination.taken).expect("text");
        assert_eq!(written, "one\ntw\n2 lost: StorageFull\nfour\n");
        assert_eq!(pen.lost, 0);
    }

    #[test]
    fn a_piece_is_whole_lines_and_a_long_line_is_a_piece_of_its_own() {
        let short = b"0123456789\n".repeat(1000);
        assert_eq!(piece_end(&short), 4092);
        let long = [b"x".repeat(10_000).as_slice(), b"\nshort\n"].concat();
        assert_eq!(piece_end(&long), 10_001);
        assert_eq!(piece_end(b"no end"), 6);
    }
}
