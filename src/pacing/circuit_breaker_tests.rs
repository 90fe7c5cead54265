use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::circuit_breaker::*;
use super::key::Key;

const POLICY: BreakerPolicy = BreakerPolicy {
    failures: 3,
    probe_interval: Duration::from_secs(1),
    probe_timeout: Duration::from_secs(3),
    retries: 2,
};

const SECOND: Duration = Duration::from_secs(1);

fn begin() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unavailable(operation: u32) -> CallResult {
    CallResult::Unavailable(Key::of(&operation.to_string()))
}

const fn first(began: Instant) -> Call {
    Call { probe: false, retry: false, began }
}

const fn retry(began: Instant) -> Call {
    Call { probe: false, retry: true, began }
}

const fn probe(began: Instant) -> Call {
    Call { probe: true, retry: false, began }
}

/// A call that ends at once.
fn call(breaker: &mut CircuitBreaker, result: CallResult, now: Instant) -> Option<StateChange> {
    let call = Call { probe: breaker.decide(false, now) == BreakerDecision::Probe, ..first(now) };
    breaker.begin(&call);
    breaker.end(&call, result, now)
}

fn opened(now: Instant) -> CircuitBreaker {
    let mut breaker = CircuitBreaker::new(POLICY);
    assert_eq!(call(&mut breaker, unavailable(1), now), None);
    assert_eq!(call(&mut breaker, unavailable(2), now), None);
    assert_eq!(call(&mut breaker, unavailable(3), now), Some(StateChange::Opened));
    breaker
}

#[test]
fn it_opens_after_failures_in_a_row_only() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    for result in [unavailable(1), unavailable(2), CallResult::Answered, unavailable(3), CallResult::Throttled(None)] {
        assert_eq!(call(&mut breaker, result, now), None);
    }
    assert_eq!(breaker.decide(false, now), BreakerDecision::Go);
    assert!(matches!(opened(now).decide(false, now), BreakerDecision::Wait(_)));
}

#[test]
fn one_operation_that_is_never_answered_does_not_open_it() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    for _ in 0..19 {
        assert_eq!(call(&mut breaker, unavailable(1), now), None);
    }
}

#[test]
fn nor_do_many_that_fail_again_and_again() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    for operation in 0..100 {
        breaker.begin(&retry(now));
        assert_eq!(breaker.end(&retry(now), unavailable(operation), now), None);
    }
}

#[test]
fn while_open_there_is_one_probe_at_a_time_and_one_each_interval() {
    let now = begin();
    let mut breaker = opened(now);
    assert_eq!(breaker.decide(false, now + SECOND), BreakerDecision::Probe);
    let began = now + SECOND;
    breaker.begin(&probe(began));
    assert!(matches!(breaker.decide(false, now + 2 * SECOND), BreakerDecision::Wait(_)));
    assert_eq!(breaker.end(&probe(began), unavailable(4), began + SECOND / 10), None);
    assert!(matches!(breaker.decide(false, began + SECOND / 2), BreakerDecision::Wait(_)));
    assert_eq!(breaker.decide(false, began + SECOND), BreakerDecision::Probe);
}

#[test]
fn any_answer_closes_it_also_a_refusal_and_also_one_that_came_late() {
    let now = begin();
    assert_eq!(opened(now).end(&first(now), CallResult::Answered, now), Some(StateChange::Closed));
    let mut breaker = opened(now);
    assert_eq!(call(&mut breaker, CallResult::Throttled(None), now + SECOND), Some(StateChange::Closed));
    assert_eq!(breaker.decide(false, now + SECOND), BreakerDecision::Go);
}

#[test]
fn calls_that_began_before_it_closed_do_not_open_it_again() {
    let now = begin();
    let mut breaker = opened(now);
    assert_eq!(call(&mut breaker, CallResult::Answered, now + SECOND), Some(StateChange::Closed));
    for operation in 0..30 {
        assert_eq!(breaker.end(&first(now), unavailable(operation), now + 2 * SECOND), None);
    }
}

