use std::time::Duration;

use serde::Deserialize;

use super::fault::Fault;
use super::script::read_delay;
use crate::google_rpc::Code;

/// The body of `PUT /control/weather`: faults to inject, in the words of the control endpoint. An empty one clears.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FaultRequest {
    status: Option<u16>,
    html: bool,
    retry_after: Option<u32>,
    hang: bool,
    cut: bool,
    share: Option<f64>,
    latency: Option<String>,
    location: Option<String>,
    operations: Option<String>,
}

/// Why faults cannot be injected. The control endpoint calls them the weather.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidFaultRequest {
    #[error("the weather has more than one of status, hang and cut")]
    Ambiguous,
    #[error("the weather's status is not from 400 to 599")]
    Status,
    #[error("the weather has html or retry_after, but no status")]
    NoStatus,
    #[error("the weather's share is not from 0 to 1")]
    Share,
    #[error("the weather's latency is not a number with ms, s, m or h")]
    Latency,
    #[error("there is weather for {MAX_LOCATIONS} locations already")]
    TooManyLocations,
}

/// What calls get before any script is asked.
#[derive(Clone, Debug, PartialEq)]
struct InjectedFault {
    fault: Option<Fault>,
    /// The share of calls that get the fault, from 0 to 1.
    share: f64,
    latency: Duration,
    /// Only calls for operations whose id begins like this get it.
    id_prefix: String,
}

/// The faults of all calls, and of locations that have their own.
#[derive(Debug)]
pub(super) struct InjectedFaults {
    general: Option<InjectedFault>,
    by_location: Vec<(String, InjectedFault)>,
    random: u64,
}

const MAX_LOCATIONS: usize = 1000;

impl InjectedFaults {
    pub(super) const fn new(seed: u64) -> Self {
        Self { general: None, by_location: Vec::new(), random: seed }
    }

    /// What a call for this operation of this location gets: a fault, and how much later it is answered.
    pub(super) fn inject(&mut self, location: Option<&str>, operation: &str) -> (Option<Fault>, Duration) {
        let local = location.and_then(|location| self.by_location.iter().find(|(of, _)| of == location));
        let injected = local.map(|(_, injected)| injected).or(self.general.as_ref());
        let Some(injected) = injected.filter(|injected| operation.starts_with(&injected.id_prefix)) else {
            return (None, Duration::ZERO);
        };
        let (fault, share, latency) = (injected.fault, injected.share, injected.latency);
        let is_hit = share >= 1.0 || fault.is_some() && self.random_share() < share;
        (fault.filter(|_| is_hit), latency)
    }

    /// Sets, changes or clears the faults, those of one location or the general ones.
    pub(super) fn set(&mut self, request: FaultRequest) -> Result<(), InvalidFaultRequest> {
        let injected = request.injected()?;
        let Some(location) = request.location else {
            if injected.is_none() {
                self.by_location.clear();
            }
            self.general = injected;
            return Ok(());
        };
        self.by_location.retain(|(of, _)| *of != location);
        if self.by_location.len() >= MAX_LOCATIONS {
            return Err(InvalidFaultRequest::TooManyLocations);
        }
        self.by_location.extend(injected.map(|injected| (location, injected)));
        Ok(())
    }

    /// The next of a sequence of numbers from 0 to 1 that the seed determines (SplitMix64).
    fn random_share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = (mixed ^ (mixed >> 31)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

impl FaultRequest {
    /// `None`: no fault and no latency.
    fn injected(&self) -> Result<Option<InjectedFault>, InvalidFaultRequest> {
        let share = self.share.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidFaultRequest::Share);
        }
        let latency = match &self.latency {
            None => Duration::ZERO,
            Some(text) => read_delay(text).ok_or(InvalidFaultRequest::Latency)?,
        };
        let fault = self.fault()?;
        let id_prefix = self.operations.clone().unwrap_or_default();
        Ok((fault.is_some() || !latency.is_zero()).then_some(InjectedFault { fault, share, latency, id_prefix }))
    }

