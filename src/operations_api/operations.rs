use crate::cancellation::Reply;
use crate::message::OperationName;
use crate::pacing::Key;

/// The Operations API, as far as a cancellation needs it.
pub trait Operations: Send + Sync + 'static {
    /// `POST {endpoint}/{version}/{name}:cancel`: [`Reply::Accepted`] or a failure. Safe to repeat.
    fn cancel(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;

    /// `GET {endpoint}/{version}/{name}`: the operation as it is now, or why it is not known.
    fn get(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;

    /// Which endpoint serves the operation, for its circuit breaker and rate limit. None: no call will be made at all.
    fn endpoint(&self, name: &OperationName) -> Option<Key>;
}
