use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use humantime::parse_duration;

use super::rate::Rate;
use crate::cli::settings_arguments::SettingsArguments;

#[derive(Args, Debug)]
pub(in crate::cli) struct Dead {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    #[command(subcommand)]
    pub(super) verb: Verb,
    /// Go on although others take the queue's messages, or it is near its delivery limit
    #[arg(long, global = true)]
    pub(super) force: bool,
    /// JSON instead of text for people [default: on a terminal no, elsewhere yes]
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// One line for each letter
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
    /// How many there are by reason and age, and the command that replays each kind
    Summary {
        #[command(flatten)]
        filter: Filter,
        /// Ask the API, which changes nothing, what a replay would find
        #[arg(long)]
        explain: bool,
    },
    /// Letters in full, by their id or its beginning
    Show {
        #[arg(value_name = "ID")]
        id: String,
        /// Nothing but the body, byte by byte
        #[arg(long)]
        body: bool,
    },
    /// Publish requests again; each gets a new answer, with its replay number
    Replay {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        care: Care,
        /// How long the worker is to follow each operation [default: as the request says; where its deadline is over, worker.default_timeout]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Publish the event of letters that the broker gave up, which have none; the letters stay, with its reason
    Answer {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        care: Care,
    },
    /// Delete letters
    Drop {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        care: Care,
    },
    /// Copy letters to a new file, one JSON line each; they stay in the queue
    Export {
        #[command(flatten)]
        filter: Filter,
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Publish the letters of such a file to the dead queue
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Which letters. Those that all given conditions hold for.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Why it is dead: failed, unusable_request, unreadable_follow_up, gave_up; of the broker's: delivery_limit, expired, …
    #[arg(long = "reason", value_name = "REASON")]
    pub(super) reasons: Vec<String>,
    /// The reason of its failed answer, such as not_found
    #[arg(long = "failed-reason", value_name = "REASON")]
    pub(super) failed_reasons: Vec<String>,
    /// The operation's name; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub(super) name: Option<String>,
    /// What the request is known by
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
    /// Dead for less than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) newer_than: Option<Duration>,
    /// Dead for longer than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) older_than: Option<Duration>,
    /// The worker that put it there
    #[arg(long, value_name = "NAME")]
    pub(super) worker: Option<String>,
    /// Its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
}

/// How what changes letters goes about it.
#[derive(Args, Clone, Debug)]
pub(super) struct Care {
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// No faster than this, such as 10/s or 100/m
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<Rate>,
    /// Ask nothing
    #[arg(long)]
    pub(super) yes: bool,
}
