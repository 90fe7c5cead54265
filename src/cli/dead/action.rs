use std::time::Duration;

use super::arguments::Filter;
use super::reader::{ReadLetter, Reader};
use crate::broker::rabbitmq::{Confirmed, Publisher};
use crate::broker::{PublishError, Publisher as _, Target, WaitLevels};
use crate::cancellation::Outcome;
use crate::message::{DeadLetterHeaders, LetterContent, Outgoing};
use crate::worker::now;

/// What is done with the letters that are meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Published as requests again.
    Replay {
        /// Instead of what they say themselves.
        timeout: Option<Duration>,
    },
    /// Their event is published.
    Answer,
    /// Taken out.
    Drop,
}

/// What is to be done with one letter.
pub(super) enum Step {
    /// Publish the request as it is.
    Resend(Target, Vec<(String, String)>),
    /// Publish the request as written anew.
    Rewrite(Outgoing),
    /// Publish the event, then the letter with these headers.
    Answer(Outcome, Outgoing, DeadLetterHeaders),
    /// Nothing has to be published.
    Discard,
    /// Nothing at all, and why.
    Skip(&'static str),
}

impl Action {
    /// For the question and the report.
    pub(super) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Replay { .. } => ("replay", "replayed"),
            Self::Answer => ("answer", "answered"),
            Self::Drop => ("drop", "dropped"),
        }
    }

    /// Whether it publishes.
    pub(super) const fn publishes(self) -> bool {
        !matches!(self, Self::Drop)
    }

    /// What it does with a letter.
    pub(super) fn step(self, read: &ReadLetter, filter: &Filter, reader: &Reader<'_>) -> Step {
        let (letter, settings) = (&read.letter, reader.settings);
        let replayed = || vec![(DeadLetterHeaders::REPLAY.to_owned(), letter.replay.to_string())];
        match (self, &letter.content) {
            (Self::Drop, _) => Step::Discard,
            (Self::Answer, _) if letter.is_answered() => Step::Skip("a worker has answered them"),
            (Self::Answer, _) => match letter.answer(&settings.events.format(), now()) {
                Some((outcome, event)) => Step::Answer(outcome, event, letter.answered(outcome, "dead answer", now())),
                None => Step::Skip("nothing tells whom to answer"),
            },
            (Self::Replay { timeout }, LetterContent::Request(_) | LetterContent::FollowUp(_)) => letter
                .rewritten(timeout, now())
                .map_or_else(|| Step::Resend(Target::Request, replayed()), Step::Rewrite),
            (Self::Replay { .. }, _) if !filter.names_reason(letter.reason()) => {
                Step::Skip("they cannot be used as they are: name their --reason to send them all the same")
            }
            (Self::Replay { .. }, LetterContent::Unusable(_)) => Step::Resend(Target::Request, replayed()),
            (Self::Replay { .. }, LetterContent::UnreadableFollowUp(_)) => {
                match WaitLevels::of(&settings.amqp.topology) {
                    Some(levels) => Step::Resend(Target::Wait(levels.shortest().clone()), Vec::new()),
                    None => Step::Skip("there is no wait level"),
                }
            }
        }
    }
}

impl Step {
    /// Does it, up to the letter's own end.
    pub(super) async fn publish(
        self,
        read: &ReadLetter,
        publisher: &Publisher,
    ) -> Result<Option<Confirmed>, PublishError> {
        let content = &read.raw.content;
        Ok(Some(match self {
            Self::Resend(target, headers) => publisher.replay(&target, content, headers).await?,
            Self::Rewrite(message) => publisher.publish(&Target::Request, message).await?,
            Self::Answer(outcome, event, headers) => {
                drop(publisher.publish(&Target::Event(outcome), event).await?);
                publisher.replay(&Target::Dead, content, headers.headers()).await?
            }
            Self::Discard | Self::Skip(_) => return Ok(None),
        }))
    }
}
