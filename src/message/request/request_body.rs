use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;

use super::request_context::RequestContext;
use crate::message::identity::MAX_SHORT_STRING;
use crate::message::json::{
    Field, FieldError, FirstError, JsonText, Location, MAX_JSON_DEPTH, has_half_character, quoted, read_fields,
};
use crate::message::name_patterns::NamePatterns;
use crate::message::operation_name::{InvalidOperationName, OperationName};

/// Longest `reason` and `requested_by`, in bytes.
const MAX_TEXT: usize = 4096;

/// What a cancel request says, as far as it could be read.
#[derive(Debug, Default)]
pub(in crate::message) struct RequestBody {
    /// The operation, if its name is one.
    pub(in crate::message) name: Option<OperationName>,
    /// What was given as a name and is none, unless it is empty or longer than any name.
    pub(in crate::message) misnamed: Option<String>,
    pub(in crate::message) deadline: Option<OffsetDateTime>,
    pub(in crate::message) timeout: Option<Duration>,
    /// Of the fields that go with the answer, those that a body has.
    pub(in crate::message) details: RequestContext,
}

impl RequestBody {
    /// Reads the request that a JSON object says, a part of `message` if that is given. Without `names`, any safe name is
    /// taken.
    pub(in crate::message) fn from_json(
        json: &str,
        place: Location,
        names: Option<&NamePatterns>,
        message: Option<&Bytes>,
        problem: &mut FirstError,
    ) -> Self {
        let fields = ["name", "request_id", "deadline", "timeout", "reason", "requested_by", "context"];
        let ([name, request_id, deadline, timeout, reason, requested_by, context], result) =
            read_fields(json, place, fields);
        problem.take(result);
        let mut body = Self::default();
        if let Some(name) = name.and_then(|name| problem.take(name.any_text())) {
            body.set_name(&name, names, problem);
        }
        let mut text = |field: Option<Field<'_>>, limit| {
            let text = field.and_then(|field| problem.take(field.text(limit)));
            text.map(Cow::into_owned)
        };
        body.details.request_id = text(request_id, MAX_SHORT_STRING);
        body.details.reason = text(reason, MAX_TEXT);
        body.details.requested_by = text(requested_by, MAX_TEXT);
        body.deadline = deadline.and_then(|field| problem.take(field.time()));
        body.timeout = timeout.and_then(|field| problem.take(field.duration()));
        let whole = |field: Field<'_>| match field.object(MAX_JSON_DEPTH) {
            Ok(context) if has_half_character(context.get()) => {
                Err(field.problem("must not have half of a surrogate pair"))
            }
            read => read.map(|context| JsonText::of(context, message)),
        };
        let context = context.and_then(|field| problem.take(whole(field)));
        body.details.context = context;
        body
    }

    /// Reads a request that is nothing but the name.
    pub(in crate::message) fn from_text(text: &str, names: &NamePatterns, problem: &mut FirstError) -> Self {
        let mut body = Self::default();
        body.set_name(text.trim(), Some(names), problem);
        body
    }

    /// What was given as a name, whether it is one or not.
    pub(in crate::message) fn name_as_given(&self) -> Option<&str> {
        self.name.as_ref().map(OperationName::as_str).or(self.misnamed.as_deref())
    }

    fn set_name(&mut self, name: &str, names: Option<&NamePatterns>, problem: &mut FirstError) {
        match names.map_or_else(|| OperationName::parse(name), |names| names.parse(name)) {
            Ok(name) => self.name = Some(name),
            Err(why @ InvalidOperationName::Empty) => problem.note(FieldError(why.to_string())),
            Err(why) => {
                problem.note(FieldError(format!("{why}: {}", quoted(name))));
                self.misnamed = (why != InvalidOperationName::TooLong).then(|| name.to_owned());
            }
        }
    }
}
