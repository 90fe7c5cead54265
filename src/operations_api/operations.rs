use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::classify::Call;
use crate::cancellation::Reply;
use crate::message::OperationName;
use crate::pacing::Key;

/// The Operations API, as far as a cancellation needs it.
pub trait Operations: Send + Sync + 'static {
    /// Makes a call for an operation, tells `sent` when everything that it takes is there, and what time its answer tells.
    fn call(&self, call: Call, name: &OperationName, sent: &CallSent) -> impl Future<Output = Reply> + Send;

    /// Which endpoint serves the operation. None: no call will be made at all.
    fn endpoint(&self, name: &OperationName) -> Option<ServingEndpoint>;

    /// `POST {endpoint}/{version}/{name}:cancel`: [`Reply::Accepted`] or a failure. Safe to repeat.
    fn cancel(&self, name: &OperationName) -> impl Future<Output = Reply> + Send {
        async { self.call(Call::Cancel, name, &CallSent::default()).await }
    }

    /// `GET {endpoint}/{version}/{name}`: the operation as it is now, or why it is not known.
    fn get(&self, name: &OperationName) -> impl Future<Output = Reply> + Send {
        async { self.call(Call::Get, name, &CallSent::default()).await }
    }
}

/// The endpoint that serves an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServingEndpoint {
    /// For its circuit breaker and rate limit: locations with one endpoint share them.
    pub key: Key,
    /// It stands in the settings, and is not made of the location that a message names.
    pub in_settings: bool,
}

/// What is learnt of a call beside its reply: that it is on its way to its endpoint (what it waits for before, such as a
/// token, says nothing of that endpoint), and what time it was there.
#[derive(Debug, Default)]
pub struct CallSent {
    goes: Notify,
    told_time: Mutex<Option<ToldTime>>,
}

/// The time that an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldTime {
    /// Cut to seconds.
    pub time: OffsetDateTime,
    /// From the call to its answer.
    pub round_trip: Duration,
    /// When the answer came.
    pub arrived: Instant,
}

impl CallSent {
    /// The call goes.
    pub fn tell(&self) {
        self.goes.notify_one();
    }

    /// Waits until it goes.
    pub async fn told(&self) {
        self.goes.notified().await;
    }

    /// Its answer told the time.
    pub fn tell_time(&self, time: ToldTime) {
        *self.told_time.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    /// The time that its answer told.
    pub fn told_time(&self) -> Option<ToldTime> {
        *self.told_time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