#[test]
fn a_dropped_probe_makes_room_for_the_next() {
    let now = begin();
    let mut breaker = opened(now);
    assert_eq!(call(&mut breaker, CallResult::Dropped, now + SECOND), None);
    assert_eq!(breaker.decide(false, now + SECOND), BreakerDecision::Probe);
}

#[test]
fn a_probe_is_given_up_after_its_time_out_and_the_next_follows_at_once() {
    let now = begin() + SECOND;
    let mut breaker = opened(now - SECOND);
    breaker.begin(&probe(now));
    assert_eq!(breaker.time_left(&probe(now), now + SECOND), Some(2 * SECOND));
    assert_eq!(breaker.time_left(&probe(now), now + 3 * SECOND), None);
    breaker.end(&probe(now), unavailable(4), now + 3 * SECOND);
    assert_eq!(breaker.decide(false, now + 3 * SECOND), BreakerDecision::Probe);
}

#[test]
fn calls_are_given_up_when_many_are_under_way_and_nothing_is_answered() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    breaker.begin(&first(now));
    breaker.begin(&first(now));
    assert_eq!(breaker.time_left(&first(now), now + 4 * SECOND), Some(3 * SECOND), "two are not many");
    breaker.begin(&first(now));
    assert_eq!(breaker.time_left(&first(now), now + 4 * SECOND), None);
    let mut silent = breaker.clone();
    for operation in 1..=3 {
        assert_eq!(silent.time_left(&first(now), now + 4 * SECOND), None, "and so are all of them");
        silent.end(&first(now), unavailable(operation), now + 4 * SECOND);
    }
    breaker.end(&first(now), CallResult::Answered, now + 2 * SECOND);
    breaker.begin(&first(now));
    let left = breaker.time_left(&first(now), now + 4 * SECOND);
    assert_eq!(left, Some(2 * SECOND), "one was answered: alive, and answers may take twice as long as that one");
}

#[test]
fn an_endpoint_that_never_answered_is_given_more_and_more_time() {
    let mut now = begin();
    let mut breaker = opened(now);
    for operation in 0..UNANSWERED_PER_DOUBLING {
        now += 3 * SECOND;
        breaker.begin(&probe(now));
        breaker.end(&probe(now), unavailable(operation), now + 3 * SECOND);
    }
    assert_eq!(breaker.time_left(&probe(now), now + 3 * SECOND), Some(3 * SECOND));
}

#[test]
fn a_retry_is_no_probe_while_others_wait_and_stands_behind_them() {
    let now = begin();
    let mut breaker = opened(now);
    let mut others = Duration::ZERO;
    for _ in 0..100 {
        others = breaker.wait(false, now).max(others);
    }
    assert!(breaker.wait(true, now) > others);
    assert!(matches!(breaker.decide(true, now + SECOND), BreakerDecision::Wait(_)));
    assert_eq!(breaker.decide(false, now + SECOND), BreakerDecision::Probe);
    let mut breaker = opened(now);
    assert_eq!(breaker.decide(true, now + SECOND), BreakerDecision::Probe, "no other waits");
}

#[test]
fn while_closed_only_some_of_the_calls_under_way_are_retries_and_each_is_given_up_soon() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    for _ in 0..2 {
        assert_eq!(breaker.decide(true, now), BreakerDecision::Go);
        breaker.begin(&retry(now));
    }
    assert!(matches!(breaker.decide(true, now), BreakerDecision::Wait(_)));
    assert_eq!(breaker.decide(false, now), BreakerDecision::Go);
    assert_eq!(breaker.time_left(&retry(now), now + 3 * SECOND), None);
    breaker.end(&retry(now), unavailable(1), now);
    assert_eq!(breaker.decide(true, now), BreakerDecision::Go);
}

