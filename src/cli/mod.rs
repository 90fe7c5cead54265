//! The commands. Errors are one sentence on standard error: what failed, on what, what to do.
//!
//! | file | subject |
//! |---|---|
//! | `main`, `arguments` | the command line, and which command it asks for |
//! | `run`, `cancel`, `request`, `check`, `status`, `probe`, `simulate` | the commands |
//! | `dead/` | the command that looks after dead letters |
//! | `startup`, `signals` | runtime and log; SIGTERM and its kin |
//! | `reload` | what a SIGHUP changes |
//! | `settings_arguments` | which settings files |
//! | `admin_client` | asks a worker's admin listener |
//! | `output`, `table` | standard output; a table on it |
//! | `names` | operations' names, from arguments or a file |
//! | `canary` | one request whose answer proves the whole way |
//! | `named_files` | the files that settings name: can they be read, and by whom else |
//! | `limits` | whether the process may open enough files |
//! | `exit` | exit codes |

mod admin_client;
mod arguments;
mod canary;
mod cancel;
mod check;
mod dead;
mod exit;
mod limits;
mod main;
mod named_files;
mod names;
mod output;
mod probe;
mod reload;
mod request;
mod run;
mod settings_arguments;
mod signals;
mod simulate;
mod startup;
mod status;
mod table;

pub use main::main;
