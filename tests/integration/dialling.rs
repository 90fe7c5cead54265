//! A name with several addresses, the first of which is dead: as the worker meets it in its hosts file.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use crate::support::{AmqpProxy, Broker, DeadAddress, Process, free_port, worker_command};
use crate::test_env::TestEnv;

/// The command with a hosts file of its own: in a mount namespace, for which most systems ask no rights.
fn with_hosts(hosts: &Path, command: &Command) -> Command {
    let command = command.as_std();
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    wrapped.arg(r#"mount --bind "$0" /etc/hosts && exec "$@""#).arg(hosts);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

async fn can_have_hosts(hosts: &Path) -> bool {
    with_hosts(hosts, &Command::new("true")).status().await.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_name_whose_first_address_is_dead_costs_a_moment_and_not_its_time_out() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 twofold.test\n127.0.0.2 twofold.test\n").unwrap();
    if !can_have_hosts(&hosts).await {
        eprintln!("skipped: this system lets nobody have a hosts file of his own (unshare --user --mount)");
        return;
    }
    // The resolver puts 127.0.0.1 first, whatever the order in the file.
    let port = free_port();
    let _dead = DeadAddress::on(SocketAddr::from(([127, 0, 0, 1], port))).await;
    let proxy = AmqpProxy::start_on(SocketAddr::from(([127, 0, 0, 2], port)), Broker::shared().uri()).await;
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &proxy.uri().replace("127.0.0.2", "twofold.test"));

    let began = Instant::now();
    let command = worker_command(&["run", "--name", "tested"], &env.environment());
    let mut worker = Process::spawn(with_hosts(&hosts, &command));
    worker.line_with("\"consuming\"", Duration::from_secs(10)).await;
    let took = began.elapsed();

    assert!(took > Duration::from_millis(500), "the dead address was not tried: it took {took:?}");
    env.collect_events().await;
    env.request("cancels-a").await;
    assert_eq!(env.answers(1).await.len(), 1);
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    env.end().await;
}
