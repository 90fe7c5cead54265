//! Every number, duration and size of the settings, with silly values: each is refused by name with the value, or of use.

use std::collections::HashMap;

use config::{Config, File, FileFormat, ValueKind};
use tokio::time::Instant;

use super::effective::each;
use super::load::load_from;
use super::values::HumanDuration;
use super::{DEFAULTS, Settings};
use crate::broker::WaitLevels;
use crate::pacing::Backoff;
use crate::worker::{CallPermits, policy};

/// As they are written in TOML.
const SILLY: [&str; 40] = [
    "0",
    "-0",
    "1",
    "-1",
    "0.5",
    "-0.5",
    "1e-300",
    "1e308",
    "1e999",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999",
    "\"\"",
    "\" \"",
    "\"0s\"",
    "\"1ns\"",
    "\"-5s\"",
    "\"1day\"",
    "\"100years\"",
    "\"1000000years\"",
    "\"584554530000years\"",
    "\"18446744073709551615s\"",
    "\"0B\"",
    "\"16EiB\"",
    "\"100YiB\"",
    "\"-1KiB\"",
    "true",
    "\"on\"",
    "[]",
    "{}",
];

/// The settings that are numbers, durations or sizes, or lists of them.
fn quantities() -> Vec<String> {
    let defaults = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).build().expect("defaults");
    let is_quantity = |kind: &ValueKind| match kind {
        ValueKind::I64(_) | ValueKind::Float(_) => true,
        ValueKind::String(text) => {
            humantime::parse_duration(text).is_ok() || text.parse::<bytesize::ByteSize>().is_ok()
        }
        _ => false,
    };
    let mut keys = Vec::new();
    each(&defaults, &mut |key, value| {
        let quantity = match &value.kind {
            ValueKind::Array(values) => values.iter().all(|value| is_quantity(&value.kind)),
            kind => is_quantity(kind),
        };
        if quantity {
            keys.push(key.to_owned());
        }
    });
    keys
}

/// Does with the settings what the worker does with them, at its worst.
fn use_them(settings: &Settings) {
    let Settings { amqp, api, worker, breaker, .. } = settings;
    let now = Instant::now();
    let mut spans = vec![
        amqp.heartbeat,
        amqp.connect_timeout,
        amqp.confirm_timeout,
        amqp.reconnect_initial,
        amqp.reconnect_max,
        api.connect_timeout,
        api.call_timeout,
        api.last_call_timeout,
        api.refusal_grace,
        worker.inline_wait,
        worker.default_timeout,
        worker.max_timeout,
        worker.shutdown_grace,
        breaker.probe_interval,
        breaker.silence,
        settings.retry.max,
        settings.polling.max,
    ];
    spans.extend(&amqp.topology.wait_levels.0);
    for HumanDuration(span) in spans {
        let _ = (now + span * 3, now.into_std() + span * 3, span.mul_f64(2.0));
        time::OffsetDateTime::UNIX_EPOCH.checked_add(span.try_into().expect("a duration")).expect("a date");
    }
    u16::try_from(amqp.heartbeat.as_secs()).expect("heartbeats in seconds");
    let policy = policy(settings).expect("a policy");
    let walk = |intervals: &Backoff| {
        for count in [0, 1, 1000, u32::MAX] {
            let _ =
                now + intervals.lengthened(intervals.delay(count), 1.0) + intervals.shortened(intervals.longest(), 1.0);
        }
    };
    walk(&policy.retry);
    walk(&policy.polling);
    walk(&amqp.reconnect().expect("intervals"));
    let levels = WaitLevels::of(&amqp.topology).expect("a level");
    assert!(levels.levels().all(|level| i32::try_from(level.ttl().as_millis()).is_ok()), "for x-message-ttl");
    let _ = CallPermits::new(settings.admission(), std::sync::Arc::default());
    let _ = tokio::sync::Semaphore::new(worker.inline_slots);
    assert!(
        usize::try_from(worker.request_limit.as_u64()).is_ok() && amqp.prefetch > 0 && settings.runtime.threads > 0
    );
}

/// A setting's name, in the error, and its value as it was given or as it was understood.
fn is_told(error: &str, key: &str, value: &str) -> bool {
    let text = value.trim_matches('"');
    let understood = [
        humantime::parse_duration(text).ok().map(|duration| humantime::format_duration(duration).to_string()),
        text.parse::<bytesize::ByteSize>().ok().map(|size| size.to_string()),
        text.parse::<f64>().ok().map(|number| (number + 0.0).to_string()),
        // A list or a table is told of as such.
        matches!(value, "[]" | "{}").then(String::new),
    ];
    error.contains(key) && (error.contains(text) || understood.iter().flatten().any(|value| error.contains(value)))
}

#[test]
fn every_quantity_is_refused_by_name_with_its_value_or_of_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.toml");
    let keys = quantities();
    assert!(keys.len() >= 33, "{keys:?}");
    let mut refused = 0;
    for key in keys {
        let (section, name) = key.rsplit_once('.').expect("a section");
        for value in SILLY {
            std::fs::write(&path, format!("[{section}]\n{name} = {value}\n")).expect("written");
            let variable = format!("CANCEL_WORKER__{}", key.to_ascii_uppercase().replace('.', "__"));
            let environment = HashMap::from([(variable, value.trim_matches('"').to_owned())]);
            let both = [load_from(std::slice::from_ref(&path), &[], HashMap::new()), load_from(&[], &[], environment)];
            for loaded in both {
                match loaded {
                    Ok(loaded) => use_them(&loaded.settings),
                    Err(error) => {
                        refused += 1;
                        let error = error.to_string();
                        assert!(is_told(&error, &key, value), "{key} = {value}\n{error}");
                    }
                }
            }
        }
    }
    assert!(refused > 1500, "{refused}");
}
