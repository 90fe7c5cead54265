use tokio::sync::Notify;

use super::classify::Call;
use crate::cancellation::Reply;
use crate::message::OperationName;
use crate::pacing::Key;

/// The Operations API, as far as a cancellation needs it.
pub trait Operations: Send + Sync + 'static {
    /// Makes a call for an operation, and tells `sent` when everything that it takes is there.
    fn call(&self, call: Call, name: &OperationName, sent: &CallSent) -> impl Future<Output = Reply> + Send;

    /// Which endpoint serves the operation, for its circuit breaker and rate limit. None: no call will be made at all.
    fn endpoint(&self, name: &OperationName) -> Option<Key>;

    /// `POST {endpoint}/{version}/{name}:cancel`: [`Reply::Accepted`] or a failure. Safe to repeat.
    fn cancel(&self, name: &OperationName) -> impl Future<Output = Reply> + Send {
        async { self.call(Call::Cancel, name, &CallSent::default()).await }
    }

    /// `GET {endpoint}/{version}/{name}`: the operation as it is now, or why it is not known.
    fn get(&self, name: &OperationName) -> impl Future<Output = Reply> + Send {
        async { self.call(Call::Get, name, &CallSent::default()).await }
    }
}

/// That a call is on its way to its endpoint: what it waits for before, such as a token, says nothing of that endpoint.
#[derive(Debug, Default)]
pub struct CallSent(Notify);

impl CallSent {
    /// The call goes.
    pub fn tell(&self) {
        self.0.notify_one();
    }

    /// Waits until it goes.
    pub async fn told(&self) {
        self.0.notified().await;
    }
}
