//! Whether a call had a connection of its own, or one that an earlier call has used.
//!
//! A server may close an idle connection at the very moment when a call is sent on it. Such a call had no chance, and
//! says nothing about the service.

use std::cell::Cell;
use std::task::{Context, Poll};

use tower_service::Service;

tokio::task_local! {
    /// A connection has been begun for the call.
    static CONNECTING: Cell<bool>;
}

/// Does what a call does, and tells whether it certainly was on a connection that had been there before.
///
/// A call that began to connect counts as one on a new connection, although another may have become free meanwhile.
pub(super) async fn noting_reuse<T>(call: impl Future<Output = T>) -> (T, bool) {
    let noted = async {
        let done = call.await;
        (done, !CONNECTING.with(Cell::get))
    };
    CONNECTING.scope(Cell::new(false), noted).await
}

/// Wraps the connector, which runs within the call that needs a connection.
#[derive(Clone)]
pub(super) struct NoteConnecting<S>(pub(super) S);

impl<S: Service<R>, R> Service<R> for NoteConnecting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        // Outside of a call nothing asks for it.
        let _ = CONNECTING.try_with(|connecting| connecting.set(true));
        self.0.call(request)
    }
}
