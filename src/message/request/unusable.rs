use super::request_body::RequestBody;
use super::request_context::RequestContext;
use crate::message::identity::Identity;
use crate::message::request_key::RequestKey;

/// A request that cannot be used: why, and all that could be read of it in spite of that, so that upstream can be told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Unusable {
    /// A sentence for the sender: what is wrong, where, and what is expected. Quotes at most 100 bytes of the message.
    pub problem: String,
    /// What the request is known by. Without one nobody can be told.
    pub identity: Option<Identity>,
    /// What was given as the operation's name, if it has at most 1,024 bytes.
    pub name: Option<String>,
    /// What goes with its answer, as far as it could be read.
    pub details: RequestContext,
}

impl Unusable {
    /// The same for every answer to this request, and of no other; `None` where nothing tells whose it is.
    #[must_use]
    pub fn key(&self) -> Option<RequestKey> {
        Some(RequestKey::new(self.identity.as_ref()?, self.name.as_deref(), self.details.replay))
    }

    /// Of what could be read.
    pub(in crate::message) fn assemble(problem: String, identity: Option<Identity>, body: RequestBody) -> Self {
        Self { problem, identity, name: body.name.map(String::from).or(body.misnamed), details: body.details }
    }
}
