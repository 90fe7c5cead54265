//! RabbitMQ's management API, read-only: what AMQP does not tell. Policies, bindings, members, alarms, versions.
//!
//! | file | subject |
//! |---|---|
//! | `api` | what is asked, and what it answers |
//! | `diagnosis` | [`Diagnosis`]: one thing that was looked at |
//! | `examine` | what the answers mean, and the commands that mend it |
//! | `policies` | which policies do harm, whose they are, and what keeps them away |

mod api;
mod diagnosis;
mod examine;
mod policies;

pub use api::ManagementError;
pub use diagnosis::{Diagnosis, Severity};

use url::Url;

use super::names::Names;
use crate::settings;

/// Asks the management API about all that the worker needs. User and password are those of the URL, else those of `amqp.uri`.
///
/// # Errors
/// It gives no answer, or none that can be read.
pub async fn examine(settings: &settings::Amqp, url: &Url) -> Result<Vec<Diagnosis>, ManagementError> {
    let uris = settings.uris.last();
    let uri = uris.first();
    let vhost = uri.map_or("/", |uri| uri.vhost());
    let answers = api::ask(url, uri, vhost).await?;
    Ok(examine::examine(&answers, &Names::new(&settings.topology), &settings.topology, vhost))
}
