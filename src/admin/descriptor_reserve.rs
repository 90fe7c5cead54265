use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// This many file descriptors are reserved: probes are answered also when the process has no other left.
const RESERVED_DESCRIPTORS: usize = 4;

/// Open files that are there for their descriptors only.
#[derive(Default)]
pub(super) struct DescriptorReserve(Mutex<Vec<File>>);

impl DescriptorReserve {
    /// Reserves again what was released, as far as the system has descriptors.
    pub(super) fn fill(&self) {
        let mut files = self.files();
        while files.len() < RESERVED_DESCRIPTORS
            && let Ok(file) = File::open("/dev/null")
        {
            files.push(file);
        }
    }

    /// Makes room for a connection; tells whether there was a descriptor to release.
    pub(super) fn release_one(&self) -> bool {
        self.files().pop().is_some()
    }

    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the reserve when a connection has ended.
pub(super) struct RefillOnDrop(pub(super) Arc<DescriptorReserve>);

impl Drop for RefillOnDrop {
    fn drop(&mut self) {
        self.0.fill();
    }
}
