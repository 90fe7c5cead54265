//! What must hold for every sequence of answers, whatever the API does.

use std::time::Duration;

use proptest::prelude::*;

use super::machine_tests::{START, failure, operation, policy};
use super::*;

#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepted,
    Operation { done: bool, error: Option<i32> },
    Undecodable,
    Failure(FailureKind, Option<u64>),
}

impl Answer {
    fn reply(self) -> Reply {
        match self {
            Self::Accepted => Reply::Accepted,
            Self::Operation { done, error } => operation(done, error),
            Self::Undecodable => Reply::Undecodable { detail: "?".to_owned() },
            Self::Failure(kind, wait) => match failure(kind) {
                Reply::Failure(failure) => {
                    Reply::Failure(Failure { retry_after: wait.map(Duration::from_secs), ..failure })
                }
                other => other,
            },
        }
    }
}

fn kinds() -> impl Strategy<Value = FailureKind> {
    use FailureKind::*;
    // Weighted towards what goes on, so that stories get long.
    prop_oneof![
        6 => prop::sample::select(vec![Unavailable, RateLimited, Conflict, Unauthenticated, PermissionDenied, UnknownHost]),
        1 => prop::sample::select(vec![
            Unimplemented, FailedPrecondition, ForeignProject, NotFound, BadEndpoint, NoEndpoint, Rejected
        ]),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        2 => Just(Answer::Accepted),
        4 => (any::<bool>(), prop::option::of(-1..18i32))
            .prop_map(|(done, error)| Answer::Operation { done: done && error.is_some(), error }),
        1 => Just(Answer::Undecodable),
        6 => (kinds(), prop::option::of(0..100_000u64)).prop_map(|(kind, wait)| Answer::Failure(kind, wait)),
    ]
}

/// Plays a story to its end: each call is answered by the next answer (the last one for ever) and takes `call`; every
/// third is a probe.
/// Returns the end, the answers by call, and when it was over.
fn play(answers: &[Answer], timeout: Duration, call: Duration, jitter: f64) -> TestEnv {
    let mut progress = Progress::new(START, START + timeout);
    let mut now = START;
    let mut given = Vec::new();
    let mut step = resume(&mut progress);
    for _ in 0..100_000 {
        match step {
            Step::Wait(wait) => {
                now += wait;
                step = resume(&mut progress);
            }
            Step::WaitBehind => {
                now += Duration::from_secs(2).min(progress.time_left(now));
                step = resume(&mut progress);
            }
            Step::Finish(conclusion) => return TestEnv { conclusion, progress, given, over: now - START },
            Step::Cancel | Step::Get => {
                let answer = answers[given.len().min(answers.len() - 1)];
                let probe = given.len() % 3 == 2;
                given.push((step == Step::Cancel, answer));
                now += call;
                (progress, step) = next_step(progress, answer.reply(), probe, now, jitter, &policy());
            }
        }
    }
    panic!("no end after 100,000 steps: {answers:?}");
}

#[derive(Debug)]
struct TestEnv {
    conclusion: Conclusion,
    progress: Progress,
    given: Vec<(bool, Answer)>,
    over: time::Duration,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_answer_is_backed_by_what_the_api_said(
        answers in prop::collection::vec(answers(), 1..40),
        timeout in 0..7200u64,
        jitter in 0.0..=1.0f64,
    ) {
        let story = play(&answers, Duration::from_secs(timeout), Duration::from_millis(50), jitter);
        let (was_cancel, last) = *story.given.last().expect("at least one call");
        match story.conclusion.outcome {
            Outcome::Cancelled => {
                let is = matches!(last, Answer::Operation { done: true, error: Some(1) });
                prop_assert!(is && !was_cancel, "{:?}", last);
            }
            Outcome::Completed => {
                let is = matches!(last, Answer::Operation { done: true, error } if error != Some(1));
                prop_assert!(is && !was_cancel, "{:?}", last);
            }
            Outcome::Unimplemented => {
                let is = matches!(last, Answer::Failure(FailureKind::Unimplemented, _));
                prop_assert!(is && was_cancel, "{:?}", last);
            }
            Outcome::Failed(_) => prop_assert!(story.conclusion.error.is_some()),
        }
    }

    #[test]
    fn the_cancel_is_attempted_at_least_once_and_every_call_is_counted(
        answers in prop::collection::vec(answers(), 1..40),
        timeout in 0..7200u64,
    ) {
        let story = play(&answers, Duration::from_secs(timeout), Duration::from_millis(50), 0.5);
        prop_assert!(story.given[0].0);
        let cancels = story.given.iter().filter(|(was_cancel, _)| *was_cancel).count();
        let calls = story.progress.calls;
        prop_assert_eq!((calls.cancel as usize, calls.get as usize), (cancels, story.given.len() - cancels));
    }

    #[test]
    fn there_is_an_end_by_the_deadline(
        answers in prop::collection::vec(answers(), 1..40),
        timeout in 0..7200u64,
        call in 0..15_000u64,
        jitter in 0.0..=1.0f64,
    ) {
        let (timeout, call) = (Duration::from_secs(timeout), Duration::from_millis(call));
        let story = play(&answers, timeout, call, jitter);
        // The call that is under way at the deadline, a repetition with new credentials, and the same again for one last get.
        let limit = timeout + 6 * call + Duration::from_millis(10);
        prop_assert!(story.over <= limit, "over after {}, limit {:?}", story.over, limit);
    }

    #[test]
    fn a_story_goes_on_the_same_way_after_it_was_written_down_and_read_again(
        answers in prop::collection::vec(answers(), 1..20),
    ) {
        let mut progress = Progress::new(START, START + Duration::from_secs(3600));
        let mut step = resume(&mut progress);
        for answer in answers {
            if let Step::Wait(_) = step {
                let written = serde_json::to_string(&progress).expect("JSON");
                let mut read: Progress = serde_json::from_str(&written).expect("the same");
                prop_assert_eq!(serde_json::to_string(&read).expect("JSON"), written);
                prop_assert_eq!(&read.phase, &progress.phase);
                step = resume(&mut read);
                progress = read;
            }
            match step {
                Step::Finish(_) => return Ok(()),
                _ => (progress, step) = next_step(progress, answer.reply(), false, START, 0.0, &policy()),
            }
        }
    }
}
