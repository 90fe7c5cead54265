use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::scene::{PATIENCE, Scene, event_id};
use crate::support::{Broker, Process};

/// What an operation's id begins with tells the simulator what to do, and us what the answer must be.
const SCRIPTS: [(&str, &str); 5] = [
    ("cancels-300ms", "cancelled"),
    ("cancels-2s", "cancelled"),
    ("completes-300ms", "completed"),
    ("unimplemented", "unimplemented"),
    (SLOW, "cancelled"),
];

/// Not answered before a fault that takes a while to be injected.
pub const SLOW: &str = "cancels-5s";

/// How much.
#[derive(Clone, Copy)]
pub struct Size {
    pub requests: usize,
    pub faults: usize,
    /// How long a fault that has a length lasts.
    pub lasts: Duration,
}

impl Size {
    pub const SHORT: Self = Self { requests: 1000, faults: 3, lasts: Duration::from_secs(3) };
    pub const LONG: Self = Self { requests: 20_000, faults: 20, lasts: Duration::from_secs(60) };
}

/// A broker of its own, a scripted API, and what was asked.
pub struct Stage {
    pub name: &'static str,
    pub size: Size,
    pub broker: Broker,
    pub scene: Scene,
    times: usize,
    slowest: Duration,
}

/// What came of it.
pub struct Row {
    name: &'static str,
    times: usize,
    requests: usize,
    lost: usize,
    wrong: usize,
    doubled: usize,
    dead: u32,
    slowest: Duration,
}

impl Stage {
    pub async fn new(name: &'static str, size: Size) -> Self {
        let broker = tokio::task::block_in_place(Broker::private);
        let scene = Scene::on(&broker).await;
        Self { name, size, broker, scene, times: 0, slowest: Duration::ZERO }
    }

    /// The ids to ask for, of all scripts.
    pub fn ids(&self, part: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{}-{part}{number}", SCRIPTS[number % (SCRIPTS.len() - 1)].0)).collect()
    }

    /// Runs `rabbitmqctl`, without holding up everything else.
    pub fn ctl<const N: usize>(&self, arguments: [&str; N]) -> String {
        tokio::task::block_in_place(|| self.broker.ctl(arguments))
    }

    pub async fn answered(&self) -> usize {
        self.scene.events(0, Duration::ZERO).await.len()
    }

    /// A fault has ended now: events have to flow again. Not where all is answered already.
    pub async fn recovers(&mut self, asked: usize) {
        self.times += 1;
        let (began, so_far) = (Instant::now(), self.answered().await);
        if so_far >= asked {
            return;
        }
        self.scene.events(so_far + 1, PATIENCE).await;
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// A fault of which there is no recovery to be seen.
    pub fn struck(&mut self) {
        self.times += 1;
    }

    /// Waits for all answers, and looks at each.
    pub async fn check(self, confirmed: &[&str], _workers: Vec<Process>) -> Row {
        let wanted: HashMap<String, &str> = confirmed.iter().map(|id| (event_id(id), *id)).collect();
        let limit = Instant::now() + 3 * PATIENCE;
        let events = loop {
            let events = self.scene.events(0, Duration::ZERO).await;
            let answered: HashSet<&str> = events.iter().map(crate::event::Event::id).collect();
            if wanted.keys().all(|id| answered.contains(id.as_str())) || Instant::now() > limit {
                break events;
            }
            sleep(Duration::from_millis(500)).await;
        };
        let answered: HashSet<&str> = events.iter().map(crate::event::Event::id).collect();
        let lost: Vec<_> = wanted.iter().filter(|(event, _)| !answered.contains(event.as_str())).collect();
        if let Some((_, id)) = lost.first() {
            println!("{}: {} without an answer, such as {id}", self.name, lost.len());
        }
        let mut wrong = 0;
        for event in &events {
            let id = event.data()["request_id"].as_str().unwrap_or_default();
            let expected = SCRIPTS.iter().find(|(script, _)| id.starts_with(script)).map(|(_, outcome)| *outcome);
            if expected != Some(event.outcome()) || event.id() != event_id(id) {
                println!("{}: wrong: {}", self.name, event.json());
                wrong += 1;
            }
        }
        Row {
            name: self.name,
            times: self.times,
            requests: wanted.len(),
            lost: lost.len(),
            wrong,
            doubled: events.len() - answered.len(),
            dead: self.scene.depth("dead").await,
            slowest: self.slowest,
        }
    }
}

impl Row {
    pub fn passes(&self, recovery: Duration) -> bool {
        (self.lost, self.wrong, self.dead) == (0, 0, 0)
            && self.requests > 0
            && self.times > 0
            && self.slowest <= recovery
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, times, requests, lost, wrong, doubled, dead, slowest } = self;
        // Where the fault never ends before all is answered, there is no recovery to be measured.
        let slowest = if slowest.is_zero() { "-".to_owned() } else { format!("{:.1} s", slowest.as_secs_f64()) };
        write!(f, "{name:<20}{times:>7}{requests:>10}{lost:>7}{wrong:>7}{doubled:>9}{dead:>7}{slowest:>18}")
    }
}
