use async_compat::Compat;

/// Starts the runtime in which lapin drops its sockets. It would start it with the first connection that ends, and panic
/// then where the system has no descriptor left for it, and again at the end of each later connection. To be called at the
/// start, outside of any runtime.
pub fn start_io_runtime() {
    drop(Compat::new(()));
}
