use anyhow::Context as _;
use serde::Deserialize;

use super::admin_client::get;
use super::arguments::{Probe, ProbeKind};
use super::exit::Exit;
use super::output::print;
use super::startup::runtime;
use crate::settings::{Loaded, SettingsError};

/// What `/readyz` answers.
#[derive(Deserialize)]
pub(super) struct ReadyAnswer {
    pub(super) reasons: Vec<String>,
}

/// `probe`: asks a worker on this machine, for containers, which have no other client.
pub(super) fn run(command: &Probe) -> anyhow::Result<Exit> {
    let address = match command.address {
        Some(address) => address,
        None => {
            let Loaded { settings, .. } = command.settings.load(&[]).context("failed to probe")?;
            settings.admin.listen.ok_or_else(|| SettingsError::Invalid {
                setting: "admin.listen".to_owned(),
                problem: "it is \"\", so no worker answers probes: set it, or give --address".to_owned(),
            })?
        }
    };
    let path = match command.kind {
        ProbeKind::Live => "/livez",
        ProbeKind::Ready => "/readyz",
    };
    let asking = get(address, path);
    let (status, body) =
        runtime(1).context("failed to start the runtime")?.block_on(asking).context("failed to probe")?;
    if status == 200 {
        return Ok(Exit::Success);
    }
    let reasons = serde_json::from_str::<ReadyAnswer>(&body).map(|answer| answer.reasons).unwrap_or_default();
    for reason in &reasons {
        print(&format!("{reason}\n"))?;
    }
    if reasons.is_empty() {
        print(&format!("{address} answers {path} with {status}\n"))?;
    }
    Ok(Exit::Failure)
}
