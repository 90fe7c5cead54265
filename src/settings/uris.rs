use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::amqp_uri::AmqpUri;
use super::amqp_uri_parser::UriProblem;
use super::file_name::{NO_FILE_NAME, is_content};
use super::values::one_or_many;

/// The URIs as the setting `amqp.uri` gives them, not read yet: where a file goes before them, they never are.
#[derive(Clone, Debug)]
pub(super) struct GivenUris(pub(super) Vec<SecretString>);

impl<'de> Deserialize<'de> for GivenUris {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        Ok(Self(texts.iter().flat_map(|text| split(text)).map(SecretString::from).collect()))
    }
}

/// The nodes of one cluster: fixed, or read anew from a file for each session, so that a password can be rotated while
/// the worker runs. Clones share what was read last.
#[derive(Clone, Debug, Default)]
pub struct UriSource {
    file: Option<PathBuf>,
    last: Arc<Mutex<Last>>,
    /// A read is under way: on a file system that hangs it stays so, and is the only one.
    reading: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Last {
    good: Arc<[AmqpUri]>,
    /// Why the file could not be used since.
    problem: Option<String>,
}

impl Last {
    /// Notes why the file cannot be used; None if that is known.
    fn unusable(&mut self, problem: String) -> Option<UriNews> {
        let known = self.problem.as_ref() == Some(&problem);
        self.problem = Some(problem.clone());
        (!known).then_some(UriNews::Unusable(problem))
    }
}

/// What has changed since the file was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriNews {
    /// It cannot be used, and this is why; or it still cannot, for another reason. What it held before stays in use.
    Unusable(String),
    /// It can be used again, and holds what it held before.
    UsableAgain,
    /// It holds something else.
    Changed,
}

impl UriSource {
    /// Always the same.
    pub(super) fn fixed(given: &GivenUris) -> Result<Self, UrisProblem> {
        let texts: Vec<&str> = given.0.iter().map(ExposeSecret::expose_secret).collect();
        Ok(Self::of(None, read(&texts)?))
    }

    /// What the file holds, now and later.
    pub(super) fn file(path: &Path) -> Result<Self, UrisProblem> {
        Ok(Self::of(Some(path.to_owned()), read_file(path)?))
    }

    fn of(file: Option<PathBuf>, good: Arc<[AmqpUri]>) -> Self {
        Self { file, last: Arc::new(Mutex::new(Last { good, problem: None })), reading: Arc::default() }
    }

    /// What was read last.
    #[must_use]
    pub fn last(&self) -> Arc<[AmqpUri]> {
        Arc::clone(&self.state().good)
    }

    /// Reads the file again, if there is one, and tells what has changed. Never fails: while the file cannot be used,
    /// what it held before is. A pipe can be read only once, and is. Blocks for as long as the file system does.
    pub fn read(&self) -> (Arc<[AmqpUri]>, Option<UriNews>) {
        let Ok(_reading) = self.reading.try_lock() else { return (self.last(), None) };
        let Some(path) = self.file.as_deref().filter(|path| !is_pipe(path)) else {
            return (self.last(), None);
        };
        let read = read_file(path);
        let mut last = self.state();
        let news = match read {
            Ok(uris) => {
                let repaired = last.problem.take().map(|_| UriNews::UsableAgain);
                let changed = last.good != uris;
                last.good = uris;
                if changed { Some(UriNews::Changed) } else { repaired }
            }
            Err(problem) => last.unusable(problem.to_string()),
        };
        (Arc::clone(&last.good), news)
    }

    /// A read takes too long to be waited for.
    pub fn unanswered(&self, waited: Duration) -> Option<UriNews> {
        let waited = humantime::format_duration(waited);
        self.state().unusable(format!("it could not be read within {waited}; is its file system there?"))
    }

    fn state(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As for the log: without passwords.
impl fmt::Display for UriSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uris: Vec<String> = self.last().iter().map(ToString::to_string).collect();
        f.write_str(&uris.join(", "))
    }
}

/// Why there are no URIs. Never quotes one.
#[derive(Debug, thiserror::Error)]
pub(super) enum UrisProblem {
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("it is longer than 64 KiB")]
    TooLong,
    #[error("it is no text in UTF-8")]
    NotText,
    #[error("{NO_FILE_NAME}")]
    NoFileName,
    #[error("there is no URI in it; {FORM}")]
    None,
    #[error("{}{problem}; {FORM}", position(*.number, *.of))]
    Uri { number: usize, of: usize, problem: UriProblem },
}

const FORM: &str = "it must be of the form amqp://user:password@host:5672/%2f or amqps://…, and in user and password everything but letters, digits and -._~ is percent-encoded";

fn position(number: usize, of: usize) -> String {
    if of > 1 { format!("of its {of} URIs, number {number} cannot be read: ") } else { String::new() }
}

/// Commas and line breaks separate URIs; neither can be part of one.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n', '\r']).map(str::trim).filter(|uri| !uri.is_empty())
}

fn read(texts: &[&str]) -> Result<Arc<[AmqpUri]>, UrisProblem> {
    if texts.is_empty() {
        return Err(UrisProblem::None);
    }
    let of = texts.len();
    let parsed = texts
        .iter()
        .zip(1..)
        .map(|(text, number)| text.parse().map_err(|problem| UrisProblem::Uri { number, of, problem }));
    parsed.collect()
}

/// In bytes. Room for a hundred nodes, and no more is ever held in memory.
const LONGEST_FILE: u64 = 64 * 1024;

