use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::credentials;
use super::logs;
use super::meters::{
    ApiMethod, ApiReply, BreakerState, Consumed, DelayReason, Each, Ended, Histogram, Label, LogLevel, Meters,
    NotReady, Per, PublishResult, PublishTarget, Redelivered, ReplyResult, SessionCause, SessionLabel, Watched,
};
use super::of_worker::Telemetry;
use super::process::Process;
use crate::cancellation::{Outcome, Reason};
use crate::message::DeadReason;

/// How a scrape wants its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The text format unless the `Accept` header asks for the other.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of now.
#[must_use]
pub fn expose(telemetry: &Arc<Telemetry>, exposition: Exposition) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(Arc::clone(telemetry))));
    let mut text = String::new();
    let written = match exposition {
        Exposition::Text => prometheus_client::encoding::prometheus_text::encode(&mut text, &registry),
        Exposition::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &registry),
    };
    // Writing to memory does not fail.
    written.map(|()| text).unwrap_or_default()
}

#[derive(Debug)]
struct Page(Arc<Telemetry>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let meters = &*self.0.meters;
        deliveries(&mut writer, meters)?;
        answers(&mut writer, meters)?;
        calls(&mut writer, meters)?;
        broker(&mut writer, meters)?;
        readiness(&mut writer, &self.0)?;
        process(&mut writer, &self.0)
    }
}

fn deliveries(writer: &mut Writer<'_>, meters: &Meters) -> fmt::Result {
    let ledger = Ledger::read(meters);
    writer.counters("deliveries", "Deliveries taken from the broker.", ledger.deliveries)?;
    writer.gauges("deliveries_in_hand", "Deliveries that are being handled.", ledger.in_hand)?;
    writer.counters(
        "deliveries_ended",
        "Deliveries that left the worker's hand; deliveries = ended + in hand, at every scrape.",
        ledger.ended,
    )?;
    writer.gauges(
        "deliveries_limit",
        "At most so many deliveries are in hand: the prefetch.",
        one(&meters.limit, "queue"),
    )
}

/// Deliveries = ended + in hand. The numbers are read until they are of one moment, which is at once unless other threads
/// count meanwhile.
struct Ledger {
    deliveries: Vec<([(&'static str, &'static str); 2], u64)>,
    in_hand: Vec<([(&'static str, &'static str); 1], f64)>,
    ended: Vec<([(&'static str, &'static str); 2], u64)>,
}

const LEDGER_READS: usize = 1000;

impl Ledger {
    fn read(meters: &Meters) -> Self {
        let mut ledger = Self::now(meters);
        for _ in 0..LEDGER_READS {
            if ledger.balances() {
                break;
            }
            ledger = Self::now(meters);
        }
        ledger
    }

    fn now(meters: &Meters) -> Self {
        Self {
            deliveries: two(&meters.deliveries, ("queue", "redelivered"), |_: Consumed, _: Redelivered| true),
            in_hand: one(&meters.in_hand, "queue"),
            ended: two(&meters.ended, ("queue", "how"), |_: Consumed, _: Ended| true),
        }
    }

    fn balances(&self) -> bool {
        Consumed::all().iter().all(|queue| {
            let of = |series: &[([(&str, &str); 2], u64)]| -> u64 {
                series.iter().filter(|(labels, _)| labels[0].1 == queue.word()).map(|(_, value)| value).sum()
            };
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
            let left = of(&self.deliveries).wrapping_sub(of(&self.ended)) as f64;
            self.in_hand.iter().any(|(labels, in_hand)| labels[0].1 == queue.word() && (in_hand - left).abs() < 0.5)
        })
    }
}

fn answers(writer: &mut Writer<'_>, meters: &Meters) -> fmt::Result {
    let known = Outcome::all().iter().filter(|outcome| !matches!(outcome, Outcome::Failed(_)));
    let known = known.map(|outcome| ([("outcome", outcome.word()), ("reason", "")], meters.results.get(*outcome)));
    let failed = Reason::all().iter();
    let failed = failed.map(|reason| ([("outcome", "failed"), ("reason", reason.word())], meters.failed.get(*reason)));
    writer.counters("results", "Answers whose event is safe.", known.chain(failed))?;
    writer.histogram(
        "request_duration_seconds",
        "From the first reading of a request to its event, waits included.",
        Outcome::all().iter().map(|outcome| ([("outcome", outcome.word())], meters.request_duration.of(*outcome))),
    )?;
    writer.histogram(
        "request_queue_seconds",
        "From the timestamp that a request was published with to its first reading; none without a timestamp.",
        [([], &meters.request_queue)],
    )?;
    writer.counters(
        "answers_late",
        "Answers whose event was safe more than a minute after the request's deadline.",
        [([], meters.answers_late.load(Relaxed))],
    )?;
    let delayed = DelayReason::all().iter();
    let delayed = delayed.map(|reason| ([("reason", reason.word())], meters.delayed.get(*reason)));
    writer.counters("delayed", "Requests put into a wait queue.", delayed)?;
    let dead = DeadReason::all().iter();
    let dead = dead.map(|reason| ([("reason", reason.word())], meters.dead_letters.get(*reason)));
    writer.counters("dead_letters", "Messages that this worker put into the dead queue.", dead)
}

