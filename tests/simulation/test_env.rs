use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use cancel_worker::broker::{DeliveryKind, SessionKind};

use crate::api::{Script, SimulatedOperation};
use crate::scenario::START;

/// Of the work queues, and of the quarantine: what the worker declares.
const DELIVERY_LIMIT: u32 = 5;
const QUARANTINE_DELIVERY_LIMIT: u32 = 20;
/// From this redelivery in the quarantine on, the worker may give a request up.
const GIVEN_UP_REDELIVERIES: u32 = 10;
/// How long a delivery may be in hand. RabbitMQ's default is three times that.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A queue that is consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    Requests,
    Followups,
    Quarantine,
}

impl Queue {
    pub const fn of(kind: SessionKind) -> &'static [Self] {
        match kind {
            SessionKind::Work => &[Self::Requests, Self::Followups],
            SessionKind::Quarantine => &[Self::Quarantine],
        }
    }
}

/// Why the broker takes no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// No queue is bound.
    Unbound,
    /// The queue is full.
    Full,
    /// An alarm: it takes nothing at all.
    Alarm,
}

/// Everything that is not the worker: queues, operations, and the dice that decide which faults strike.
#[derive(Clone)]
pub struct TestEnv(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

pub struct State {
    pub jitter: fastrand::Rng,
    pub began: Instant,
    /// Afterwards all goes well, so that everything must drain.
    pub faults_until: Instant,
    /// How often faults strike: a factor.
    severity: f64,
    pub steps: u64,
    pub requests: VecDeque<Message>,
    pub followups: VecDeque<Message>,
    pub quarantine: VecDeque<Message>,
    /// Why events are not taken, if they are not.
    pub outage: Option<Outage>,
    /// What came back to the quarantine so often that the worker may have given it up.
    pub given_up: BTreeSet<String>,
    /// The wait queues, by when a message's time is over.
    pub waiting: BTreeMap<(Instant, u64), Message>,
    pub events: Vec<Message>,
    pub dead: Vec<Message>,
    pub sessions: BTreeMap<u64, SessionState>,
    pub operations: BTreeMap<String, SimulatedOperation>,
    pub crashes: Vec<CancellationToken>,
    pub violations: Vec<String>,
    /// How often each fault struck.
    pub struck: BTreeMap<&'static str, u64>,
    print: bool,
    hash: u64,
    ids: u64,
}

/// A message in a queue, or in `events` or `dead`.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub body: Vec<u8>,
    pub content_type: String,
    pub message_id: String,
    pub correlation_id: Option<String>,
    pub headers: Vec<(String, String)>,
    pub deliveries: u32,
    /// Delivering it ends the session.
    pub poison: bool,
    /// In the quarantine: where it comes from, and whether it was moved for its age.
    pub was_follow_up: bool,
    pub expired: bool,
    /// Of an event: when it was published.
    pub at: Option<Instant>,
}

impl Message {
    /// What it is, in this queue.
    pub fn kind(&self, queue: Queue) -> DeliveryKind {
        if queue == Queue::Requests || (queue == Queue::Quarantine && !self.was_follow_up) {
            return DeliveryKind::Request;
        }
        let header = self.headers.iter().find(|(name, _)| name == DeliveryKind::HEADER);
        DeliveryKind::of_header(header.map(|(_, value)| value.as_str()))
    }
}

/// A delivery that is not acknowledged.
pub struct InHand {
    pub queue: Queue,
    pub message: Message,
    pub since: Instant,
}

pub struct SessionState {
    pub worker: usize,
    pub kind: SessionKind,
    pub unacknowledged: BTreeMap<u64, InHand>,
    /// Unacknowledged as well, but of a queue that is gone: no end of the session brings them back.
    pub orphans: BTreeMap<u64, InHand>,
    /// The queue whose consumer is cancelled, and whether the worker has been told.
    pub cancelled: Option<(Queue, bool)>,
    /// It will end because of a confirm that never comes.
    pub doomed: bool,
    pub prefetch: Option<usize>,
    /// Whether an alarm blocks publishing. One for each: several that wait for the same would wake in any order.
    pub blocked: watch::Sender<bool>,
    pub over: CancellationToken,
}

