//! Which publishes are safe: the proof, and the ledger, which alone makes it.
//!
//! | file | subject |
//! |---|---|
//! | `confirmed` | [`Confirmed`]: the proof that a message is safe in a queue |
//! | `ledger` | the owner of a publishing channel: publishes, takes the confirms, judges each |
//! | `refusals` | whether refusals last, so that the channel is replaced |
//! | `returns` | which open publishes the broker returned as unroutable |
//! | `wake_flag` | whether a confirm became ready while the others were taken |

mod confirmed;
mod ledger;
mod refusals;
mod returns;
mod wake_flag;

pub use confirmed::Confirmed;
pub(super) use ledger::{Job, Ledger, LedgerContext};