fn calls(writer: &mut Writer<'_>, meters: &Meters) -> fmt::Result {
    let possible = |method, reply: ApiReply| reply.is_of(method);
    writer.counters(
        "api_calls",
        "Calls of the Operations API by what came of them.",
        two(&meters.calls, ("method", "reply"), possible),
    )?;
    writer.histogram(
        "api_call_duration_seconds",
        "How long calls took that were made.",
        ApiMethod::all().iter().map(|method| ([("method", method.word())], meters.call_duration.of(*method))),
    )?;
    writer.gauge("api_calls_in_flight", "Calls under way.", meters.calls_in_flight.load(Relaxed))?;
    writer.gauges("api_breakers", "Circuit breakers of endpoints.", one::<BreakerState>(&meters.breakers, "state"))?;
    writer.counters(
        "api_breaker_opened",
        "Times that a circuit breaker opened.",
        [([], meters.breaker_opened.load(Relaxed))],
    )?;
    writer.gauge(
        "api_refusing_endpoints",
        "Endpoints that refuse whoever calls.",
        meters.refusing_endpoints.load(Relaxed),
    )
}

fn broker(writer: &mut Writer<'_>, meters: &Meters) -> fmt::Result {
    writer.gauges(
        "session_up",
        "Whether there is a session that has consumed.",
        one::<SessionLabel>(&meters.session_up, "session"),
    )?;
    writer.gauges(
        "session_start_timestamp_seconds",
        "When the session last began to consume.",
        one::<SessionLabel>(&meters.session_start, "session"),
    )?;
    writer.counters(
        "sessions_ended",
        "Sessions that ended.",
        two(&meters.sessions_ended, ("session", "cause"), |_: SessionLabel, _: SessionCause| true),
    )?;
    let failed = SessionLabel::all().iter();
    let failed = failed.map(|kind| ([("session", kind.word())], meters.session_attempts_failed.get(*kind)));
    writer.counters("session_attempts_failed", "Sessions that could not be built.", failed)?;
    writer.counters(
        "publishes",
        "Publishes by what came of them.",
        two(&meters.publishes, ("target", "result"), |_: PublishTarget, _: PublishResult| true),
    )?;
    writer.histogram("publish_confirm_seconds", "From a publish to the broker's confirm.", [([], &meters.confirm)])?;
    let replies = ReplyResult::all().iter();
    let replies = replies.map(|result| ([("result", result.word())], meters.replies.get(*result)));
    writer.counters("replies", "Direct replies; best effort.", replies)?;
    writer.gauges(
        "queue_messages_ready",
        "Messages ready in a queue, when last believed; of the wait queues the sum. Each worker tells the same.",
        one::<Watched>(&meters.ready, "queue"),
    )?;
    writer.gauges(
        "queue_consumers",
        "Consumers of a queue, when last believed.",
        one::<Watched>(&meters.consumers, "queue"),
    )?;
    writer.gauges(
        "queue_observed_timestamp_seconds",
        "When the depth of a queue was last believed; 0: never.",
        one::<Watched>(&meters.observed, "queue"),
    )?;
    writer.gauge(
        "topology_problems",
        "Queues and exchanges that are missing or wrong.",
        meters.topology_problems.load(Relaxed),
    )
}

fn readiness(writer: &mut Writer<'_>, telemetry: &Telemetry) -> fmt::Result {
    let problems = telemetry.readiness.problems();
    let blocked = problems.iter().any(|(kind, _)| *kind == NotReady::Blocked);
    writer.gauge("ready", "Whether the worker can do its work.", problems.is_empty().into())?;
    let reasons = NotReady::all().iter().map(|reason| {
        let holds = problems.iter().any(|(kind, _)| kind == reason);
        ([("reason", reason.word())], f64::from(u8::from(holds)))
    });
    writer.gauges("not_ready", "Why it cannot.", reasons)?;
    writer.gauge("broker_blocked", "Whether an alarm of the broker blocks publishing.", blocked.into())?;
    writer.gauge(
        "deliveries_stuck",
        "Deliveries of which something is published again and again, since the broker does not take it.",
        telemetry.readiness.stuck_deliveries() as u64,
    )
}

