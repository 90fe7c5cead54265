use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::clock::wall_clock;
use super::connection::{Connection, CuttableListener};
use super::shared::Shared;
use super::state::SimulatorState;
use super::{api, control};

/// How long slow clients may delay the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// How to run a [`Simulator`].
#[derive(Clone)]
pub struct SimulatorOptions {
    /// Where to listen; port 0 takes a free one. By default a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// The bearer token that calls must carry; `None` (the default): any or none. Never logged, never shown.
    pub token: Option<String>,
    /// How many operations are known at most (1,000,000 by default); the oldest is forgotten for the newest.
    pub max_operations: usize,
    /// Determines which calls get an injected fault that only a share of them gets.
    pub seed: u64,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 0).into(), token: None, max_operations: 1_000_000, seed: 0 }
    }
}

impl fmt::Debug for SimulatorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatorOptions")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "[hidden]"))
            .field("max_operations", &self.max_operations)
            .field("seed", &self.seed)
            .finish()
    }
}

/// Why the simulator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The address is taken, or not this machine's.
    #[error("listen on {address} for the simulated API")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("serve the simulated API")]
    Serve(#[source] io::Error),
}

/// A scripted Operations API that is bound to its address, and answers once it is served. See the [module](super).
pub struct Simulator {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Simulator {
    /// Binds the address. From now on connections are queued by the system.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub async fn bind(options: SimulatorOptions) -> Result<Self, SimulatorError> {
        let SimulatorOptions { listen, token, max_operations, seed } = options;
        let failed = |source| SimulatorError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = SimulatorState::new(max_operations, seed, token, Instant::now(), wall_clock());
        let shared = Arc::new(Shared::new(state));
        Ok(Self { listener, address, shared })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that clients on this machine reach it by, such as `http://127.0.0.1:8085`; no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let ip: IpAddr = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Serves until `shutdown` is ready; then answers what is being answered, closes what hangs, and returns, at the latest
    /// after two seconds.
    ///
    /// # Errors
    /// The server ended by itself.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), SimulatorError> {
        let Self { listener, shared, .. } = self;
        let app = Router::new().merge(control::routes()).fallback(api::serve).with_state(Arc::clone(&shared));
        let closed = {
            let shared = Arc::clone(&shared);
            async move { shared.closing().await }
        };
        let server = axum::serve(CuttableListener(listener), app.into_make_service_with_connect_info::<Connection>())
            .with_graceful_shutdown(closed);
        let overdue = async {
            shutdown.await;
            shared.close();
            tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            ended = server => ended.map_err(SimulatorError::Serve),
            () = overdue => Ok(()),
        }
    }
}
