//! A scripted Operations API over real HTTP/1.1, for demos, tests and benchmarks.
//!
//! [`Simulator`] answers `POST /{version}/{name}:cancel`, `GET /{version}/{name}` and `GET /{version}/{parent}/operations`
//! in Google's shapes, for any version segment (`v1`, `v2beta1`, …) and for both forms of names. What it does not know, it
//! answers as Google's front end does: with an HTML page (404, 405; 411 for a POST without `Content-Length`). Nothing has to
//! be registered: an operation exists from the first call for it on, and **its id tells its script**. Without one the service
//! is healthy, and the cancel takes effect at once.
//!
//! | file | subject |
//! |---|---|
//! | `server` | binds the address and serves |
//! | `shared` | the state and the end of the simulator, for all handlers |
//! | `connection` | connections that can be closed instead of answered |
//! | `api` | the calls of the Operations API, and what its front end refuses |
//! | `target` | what a path and a query point at |
//! | `control` | the calls of the control endpoint |
//! | `state` | decides every answer, and counts |
//! | `injected_faults` | faults of all calls or of a location, before any script: `PUT /control/weather` |
//! | `store` | the operations known so far, and their scripts |
//! | `operation` | one operation: what it answers, and the log of its calls |
//! | `script` | the grammar of ids |
//! | `fault` | the answers that are not the healthy one |
//! | `response` | an answer as HTTP |
//! | `google_error` | google.rpc codes and error envelopes |
//! | `html_page` | the pages of Google's front end |
//! | `clock` | the wall clock |
//! | `tests` | tests over real TCP |
//!
//! # The grammar of ids
//!
//! ```text
//! id    = word { ( "-" | "." ) parameter } [ ( "-" | "." ) anything ]
//! n     = 1 … 9999, no leading zero: this many times, then as `cancels`; left out: every time
//! delay = digits ( "ms" | "s" | "m" | "h" )
//! then  = "done" | "cancelled": what a get says all the while (left out: that the operation is running)
//! ```
//!
//! Parameters are read in the order of the table, each of them may be left out, and the first piece that does not fit begins
//! the part that only makes the id unique. So let a unique part begin with a letter: `flaky-3-a81c`. An id whose first piece
//! is no word of the table behaves as `cancels`.
//!
//! | id | what happens |
//! |---|---|
//! | `cancels[-delay]`, `running…` | the cancel is accepted; that long after it the operation is done with `error.code` 1 |
//! | `completes[-delay]` | …done with a response: the cancel came too late |
//! | `errs[-code][-delay]` | …done with another google.rpc code, 1 to 16 (13) |
//! | `empty[-delay]` | …done with neither an error nor a response |
//! | `emptyerror[-delay]` | …done with `error: {}` |
//! | `never` | the cancel is accepted, and the operation is never done |
//! | `already[-then]` | done before the first call: `-cancelled` (also when left out) or `-done` with a response |
//! | `notfound[-then]` | the cancel answers 404 NOT_FOUND, and so does a get, unless *then* says otherwise |
//! | `lost[-n]` | the cancel is accepted, and from then on a get answers NOT_FOUND |
//! | *fault*`[-n][…][-then]` | the cancel answers with the fault |
//! | *fault*`get[-n][…]` | the cancel is accepted, every get answers with the fault |
//! | `garbage[-n]`, `big[-n]` | a get answers 200 with what is not JSON, or with an operation of more than 1 MiB |
//! | `oddbody` | as `cancels`, but the cancel's answer, 200, is not JSON |
//!
//! | fault | answer |
//! |---|---|
//! | `unimplemented`, `precondition`, `denied`, `invalid`, `outofrange` (no *n*: every time) | 501, 400, 403, 400, 400 in an envelope |
//! | `flaky` (or `unavailable`), `internal`, `unknown`, `deadline`, `dataloss` | 503, 500, 500, 504, 500 in an envelope |
//! | `aborted`, `exists`, `http499` | 409 ABORTED, 409 ALREADY_EXISTS, 499 CANCELLED in an envelope |
//! | `unauthenticated` | 401 with `ErrorInfo` ACCESS_TOKEN_EXPIRED |
//! | `limited[-n][-delay]` | 429 with `RetryInfo` (delay, 1 s) and `QuotaFailure` |
//! | `quota403[-n][-delay]` | 403 with `ErrorInfo` RATE_LIMIT_EXCEEDED and `RetryInfo` |
//! | `retryafter[-n][-seconds]`, `retrydate[-n][-seconds]` | 429, no envelope, `Retry-After` as seconds (1) or as an HTTP date |
//! | `html400` … `html599` | an HTML page with that status; *n* only where a repetition may help (408, 429, 499, 5xx but 501) |
//! | `redirect` | 302 to an unknown path |
//! | `hangs`, `cut` | no answer at all: silence, or the connection is closed |
//!
//! # The control endpoint
//!
//! | call | what |
//! |---|---|
//! | `GET /control/health` | 200 |
//! | `PUT /control/operations/{id}` | `{"script":"cancels-250ms"}`: scripts any id, and begins it anew if it is known |
//! | `DELETE /control/operations` | forgets all operations, scripts and counts |
//! | `GET /control/calls?id=…` | the calls for an operation (an id, or a full name where the id is not unique); zeros for an unknown one |
//! | `GET /control/stats` | totals |
//! | `PUT /control/weather` | faults injected into all calls, before any script: any of `status`, `html`, `retry_after` (seconds), `hang`, `cut`, `share` (0 to 1 of the calls), `latency` ("50ms"); with `location` only calls for that location, which then get these alone; with `operations` only those whose ids begin with it; `{}` clears |
//! | `PUT /control/token` | `{"token":"…"}`: the bearer token that calls must carry from now on; `null`: any or none |
//!
//! Times are milliseconds since the Unix epoch. A call is `too_early` if it came before a wait that an earlier answer for the
//! same operation asked for (`RetryInfo`, `Retry-After`) was over.

mod api;
mod clock;
mod connection;
mod control;
mod fault;
mod google_error;
mod html_page;
mod injected_faults;
mod operation;
mod response;
mod script;
mod server;
mod shared;
mod state;
mod store;
mod target;

#[cfg(test)]
mod tests;

pub use server::{Simulator, SimulatorError, SimulatorOptions};
