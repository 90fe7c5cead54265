//! Where the bearer token comes from.
//!
//! | file | subject |
//! |---|---|
//! | `source` | none, a token file, or Google's credentials: what a call asks |
//! | `token_file` | a bearer token in a file, read again when it changes |
//! | `google` | Google's credentials: one fetch however many calls wait, renewal, and its limits |
//! | `login` | one set of credentials of the official library, with a thread of its own |
//! | `adc` | Application Default Credentials: which file, and what is in it |
//! | `redact` | what a library says, without anything secret |
//! | `authorization` | the headers of a call that say who calls |
//! | `error` | why there is no token |
//!
//! A token goes over https or to a loopback address that settings name, and what a token is bought with (a refresh
//! token, an assertion) goes by the same rule to the address in the credentials file. Neither is part of any text.

mod adc;
mod authorization;
mod error;
mod google;
mod login;
mod redact;
mod source;
mod token_file;

pub(super) use authorization::Authorization;
pub(super) use error::AuthError;
pub(super) use source::Source;
