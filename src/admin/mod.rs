//! The admin listener: what a supervisor asks a worker over HTTP.
//!
//! | call | what |
//! |---|---|
//! | `GET /livez` | 200: the process turns. Whoever gets no answer should start it anew |
//! | `GET /readyz` | 200 `{"ready":true,"reasons":[]}`, or 503 with why the worker cannot do its work now |
//!
//! A worker that is not ready mends itself as soon as what it waits for is there: starting it anew helps nobody.

mod limited_listener;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use limited_listener::LimitedListener;

use crate::telemetry::Readiness;

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken, or not this machine's.
    #[error(
        "listen on {address} for probes (another worker?); set admin.listen to a free address, or to \"\" for none"
    )]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The admin listener, bound to its address. See the [module](self).
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for ever.
    ///
    /// # Errors
    /// The server ended by itself.
    pub async fn serve(self, readiness: Arc<Readiness>) -> io::Result<()> {
        let app =
            Router::new().route("/livez", get(async || "live\n")).route("/readyz", get(readyz)).with_state(readiness);
        axum::serve(LimitedListener::new(self.listener), app).await
    }
}

#[derive(Serialize)]
struct Answer {
    ready: bool,
    reasons: Vec<String>,
}

async fn readyz(State(readiness): State<Arc<Readiness>>) -> impl IntoResponse {
    let reasons = readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Answer { ready, reasons }))
}
