use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

/// `[admin]`: the admin listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where it listens; none if there is to be no such listener.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(|_| {
        de::Error::custom(format!(
            "{text:?} is not an address such as \"127.0.0.1:9464\" or \"[::]:9464\", nor \"\" for none"
        ))
    })
}
