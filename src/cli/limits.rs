use std::fmt;

use crate::settings::Settings;
use crate::telemetry::open_files_limit;

/// Besides calls: connections with the broker, probes, certificates, logs, the runtime.
const ALL_ELSE: u64 = 100;

/// How many files (sockets among them) this process may have open, and how many it may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenFiles {
    limit: u64,
    needed: u64,
}

impl OpenFiles {
    /// None where the system does not tell its limit.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        // Each delivery in hand may make a call on a connection of its own; there are two queues.
        Some(Self { limit: open_files_limit()?, needed: ALL_ELSE + 2 * u64::from(settings.amqp.prefetch) })
    }

    /// Whether they suffice.
    pub(super) const fn suffice(self) -> bool {
        self.limit >= self.needed
    }
}

impl fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed } = self;
        if self.suffice() {
            return write!(f, "{needed} may be needed, the limit is {limit}");
        }
        write!(
            f,
            "the limit of open files is {limit}, and {needed} may be needed (one for each delivery, twice amqp.prefetch, and {ALL_ELSE}): calls will have to wait; raise it (LimitNOFILE= in systemd, ulimit -n), or lower amqp.prefetch"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_with_what_to_do() {
        let few = OpenFiles { limit: 64, needed: 612 };
        assert!(!few.suffice() && few.to_string().contains("is 64, and 612 may be needed"), "{few}");
        assert!(OpenFiles { limit: 612, needed: 612 }.suffice());
    }
}
