use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

/// Any JSON, exactly as it came: a part of the message that it came in, or a text of its own. A clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Bytes);

impl JsonText {
    /// This value, which shares the message's bytes if it is a part of them, and is copied otherwise.
    pub(in crate::message) fn of(value: &RawValue, message: Option<&Bytes>) -> Self {
        let text = value.get().as_bytes();
        let is_part = |whole: &&Bytes| {
            let (whole, part) = (whole.as_ptr_range(), text.as_ptr_range());
            whole.start <= part.start && part.end <= whole.end
        };
        Self(message.filter(is_part).map_or_else(|| Bytes::copy_from_slice(text), |whole| whole.slice_ref(text)))
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        // It always is.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl From<Box<RawValue>> for JsonText {
    fn from(value: Box<RawValue>) -> Self {
        Self(Bytes::from(String::from(Box::<str>::from(value))))
    }
}

/// Not the text: it belongs to others.
impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonText").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_message_is_shared_and_anything_else_is_copied() {
        let message = Bytes::from(r#"{"context": {"a": [1.50]}}"#.to_owned());
        let fields: std::collections::BTreeMap<String, &RawValue> = serde_json::from_slice(&message).expect("JSON");
        let shared = JsonText::of(fields["context"], Some(&message));
        assert_eq!(shared.get(), r#"{"a": [1.50]}"#);
        assert!(message.as_ptr_range().contains(&shared.0.as_ptr()));
        let other = Bytes::from_static(b"{}");
        for copied in [JsonText::of(fields["context"], None), JsonText::of(fields["context"], Some(&other))] {
            assert_eq!(copied, shared);
            assert!(!message.as_ptr_range().contains(&copied.0.as_ptr()));
        }
        assert_eq!(JsonText::from(fields["context"].to_owned()), shared);
    }
}
