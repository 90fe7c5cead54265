use std::borrow::Cow;

/// What a path of the Operations API points at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `/{version}/{name}`
    Operation(Resource<'a>),
    /// `/{version}/{name}:cancel`
    Cancel(Resource<'a>),
    /// `/{version}/{parent}/operations`, with the parent as the resource's name
    List(Resource<'a>),
}

/// A resource in a version of the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resource<'a> {
    /// `v2beta1`
    pub(super) version: &'a str,
    /// Decoded. A `%2F` is still a `%2F`, so it has the segments of the path.
    pub(super) name: Cow<'a, str>,
}

impl Resource<'_> {
    /// The location, if the name has one.
    pub(super) fn location(&self) -> Option<&str> {
        let mut segments = self.name.split('/').skip(2);
        (segments.next() == Some("locations")).then(|| segments.next()).flatten()
    }
}

/// An operation's id, given its name.
pub(super) fn last_segment(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

impl<'a> Target<'a> {
    /// Reads a path as it stands in the request line. `None`: the front end knows no such URL.
    pub(super) fn of_path(path: &'a str) -> Option<Self> {
        let (version, resource) = path.strip_prefix('/')?.split_once('/')?;
        if !is_version(version) {
            return None;
        }
        // The verb is read before anything is decoded: `%3Acancel` is part of an id.
        let (resource, cancel) = resource.strip_suffix(":cancel").map_or((resource, false), |name| (name, true));
        let mut segments = [""; 6];
        let mut count = 0;
        for segment in resource.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        let segments = segments.get(..count)?;
        if segments.contains(&"") {
            return None;
        }
        let found = |name| Some(Resource { version, name: decoded(name)? });
        match (segments, cancel) {
            (["projects", _, "locations", _, "operations", _] | ["projects", _, "operations", _], true) => {
                found(resource).map(Self::Cancel)
            }
            (["projects", _, "locations", _, "operations", _] | ["projects", _, "operations", _], false) => {
                found(resource).map(Self::Operation)
            }
            (["projects", _, "locations", _, "operations"] | ["projects", _, "operations"], false) => {
                found(resource.strip_suffix("/operations")?).map(Self::List)
            }
            _ => None,
        }
    }
}

/// `v` and a digit, then letters and digits.
fn is_version(segment: &str) -> bool {
    let rest = segment.strip_prefix('v').unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_digit()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Decodes as gRPC transcoding does for a variable of a single segment: everything but `%2F`; what is no escape stays as it
/// is. `None` if that is no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    decoded_but_for(text, Some(b'/'))
}

/// What is no escape stays as it is, and so does an escape that stands for `kept`. `None` if that is no UTF-8.
fn decoded_but_for(text: &str, kept: Option<u8>) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match hex(*high, *low) {
                Some(byte) if Some(byte) != kept => {
                    bytes.push(byte);
                    rest = after;
                }
                _ => {
                    bytes.push(first);
                    rest = tail;
                }
            },
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// The value of a parameter of the query, decoded: there a `%2F` is a slash.
pub(super) fn query_value<'a>(query: Option<&'a str>, key: &str) -> Option<Cow<'a, str>> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find_map(|(name, value)| (name == key).then_some(value))?;
    decoded_but_for(value, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name_of(path: &str) -> Option<String> {
        match Target::of_path(path)? {
            Target::Operation(resource) | Target::Cancel(resource) | Target::List(resource) => {
                Some(resource.name.into_owned())
            }
        }
    }

    #[test]
    fn both_forms_are_known_in_every_version() {
        for version in ["v1", "v2", "v2beta1", "v1p1alpha3"] {
            for name in ["projects/p/locations/us-central1/operations/o", "projects/p/operations/o"] {
                let resource = || Resource { version, name: name.into() };
                assert_eq!(Target::of_path(&format!("/{version}/{name}")), Some(Target::Operation(resource())));
                assert_eq!(Target::of_path(&format!("/{version}/{name}:cancel")), Some(Target::Cancel(resource())));
            }
        }
        let parent = Resource { version: "v2", name: "projects/p/locations/l".into() };
        assert_eq!(parent.location(), Some("l"));
        assert_eq!(Target::of_path("/v2/projects/p/locations/l/operations"), Some(Target::List(parent)));
        assert_eq!(name_of("/v2/projects/p/operations").as_deref(), Some("projects/p"));
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in [
            "/",
            "/v2",
            "/v2/",
            "/healthz",
            "/projects/p/operations/o",
            "/version/projects/p/operations/o",
            "/v/projects/p/operations/o",
            "/v2-1/projects/p/operations/o",
            "/v2/projects/p/operations/",
            "/v2/projects//operations/o",
            "/v2/projects/p/operations/:cancel",
            "/v2/projects/p/operations/o/",
            "/v2/projects/p/operations/o/extra",
            "/v2/projects/p/locations/l/operations/o/extra",
            "/v2/projects/p/operations:cancel",
            "/v2/projects/p%2Foperations/o",
            "/v2/projects/p/operations/%ff",
        ] {
            assert_eq!(Target::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_segment_is_decoded_but_for_the_slash() {
        let id = |path: &str| name_of(path).map(|name| last_segment(&name).to_owned());
        assert_eq!(id("/v1/projects/p/operations/a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(id("/v1/projects/p/operations/a%2Fb%2fc").as_deref(), Some("a%2Fb%2fc"));
        assert_eq!(id("/v1/projects/p/operations/a%3Acancel").as_deref(), Some("a:cancel"));
        assert_eq!(id("/v1/projects/p/operations/a%2").as_deref(), Some("a%2"));
        assert_eq!(id("/v1/projects/p/operations/100%zz%25").as_deref(), Some("100%zz%"));
        assert_eq!(id("/v1/projects/p/operations/a+b").as_deref(), Some("a+b"));
        assert_eq!(id("/v1/projects/p/operations/a:other").as_deref(), Some("a:other"));
    }

    #[test]
    fn the_query_s_values_are_decoded() {
        let query = Some("pageSize=5&pageToken=a%20b&x&id=projects%2Fp%2foperations/o");
        assert_eq!(query_value(query, "id").as_deref(), Some("projects/p/operations/o"));
        assert_eq!(query_value(query, "pageSize").as_deref(), Some("5"));
        assert_eq!(query_value(query, "pageToken").as_deref(), Some("a b"));
        assert_eq!(query_value(query, "x"), None);
        assert_eq!(query_value(None, "x"), None);
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_what_is_read(id in "[^/]{1,40}") {
            prop_assume!(!id.contains("%2F") && !id.contains("%2f"));
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC);
            let path = format!("/v1/projects/p/operations/{encoded}:cancel");
            prop_assert_eq!(name_of(&path).map(|name| last_segment(&name).to_owned()), Some(id));
        }
    }
}
