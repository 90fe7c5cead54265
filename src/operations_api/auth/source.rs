use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::AuthError;
use super::adc::AdcConfig;
use super::google::Google;
use super::token_file::TokenFile;
use crate::operations_api::text::HIDDEN;
use crate::settings::{self, CredentialsKind};

/// Where the headers that say who calls come from.
pub(in super::super) enum Source {
    /// Calls carry none.
    None,
    /// A bearer token in a file.
    TokenFile(TokenFile),
    /// Google's credentials, for every endpoint.
    Google(Box<Google>),
    /// Google's credentials, but none for an endpoint on this machine: that is a simulator, and no business of theirs.
    Auto(Box<Google>),
}

/// What a call carries.
pub(in super::super) struct Authorization {
    /// The value of `authorization`, marked as sensitive: it is left out of `Debug` output and of HTTP/2's tables.
    bearer: HeaderValue,
    /// What else the credentials ask for, such as `x-goog-user-project`.
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Source {
    /// The source that settings name, or `None` if they want a token file and name no file.
    pub(in super::super) fn new(settings: &settings::Credentials) -> Option<Self> {
        let google = || Box::new(Google::new(AdcConfig::new(settings)));
        match settings.kind {
            CredentialsKind::None => Some(Self::None),
            CredentialsKind::TokenFile => settings.token_file.as_deref().map(TokenFile::new).map(Self::TokenFile),
            CredentialsKind::Google => Some(Self::Google(google())),
            CredentialsKind::Auto => Some(Self::Auto(google())),
        }
    }

    /// What a call to an endpoint, on this machine or elsewhere, carries.
    ///
    /// # Errors
    /// There is no token.
    pub(in super::super) async fn authorization(&self, loopback: bool) -> Result<Option<Authorization>, AuthError> {
        match self {
            Self::None => Ok(None),
            Self::Auto(_) if loopback => Ok(None),
            Self::TokenFile(file) => {
                let bearer = file.authorization().await?;
                Ok(Some(Authorization { bearer, others: Vec::new() }))
            }
            Self::Google(google) | Self::Auto(google) => google.authorization().await.map(Some),
        }
    }

    /// The service refused this: the next call asks for new credentials, unless that has happened since.
    pub(in super::super) fn renew(&self, refused: &Authorization) {
        match self {
            Self::None => {}
            Self::TokenFile(file) => file.renew(&refused.bearer),
            Self::Google(google) | Self::Auto(google) => google.renew(&refused.bearer),
        }
    }

    /// Whose credentials these are, once there is a token.
    pub(in super::super) fn who(&self) -> String {
        match self {
            Self::None => "nobody".to_owned(),
            Self::TokenFile(file) => format!("the bearer token in {}", file.path().display()),
            Self::Google(google) | Self::Auto(google) => google.who(),
        }
    }
}

impl Authorization {
    /// From the headers of Google's credentials; `None` if they hold no token.
    pub(super) fn from_headers(mut headers: HeaderMap) -> Option<Self> {
        let mut bearer = headers.remove(reqwest::header::AUTHORIZATION)?;
        bearer.set_sensitive(true);
        let others = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Self { bearer, others })
    }

    /// Whether both are the same token.
    pub(super) fn is(&self, bearer: &HeaderValue) -> bool {
        self.bearer == *bearer
    }

    /// Takes the token out of a text.
    pub(in super::super) fn hide_in(&self, text: &mut String) {
        let token = self.bearer.to_str().ok().and_then(|bearer| bearer.rsplit(' ').next()).unwrap_or_default();
        if !token.is_empty() && text.contains(token) {
            *text = text.replace(token, HIDDEN);
        }
    }

    /// Adds all to a request.
    pub(in super::super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(reqwest::header::AUTHORIZATION, self.bearer.clone());
        for (name, value) in &self.others {
            headers.insert(name, value.clone());
        }
    }
}
