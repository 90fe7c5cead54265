//! The worker: takes deliveries, drives their operations to an end, publishes what came of it, and only then acknowledges.
//!
//! ```text
//! supervisor ─▶ dispatcher ─▶ for each delivery: handler ─▶ Disposition ─▶ settler ─▶ ack
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `supervisor` | [`run`]: builds sessions for ever, one after the other, until it is told to stop; those of the quarantine beside |
//! | `dispatcher` | takes deliveries of one session and has each handled and settled in a task of its own |
//! | `quarantine` | what was lost with sessions too often, or expired, is looked at alone |
//! | `in_hand` | the tasks of what a session holds, and what ends it |
//! | `handler`, `disposition` | what becomes of a delivery: talks to the Operations API, never to the broker |
//! | `driver` | [`drive`]: the calls and waits that `cancellation` decides on; the `cancel` command uses it as well |
//! | `last_calls` | how long a call may take near its operation's deadline |
//! | `call_permits` | [`CallPermits`]: whether a call goes now, by circuit breaker and rate limit |
//! | `api_problems` | what answers tell that is the worker's own fault: credentials, endpoints that refuse whoever calls |
//! | `waiting` | every wait by one table: held in memory or not, at which wait level, what is left; [`WaitBudget`] |
//! | `settler` | does what was decided; nothing else publishes or acknowledges |
//! | `control` | [`Control`]: the stop, and what may change while it works |
//! | `clock` | time and jitter |

mod api_problems;
mod call_permits;
mod clock;
mod control;
mod dispatcher;
mod disposition;
mod driver;
mod handler;
mod in_hand;
mod last_calls;
mod quarantine;
mod settler;
mod supervisor;
mod waiting;

pub use call_permits::CallPermits;
pub use clock::{Clock, now};
pub use control::Control;
pub use driver::drive;
pub use supervisor::{RunError, policy, run, run_on};
pub use waiting::{Unlimited, Wait, WaitBudget, WaitReason};