    fn fault(&self) -> Result<Option<Fault>, InvalidFaultRequest> {
        if self.status.is_none() && (self.html || self.retry_after.is_some()) {
            return Err(InvalidFaultRequest::NoStatus);
        }
        match (self.status, self.hang, self.cut) {
            (None, false, false) => Ok(None),
            (None, true, false) => Ok(Some(Fault::Hang)),
            (None, false, true) => Ok(Some(Fault::Cut)),
            (Some(status), false, false) if (400..=599).contains(&status) => Ok(Some(self.fault_of_status(status))),
            (Some(_), false, false) => Err(InvalidFaultRequest::Status),
            _ => Err(InvalidFaultRequest::Ambiguous),
        }
    }

    fn fault_of_status(&self, status: u16) -> Fault {
        match (self.retry_after, Code::from_http_status(status)) {
            (Some(seconds), _) => Fault::RetryAfter { status, seconds },
            (None, Some(code)) if !self.html => Fault::Code(code),
            _ => Fault::Html(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(requests: &[&str]) -> InjectedFaults {
        let mut injected = InjectedFaults::new(7);
        for request in requests {
            injected.set(serde_json::from_str(request).expect("a request")).expect("valid");
        }
        injected
    }

    fn refusal(request: &str) -> Option<InvalidFaultRequest> {
        InjectedFaults::new(7).set(serde_json::from_str(request).expect("a request")).err()
    }

    #[test]
    fn a_location_s_own_faults_come_before_the_general_ones() {
        let mut injected = injected(&[r#"{"status":503}"#, r#"{"status":404,"html":true,"location":"us-east1"}"#]);
        assert_eq!(injected.inject(None, "o").0, Some(Fault::Code(Code::Unavailable)));
        assert_eq!(injected.inject(Some("global"), "o").0, Some(Fault::Code(Code::Unavailable)));
        assert_eq!(injected.inject(Some("us-east1"), "o").0, Some(Fault::Html(404)));
        injected.set(serde_json::from_str(r#"{"location":"us-east1"}"#).expect("a request")).expect("valid");
        assert_eq!(injected.inject(Some("us-east1"), "o").0, Some(Fault::Code(Code::Unavailable)));
    }

    #[test]
    fn faults_can_be_those_of_some_operations_only() {
        let mut injected = injected(&[r#"{"hang":true,"operations":"never-"}"#]);
        assert_eq!(injected.inject(None, "never-1").0, Some(Fault::Hang));
        assert_eq!(injected.inject(None, "cancels-1").0, None);
    }

    #[test]
    fn an_empty_request_clears_all_faults() {
        let mut injected = injected(&[r#"{"hang":true,"location":"us-east1"}"#, r#"{"cut":true,"latency":"5ms"}"#]);
        assert_eq!(injected.inject(None, "o"), (Some(Fault::Cut), Duration::from_millis(5)));
        injected.set(FaultRequest::default()).expect("valid");
        assert_eq!(injected.inject(Some("us-east1"), "o"), (None, Duration::ZERO));
    }

    #[test]
    fn a_share_of_the_calls_gets_the_fault_and_the_seed_says_which() {
        let hits = || {
            let mut injected = injected(&[r#"{"status":502,"share":0.25}"#]);
            (0..1000).map(|_| injected.inject(None, "o").0.is_some()).collect::<Vec<bool>>()
        };
        let count = hits().into_iter().filter(|hit| *hit).count();
        assert!((200..300).contains(&count), "{count}");
        assert_eq!(hits(), hits());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        assert_eq!(refusal(r#"{"status":503,"hang":true}"#), Some(InvalidFaultRequest::Ambiguous));
        assert_eq!(refusal(r#"{"status":200}"#), Some(InvalidFaultRequest::Status));
        assert_eq!(refusal(r#"{"retry_after":3}"#), Some(InvalidFaultRequest::NoStatus));
        assert_eq!(refusal(r#"{"cut":true,"share":1.5}"#), Some(InvalidFaultRequest::Share));
        assert_eq!(refusal(r#"{"latency":"soon"}"#), Some(InvalidFaultRequest::Latency));
        assert_eq!(refusal(r#"{"status":429,"retry_after":3}"#), None);
    }
}
