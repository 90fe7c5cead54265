use std::time::Duration;

use proptest::prelude::*;

use crate::google_rpc::Code;
use crate::simulator::fault::Fault;
use crate::simulator::script::{Ending, InvalidScript, Script, read_delay};

const fn ends(ending: Ending, millis: u64) -> Script {
    Script::Ends { ending, after: Duration::from_millis(millis) }
}

const fn cancel_fails(fault: Fault, times: Option<u32>, meanwhile: Option<Ending>) -> Script {
    Script::CancelFails { fault, times, meanwhile }
}

const fn get_fails(fault: Fault, times: Option<u32>) -> Script {
    Script::GetFails { fault, times }
}

#[test]
fn every_word_and_its_parameters_are_read() {
    use Code::*;
    let wait = Duration::from_secs(1);
    for (text, script) in [
        ("cancels", ends(Ending::Cancelled, 0)),
        ("cancels-250ms", ends(Ending::Cancelled, 250)),
        ("running.2m", ends(Ending::Cancelled, 120_000)),
        ("completes-3s", ends(Ending::Completed, 3000)),
        ("errs", ends(Ending::Error(Internal), 0)),
        ("errs-5-20ms", ends(Ending::Error(NotFound), 20)),
        ("errs.20ms", ends(Ending::Error(Internal), 20)),
        ("empty-1h", ends(Ending::Empty, 3_600_000)),
        ("emptyerror", ends(Ending::EmptyError, 0)),
        ("never", Script::Never),
        ("already", Script::Already(Ending::Cancelled)),
        ("already-done", Script::Already(Ending::Completed)),
        ("notfound", Script::NotFound(None)),
        ("notfound-cancelled", Script::NotFound(Some(Ending::Cancelled))),
        ("lost", Script::Lost(None)),
        ("lost-2", Script::Lost(Some(2))),
        ("garbage-3", get_fails(Fault::NotJson, Some(3))),
        ("big", get_fails(Fault::Big, None)),
        ("oddbody", Script::OddBody),
        ("unimplemented", cancel_fails(Fault::Code(Unimplemented), None, None)),
        ("unimplementedget", get_fails(Fault::Code(Unimplemented), None)),
        ("precondition-done", cancel_fails(Fault::Code(FailedPrecondition), None, Some(Ending::Completed))),
        ("denied", cancel_fails(Fault::Code(PermissionDenied), None, None)),
        ("invalid", cancel_fails(Fault::Code(InvalidArgument), None, None)),
        ("outofrange", cancel_fails(Fault::Code(OutOfRange), None, None)),
        ("flaky-7", cancel_fails(Fault::Code(Unavailable), Some(7), None)),
        ("unavailable", cancel_fails(Fault::Code(Unavailable), None, None)),
        ("flakyget-7", get_fails(Fault::Code(Unavailable), Some(7))),
        ("internal-1", cancel_fails(Fault::Code(Internal), Some(1), None)),
        ("unknown-1", cancel_fails(Fault::Code(Unknown), Some(1), None)),
        ("deadline-1", cancel_fails(Fault::Code(DeadlineExceeded), Some(1), None)),
        ("dataloss-1", cancel_fails(Fault::Code(DataLoss), Some(1), None)),
        ("aborted-2-done", cancel_fails(Fault::Code(Aborted), Some(2), Some(Ending::Completed))),
        ("exists", cancel_fails(Fault::Code(AlreadyExists), None, None)),
        ("http499-9999", cancel_fails(Fault::Code(Cancelled), Some(9999), None)),
        ("unauthenticated-1", cancel_fails(Fault::Code(Unauthenticated), Some(1), None)),
        ("limited", cancel_fails(Fault::Limited { wait }, None, None)),
        ("limited-2-3s", cancel_fails(Fault::Limited { wait: 3 * wait }, Some(2), None)),
        ("quota403get-2-1s", get_fails(Fault::Quota403 { wait }, Some(2))),
        ("retryafter-2-3", cancel_fails(Fault::RetryAfter { status: 429, seconds: 3 }, Some(2), None)),
        ("retrydate-2-3s", cancel_fails(Fault::RetryDate { seconds: 3 }, Some(2), None)),
        ("redirect", cancel_fails(Fault::Redirect, None, None)),
        ("html404", cancel_fails(Fault::Html(404), None, None)),
        ("html502-2", cancel_fails(Fault::Html(502), Some(2), None)),
        ("html501get", get_fails(Fault::Html(501), None)),
        ("hangs-1", cancel_fails(Fault::Hang, Some(1), None)),
        ("hangsget", get_fails(Fault::Hang, None)),
        ("cut-2-cancelled", cancel_fails(Fault::Cut, Some(2), Some(Ending::Cancelled))),
    ] {
        assert_eq!(Script::parse(text), Ok(script), "{text}");
        assert_eq!(Script::of_id(text), script, "{text}");
        assert_eq!(Script::of_id(&format!("{text}-u7f3")), script, "{text} and a unique part");
        assert_eq!(Script::of_id(&format!("{text}.u7f3-9-done")), script, "{text} and a longer unique part");
    }
}

#[test]
fn an_id_that_says_nothing_cancels_at_once() {
    for id in
        ["", "o", "operation-42", "5f3c9a-cancels", "cancel", "cancelsget", "html", "html200", "html4040", "-", "Never"]
    {
        assert_eq!(Script::of_id(id), Script::DEFAULT, "{id}");
    }
}

#[test]
fn what_does_not_fit_begins_the_unique_part() {
    assert_eq!(Script::of_id("cancels-250"), ends(Ending::Cancelled, 0));
    assert_eq!(Script::of_id("cancels-x-250ms"), ends(Ending::Cancelled, 0));
    assert_eq!(Script::of_id("flaky-007"), cancel_fails(Fault::Code(Code::Unavailable), None, None));
    assert_eq!(Script::of_id("flaky-10000"), cancel_fails(Fault::Code(Code::Unavailable), None, None));
    assert_eq!(Script::of_id("errs-17"), ends(Ending::Error(Code::Internal), 0));
    assert_eq!(Script::of_id("unimplemented-3"), cancel_fails(Fault::Code(Code::Unimplemented), None, None));
}

#[test]
fn a_script_on_its_own_has_nothing_behind_it() {
    assert_eq!(Script::parse("dances-3s"), Err(InvalidScript::Word("dances".into())));
    assert_eq!(Script::parse("cancels-soon"), Err(InvalidScript::Parameter("soon".into())));
    assert_eq!(Script::parse("never-3s"), Err(InvalidScript::Parameter("3s".into())));
    assert_eq!(Script::parse("flaky-"), Err(InvalidScript::Parameter(String::new())));
    assert_eq!(Script::parse(""), Err(InvalidScript::Word(String::new())));
}

#[test]
fn delays_have_a_unit() {
    assert_eq!(read_delay("0ms"), Some(Duration::ZERO));
    assert_eq!(read_delay("90m"), Some(Duration::from_secs(5400)));
    for text in ["", "5", "s", "1.5s", "-1s", "5 s", "5S", "1000000000h", "5sec"] {
        assert_eq!(read_delay(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_id_has_a_script(id in "\\PC{0,60}") {
        let _script = Script::of_id(&id);
    }

    #[test]
    fn a_script_reads_the_same_alone_and_as_the_beginning_of_an_id(
        text in "(cancels|errs|flaky|limitedget|html503|lost)(-[0-9]{1,3})?(-[0-9]{1,3}(ms|s))?(-done)?",
    ) {
        if let Ok(script) = Script::parse(&text) {
            prop_assert_eq!(Script::of_id(&format!("{text}-u")), script);
        }
    }
}
