use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::{ConnectionStatus, Event};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connection::BrokerConnection;
use super::refusal::connection_lost;
use super::session_end::SessionEnd;
use crate::broker::error::BrokerError;
use crate::broker::role::Role;

/// How long a connection that has ended is given to tell why.
const REASON_TIMEOUT: Duration = Duration::from_millis(250);
/// How often a connection is looked at: some ends have no event.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Ends the session with its connection, in a task of its own. Answers with whether an alarm blocks the connection now.
pub(super) fn spawn_watch(connection: &BrokerConnection, over: SessionEnd) -> watch::Receiver<bool> {
    let lapin = connection.lapin();
    let (blocked, receiver) = watch::channel(false);
    tokio::spawn(look_after(connection.role(), lapin.events_listener(), lapin.status().clone(), blocked, over));
    receiver
}

async fn look_after(
    role: Role,
    events: impl Stream<Item = Event> + Send,
    status: ConnectionStatus,
    blocked: watch::Sender<bool>,
    over: SessionEnd,
) {
    let mut events = std::pin::pin!(events);
    let mut tick = interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = over.ended() => return,
            event = events.next() => match event {
                // Of a channel alone it is its users' matter: those of the upkeep are refused things every day.
                Some(Event::Error(error)) if !status.connected() => { over.end(connection_lost(role, &error)); }
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%role, %reason, "the broker blocks publishing");
                    blocked.send_replace(true);
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!(%role, "the broker takes publishes again");
                    blocked.send_replace(false);
                }
                Some(_) => {}
                None => { over.end(BrokerError::Lost { role, problem: "it was closed".to_owned() }); }
            },
            _ = tick.tick() => if !status.connected() {
                // The event that tells why may be on its way.
                over.end(match timeout(REASON_TIMEOUT, events.next()).await {
                    Ok(Some(Event::Error(error))) => connection_lost(role, &error),
                    _ => BrokerError::Lost { role, problem: "it was closed".to_owned() },
                });
            },
        }
    }
}
