use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::settings_arguments::SettingsArguments;
use crate::pacing::AdmissionPolicy;
use crate::settings::{Effective, Loaded, Settings};
use crate::telemetry;

/// What a SIGHUP changes in a worker that runs; a section ends with a full stop.
const RELOADED: [&str; 3] = ["log.filter", "rate_limit.", "breaker."];

/// Reads the settings again at each SIGHUP, and passes on what can change while the worker works.
pub(super) struct Reloader {
    arguments: SettingsArguments,
    /// As the worker was started with them.
    started: Settings,
    /// What is in force.
    effective: Vec<Effective>,
    admission: watch::Sender<AdmissionPolicy>,
}

impl Reloader {
    /// Of a worker that was started with these settings. The other half is the worker's.
    pub(super) fn new(arguments: SettingsArguments, loaded: &Loaded) -> (Self, watch::Receiver<AdmissionPolicy>) {
        let (admission, changes) = watch::channel(loaded.settings.admission());
        let (started, effective) = (loaded.settings.clone(), loaded.effective.clone());
        (Self { arguments, started, effective, admission }, changes)
    }

    /// Until the process ends.
    pub(super) async fn run(mut self, hang_ups: Arc<Notify>) {
        loop {
            hang_ups.notified().await;
            // A file system that hangs must not hold up the worker.
            let arguments = self.arguments.clone();
            match tokio::task::spawn_blocking(move || arguments.load(&[])).await {
                Ok(Ok(loaded)) => self.take_over(loaded),
                Ok(Err(problem)) => error!(%problem, "SIGHUP: the settings cannot be read, and stay as they are"),
                Err(_) => error!("SIGHUP: the settings cannot be read, and stay as they are: a panic, see the log"),
            }
        }
    }

    fn take_over(&mut self, loaded: Loaded) {
        let Loaded { settings, effective, warnings } = loaded;
        for warning in warnings {
            warn!("{warning}");
        }
        let changed: Vec<&str> = changed(&self.effective, &effective);
        let (taken, left): (Vec<&str>, Vec<&str>) = changed.into_iter().partition(|key| is_reloaded(key));
        if taken.is_empty() && left.is_empty() {
            return info!("SIGHUP: the settings are as they were");
        }
        if taken.contains(&"log.filter") {
            telemetry::set_filter(&settings.log.filter);
        }
        let Settings { rate_limit, breaker, .. } = settings;
        let policy = Settings { rate_limit, breaker, ..self.started.clone() }.admission();
        if *self.admission.borrow() != policy {
            self.admission.send_replace(policy);
        }
        if !taken.is_empty() {
            info!(settings = taken.join(", "), "SIGHUP: these settings were taken over");
        }
        if !left.is_empty() {
            warn!(settings = left.join(", "), "SIGHUP: these settings differ, and take effect at the next start");
        }
        // What needs a start is told at each SIGHUP until there was one.
        let (left, before) = (left.join(", "), std::mem::take(&mut self.effective));
        let is_left = |key: &str| left.split(", ").any(|left| left == key);
        let kept = before.into_iter().filter(|setting| is_left(&setting.key));
        self.effective = effective.into_iter().filter(|setting| !is_left(&setting.key)).chain(kept).collect();
    }
}

/// The keys of settings that differ, or that only one has.
fn changed<'a>(before: &'a [Effective], now: &'a [Effective]) -> Vec<&'a str> {
    let differs = |setting: &&Effective, others: &[Effective]| {
        !others.iter().any(|other| other.key == setting.key && other.value == setting.value)
    };
    let mut keys: Vec<&str> =
        now.iter().filter(|setting| differs(setting, before)).map(|setting| &*setting.key).collect();
    keys.extend(before.iter().filter(|setting| differs(setting, now)).map(|setting| &*setting.key));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|reloaded| key == *reloaded || (reloaded.ends_with('.') && key.starts_with(reloaded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, value: &str) -> Effective {
        Effective { key: key.to_owned(), value: value.to_owned(), source: "a test".to_owned() }
    }

    #[test]
    fn what_differs_is_named_once_whoever_has_it() {
        let before = [setting("a", "1"), setting("b", "2"), setting("c", "3")];
        let now = [setting("a", "1"), setting("b", "3"), setting("d", "4")];
        assert_eq!(changed(&before, &now), ["b", "c", "d"]);
        assert!(is_reloaded("rate_limit.burst") && is_reloaded("log.filter") && !is_reloaded("log.format"));
    }
}
