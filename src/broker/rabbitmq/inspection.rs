use lapin::Channel;

use super::address::Address;
use super::connection::BrokerConnection;
use super::names::Names;
use super::refusal::{Refusal, refusal};
use super::remedy::fault;
use super::topology::{self, Depth};
use super::topology_item::TopologyItem;
use crate::broker::error::BrokerError;
use crate::broker::role::Role;
use crate::settings;

/// More events that nobody takes are worth a word: `results` is bounded by nothing but the broker's disk.
pub const MANY_RESULTS: u32 = 100_000;

/// What [`inspect`] found.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// For each address in the settings, in their order: whether it can be connected to, logged in to, and its vhost used.
    pub nodes: Vec<(String, Result<(), BrokerError>)>,
    /// Every queue and exchange, as the first usable node knows them. Empty where no node can be used.
    pub topology: Vec<Finding>,
}

/// One queue or exchange.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Such as `queue "cancel-worker.requests"`.
    pub what: String,
    /// The name of a queue.
    pub queue: Option<String>,
    /// Its state, or what is wrong with it and what to do.
    pub status: Result<Status, BrokerError>,
}

/// The state of a queue or exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There, and as the settings want it as far as that can be known.
    Exchange,
    /// There, and as the settings want it as far as that can be known.
    Queue {
        /// Ready to be delivered.
        messages: u32,
        /// Now.
        consumers: u32,
        /// Of a queue without a leader RabbitMQ says that it has neither.
        believed: bool,
    },
    /// Not there; a session will declare it.
    ToBeDeclared,
}

/// Looks at every node and at the topology, and changes nothing.
///
/// # Errors
/// Only for settings that cannot be used at all; everything else is in the result.
pub async fn inspect(settings: &settings::Amqp, worker_name: &str) -> Result<Inspection, BrokerError> {
    let addresses = Address::all(&settings.uris).await;
    let mut inspection = Inspection { nodes: Vec::new(), topology: Vec::new() };
    for address in &addresses {
        let limit = *settings.connect_timeout;
        let node = match BrokerConnection::open(address, Role::Inspect, *settings.heartbeat, worker_name, limit).await {
            Ok(connection) => {
                let mut outcome = Ok(());
                if inspection.topology.is_empty() {
                    match tokio::time::timeout(limit * 3, inspect_topology(&connection, address, settings)).await {
                        Ok(Ok(topology)) => inspection.topology = topology,
                        Ok(Err(error)) => outcome = Err(error),
                        Err(_) => outcome = Err(timed_out(address, settings)),
                    }
                }
                connection.close().await;
                outcome
            }
            Err(error) => Err(error),
        };
        inspection.nodes.push((address.to_string(), node));
    }
    Ok(inspection)
}

fn timed_out(address: &Address, settings: &settings::Amqp) -> BrokerError {
    BrokerError::TimedOut {
        address: address.to_string(),
        stage: "looking at queues and exchanges",
        limit: *settings.connect_timeout * 3,
    }
}

async fn inspect_topology(
    connection: &BrokerConnection,
    address: &Address,
    settings: &settings::Amqp,
) -> Result<Vec<Finding>, BrokerError> {
    let names = Names::new(&settings.topology);
    let mut findings = Vec::new();
    let mut channel = connection.channel().await?;
    for item in topology::plan(&names, &settings.topology) {
        if matches!(item, TopologyItem::Binding { .. }) {
            continue;
        }
        // The refusal of the item before has closed the channel.
        if !channel.status().connected() {
            channel = connection.channel().await?;
        }
        let status = look(connection, &channel, &item, settings.topology.declare, address).await;
        findings.push(Finding { what: item.what(), queue: item.queue().map(str::to_owned), status });
    }
    Ok(findings)
}

/// Verifies that the item exists, and only then asks for it with all its arguments: that creates nothing any more.
async fn look(
    connection: &BrokerConnection,
    channel: &Channel,
    item: &TopologyItem,
    declare: bool,
    address: &Address,
) -> Result<Status, BrokerError> {
    let ours = declare && !item.is_external();
    let depth = match topology::ensure(channel, item, true).await {
        Ok(depth) => depth,
        Err(error) if ours && matches!(refusal(&error), Some((Refusal::NotFound, _))) => {
            return Ok(Status::ToBeDeclared);
        }
        Err(error) => return Err(fault(&error, item, true, address)),
    };
    let Depth { messages, consumers } = depth;
    let status = match item {
        TopologyItem::Queue { .. } => {
            let believed = topology::believed(connection, item, depth, true).await?.is_some();
            Status::Queue { messages, consumers, believed }
        }
        TopologyItem::Exchange { .. } | TopologyItem::Binding { .. } => Status::Exchange,
    };
    // A queue without a leader does not answer that.
    if ours && !matches!(status, Status::Queue { believed: false, .. }) {
        topology::ensure(channel, item, false).await.map_err(|error| fault(&error, item, false, address))?;
    }
    Ok(status)
}
