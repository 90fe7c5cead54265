//! The quarantine: what was lost with sessions too often, or expired, is looked at alone, apart from all others.
//!
//! A message that ends every session it is delivered in takes whatever is in hand beside it towards the delivery limit. At
//! the limit the broker moves it all to the quarantine, whose session takes one delivery at a time and has connections of
//! its own. So what only stood beside goes back and is answered, and what ends sessions ends no more than this one.
//!
//! | delivery | what becomes of it |
//! |---|---|
//! | on its first visit | goes back as a follow-up, without a call, and counts anew |
//! | that has expired, on its first visit | the same, with the deadline now: it is cancelled once and answered |
//! | on a later visit | is handled here, alone |
//! | from its [`MAX_REDELIVERIES`]th redelivery on | goes back with the conclusion *failed*, `gave_up`, and is answered and kept among all others |
//! | from then on with a conclusion, and from the [`LAST_REDELIVERIES`]th on | is answered here, in the least form |
//! | that cannot even be parsed | reaches the quarantine's delivery limit, and is dead without an answer |

use tracing::{error, warn};

use super::disposition::Disposition;
use super::handler::{Form, Handler, Memory};
use crate::broker::{Delivery, DeliveryKind};
use crate::cancellation::{Conclusion, ErrorDetail, Outcome, Reason};
use crate::message::{Concluded, FollowUp};
use crate::operations_api::Operations;
use crate::telemetry::meters::DelayReason;

/// What has ended so many sessions in which it was alone would end all that follow.
const MAX_REDELIVERIES: u32 = 10;

/// From here on it is answered here: the quarantine loses it at the twenty-first loss.
const LAST_REDELIVERIES: u32 = 18;

impl<O: Operations> Handler<O> {
    /// Decides what becomes of a delivery in the quarantine.
    pub(super) async fn handle_quarantined(&self, delivery: &impl Delivery, memory: &mut Memory) -> Disposition {
        let mut case = match self.read(delivery) {
            Ok(case) => case,
            Err(decided) => return *decided,
        };
        let redeliveries = delivery.redeliveries();
        if redeliveries >= MAX_REDELIVERIES {
            return self.give_up(case, redeliveries, delivery.kind());
        }
        case.quarantined = case.quarantined.saturating_add(1);
        let (name, identity, visits) = (&case.request.name, case.request.identity.as_str(), case.quarantined);
        if visits > 1 && !self.stop.is_cancelled() {
            warn!(%name, identity, visits, redeliveries, "a request was lost with sessions again and is handled alone");
            return self.proceed(case, delivery, true, memory).await;
        }
        if delivery.has_expired() && delivery.kind() == DeliveryKind::Request {
            warn!(%name, identity, "a request has expired in its queue: it is cancelled once and answered");
            case.progress.expire();
        }
        self.delay_at_once(case, delivery.kind(), DelayReason::Quarantine)
    }

    /// Nothing is known of it, and nothing more will be. With that conclusion it goes back, and is answered among all others
    /// without being handled again: that takes one publish here, where not many losses are left. One that has come back from
    /// there, or whose way back may be what ends the sessions, is answered here, in the least form, for it may be the event.
    fn give_up(&self, mut case: FollowUp, redeliveries: u32, kind: DeliveryKind) -> Disposition {
        let (name, identity) = (&case.request.name, case.request.identity.as_str());
        error!(%name, identity, redeliveries, "a request that ended each session in which it was handled is given up");
        let message = format!("handling it ended {redeliveries} sessions of the worker, whose log says how");
        let error = Some(ErrorDetail { message, ..ErrorDetail::default() });
        let conclusion = Conclusion { outcome: Outcome::Failed(Reason::GaveUp), error };
        let given_up = || Concluded { conclusion, finished_at: self.clock.now() };
        let came_back = case.concluded.is_some();
        let concluded = case.concluded.take().unwrap_or_else(given_up);
        if came_back || redeliveries >= LAST_REDELIVERIES {
            return self.answer(case, concluded, kind, Form::Least);
        }
        case.concluded = Some(concluded);
        self.delay_at_once(case, kind, DelayReason::Quarantine)
    }
}
