/// Writes a JSON object, member by member, into a buffer. Members without a value are left out.
///
/// Written by hand because nothing in it can fail, so an answer can always be written; and because raw JSON goes into it
/// byte by byte as it came.
pub(in crate::message) struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> JsonObject<'a> {
    /// Writes one object, whose members `fill` adds.
    pub(in crate::message) fn write(out: &'a mut Vec<u8>, fill: impl FnOnce(&mut JsonObject<'_>)) {
        out.push(b'{');
        let mut object = JsonObject { out, empty: true };
        fill(&mut object);
        object.out.push(b'}');
    }

    /// A string.
    pub(in crate::message) fn text<'v>(&mut self, key: &'static str, value: impl Into<Option<&'v str>>) {
        if let Some(value) = value.into() {
            self.key(key);
            push_string(self.out, value);
        }
    }

    /// A number.
    pub(in crate::message) fn number(&mut self, key: &'static str, value: impl Into<i64>) {
        self.value(key).extend_from_slice(value.into().to_string().as_bytes());
    }

    /// Any JSON, exactly as it is.
    pub(in crate::message) fn raw(&mut self, key: &'static str, json: Option<&str>) {
        if let Some(json) = json {
            self.value(key).extend_from_slice(json.as_bytes());
        }
    }

    /// An object within.
    pub(in crate::message) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut JsonObject<'_>)) {
        JsonObject::write(self.value(key), fill);
    }

    /// The buffer, at the place where the value of `key` has to be written.
    pub(in crate::message) fn value(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.key(key);
        self.out
    }

    fn key(&mut self, key: &'static str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        push_string(self.out, key);
        self.out.push(b':');
    }
}

/// A string in quotation marks: RFC 8259 wants `"`, `\` and the control characters below U+0020 escaped.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            out.extend_from_slice(&bytes[written..at]);
            push_escaped(out, *byte);
            written = at + 1;
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_come_in_order_and_those_without_value_are_left_out() {
        let mut out = Vec::new();
        JsonObject::write(&mut out, |object| {
            object.text("a", "x");
            object.text("absent", None);
            object.number("code", -1);
            object.raw("raw", Some(r#"{ "b" : [1.0e2] }"#));
            object.object("in", |inner| inner.number("n", 1_u32));
            object.object("empty", |_| ());
        });
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text, r#"{"a":"x","code":-1,"raw":{ "b" : [1.0e2] },"in":{"n":1},"empty":{}}"#);
    }

    proptest! {
        #[test]
        fn any_string_is_read_back_equal(text in "\\PC*|[\\x00-\\x7f]*|.*") {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }
    }
}
