//! The worker: takes deliveries, pursues their operations, publishes what came of it, and only then acknowledges.
//!
//! ```text
//! supervisor ─▶ dispatcher ─▶ for each delivery: handler ─▶ Disposition ─▶ settler ─▶ ack
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `supervisor` | [`run`]: builds sessions for ever, one after the other, until it is told to stop |
//! | `dispatcher` | takes deliveries of one session and has each handled and settled in a task of its own |
//! | `in_hand` | finishes what a session holds when the queue that it came from is gone |
//! | `handler`, `disposition` | what becomes of a delivery: talks to the Operations API, never to the broker |
//! | `driver` | [`drive`]: the calls and waits that `cancellation` decides on; the `cancel` command uses it as well |
//! | `call_permits` | [`CallPermits`]: whether a call goes now, by circuit breaker and rate limit |
//! | `waiting` | [`WaitBudget`]: how long a delivery is held for a wait |
//! | `settler` | does what was decided; nothing else publishes or acknowledges |
//! | `clock`, `counters` | time and jitter; what was settled |

mod call_permits;
mod clock;
mod counters;
mod dispatcher;
mod disposition;
mod driver;
mod handler;
mod in_hand;
mod settler;
mod supervisor;
mod waiting;

pub use call_permits::CallPermits;
pub use clock::{Clock, now};
pub use driver::drive;
pub use supervisor::{RunError, policy, run, run_on};
pub use waiting::{Unlimited, Wait, WaitBudget, WaitReason};
