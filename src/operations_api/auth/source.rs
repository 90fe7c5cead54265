use super::adc::AdcConfig;
use super::authorization::Authorization;
use super::error::AuthError;
use super::google::GoogleCredentials;
use super::token_file::TokenFile;
use crate::settings::{self, CredentialsKind};

/// Where the headers that say who calls come from.
pub(in super::super) enum Source {
    /// Calls carry none.
    None,
    /// A bearer token in a file.
    TokenFile(TokenFile),
    /// Google's credentials, for every endpoint.
    Google(Box<GoogleCredentials>),
    /// Google's credentials, but none for an endpoint on this machine: that is a simulator, and no business of theirs.
    Auto(Box<GoogleCredentials>),
}

impl Source {
    /// The source that settings name, or `None` if they want a token file and name no file.
    pub(in super::super) fn new(settings: &settings::Credentials) -> Option<Self> {
        let google = || Box::new(GoogleCredentials::new(AdcConfig::new(settings)));
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
            Self::TokenFile(file) => Ok(Some(Authorization::bearer(file.authorization().await?))),
            Self::Google(google) | Self::Auto(google) => google.authorization().await.map(Some),
        }
    }

    /// The service refused this: the next call asks for new credentials, unless that has happened since.
    pub(in super::super) fn renew(&self, refused: &Authorization) {
        match self {
            Self::None => {}
            Self::TokenFile(file) => file.renew(refused.header()),
            Self::Google(google) | Self::Auto(google) => google.renew(refused.header()),
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
