//! A cluster of three nodes on this machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::row::{Row, longest};
use crate::support::Broker;
use crate::test_env::{PATIENCE, TestEnv};

/// The node that leads the queue of requests is killed; the two others go on. After a while it comes back.
pub async fn leader_kill(env: &mut TestEnv) -> Row {
    let times = env.pick(2, 6);
    let mut nodes = block_in_place(three);
    env.set_nodes(nodes.iter().map(|node| node.uri().to_owned()).collect());
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_500, 20_000), env.pick(60, 200));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        let leader = block_in_place(|| leader(env, &nodes));
        // What is killed is lost at once: nothing else is to be waited for.
        let mended = block_in_place(|| {
            nodes[leader].kill9();
            env.mended()
        });
        recovery = longest(recovery, env.recovery(mended).await);
        sleep(env.pick(Duration::from_secs(2), Duration::from_secs(10))).await;
        block_in_place(|| nodes[leader].restart());
        all_online(env, &nodes).await;
    }
    upstream.finish().await;
    let row = env.verdict(vec![worker], times, recovery).await;
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
fn leader(env: &TestEnv, nodes: &[Broker]) -> usize {
    let leads = listed(&nodes[0], "leader").remove(&env.name("requests")).expect("the queue of requests is listed");
    let name = |node: &Broker| node.ctl(["--silent", "eval", "node()."]).trim().trim_matches('\'').to_owned();
    nodes.iter().position(|node| name(node) == leads).unwrap_or_else(|| panic!("no node is called {leads}"))
}

/// Waits until each queue has all its members: another node lost before that would take the majority with it.
async fn all_online(env: &TestEnv, nodes: &[Broker]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let online = block_in_place(|| listed(&nodes[0], "online"));
        let whole = |queue: &String| online.get(queue).is_some_and(|members| members.split(',').count() == nodes.len());
        if env.queues().iter().all(whole) {
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
