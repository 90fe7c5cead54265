use std::fmt;

use crate::settings::Settings;

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
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        // Each delivery in hand may make a call on a connection of its own; there are two queues.
        Some(Self { limit: soft_limit(&limits)?, needed: ALL_ELSE + 2 * u64::from(settings.amqp.prefetch) })
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

/// From `Max open files            1024                 1048576              files`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_and_compared() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             1000                 1000                 processes\n\
                      Max open files            64                   1048576              files\n";
        assert_eq!(soft_limit(limits), Some(64));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files"),
            Some(u64::MAX)
        );
        assert_eq!(soft_limit(""), None);
        let few = OpenFiles { limit: 64, needed: 612 };
        assert!(!few.suffice() && few.to_string().contains("is 64, and 612 may be needed"), "{few}");
        assert!(OpenFiles { limit: 612, needed: 612 }.suffice());
    }
}
