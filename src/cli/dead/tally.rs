use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::action::Action;
use crate::cli::exit::Exit;

/// What came of the letters.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) action: Action,
    pub(super) dry_run: bool,
    /// How many there were.
    pub(super) letters: u32,
    /// How many were meant.
    pub(super) chosen: u32,
    pub(super) done: u32,
    /// Published anew with another deadline, or as a request that was a follow-up.
    pub(super) rewritten: u32,
    /// Why nothing was done.
    pub(super) skipped: BTreeMap<&'static str, u32>,
    /// What the broker said of publishes that it did not take.
    pub(super) refused: BTreeMap<String, u32>,
    pub(super) interrupted: bool,
}

impl Tally {
    pub(super) fn new(action: Action, dry_run: bool, letters: u32) -> Self {
        Self {
            action,
            dry_run,
            letters,
            chosen: 0,
            done: 0,
            rewritten: 0,
            skipped: BTreeMap::new(),
            refused: BTreeMap::new(),
            interrupted: false,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self { interrupted: true, .. } => Exit::Interrupted,
            Self { skipped, refused, .. } if !skipped.is_empty() || !refused.is_empty() => Exit::Partly,
            _ => Exit::Success,
        }
    }

    pub(super) fn json(&self) -> Value {
        let Self { action, dry_run, letters, chosen, done, rewritten, skipped, refused, interrupted } = self;
        json!({
            "action": action.words().0, "dry_run": dry_run, "letters": letters, "chosen": chosen, "done": done,
            "rewritten": rewritten, "skipped": skipped, "refused": refused, "interrupted": interrupted,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (would, (_, done)) = (if self.dry_run { "would be " } else { "" }, self.action.words());
        write!(f, "{} of {} letters {would}{done}", self.done, self.letters)?;
        if self.rewritten > 0 {
            write!(f, ", {} of them written anew: their deadline was over, or they were follow-ups", self.rewritten)?;
        }
        self.skipped.iter().try_for_each(|(why, count)| write!(f, "; {count} skipped: {why}"))?;
        self.refused.iter().try_for_each(|(why, count)| write!(f, "; {count} not taken by the broker: {why}"))?;
        if self.interrupted {
            f.write_str("; interrupted")?;
        }
        f.write_str("; all others are where they were")
    }
}