fn read_file(path: &Path) -> Result<Arc<[AmqpUri]>, UrisProblem> {
    if is_content(path) {
        return Err(UrisProblem::NoFileName);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(UrisProblem::TooLong);
    }
    let text = SecretString::from(String::from_utf8(bytes).map_err(|_| UrisProblem::NotText)?);
    let text = text.expose_secret();
    // Editors of another system begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    read(&split(text).collect::<Vec<_>>())
}

/// Opening one would wait for whoever writes it, which is nobody any more.
fn is_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM_ONLY: &str = "amqp://user:password@host:5672/%2f";

    fn source(text: &str) -> (tempfile::NamedTempFile, UriSource) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let source = UriSource::file(file.path()).expect("URIs");
        (file, source)
    }

    fn refused(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        UriSource::file(file.path()).expect_err("no URIs").to_string()
    }

    #[test]
    fn while_a_read_hangs_the_last_good_uris_are_used_and_that_is_said_once() {
        let (_file, source) = source("amqp://a:s3cret@one/v");
        let _hangs = source.reading.lock().expect("free");
        assert_eq!(source.read(), (source.last(), None));
        let second = Duration::from_secs(1);
        let Some(UriNews::Unusable(problem)) = source.unanswered(second) else { panic!("it is said") };
        assert!(problem.contains("within 1s"), "{problem}");
        assert_eq!(source.unanswered(second), None);
    }

    #[test]
    fn line_breaks_and_commas_separate_the_uris_of_a_file() {
        for text in [
            "amqp://a:s3cret@one/v\namqp://a:s3cret@two/v",
            "amqp://a:s3cret@one/v\r\namqp://a:s3cret@two/v\r\n",
            "\n\n  amqp://a:s3cret@one/v  \n\n\tamqp://a:s3cret@two/v\n\n",
            "amqp://a:s3cret@one/v, amqp://a:s3cret@two/v,\n",
            "\u{feff}amqp://a:s3cret@one/v\ramqp://a:s3cret@two/v",
        ] {
            let (_file, source) = source(text);
            assert_eq!(source.to_string(), "amqp://a@one:5672/v, amqp://a@two:5672/v", "{text:?}");
        }
    }

    #[test]
    fn a_file_without_a_uri_is_told_of_without_quoting_it() {
        for (bytes, words) in [
            (&b""[..], "there is no URI in it"),
            (b" \n,\r\n", "there is no URI in it"),
            (b"\xef\xbb\xbf", "there is no URI in it"),
            (b"amqp://a:s3cret\xff@h", "no text in UTF-8"),
            (b"amqp://a:s3cret@h\ns3cret\n", "of its 2 URIs, number 2 cannot be read: it does not begin with"),
            (b"# amqp://a:s3cret@h", "it does not begin with"),
            (b"amqp://a:s3,cret@h", "of its 2 URIs, number 1 cannot be read"),
            (&[b'a'; 65_537], "longer than 64 KiB"),
        ] {
            let problem = refused(bytes);
            assert!(problem.contains(words), "{problem}");
            assert!(!problem.replace(FORM_ONLY, "").contains("s3"), "{problem}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert!(UriSource::file(folder.path()).expect_err("a folder").to_string().contains("directory"));
        let uri = UriSource::file(Path::new("amqp://a:s3cret@h")).expect_err("no file's name").to_string();
        assert!(uri.contains("the name of a file") && !uri.contains("s3cret"), "{uri}");
    }

    #[test]
    fn a_new_password_is_read_and_the_last_good_one_is_kept_while_there_is_none() {
        let (file, source) = source("amqp://a:one@h");
        let clone = source.clone();
        let password = || clone.last()[0].password().expose_secret().to_owned();
        assert_eq!(source.read().1, None, "nothing has changed");
        std::fs::write(file.path(), "amqp://a:two@h").expect("written");
        assert_eq!((source.read().1, password().as_str()), (Some(UriNews::Changed), "two"));
        assert_eq!(source.read().1, None);

        std::fs::write(file.path(), "").expect("written");
        let Some(UriNews::Unusable(empty)) = source.read().1 else { panic!("an empty file is told of") };
        assert!(empty.contains("no URI"), "{empty}");
        assert_eq!(source.read().1, None, "once");
        std::fs::remove_file(file.path()).expect("removed");
        let Some(UriNews::Unusable(gone)) = source.read().1 else { panic!("another problem is told of") };
        assert!(gone.contains("No such file"), "{gone}");
        assert_eq!((source.read().1, password().as_str()), (None, "two"));
        std::fs::write(file.path(), "amqp://a:two@h").expect("written");
        assert_eq!(source.read().1, Some(UriNews::UsableAgain));
        std::fs::write(file.path(), "amqp://a:thr#ee@h").expect("written");
        assert!(matches!(source.read().1, Some(UriNews::Unusable(_))));
        std::fs::write(file.path(), "amqp://a:three@h").expect("written");
        assert_eq!((source.read().1, password().as_str()), (Some(UriNews::Changed), "three"));
    }

    #[test]
    fn a_pipe_is_read_once_and_never_waited_for_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "amqp://a:one@h")
        });
        let source = UriSource::file(&path).expect("URIs");
        writer.join().expect("joined").expect("written");
        assert_eq!(source.read().1, None);
        assert_eq!(source.to_string(), "amqp://a@h:5672/%2f");
    }
}