impl TestEnv {
    pub fn new(seed: u64, print: bool, workers: usize, fault_time: Duration, severity: f64) -> Self {
        let began = Instant::now();
        let state = State {
            jitter: fastrand::Rng::with_seed(seed),
            began,
            faults_until: began + fault_time,
            severity,
            steps: 0,
            requests: VecDeque::new(),
            followups: VecDeque::new(),
            quarantine: VecDeque::new(),
            outage: None,
            given_up: BTreeSet::new(),
            waiting: BTreeMap::new(),
            events: Vec::new(),
            dead: Vec::new(),
            sessions: BTreeMap::new(),
            operations: BTreeMap::new(),
            crashes: vec![CancellationToken::new(); workers],
            violations: Vec::new(),
            struck: BTreeMap::new(),
            print,
            hash: 0xcbf2_9ce4_8422_2325,
            ids: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The true time.
    pub fn wall_clock(&self) -> OffsetDateTime {
        START + self.state().began.elapsed()
    }

    /// Resolves after the next change of a queue or session. Made before looking, it misses none.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.changed.notified()
    }

    pub fn tell(&self) {
        self.0.changed.notify_waiters();
    }

    /// A moment at which something may break: the worker may crash here, or lose its sessions. Takes a while.
    pub async fn edge(&self, worker: usize, what: String) {
        let pause = {
            let mut state = self.state();
            state.note(format_args!("worker {worker}: {what}"));
            if state.strikes("crash", 0.003) {
                let crash = state.crashes[worker].clone();
                state.end_sessions_of(worker);
                crash.cancel();
                None
            } else {
                if state.strikes("session lost", 0.003) {
                    state.end_sessions_of(worker);
                }
                Some(Duration::from_millis(if state.jitter.u8(..4) == 0 { state.jitter.u64(0..40) } else { 0 }))
            }
        };
        self.tell();
        match pause {
            // A crashed process does nothing more. Its supervisor drops it.
            None => std::future::pending().await,
            Some(pause) if pause.is_zero() => tokio::task::yield_now().await,
            Some(pause) => sleep(pause).await,
        }
    }

    /// What befalls the broker for longer: alarms, and events that nobody takes.
    pub async fn weather(&self) {
        loop {
            let pause = self.state().jitter.u64(5..40);
            sleep(Duration::from_secs(pause)).await;
            self.state().end_late_sessions();
            let outage = {
                let mut state = self.state();
                let kinds =
                    [("results unbound", Outage::Unbound), ("results full", Outage::Full), ("alarm", Outage::Alarm)];
                let struck = kinds.into_iter().find(|(name, _)| state.strikes(name, 0.05));
                struck.map(|(_, outage)| (outage, [5, 60, 900][state.jitter.usize(..3)]))
            };
            if let Some((outage, longest)) = outage {
                let lasts = self.state().jitter.u64(1..longest);
                self.suffer(outage, Duration::from_secs(lasts)).await;
            }
        }
    }

    /// An outage, and its end.
    pub async fn suffer(&self, outage: Outage, lasts: Duration) {
        let begin = |outage: Option<Outage>| {
            let mut state = self.state();
            state.note(format_args!("outage: {outage:?}"));
            state.outage = outage;
            for session in state.sessions.values() {
                session.blocked.send_replace(outage == Some(Outage::Alarm));
            }
            drop(state);
            self.tell();
        };
        begin(Some(outage));
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            sleep(Duration::from_secs(60).min(end - Instant::now())).await;
            self.state().end_late_sessions();
            self.tell();
        }
        begin(None);
    }

    /// The wait queues: what has waited long enough becomes a follow-up, at least once.
    pub async fn pump(&self) {
        loop {
            let changed = self.changed();
            let next = self.state().waiting.first_key_value().map(|((due, _), _)| *due);
            let Some(due) = next else {
                changed.await;
                continue;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {
                    let mut state = self.state();
                    if let Some((_, message)) = state.waiting.pop_first() {
                        let message = Message { deliveries: 0, expired: false, ..message };
                        if state.strikes("dead-lettered twice", 0.02) {
                            state.followups.push_back(message.clone());
                        }
                        state.followups.push_back(message);
                    }
                    drop(state);
                    self.tell();
                }
                () = changed => {}
            }
        }
    }
}

impl State {
    /// Whether a fault strikes now.
    pub fn strikes(&mut self, fault: &'static str, probability: f64) -> bool {
        let strikes = self.jitter.f64() < (probability * self.severity).min(0.5) && Instant::now() < self.faults_until;
        if strikes {
            *self.struck.entry(fault).or_default() += 1;
            self.note(format_args!("FAULT: {fault}"));
        }
        strikes
    }