fn process(writer: &mut Writer<'_>, telemetry: &Telemetry) -> fmt::Result {
    let lag = telemetry.meters.loop_lag_micros.swap(0, Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    let lag = lag as f64 / 1e6;
    writer.gauges("loop_lag_seconds", "How late the runtime was at worst since the last scrape.", [([], lag)])?;
    let lines = LogLevel::all().iter().map(|level| ([("level", level.word())], logs::lines(*level)));
    writer.counters("log_lines", "Log lines at WARN and ERROR.", lines)?;
    writer.counters("log_lines_lost", "Log lines that standard error did not take.", [([], logs::lost())])?;
    let fetches = credentials::fetches().map(|(result, count)| ([("result", result)], count));
    writer.counters(
        "credentials_fetches",
        "Fetches of a token from Google, or of a token file that changed.",
        fetches,
    )?;
    writer.gauges("build_info", "1, with the version.", [([("version", env!("CARGO_PKG_VERSION"))], 1.0)])?;

    let Process { cpu, resident, virtual_memory, threads, open_files, max_open_files } = Process::read();
    writer.process("cpu_seconds", "User and system time.", MetricType::Counter, cpu)?;
    let mut gauge = |name, help, value: f64| writer.process(name, help, MetricType::Gauge, value);
    gauge("resident_memory_bytes", "Resident memory.", float(resident))?;
    gauge("virtual_memory_bytes", "Virtual memory, of which each thread's stack takes 64 MiB.", float(virtual_memory))?;
    gauge("threads", "Threads.", float(threads))?;
    gauge("open_fds", "Open file descriptors.", float(open_files))?;
    gauge("max_fds", "Limit of open file descriptors.", float(max_open_files))?;
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
    let started = telemetry.started as f64;
    gauge("start_time_seconds", "When the process started.", started)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// A gauge for each value of a label.
fn one<L: Label>(numbers: &Each<L>, label: &'static str) -> Vec<([(&'static str, &'static str); 1], f64)> {
    L::all().iter().map(|value| ([(label, value.word())], float(numbers.get(*value)))).collect()
}

/// A counter for each pair of values that there can be.
fn two<A: Label, B: Label>(
    numbers: &Per<A, Each<B>>,
    (first, second): (&'static str, &'static str),
    possible: impl Fn(A, B) -> bool,
) -> Vec<([(&'static str, &'static str); 2], u64)> {
    let pairs = A::all().iter().flat_map(|a| B::all().iter().map(move |b| (*a, *b)));
    let possible = pairs.filter(|(a, b)| possible(*a, *b));
    possible.map(|(a, b)| ([(first, a.word()), (second, b.word())], numbers.of(a).get(b))).collect()
}

/// Writes families, whatever the format.
struct Writer<'e>(DescriptorEncoder<'e>);

/// Labels of one series.
type Labels<const N: usize> = [(&'static str, &'static str); N];

impl Writer<'_> {
    fn family<const N: usize, T>(
        &mut self,
        name: &str,
        help: &str,
        metric: MetricType,
        series: impl IntoIterator<Item = (Labels<N>, T)>,
        mut write: impl FnMut(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        // The library ends the help of OpenMetrics with a full stop of its own.
        let mut family = self.0.encode_descriptor(name, help.trim_end_matches('.'), None, metric)?;
        for (labels, value) in series {
            if N == 0 {
                write(&mut family, value)?;
            } else {
                write(&mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<N>, u64)>,
    ) -> fmt::Result {
        let write =
            |encoder: &mut MetricEncoder<'_>, value: u64| encoder.encode_counter::<NoLabelSet, _, f64>(&value, None);
        self.family(&format!("cancel_worker_{name}"), help, MetricType::Counter, series, write)
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<N>, f64)>,
    ) -> fmt::Result {
        let write = |encoder: &mut MetricEncoder<'_>, value: f64| encoder.encode_gauge(&value);
        self.family(&format!("cancel_worker_{name}"), help, MetricType::Gauge, series, write)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, [([], float(value))])
    }

    fn histogram<'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<N>, &'h Histogram)>,
    ) -> fmt::Result {
        let write = |encoder: &mut MetricEncoder<'_>, histogram: &Histogram| {
            let observed = histogram.observed();
            encoder.encode_histogram::<NoLabelSet>(observed.sum, observed.count, &observed.buckets, None)
        };
        self.family(&format!("cancel_worker_{name}"), help, MetricType::Histogram, series, write)
    }

    fn process(&mut self, name: &str, help: &str, metric: MetricType, value: f64) -> fmt::Result {
        let write = |encoder: &mut MetricEncoder<'_>, value: f64| match metric {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
            _ => encoder.encode_gauge(&value),
        };
        self.family::<0, f64>(&format!("process_{name}"), help, metric, [([], value)], write)
    }
}
