use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

/// From the beginning of one attempt to that of the next while none has connected, unless one fails before: the
/// "connection attempt delay" of RFC 8305.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// From the first attempt of a round to the next round. What the network has swallowed stays without an answer even when
/// the network is well again, and a name can move: so it is looked up again, and its addresses are tried once more, beside
/// the attempts that there are.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);

/// An error tells of at most this many addresses.
const MAX_TOLD: usize = 4;

/// Why none of a name's addresses has connected. Written to fit after "… cannot be reached: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Unresolved(io::Error),
    #[error("its name was not resolved within {}", humantime::format_duration(*.0))]
    ResolvingTimedOut(Duration),
    #[error("its name has no address")]
    NoAddress,
    #[error("{}", told(.attempts, *.limit))]
    NoAnswer { attempts: Vec<Attempt>, limit: Duration },
}

/// What came of the last attempt at an address.
#[derive(Debug)]
pub(super) struct Attempt {
    address: SocketAddr,
    /// `None` while there is no answer.
    error: Option<io::Error>,
}

/// Connects to the first address of a name that answers, within `limit`.
///
/// The addresses are tried side by side, each [`ATTEMPT_DELAY`] after the one before, or at once where that one has failed.
/// The first connection wins; the other attempts are dropped, and their sockets with them. At most one attempt is begun in
/// each [`ATTEMPT_DELAY`] beside those that fail, so `limit` also bounds how many there are at once.
pub(super) async fn dial<S, R, C>(
    resolve: impl Fn() -> R,
    connect: impl Fn(SocketAddr) -> C,
    limit: Duration,
) -> Result<S, DialError>
where
    R: Future<Output = io::Result<Vec<SocketAddr>>>,
    C: Future<Output = io::Result<S>>,
{
    let end = Instant::now() + limit;
    let addresses = timeout_at(end, resolve()).await.map_err(|_| DialError::ResolvingTimedOut(limit))?;
    let mut waiting = interleaved(addresses.map_err(DialError::Unresolved)?);
    let mut next_round = Instant::now() + ROUND_INTERVAL;
    let (mut tried, mut attempts) = (Tried::default(), FuturesUnordered::new());
    loop {
        match waiting.pop_front() {
            Some(address) => {
                tried.begin(address);
                let connecting = connect(address);
                attempts.push(async move { (address, connecting.await) });
            }
            None if attempts.is_empty() => return Err(tried.error(limit)),
            None => {}
        }
        let next_attempt = Instant::now() + ATTEMPT_DELAY;
        tokio::select! {
            biased;
            Some((address, outcome)) = attempts.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => tried.failed(address, error),
            },
            () = sleep_until(end) => return Err(tried.error(limit)),
            () = sleep_until(next_attempt), if !waiting.is_empty() => {}
            again = async { sleep_until(next_round).await; resolve().await }, if waiting.is_empty() => {
                next_round = Instant::now() + ROUND_INTERVAL;
                // Where the name cannot be resolved now, the attempts that there are go on.
                waiting = interleaved(again.unwrap_or_default());
            }
        }
    }
}

/// Each of the two families in its own order, in turns, beginning with that of the first address: one family that is not
/// routed costs one delay (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = VecDeque::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

/// The addresses that were tried, each once.
#[derive(Default)]
struct Tried(Vec<Attempt>);

impl Tried {
    fn begin(&mut self, address: SocketAddr) {
        if !self.0.iter().any(|attempt| attempt.address == address) {
            self.0.push(Attempt { address, error: None });
        }
    }

    fn failed(&mut self, address: SocketAddr, error: io::Error) {
        if let Some(attempt) = self.0.iter_mut().find(|attempt| attempt.address == address) {
            attempt.error = Some(error);
        }
    }

    /// In an order that does not change from time to time, as that of a name server's answers does: the same failure is to
    /// read the same.
    fn error(mut self, limit: Duration) -> DialError {
        self.0.sort_unstable_by_key(|attempt| attempt.address);
        if self.0.is_empty() { DialError::NoAddress } else { DialError::NoAnswer { attempts: self.0, limit } }
    }
}