    /// One line of the trace.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.steps += 1;
        let line = format!("{:>10.3} {what}", self.began.elapsed().as_secs_f64());
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            println!("{line}");
        }
    }

    /// Of all that happened: two runs with the same are the same run.
    pub fn trace_hash(&self) -> u64 {
        self.hash
    }

    pub fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub fn queue(&mut self, queue: Queue) -> &mut VecDeque<Message> {
        match queue {
            Queue::Requests => &mut self.requests,
            Queue::Followups => &mut self.followups,
            Queue::Quarantine => &mut self.quarantine,
        }
    }

    /// A message is about to be delivered.
    pub fn delivered(&mut self, queue: Queue, message: &Message) {
        if queue == Queue::Quarantine && message.deliveries >= GIVEN_UP_REDELIVERIES {
            // A request's, or a follow-up's.
            self.given_up
                .extend([Some(message.message_id.clone()), message.correlation_id.clone()].into_iter().flatten());
        }
    }

    /// Ends the sessions that hold a delivery for longer than the broker allows.
    pub fn end_late_sessions(&mut self) {
        let is_late = |session: &SessionState| {
            session.unacknowledged.values().any(|delivery| delivery.since.elapsed() > CONSUMER_TIMEOUT)
        };
        let late: Vec<u64> = self.sessions.iter().filter(|(_, session)| is_late(session)).map(|(id, _)| *id).collect();
        for id in late {
            *self.struck.entry("consumer timeout").or_default() += 1;
            self.end_session(id);
        }
    }

    pub fn end_sessions_of(&mut self, worker: usize) {
        let ids: Vec<u64> = self.sessions.iter().filter(|(_, of)| of.worker == worker).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.end_session(id));
    }

    /// Somebody deletes a queue, which is there again at once. Only an empty one: what is in a queue that is deleted is nobody's
    /// fault. What is in hand is the workers' to finish.
    pub fn delete_queue(&mut self, queue: Queue) {
        if !self.queue(queue).is_empty() || !self.strikes("queue deleted", 0.01) {
            return;
        }
        for session in self.sessions.values_mut() {
            let (gone, kept) = std::mem::take(&mut session.unacknowledged)
                .into_iter()
                .partition(|(_, delivery)| delivery.queue == queue);
            session.unacknowledged = kept;
            session.orphans.extend::<BTreeMap<_, _>>(gone);
            if session.prefetch.is_some() && session.kind == SessionKind::Work {
                session.cancelled = Some((queue, false));
            }
        }
    }

    /// A worker ends its session itself. What it had in hand of a queue that it knows to be gone has to be finished by then,
    /// unless an alarm lets nothing be published, or handling it panics.
    pub fn close_session(&mut self, id: u64) {
        if let Some(SessionState { orphans, cancelled: Some((queue, true)), doomed: false, .. }) =
            self.sessions.get(&id)
            && self.outage != Some(Outage::Alarm)
        {
            let dropped = orphans.values().filter(|in_hand| !self.panics(&in_hand.message)).count();
            if dropped > 0 {
                let problem = format!("{dropped} deliveries of the deleted queue of {queue:?} were dropped");
                self.violations.push(problem);
            }
        }
        self.end_session(id);
    }

    fn panics(&self, message: &Message) -> bool {
        let body = String::from_utf8_lossy(&message.body);
        self.operations
            .iter()
            .any(|(name, operation)| operation.script == Script::Panics && body.contains(name.as_str()))
    }

    /// The connection is gone: what was not acknowledged goes back to where it was. So does, for this simulation's sake, what
    /// was of a queue that is gone: two faults at once, which no worker can do anything about.
    pub fn end_session(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.note(format_args!("session {id} ends with {} unacknowledged", session.unacknowledged.len()));
        session.over.cancel();
        for InHand { queue, message, .. } in session.unacknowledged.into_values().chain(session.orphans.into_values()) {
            self.give_back(queue, message);
        }
    }

    /// Before all that is new, behind what was given back earlier, as quorum queues do; unless the delivery limit is reached.
    pub fn give_back(&mut self, queue: Queue, mut message: Message) {
        message.deliveries += 1;
        if queue != Queue::Quarantine && message.deliveries > DELIVERY_LIMIT {
            let was_follow_up = queue == Queue::Followups;
            self.quarantine.push_back(Message { deliveries: 0, was_follow_up, ..message });
        } else if message.deliveries > QUARANTINE_DELIVERY_LIMIT {
            self.dead.push(message);
        } else {
            let queue = self.queue(queue);
            let given_back = queue.iter().take_while(|other| other.deliveries > 0).count();
            queue.insert(given_back, message);
        }
    }

    /// Whether nothing is left to be done.
    pub fn is_drained(&self) -> bool {
        self.requests.is_empty()
            && self.followups.is_empty()
            && self.quarantine.is_empty()
            && self.waiting.is_empty()
            && self.sessions.values().all(|session| session.unacknowledged.is_empty() && session.orphans.is_empty())
    }
}
