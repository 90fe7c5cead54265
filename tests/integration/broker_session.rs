//! How sessions come to be, and every way in which they end.

use std::time::Duration;

use cancel_worker::broker::rabbitmq::Session;
use cancel_worker::broker::{BrokerError, Delivery as _, PublishError, Publisher as _, Session as _, Target};
use lapin::options::QueueDeleteOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::broker_setup::{Administered, WORKER, amqp, message, session, soon};
use crate::support::{Amqp, AmqpProxy, Broker, free_port};

async fn refused(uri: &str, others: &[(&str, &str)]) -> BrokerError {
    match soon(Session::open(&amqp(uri, "p", others), WORKER)).await {
        Ok(_) => panic!("the session was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_refused_login_names_the_user_and_never_the_password() {
    let uri = Administered::uri("nobody:s3cret", "%2f");
    let error = refused(&uri, &[]).await;
    assert!(matches!(&error, BrokerError::LoginRefused { user, .. } if user == "nobody"), "{error:?}");
    assert!(error.is_permanent());
    let text = format!("{error} {error:?}");
    assert!(text.contains("check user and password") && !text.contains("s3cret"), "{text}");
    let guest = refused(&Administered::uri("guest:s3cret", "%2f"), &[]).await.to_string();
    assert!(guest.contains("from its own machine only"), "{guest}");
}

#[tokio::test]
async fn a_missing_vhost_and_one_without_permission_are_told_apart() {
    let (vhost, uri) = Administered::vhost();
    let missing = refused(&Administered::uri(&format!("{vhost}:secret"), "nowhere"), &[]).await;
    assert!(matches!(&missing, BrokerError::VhostMissing { vhost, .. } if vhost == "nowhere"), "{missing:?}");
    assert!(missing.is_permanent() && missing.to_string().contains("rabbitmqctl add_vhost nowhere"));

    Administered::ctl(["clear_permissions", "-p", &vhost, &vhost]);
    let forbidden = refused(&uri, &[]).await;
    assert!(matches!(&forbidden, BrokerError::VhostForbidden { .. }), "{forbidden:?}");
    assert!(forbidden.is_permanent() && forbidden.to_string().contains("set_permissions"));

    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    Administered::ctl(["set_vhost_limits", "-p", &vhost, r#"{"max-connections": 0}"#]);
    let full = refused(&uri, &[]).await;
    assert!(!full.is_permanent() && full.to_string().contains("limit"), "{full:?}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_unreachable_and_the_next_one_is_taken() {
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let error = refused(&nowhere, &[]).await;
    assert!(matches!(error, BrokerError::Unreachable { .. }) && !error.is_permanent(), "{error:?}");
    let unknown = refused("amqp://no-such-host.invalid/%2f", &[]).await;
    assert!(matches!(unknown, BrokerError::Unreachable { .. }) && !unknown.is_permanent(), "{unknown:?}");

    let both = format!("{nowhere},{}", Broker::shared().uri());
    let settings = amqp(&both, &Broker::unique_prefix(), &[]);
    soon(Session::open(&settings, WORKER)).await.unwrap().close().await;
    let nodes = format!("{nowhere},amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let neither = refused(&nodes, &[]).await;
    assert!(neither.to_string().contains("none of the 2 nodes"), "{neither}");
    // In whatever order they were tried: the log says the same failure once.
    for _ in 0..10 {
        assert_eq!(refused(&nodes, &[]).await, neither);
    }
}

#[tokio::test]
async fn a_silent_server_costs_the_time_out_and_nothing_that_stays() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["amqp", "amqps"] {
        let uri = format!("{scheme}://guest:guest@{address}/%2f");
        let began = Instant::now();
        let opening = async { refused(&uri, &[("amqp.connect_timeout", "300ms")]).await };
        let (error, accepted) = tokio::join!(opening, listener.accept());
        assert!(matches!(error, BrokerError::TimedOut { .. }) && !error.is_permanent(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(3));
        // The connection is cut, so that the thread behind it ends: the server sees the end of the stream.
        let mut received = Vec::new();
        soon(accepted.unwrap().0.read_to_end(&mut received)).await.unwrap();
    }
}

#[tokio::test]
async fn an_attempt_that_the_network_has_swallowed_does_not_hold_up_the_next() {
    let proxy = AmqpProxy::start(Broker::shared().uri()).await;
    let settings = amqp(&proxy.uri(), &Broker::unique_prefix(), &[("amqp.connect_timeout", "10s")]);
    proxy.silence().await;
    let opening = Session::open(&settings, WORKER);
    let mending = async {
        // By now the system asks again only every eight seconds.
        sleep(Duration::from_millis(7_500)).await;
        proxy.forget();
        Instant::now()
    };
    let (session, mended) = tokio::join!(soon(opening), mending);
    assert!(mended.elapsed() < Duration::from_secs(3), "it took {:?}", mended.elapsed());
    session.unwrap().close().await;
}

#[tokio::test]
async fn a_broker_that_is_slow_to_answer_is_not_burdened_with_a_second_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for scheme in ["amqp", "amqps"] {
        let uri = format!("{scheme}://guest:guest@{}/%2f", listener.local_addr().unwrap());
        let mut connections = Vec::new();
        let accepting = async {
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
            }
        };
        tokio::select! {
            error = refused(&uri, &[("amqp.connect_timeout", "5s")]) => {
                assert!(matches!(error, BrokerError::TimedOut { .. }), "{error:?}");
            }
            () = accepting => {}
        }
        assert_eq!(connections.len(), 1);
    }
}

#[tokio::test]
async fn sessions_spread_over_the_nodes() {
    let [one, other] = [AmqpProxy::start(Broker::shared().uri()).await, AmqpProxy::start(Broker::shared().uri()).await];
    let settings = amqp(&format!("{},{}", one.uri(), other.uri()), &Broker::unique_prefix(), &[]);
    // The same random numbers each time.
    fastrand::seed(1);
    for _ in 0..12 {
        soon(Session::open(&settings, WORKER)).await.unwrap().close().await;
    }
    // Two connections each.
    let connections = [one.connections(), other.connections()];
    assert_eq!(connections.iter().sum::<u64>(), 24);
    assert!(connections.iter().all(|count| *count >= 6), "{connections:?}");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for scheme in ["amqp", "amqps"] {
        let error = refused(&format!("{scheme}://guest:guest@{address}/%2f"), &[]).await;
        assert!(matches!(error, BrokerError::Handshake { .. } | BrokerError::Tls { .. }), "{error:?}");
    }
    server.abort();
}

#[tokio::test]
async fn a_deleted_queue_ends_consuming_by_name_and_not_publishing() {
    let (mut session, prefix) = session(&[]).await;
    session.consume(10).await.unwrap();
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let queue = format!("{prefix}.followups");
    plain.channel().await.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();

    let error = soon(session.next()).await.unwrap_err();

    assert_eq!(error, BrokerError::ConsumerCancelled { queue });
    // What is in hand can be finished.
    assert_eq!(soon(session.next()).await.unwrap_err(), error);
    assert_eq!(session.over().cause(), None);
    drop(session.publisher().publish(&Target::Request, message("m")).await.unwrap());
    soon(session.close()).await;
}

#[tokio::test]
async fn connections_closed_by_the_broker_end_the_session_at_once_for_all_its_parts() {
    let (vhost, uri) = Administered::vhost();
    let mut session = soon(Session::open(&amqp(&uri, "p", &[]), WORKER)).await.unwrap();
    session.consume(10).await.unwrap();
    let publisher = session.publisher();
    let proof = publisher.publish(&Target::Request, message("m")).await.unwrap();
    let delivery = soon(session.next()).await.unwrap();
    let over = session.over();

    let names = Administered::ctl(["list_connections", "vhost", "client_properties"]);
    let names: String = names.lines().filter(|line| line.starts_with(&vhost)).collect();
    for role in ["consume", "publish"] {
        assert!(names.contains(&format!("cancel-worker {WORKER} {role}")), "{names}");
    }
    Administered::ctl(["close_all_connections", "--vhost", &vhost, "maintenance"]);

    let cause = soon(over.ended()).await;
    assert!(matches!(cause, BrokerError::Lost { .. }) && cause.to_string().contains("maintenance"), "{cause}");
    assert_eq!(soon(session.next()).await.unwrap_err(), cause);
    let unpublished = soon(publisher.publish(&Target::Request, message("m"))).await.unwrap_err();
    assert!(unpublished.to_string().contains("the session ended"), "{unpublished}");
    soon(session.close()).await;
    assert_eq!(soon(delivery.ack(proof)).await, Err(cause));
}

#[tokio::test]
async fn a_session_that_is_closed_or_dropped_is_over_for_its_publishers() {
    for close in [true, false] {
        let (session, _) = session(&[]).await;
        let (publisher, over) = (session.publisher(), session.over());
        if close {
            soon(session.close()).await;
        } else {
            drop(session);
        }
        assert_eq!(soon(over.ended()).await, BrokerError::Closed);
        assert!(soon(publisher.publish(&Target::Request, message("m"))).await.is_err());
    }
}

#[tokio::test]
async fn an_alarm_is_waited_out_beyond_the_confirm_timeout() {
    // An alarm blocks everybody's publishes: this node is for nobody else.
    let node = Broker::private();
    let settings = amqp(node.uri(), "p", &[("amqp.confirm_timeout", "500ms")]);
    let session = soon(Session::open(&settings, WORKER)).await.unwrap();
    let publisher = session.publisher();
    let mut blocked = session.blocked();
    assert!(!*blocked.borrow());
    let (enough, asked) = watch::channel(false);
    let publishing = tokio::spawn(async move {
        // The broker blocks a connection at its first publish under the alarm.
        while !*asked.borrow() {
            drop(publisher.publish(&Target::Request, message("m")).await?);
        }
        Ok::<(), PublishError>(())
    });

    node.ctl(["set_vm_memory_high_watermark", "0.000001"]);
    soon(blocked.wait_for(|blocked| *blocked)).await.unwrap();
    // Twice the time-out, under the alarm.
    sleep(Duration::from_secs(1)).await;
    assert!(!publishing.is_finished());
    assert_eq!(session.over().cause(), None);
    node.ctl(["set_vm_memory_high_watermark", "0.6"]);
    enough.send(true).unwrap();

    soon(publishing).await.unwrap().unwrap();
    soon(session.close()).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_the_session_by_the_confirm_timeout_and_close_does_not_hang() {
    let (proxy, frozen) = freezable_proxy(Broker::shared().uri()).await;
    let settings = amqp(&proxy, &Broker::unique_prefix(), &[("amqp.confirm_timeout", "500ms")]);
    let session = soon(Session::open(&settings, WORKER)).await.unwrap();
    let publisher = session.publisher();
    drop(publisher.publish(&Target::Request, message("before")).await.unwrap());

    frozen.send(true).unwrap();
    let began = Instant::now();
    let error = soon(publisher.publish(&Target::Request, message("after"))).await.unwrap_err();

    let cause = BrokerError::ConfirmTimeout(Duration::from_millis(500));
    assert_eq!(error, PublishError::SessionOver(cause.clone()));
    assert!(began.elapsed() >= Duration::from_millis(500) && began.elapsed() < Duration::from_secs(3));
    assert_eq!(session.over().cause(), Some(cause));
    soon(session.close()).await;
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_an_idle_session_by_its_heartbeat() {
    let (proxy, frozen) = freezable_proxy(Broker::shared().uri()).await;
    let settings = amqp(&proxy, &Broker::unique_prefix(), &[("amqp.heartbeat", "1s")]);
    let mut session = soon(Session::open(&settings, WORKER)).await.unwrap();
    session.consume(1).await.unwrap();
    frozen.send(true).unwrap();
    let began = Instant::now();
    let error = soon(session.next()).await.unwrap_err();
    assert!(error.to_string().contains("heartbeat"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(6));
    soon(session.close()).await;
}

/// The URI of a proxy before the broker, and a switch that stops it from passing on what the broker says.
async fn freezable_proxy(uri: &str) -> (String, watch::Sender<bool>) {
    let host = uri.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = uri.replace(&host, &listener.local_addr().unwrap().to_string());
    let (switch, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = TcpStream::connect(&host).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
            let mut frozen = frozen.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(count @ 1..) = from_broker.read(&mut buffer).await {
                    if frozen.wait_for(|frozen| !frozen).await.is_err() {
                        return;
                    }
                    to_client.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    (through, switch)
}