/// What each address said. That of a single one is not repeated: it stands in what this is a part of.
fn told(attempts: &[Attempt], limit: Duration) -> String {
    let said = |attempt: &Attempt| match &attempt.error {
        Some(error) => error.to_string(),
        None => format!("no answer within {}", humantime::format_duration(limit)),
    };
    if let [attempt] = attempts {
        return said(attempt);
    }
    let mut told: Vec<String> =
        attempts.iter().take(MAX_TOLD).map(|attempt| format!("{}: {}", attempt.address.ip(), said(attempt))).collect();
    if let more @ 1.. = attempts.len().saturating_sub(MAX_TOLD) {
        told.push(format!("and {more} more"));
    }
    format!("none of its {} addresses took the connection ({})", attempts.len(), told.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::{sleep, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A listener whose queue is full: the system drops what would connect, as a network does that leads nowhere.
    struct Dead {
        address: SocketAddr,
        _listener: TcpListener,
        _queue: Vec<TcpStream>,
    }

    impl Dead {
        async fn on(ip: &str) -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
            let listener = socket.listen(1).unwrap();
            let (address, mut queue) = (listener.local_addr().unwrap(), Vec::new());
            while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
                queue.push(stream.unwrap());
            }
            Self { address, _listener: listener, _queue: queue }
        }
    }

    async fn living() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn refusing() -> SocketAddr {
        living().await.1
    }

    /// Dials, and tells who took the connection and how long that took.
    async fn dialled(addresses: &[SocketAddr], limit: Duration) -> (Result<SocketAddr, DialError>, Duration) {
        let began = Instant::now();
        let stream = dial(|| async { Ok(addresses.to_vec()) }, TcpStream::connect, limit).await;
        (stream.map(|stream| stream.peer_addr().unwrap()), began.elapsed())
    }

    #[tokio::test]
    async fn dead_addresses_before_the_living_one_cost_a_delay_each() {
        let (_listener, living) = living().await;
        let (one, other) = (Dead::on("127.0.0.2").await, Dead::on("127.0.0.3").await);
        let (connected, took) = dialled(&[one.address, other.address, living], LIMIT).await;
        assert_eq!(connected.unwrap(), living);
        assert!((2 * ATTEMPT_DELAY..6 * ATTEMPT_DELAY).contains(&took), "it took {took:?}");
    }

    #[tokio::test]
    async fn a_refusal_starts_the_next_attempt_at_once() {
        let (_listener, living) = living().await;
        let (connected, took) = dialled(&[refusing().await, refusing().await, living], LIMIT).await;
        assert_eq!(connected.unwrap(), living);
        assert!(took < ATTEMPT_DELAY, "it took {took:?}");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_while_none_of_its_addresses_answers() {
        let (_listener, living) = living().await;
        let (dead, looks, began) = (Dead::on("127.0.0.2").await, AtomicUsize::new(0), Instant::now());
        let resolve = || async {
            match looks.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(vec![dead.address]),
                // A name server that fails once changes nothing for what is under way.
                1 => Err(io::ErrorKind::TimedOut.into()),
                _ => Ok(vec![living]),
            }
        };
        let stream = dial(resolve, TcpStream::connect, LIMIT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), living);
        assert!(began.elapsed() < 3 * ROUND_INTERVAL, "it took {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_error_tells_what_each_address_said_and_no_more_than_four() {
        let (dead, refusing) = (Dead::on("127.0.0.2").await, refusing().await);
        let limit = Duration::from_millis(600);
        let told = async |addresses: &[SocketAddr]| dialled(addresses, limit).await.0.unwrap_err().to_string();

        let both = "none of its 2 addresses took the connection (127.0.0.1: Connection refused (os error 111), 127.0.0.2: \
                    no answer within 600ms)";
        // However the name server orders them.
        assert_eq!(told(&[dead.address, refusing]).await, both);
        assert_eq!(told(&[refusing, dead.address]).await, both);
        assert_eq!(told(&[dead.address]).await, "no answer within 600ms");
        assert_eq!(told(&[refusing]).await, "Connection refused (os error 111)");
        assert_eq!(told(&[]).await, "its name has no address");

        let many: Vec<_> = (1..=200).map(|host| SocketAddr::from(([127, 0, 1, host], refusing.port()))).collect();
        let many = told(&many).await;
        assert!(many.ends_with(", and 196 more)") && many.len() < 400, "{many}");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_attempts_than_delays_in_the_limit() {
        let (begun, began) = (AtomicUsize::new(0), Instant::now());
        let addresses: Vec<SocketAddr> = (0..7).map(|host| SocketAddr::new([192, 0, 2, host].into(), 5672)).collect();
        let connect = |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<io::Result<()>>()
        };
        let error = dial(|| async { Ok(addresses.clone()) }, connect, LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::NoAnswer { .. }), "{error}");
        assert_eq!(began.elapsed(), LIMIT);
        let begun = begun.into_inner();
        assert!((5 * 7..=40).contains(&begun), "{begun}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_does_not_answer_costs_no_more_than_the_limit() {
        let resolve = || async {
            sleep(LIMIT * 2).await;
            Ok(Vec::new())
        };
        let error = dial(resolve, |_| async { Ok(()) }, LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "its name was not resolved within 10s");
    }

    #[test]
    fn the_two_families_take_turns_each_in_its_own_order() {
        let at = |ips: [&str; 5]| ips.map(|ip| SocketAddr::new(ip.parse().unwrap(), 1)).to_vec();
        let ordered = interleaved(at(["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"]));
        assert_eq!(ordered, at(["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]));
        let ordered = interleaved(at(["127.0.0.1", "::1", "::2", "::3", "::4"]));
        assert_eq!(ordered, at(["127.0.0.1", "::1", "::2", "::3", "::4"]));
    }
}
