use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;

use super::error::AuthError;
use crate::telemetry::token_fetched;

/// The file is checked again when the last check is this long ago.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest token file that is read, in bytes; real tokens have a few thousand.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// A bearer token in a file: read at first use, again when the file has changed, and after a refusal.
pub(in super::super) struct TokenFile {
    path: Arc<Path>,
    cache: Mutex<TokenCache>,
    /// Held while the file is read, so that calls that need it at the same time read it once.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct TokenCache {
    token: Option<Token>,
    checked_at: Option<Instant>,
    /// The service refused the token since the last check.
    refused: bool,
    /// The last check failed, and a warning has been logged.
    warned: bool,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    /// Of the file it was read from.
    stamp: Stamp,
}

/// Two files with the same stamp hold the same token.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl TokenFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), cache: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The header's value.
    ///
    /// # Errors
    /// No token could be read and none is known.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, AuthError> {
        if let Some(header) = self.cache().fresh(Instant::now()) {
            return Ok(header);
        }
        let _reading = self.reading.lock().await;
        let (token, refused) = {
            let cache = self.cache();
            // Another call may have checked the file while this one waited.
            if let Some(header) = cache.fresh(Instant::now()) {
                return Ok(header);
            }
            // A refused token is read again, whatever its file looks like.
            (cache.token.clone().filter(|_| !cache.refused), cache.refused)
        };
        let path = Arc::clone(&self.path);
        let checked = tokio::task::spawn_blocking(move || check(&path, token)).await;
        // A panic's own message is not passed on: it may quote the token.
        let panicked = || std::io::Error::other("reading it panicked, see the log");
        let checked = checked.unwrap_or_else(|_| Err(unreadable(&self.path, panicked())));
        self.cache().update(checked, refused, Instant::now())
    }

    /// The service refused `refused`: the next call reads the file anew, unless that has happened since.
    pub(super) fn renew(&self, refused: &HeaderValue) {
        let mut cache = self.cache();
        // A call that was under way with an older token says nothing about the present one.
        if cache.token.as_ref().is_some_and(|token| token.header == *refused) {
            cache.refused = true;
            cache.checked_at = None;
        }
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        // Nothing panics while it is held; if something did, the token in it is still the token.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenCache {
    /// The token, if the file has been checked lately.
    fn fresh(&self, now: Instant) -> Option<HeaderValue> {
        let checked_at = self.checked_at?;
        let token = self.token.as_ref().filter(|_| now.duration_since(checked_at) < CHECK_INTERVAL)?;
        Some(token.header.clone())
    }

    /// Takes in a check of the file; `refused` is what was known when it began.
    fn update(
        &mut self,
        checked: Result<Token, AuthError>,
        refused: bool,
        now: Instant,
    ) -> Result<HeaderValue, AuthError> {
        if self.refused && !refused {
            // The refusal arrived during the check, which may have found what was refused: the next call checks anew.
            return checked.map(|token| token.header);
        }
        match checked {
            Ok(token) => {
                let header = token.header.clone();
                if self.token.as_ref().is_none_or(|known| known.header != header) {
                    token_fetched(true);
                }
                *self = Self { token: Some(token), checked_at: Some(now), refused: false, warned: false };
                Ok(header)
            }
            Err(error) => {
                token_fetched(false);
                self.keep_known_token(error, now)
            }
        }
    }

    /// A file that is being replaced may be missing or empty for a moment: a token that the service has not refused
    /// stays in use.
    fn keep_known_token(&mut self, error: AuthError, now: Instant) -> Result<HeaderValue, AuthError> {
        let Some(token) = self.token.as_ref().filter(|_| !self.refused) else {
            return Err(error);
        };
        if !self.warned {
            tracing::warn!("failed to {error}; the token read before stays in use until the API refuses it");
        }
        self.warned = true;
        self.checked_at = Some(now);
        Ok(token.header.clone())
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> AuthError {
    AuthError::Unreadable { path: path.to_owned(), error }
}

/// The file's token; `known`, if the file has not changed since.
fn check(path: &Path, known: Option<Token>) -> Result<Token, AuthError> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let stamp = file.metadata().map(|metadata| Stamp::of(&metadata)).map_err(|error| unreadable(path, error))?;
    if let Some(token) = known.filter(|token| token.stamp == stamp) {
        return Ok(token);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_TOKEN_BYTES + 1).read_to_end(&mut text).map_err(|error| unreadable(path, error))?;
    let header = bearer(&text).map_err(|problem| AuthError::Unusable { path: path.to_owned(), problem })?;
    Ok(Token { header, stamp })
}

/// The header's value for a token file's text.
fn bearer(text: &[u8]) -> Result<HeaderValue, &'static str> {
    const CHARACTERS: &str = "it has characters within that no token has, such as a space or a line break";
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TOKEN_BYTES {
        return Err("it is larger than 16 KiB");
    }
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err("it is empty");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(CHARACTERS);
    }
    let value = Zeroizing::new([b"Bearer ", token].concat());
    let mut header = HeaderValue::from_bytes(&value).map_err(|_| CHARACTERS)?;
    header.set_sensitive(true);
    Ok(header)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn token_file(text: &str) -> (tempfile::TempDir, PathBuf, TokenFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, text).expect("written");
        let credentials = TokenFile::new(&path);
        (folder, path, credentials)
    }

    async fn header(credentials: &TokenFile) -> String {
        let header = credentials.authorization().await.expect("readable");
        assert!(header.is_sensitive());
        assert_eq!(format!("{header:?}"), "Sensitive");
        header.to_str().expect("ASCII").to_owned()
    }

    #[tokio::test]
    async fn white_space_around_a_token_is_no_part_of_it() {
        let (_folder, _, credentials) = token_file("\n ya29.t0ken-_~+/= \r\n");
        assert_eq!(header(&credentials).await, "Bearer ya29.t0ken-_~+/=");
    }

    #[tokio::test]
    async fn a_file_without_a_usable_token_is_named_with_the_setting_and_its_text_is_not_shown() {
        for (text, problem) in [
            ("", "empty"),
            (" \n", "empty"),
            ("two s3cret", "such as a space"),
            ("s3cret\nline", "line break"),
            ("s3crét", "no token has"),
            (&"s3cret".repeat(4000), "larger than 16 KiB"),
        ] {
            let (_folder, path, credentials) = token_file(text);
            let error = credentials.authorization().await.expect_err(problem);
            let told = format!("{error} {error:?}");
            assert!(told.contains(problem) && told.contains(path.to_str().expect("UTF-8")), "{told}");
            assert!(told.contains("api.credentials.token_file") && !told.contains("s3cr"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_a_folder_is_named_with_what_to_do() {
        let (folder, path, credentials) = token_file("t");
        std::fs::remove_file(&path).expect("removed");
        let error = credentials.authorization().await.expect_err("missing").to_string();
        assert!(
            error.contains(path.to_str().expect("UTF-8")) && error.contains("api.credentials.token_file"),
            "{error}"
        );
        let folder = TokenFile::new(folder.path());
        assert!(folder.authorization().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_noticed_within_a_second_and_not_looked_at_more_often() {
        let (_folder, path, credentials) = token_file("one");
        assert_eq!(header(&credentials).await, "Bearer one");
        std::fs::write(&path, "two").expect("written");
        assert_eq!(header(&credentials).await, "Bearer one");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(header(&credentials).await, "Bearer two");
        let next = path.with_extension("next");
        std::fs::write(&next, "six").expect("written");
        std::fs::rename(&next, &path).expect("replaced");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(header(&credentials).await, "Bearer six");
    }

    #[tokio::test]
    async fn after_a_refusal_the_file_is_read_at_once() {
        let (_folder, path, credentials) = token_file("one");
        let refused = credentials.authorization().await.expect("readable");
        std::fs::write(&path, "two").expect("written");
        credentials.renew(&refused);
        assert_eq!(header(&credentials).await, "Bearer two");
        // Another call's refusal of the same old token is no news about the new one.
        std::fs::remove_file(&path).expect("removed");
        credentials.renew(&refused);
        assert_eq!(header(&credentials).await, "Bearer two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_stays_in_use_while_its_file_is_being_replaced_until_the_service_refuses_it() {
        let (_folder, path, credentials) = token_file("one");
        let one = credentials.authorization().await.expect("readable");
        std::fs::write(&path, "").expect("truncated");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(header(&credentials).await, "Bearer one");
        credentials.renew(&one);
        let error = credentials.authorization().await.expect_err("refused, and the file is empty").to_string();
        assert!(error.contains("empty"), "{error}");
        std::fs::write(&path, "two").expect("written");
        assert_eq!(header(&credentials).await, "Bearer two");
    }

    #[tokio::test]
    async fn a_refusal_that_arrives_during_a_look_is_not_forgotten() {
        let (_folder, path, _) = token_file("one");
        let one = check(&path, None).expect("readable");
        let mut cache = TokenCache { token: Some(one.clone()), refused: true, ..TokenCache::default() };
        let header = cache.update(Ok(one), false, Instant::now()).expect("found");
        assert_eq!(header, "Bearer one");
        assert!(cache.refused && cache.fresh(Instant::now()).is_none());
    }
}
