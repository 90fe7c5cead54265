use std::path::PathBuf;

use serde::Deserialize;

use super::checks::{hours, intervals, millis, require, within};
use super::error::{SettingsError, invalid};
use super::uris::{GivenUris, UriSource};
use super::values::{HumanDuration, HumanDurations, unless_empty};
use crate::pacing::{Backoff, InvalidBackoff};

/// More would be thousands of queues.
const MAX_WAIT_LEVELS: usize = 32;

/// `[amqp]`: the broker and how it is used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amqp {
    /// `uri`, as it was given.
    #[serde(rename = "uri")]
    pub(super) given_uris: GivenUris,
    /// A file that holds the URIs instead; read for each session.
    #[serde(default, deserialize_with = "unless_empty")]
    pub uri_file: Option<PathBuf>,
    /// The nodes of one cluster, from the file or from `uri`.
    #[serde(skip)]
    pub uris: UriSource,
    /// Unacknowledged deliveries from each of the two queues.
    pub prefetch: u16,
    /// Heartbeat interval.
    pub heartbeat: HumanDuration,
    /// For the whole of connecting and opening channels.
    pub connect_timeout: HumanDuration,
    /// For one publish.
    pub confirm_timeout: HumanDuration,
    /// For how long what the broker does not take is published again; then it waits in the broker.
    pub unsettled_limit: HumanDuration,
    /// First wait between two attempts to build a session, in the mean.
    pub reconnect_initial: HumanDuration,
    /// Longest wait between two attempts to build a session, in the mean.
    pub reconnect_max: HumanDuration,
    /// Names and arguments of queues and exchanges.
    pub topology: Topology,
}

impl Amqp {
    /// The intervals between two attempts to build a session. Each varies by half of itself: a fleet that lost its broker at
    /// one moment comes back over some seconds.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn reconnect(&self) -> Result<Backoff, InvalidBackoff> {
        Backoff::new(*self.reconnect_initial, 2.0, *self.reconnect_max, 0.5)
    }

    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        within("amqp.prefetch", self.prefetch, 1..=u16::MAX)?;
        within("amqp.heartbeat", self.heartbeat, millis(1000)..=hours(1))?;
        within("amqp.connect_timeout", self.connect_timeout, millis(1)..=hours(1))?;
        within("amqp.confirm_timeout", self.confirm_timeout, millis(1)..=hours(1))?;
        within("amqp.unsettled_limit", self.unsettled_limit, millis(1000)..=hours(24))?;
        let lengths = [("amqp.reconnect_initial", self.reconnect_initial), ("amqp.reconnect_max", self.reconnect_max)];
        // Their shape is no setting.
        intervals(self.reconnect(), lengths, [("amqp.reconnect_initial", 2.0), ("amqp.reconnect_max", 0.25)])?;
        self.topology.check()
    }
}

/// `[amqp.topology]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// What every name begins with.
    pub prefix: String,
    /// Declare, or only verify.
    pub declare: bool,
    /// Whether there is a queue for every event.
    pub results: bool,
    /// `x-delivery-limit` of the two work queues.
    pub delivery_limit: u32,
    /// One wait queue each. Ascending once validated.
    pub wait_levels: HumanDurations,
    /// Names of the user's own.
    #[serde(default)]
    pub external: ExternalNames,
}

impl Topology {
    fn check(&self) -> Result<(), SettingsError> {
        require(
            !self.prefix.is_empty() && self.prefix.len() <= 200 && !format!("{}.", self.prefix).starts_with("amq."),
            "amqp.topology.prefix",
            "it must have 1 to 200 bytes and be neither \"amq\" nor begin with \"amq.\", which the broker keeps for itself",
        )?;
        within("amqp.topology.delivery_limit", self.delivery_limit, 1..=i32::MAX.unsigned_abs())?;
        let levels = &self.wait_levels.0;
        require(!levels.is_empty(), "amqp.topology.wait_levels", "at least one wait level is needed, such as \"1s\"")?;
        if levels.len() > MAX_WAIT_LEVELS {
            let problem =
                format!("there are {}, and at most {MAX_WAIT_LEVELS} are possible: each is a queue", levels.len());
            return Err(invalid("amqp.topology.wait_levels", problem));
        }
        levels.iter().try_for_each(|level| within("amqp.topology.wait_levels", *level, millis(100)..=hours(24)))
    }
}

/// `[amqp.topology.external]`: queues and exchanges that exist already: verified, never declared or bound.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalNames {
    /// Instead of `{prefix}.requests`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub requests_exchange: Option<String>,
    /// Instead of `{prefix}.requests`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub requests_queue: Option<String>,
    /// Instead of `{prefix}.events`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub events_exchange: Option<String>,
    /// Instead of `{prefix}.results`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub results_queue: Option<String>,
    /// Instead of `{prefix}.dead`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub dead_exchange: Option<String>,
    /// Instead of `{prefix}.dead`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub dead_queue: Option<String>,
}
