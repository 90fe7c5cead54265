//! What the system refuses before a call is made: file descriptors, memory.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::causes::chain;

/// "Too many open files" of the process, and of the whole system: the same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// A shortage is over when nothing was refused for this long: longer than those that were refused wait before they try
/// again, which may be the level after the longest backoff.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(120);

/// The refusal of the system that an error comes from, if it comes from one.
pub(super) fn refusal<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e io::Error> {
    chain(error).filter_map(|cause| cause.downcast_ref()).find(|error| is_refusal(error))
}

fn is_refusal(error: &io::Error) -> bool {
    // Not "address not available": a machine without IPv6 says so of every host with an IPv6 address that is out.
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) || error.kind() == ErrorKind::OutOfMemory
}

/// What to do about it.
pub(super) fn remedy(refusal: &io::Error) -> &'static str {
    match refusal.raw_os_error() {
        Some(EMFILE) => "raise the worker's limit of open files (LimitNOFILE= in systemd, ulimit -n)",
        Some(ENFILE) => "raise the system's limit of open files (sysctl fs.file-max)",
        _ => "this machine has no memory left",
    }
}

/// Says once that calls cannot be made, and once that they can be made again.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortage(Arc<Mutex<Option<Instant>>>);

impl Shortage {
    /// The system refused what a call needs.
    pub(super) fn note(&self, refusal: &io::Error) {
        if self.last().replace(Instant::now()).is_some() {
            return;
        }
        let remedy = remedy(refusal);
        warn!(error = %refusal, remedy, "the system has no connection left for calls; they wait, and are made as soon as it has");
        tokio::spawn(self.clone().end());
    }

    async fn end(self) {
        loop {
            let quiet = self.last().map_or(RECOVERY_INTERVAL, |last| last.elapsed());
            let Some(left) = RECOVERY_INTERVAL.checked_sub(quiet).filter(|left| !left.is_zero()) else { break };
            sleep(left).await;
        }
        *self.last() = None;
        info!("the system has connections for calls again");
    }

    /// When something was last refused, while there is a shortage.
    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connect")]
    struct Connect(#[source] io::Error);

    #[test]
    fn a_refusal_of_the_system_is_found_among_the_causes_and_an_answer_of_the_network_is_none() {
        for (number, is) in [(EMFILE, true), (ENFILE, true), (12, true), (111, false), (104, false), (113, false)] {
            let error = Connect(io::Error::from_raw_os_error(number));
            assert_eq!(refusal(&error).is_some(), is, "{:?}", error.0);
        }
        assert!(
            refusal(&Connect(ErrorKind::AddrNotAvailable.into())).is_none(),
            "of another family than the one that is out"
        );
        assert!(refusal(&Connect(io::Error::other("failed to lookup address information"))).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_told_of_when_it_begins_and_when_nothing_was_refused_for_a_while() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(writer)).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let shortage = Shortage::default();
        let refused = io::Error::from_raw_os_error(EMFILE);
        for _ in 0..2 {
            for _ in 0..5 {
                shortage.note(&refused);
                sleep(RECOVERY_INTERVAL / 2).await;
            }
            sleep(RECOVERY_INTERVAL).await;
        }
        drop(logging);
        let mut told = String::new();
        reader.read_to_string(&mut told).expect("text");
        let levels: Vec<&str> = told.split_whitespace().filter(|word| ["WARN", "INFO"].contains(word)).collect();
        assert_eq!(levels, ["WARN", "INFO", "WARN", "INFO"], "{told}");
        assert!(told.contains("LimitNOFILE"), "{told}");
    }
}
