use std::fs;

/// What the system tells of this process, from `/proc/self` alone: a sandbox may hide the rest.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    /// In seconds.
    pub(super) cpu: f64,
    /// In bytes.
    pub(super) resident: u64,
    /// In bytes.
    pub(super) virtual_memory: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    pub(super) max_open_files: u64,
}

/// Of `/proc`'s times, whatever the kernel's own: Linux has told them in these for as long as there is `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Of now. What the system does not tell is 0.
    pub(super) fn read() -> Self {
        let text = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        Self {
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            max_open_files: open_files_limit().unwrap_or(0),
            ..Self::parse(&text("stat"), &text("status"))
        }
    }

    fn parse(stat: &str, status: &str) -> Self {
        // The program's name, in parentheses, may hold anything; user and system time are the 12th and 13th after it.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: u32 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            cpu: f64::from(ticks) / TICKS_PER_SECOND,
            resident: 1024 * number("VmRSS:"),
            virtual_memory: 1024 * number("VmSize:"),
            threads: number("Threads:"),
            ..Self::default()
        }
    }
}

/// How many files, sockets among them, this process may have open. None where the system does not tell.
#[must_use]
pub fn open_files_limit() -> Option<u64> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)
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
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             1000                 1000                 processes\n\
                      Max open files            64                   1048576              files\n";
        assert_eq!(soft_limit(limits), Some(64));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files"),
            Some(u64::MAX)
        );
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn a_name_with_parentheses_misleads_nobody() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t4\n";
        let expected =
            Process { cpu: 3.0, resident: 1 << 20, virtual_memory: 2 << 20, threads: 4, ..Process::default() };
        assert_eq!(Process::parse(stat, status), expected);
        let now = Process::read();
        assert!(now.resident > 0 && now.open_files > 2 && now.threads > 0, "{now:?}");
    }
}