#[test]
fn retries_under_way_do_not_make_a_slow_first_call_a_silent_one() {
    let now = begin();
    let mut breaker = CircuitBreaker::new(POLICY);
    for _ in 0..10 {
        breaker.begin(&retry(now));
    }
    breaker.begin(&first(now));
    assert_eq!(breaker.time_left(&first(now), now + 4 * SECOND), Some(3 * SECOND));
}

/// Many wait and ask again when they were told to: how many ask each second, and when the probes were made.
fn outage(waiting: u32, seconds: u64) -> (Vec<u32>, Vec<Instant>, Instant) {
    let begin = begin();
    let mut breaker = opened(begin);
    let mut due: BinaryHeap<_> = (0..waiting).map(|number| Reverse((begin, number, false))).collect();
    let mut asked = vec![0; usize::try_from(seconds).expect("few")];
    let mut probes = Vec::new();
    while let Some(Reverse((now, number, retry))) = due.pop() {
        let second = usize::try_from(now.duration_since(begin).as_secs()).expect("few");
        let Some(count) = asked.get_mut(second) else { break };
        *count += 1;
        match breaker.decide(retry, now) {
            BreakerDecision::Wait(wait) => due.push(Reverse((now + wait, number, retry))),
            BreakerDecision::Probe => {
                probes.push(now);
                let call = Call { probe: true, retry, began: now };
                breaker.begin(&call);
                breaker.end(&call, unavailable(number), now);
                due.push(Reverse((now + breaker.wait(true, now), number, true)));
            }
            BreakerDecision::Go => panic!("it is open"),
        }
    }
    (asked, probes, begin)
}

#[test]
fn a_bounded_number_comes_back_each_second_however_many_wait() {
    for waiting in [1, 5, 100, 2_000, 20_000, 70_000] {
        let (asked, probes, _) = outage(waiting, 300);
        let most = asked[1..].iter().max().expect("some");
        assert!(*most <= 310, "{waiting} waiting: {most} in a second");
        // When all have been probes, the last to wait behind none keeps the first retry waiting once.
        let slow = probes.windows(2).filter(|pair| pair[1] - pair[0] > 2 * SECOND).count();
        assert!(slow <= 1, "{waiting} waiting: {slow} probes came late");
        for pair in probes.windows(2) {
            let between = pair[1] - pair[0];
            assert!(between >= SECOND && between <= 6 * SECOND, "{waiting} waiting: {between:?} between probes");
        }
        assert!(probes.len() >= 150, "{waiting} waiting: {} probes in 300 s", probes.len());
    }
}

proptest! {
    #[test]
    fn whatever_happens_there_is_at_most_one_probe_and_always_another_later(
        events in prop::collection::vec((0..3000u64, 0..5u8, any::<bool>()), 1..200),
    ) {
        let mut now = begin();
        let mut breaker = opened(now);
        let mut probing: Option<Call> = None;
        for (millis, event, retry) in events {
            now += Duration::from_millis(millis);
            match (event, probing) {
                (0, Some(call)) => { breaker.end(&call, unavailable(4), now); probing = None; }
                (1, Some(call)) => { breaker.end(&call, CallResult::Dropped, now); probing = None; }
                (2, Some(call)) if breaker.time_left(&call, now).is_none() => {
                    breaker.end(&call, unavailable(5), now);
                    probing = None;
                }
                _ => match breaker.decide(retry, now) {
                    BreakerDecision::Probe => {
                        prop_assert!(probing.is_none());
                        let call = Call { probe: true, retry, began: now };
                        breaker.begin(&call);
                        probing = Some(call);
                    }
                    BreakerDecision::Wait(wait) => prop_assert!(!wait.is_zero() && wait <= MAX_WAIT),
                    BreakerDecision::Go => prop_assert!(false, "it is open"),
                },
            }
        }
        if let Some(call) = probing {
            breaker.end(&call, CallResult::Dropped, now);
        }
        prop_assert_eq!(breaker.decide(true, now + RETRY_PROBE_DELAY), BreakerDecision::Probe);
    }
}
