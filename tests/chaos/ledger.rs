use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::support::Process;

/// From one scrape of a worker to the next.
const INTERVAL: Duration = Duration::from_millis(200);

/// What all scrapes of all workers have told: at each, deliveries are those that have ended and those in hand.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    scrapes: usize,
    broken: Vec<String>,
}

impl Ledger {
    /// Scrapes a worker until it ends.
    pub fn watch(&self, worker: &Process) {
        let (ledger, printed) = (self.clone(), worker.printed());
        tokio::spawn(async move {
            let mut lines = printed.clone();
            let is_address = |line: &String| line.contains("answering probes");
            let Ok(found) = lines.wait_for(|lines| lines.iter().any(is_address)).await.map(|lines| lines.clone())
            else {
                return;
            };
            let line: serde_json::Value =
                serde_json::from_str(found.iter().find(|line| is_address(line)).unwrap()).unwrap();
            let url = format!("http://{}/metrics", line["address"].as_str().unwrap());
            // Nothing more is printed by one that has ended.
            while printed.has_changed().is_ok() {
                if let Ok(answer) = reqwest::get(&url).await
                    && let Ok(scrape) = answer.text().await
                {
                    ledger.enter(&scrape);
                }
                sleep(INTERVAL).await;
            }
        });
    }

    fn enter(&self, scrape: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.scrapes += 1;
        // By queue: deliveries less what has become of them.
        let mut open = BTreeMap::<&str, f64>::new();
        for (name, sign) in [("deliveries_total", 1.0), ("deliveries_ended_total", -1.0), ("deliveries_in_hand", -1.0)]
        {
            let begins = format!("cancel_worker_{name}{{queue=\"");
            for line in scrape.lines().filter_map(|line| line.strip_prefix(&begins)) {
                let (queue, value) = (line.split('"').next().unwrap(), line.rsplit(' ').next().unwrap());
                *open.entry(queue).or_default() += sign * value.parse::<f64>().unwrap();
            }
        }
        let wrong = open.iter().filter(|(_, open)| open.abs() > 0.5);
        told.broken.extend(wrong.map(|(queue, open)| format!("{open} deliveries of {queue} are not in the ledger")));
    }

    /// How many scrapes there were, and what was wrong with them.
    pub fn told(&self) -> (usize, Vec<String>) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (told.scrapes, told.broken.clone())
    }
}
