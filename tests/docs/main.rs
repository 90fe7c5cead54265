//! What the README files say is compared with the code, so that no map says one thing and the code another.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod links;
mod markdown;
