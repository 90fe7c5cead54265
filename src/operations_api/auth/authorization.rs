use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::operations_api::text::HIDDEN;

/// What a call carries.
pub(in super::super) struct Authorization {
    /// The value of `authorization`, marked as sensitive: it is left out of `Debug` output and of HTTP/2's tables.
    bearer: HeaderValue,
    /// What else the credentials ask for, such as `x-goog-user-project`.
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Authorization {
    /// A bearer token alone.
    pub(super) const fn bearer(bearer: HeaderValue) -> Self {
        Self { bearer, others: Vec::new() }
    }

    /// The header's value.
    pub(super) const fn header(&self) -> &HeaderValue {
        &self.bearer
    }

    /// From the headers of Google's credentials; `None` if they hold no token.
    pub(super) fn from_headers(mut headers: HeaderMap) -> Option<Self> {
        let mut bearer = headers.remove(AUTHORIZATION)?;
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
        headers.insert(AUTHORIZATION, self.bearer.clone());
        for (name, value) in &self.others {
            headers.insert(name, value.clone());
        }
    }
}
