//! A cluster of three nodes on this machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::row::{Row, longest};
use crate::stage::{PATIENCE, Stage};
use crate::support::Broker;

/// The node that leads the queue of requests is killed; the two others go on. After a while it comes back.
pub async fn leader_kill(stage: &mut Stage) -> Row {
    let times = stage.pick(2, 6);
    let mut nodes = block_in_place(three);
    stage.set_nodes(nodes.iter().map(|node| node.uri().to_owned()).collect());
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_500, 20_000), stage.pick(60, 200));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        stage.more_events(100).await;
        let leader = block_in_place(|| leader(stage, &nodes));
        // What is killed is lost at once: nothing else is to be waited for.
        let mended = block_in_place(|| {
            nodes[leader].kill9();
            stage.mended()
        });
        recovery = longest(recovery, stage.recovery(mended).await);
        sleep(stage.pick(Duration::from_secs(2), Duration::from_secs(10))).await;
        block_in_place(|| nodes[leader].restart());
        all_online(stage, &nodes).await;
    }
    upstream.finish().await;
    let row = stage.verdict(vec![worker], times, recovery).await;
    // The first has the port mapper of all.
    block_in_place(|| nodes.into_iter().rev().for_each(drop));
    row
}

fn three() -> Vec<Broker> {
    let first = Broker::private();
    let others = [first.join(), first.join()];
    [first].into_iter().chain(others).collect()
}

/// Which of the nodes leads the queue of requests.
fn leader(stage: &Stage, nodes: &[Broker]) -> usize {
    let leads = listed(&nodes[0], "leader").remove(&stage.name("requests")).expect("the queue of requests is listed");
    let name = |node: &Broker| node.ctl(["--silent", "eval", "node()."]).trim().trim_matches('\'').to_owned();
    nodes.iter().position(|node| name(node) == leads).unwrap_or_else(|| panic!("no node is called {leads}"))
}

/// Waits until each queue has all its members: another node lost before that would take the majority with it.
async fn all_online(stage: &Stage, nodes: &[Broker]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let online = block_in_place(|| listed(&nodes[0], "online"));
        let whole = |queue: &String| online.get(queue).is_some_and(|members| members.split(',').count() == nodes.len());
        if stage.queues().iter().all(whole) {
            return;
        }
        assert!(Instant::now() < end, "not all members came back: {online:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// A column of the list of queues, by name.
fn listed(node: &Broker, column: &str) -> BTreeMap<String, String> {
    let table = node.ctl(["--silent", "list_queues", "--no-table-headers", "name", column]);
    table.lines().filter_map(|line| line.split_once('\t')).map(|(name, value)| (name.into(), value.into())).collect()
}
