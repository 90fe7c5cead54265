use std::error::Error;

use serde_json::Value;

use crate::operations_api::causes::causes;
use crate::operations_api::text::{HIDDEN, printable};

/// No name, project or location is this long; tokens and keys are longer.
const MIN_SECRET_BYTES: usize = 32;

/// Longest text of a cause, in bytes.
const MAX_CAUSE_BYTES: usize = 500;

/// What the library adds to each of its errors, and what says less than the error below it.
const NOISE: [&str; 6] = [
    " but future attempts may succeed",
    " and future attempts will not succeed",
    "Fetching the token resulted in transient errors. Subsequent calls with this credential might succeed.",
    "Request to fetch the token failed. Subsequent calls with this credential will also fail.",
    "cannot create auth headers",
    "cannot create the authentication headers",
];

/// Takes secrets out of texts: those of one credentials file, word for word, and whatever looks like one.
#[derive(Default)]
pub(super) struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Knows the secrets of a credentials file.
    pub(super) fn of(file: &Value) -> Self {
        let mut redactor = Self::default();
        redactor.learn(file);
        redactor
    }

    fn learn(&mut self, value: &Value) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("private_key" | "client_secret" | "refresh_token", Value::String(secret)) => {
                    // An error may quote one line of a key.
                    self.secrets.extend(secret.lines().filter(|line| line.len() >= 4).map(str::to_owned));
                }
                ("headers", Value::Object(headers)) => {
                    self.secrets.extend(headers.values().filter_map(Value::as_str).map(str::to_owned));
                }
                (_, other) => self.learn(other),
            }
        }
    }

    /// The causes of an error, for people, without secrets and noise.
    pub(super) fn causes(&self, error: &(dyn Error + 'static)) -> String {
        match causes(error, |text| self.redact(&text)) {
            Some(causes) => printable(&causes, MAX_CAUSE_BYTES),
            None => "the library gave no reason".to_owned(),
        }
    }

    /// The text without secrets and noise.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for noise in NOISE {
            text = text.replace(noise, "");
        }
        // The whole of what should have held a token.
        if let Some((problem, _body)) =
            text.split_once(", body=<").filter(|(problem, _)| problem.contains("subject token"))
        {
            text = problem.to_owned();
        }
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        hide_long_runs(text.trim())
    }
}

/// Hides every run of characters that tokens are made of, if it is longer than names are.
fn hide_long_runs(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for run in text.split_inclusive(|character: char| !is_token_character(character)) {
        let token = run.trim_end_matches(|character: char| !is_token_character(character));
        if token.len() >= MIN_SECRET_BYTES {
            shown.push_str(HIDDEN);
            shown.push_str(run.get(token.len()..).unwrap_or_default());
        } else {
            shown.push_str(run);
        }
    }
    shown
}

fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '+' | '=' | '~')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_secrets_of_the_file_and_what_looks_like_a_token_are_hidden_and_names_are_not() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE/short+/line=\n-----END PRIVATE KEY-----\n";
        let file = json!({"private_key": key, "source_credentials": {"client_secret": "shh-shh", "refresh_token": "1//0a"},
            "credential_source": {"headers": {"x-key": "open sesame"}}});
        let redactor = Redactor::of(&file);
        let long = "aB3-_".repeat(10);
        let shown =
            redactor.redact(&format!("a MIIE/short+/line= b shh-shh c 1//0a d open sesame e ya29.{long} f {long}!"));
        assert_eq!(shown, "a [hidden] b [hidden] c [hidden] d [hidden] e ya29.[hidden] f [hidden]!");
        for text in [
            "failed to read /var/run/service-account/token: No such file or directory (os error 2)",
            "error sending request for url (https://oauth2.googleapis.com/token)",
            "a-service-account-of-30-letters@a-project-of-thirty-characters.iam.gserviceaccount.com",
        ] {
            assert_eq!(redactor.redact(text), text);
        }
    }

    #[test]
    fn a_body_that_should_have_held_a_subject_token_is_left_out_and_noise_too() {
        let redactor = Redactor::default();
        let text = "failed to read subject token field `t` as string, body=<{\"other\":\"short\"}> but future attempts may succeed";
        assert_eq!(redactor.redact(text), "failed to read subject token field `t` as string");
    }
}
