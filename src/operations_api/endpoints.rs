use std::collections::{BTreeMap, HashMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use super::classify::Call;
use super::wire::words;
use crate::message::OperationName;
use crate::retry::Key;
use crate::settings;

/// What HTTP transcoding leaves alone within a segment, and the `/` between segments: an [`OperationName`]'s segments
/// hold none of their own.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Stands for the location in `api.endpoint`.
const PLACEHOLDER: &str = "{location}";

/// The location of names that have none.
const GLOBAL: &str = "global";

/// Longest location that becomes part of a host: longer than any region, shorter than a host's label.
const MAX_REGION_BYTES: usize = 40;

/// Which host serves an operation, and the URL of a call. Everything but the URL itself is built once; nothing is kept
/// for locations, since they come from messages.
pub(super) struct Endpoints {
    by_location: HashMap<String, Base>,
    rule: Rule,
}

/// For locations that `api.endpoints` does not list.
enum Rule {
    /// Every location is served by one host.
    Everywhere(Base),
    /// A region becomes part of the host. `global`, where it is an exception, has its own.
    ByRegion { global: Option<Base>, template: String },
}

/// Everything of a URL before the operation's name.
struct Base {
    /// `https://host/version/`.
    text: String,
    /// Of the text: locations with one endpoint share its circuit breaker and rate limit.
    key: Key,
    loopback: bool,
}

/// Where one call goes.
pub(super) struct Target {
    /// The whole URL.
    pub url: Url,
    /// The host is this machine, by an address that settings name.
    pub loopback: bool,
}

impl Target {
    /// What people are told of where a call went: `https://host`.
    pub(super) fn host(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// No host is known that serves the location.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no endpoint is known for the location {location:?}, which is no region such as us-central1; if it is right, set its endpoint in api.endpoints"
)]
pub(super) struct NoEndpoint {
    location: String,
}

/// The setting that is no endpoint. Its value is not shown: it may hold a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidEndpoint(pub String);

impl Endpoints {
    pub(super) fn new(api: &settings::Api) -> Result<Self, InvalidEndpoint> {
        Ok(Self { by_location: by_location(&api.endpoints, &api.version)?, rule: rule(api)? })
    }

    /// The URL of a call, or why there is none.
    pub(super) fn target(&self, call: Call, name: &OperationName) -> Result<Target, NoEndpoint> {
        let location = name.location().unwrap_or(GLOBAL);
        let no_endpoint = || NoEndpoint { location: words(location, 100) };
        let mut text = String::with_capacity(128 + name.as_str().len());
        let loopback = match (self.by_location.get(location), &self.rule) {
            (Some(base), _) | (None, Rule::Everywhere(base)) => {
                text.push_str(&base.text);
                base.loopback
            }
            (None, Rule::ByRegion { global: Some(base), .. }) if location == GLOBAL => {
                text.push_str(&base.text);
                base.loopback
            }
            (None, Rule::ByRegion { template, .. }) if is_region(location) => {
                text.push_str(&template.replace(PLACEHOLDER, location));
                false
            }
            (None, Rule::ByRegion { .. }) => return Err(no_endpoint()),
        };
        text.extend(utf8_percent_encode(name.as_str(), PATH));
        if call == Call::Cancel {
            text.push_str(":cancel");
        }
        let url = Url::parse(&text).map_err(|_| no_endpoint())?;
        Ok(Target { url, loopback })
    }

    /// Which endpoint that is; none where there is no endpoint.
    pub(super) fn key(&self, name: &OperationName) -> Option<Key> {
        let location = name.location().unwrap_or(GLOBAL);
        match (self.by_location.get(location), &self.rule) {
            (Some(base), _) | (None, Rule::Everywhere(base)) => Some(base.key),
            (None, Rule::ByRegion { global: Some(base), .. }) if location == GLOBAL => Some(base.key),
            (None, Rule::ByRegion { .. }) => is_region(location).then(|| Key::of(location)),
        }
    }
}

fn by_location(endpoints: &BTreeMap<String, String>, version: &str) -> Result<HashMap<String, Base>, InvalidEndpoint> {
    let base = |(location, endpoint): (&String, &String)| match Base::new(endpoint, version) {
        Some(base) => Ok((location.clone(), base)),
        None => Err(InvalidEndpoint(format!("api.endpoints.{location}"))),
    };
    endpoints.iter().map(base).collect()
}

fn rule(api: &settings::Api) -> Result<Rule, InvalidEndpoint> {
    let version = &api.version;
    let Some(endpoint) = &api.endpoint else {
        let host = format!("{}.googleapis.com", api.service);
        let invalid = || InvalidEndpoint("api.service".to_owned());
        let global = Base::new(&format!("https://{host}"), version).ok_or_else(invalid)?;
        return Ok(Rule::ByRegion {
            global: Some(global),
            template: format!("https://{PLACEHOLDER}-{host}/{version}/"),
        });
    };
    let invalid = || InvalidEndpoint("api.endpoint".to_owned());
    // What cannot be parsed with a region that exists cannot be parsed with any.
    let base = Base::new(&endpoint.replace(PLACEHOLDER, "us-central1"), version).ok_or_else(invalid)?;
    if endpoint.contains(PLACEHOLDER) {
        let template = format!("{}/{version}/", endpoint.trim_end_matches('/'));
        Ok(Rule::ByRegion { global: None, template })
    } else {
        Ok(Rule::Everywhere(base))
    }
}

impl Base {
    /// From `https://host` or `http://host:port`; anything more is refused rather than dropped silently.
    fn new(endpoint: &str, version: &str) -> Option<Self> {
        let url = Url::parse(endpoint).ok()?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain || !anonymous {
            return None;
        }
        let loopback = match url.host()? {
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
            Host::Domain(name) => name == "localhost",
        };
        let text = format!("{url}{version}/");
        Some(Self { key: Key::of(&text), text, loopback })
    }
}

/// `^[a-z]+(-[a-z]+[0-9]+)?$`: only such a location becomes part of a host.
fn is_region(location: &str) -> bool {
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    if location.len() > MAX_REGION_BYTES {
        return false;
    }
    match location.split_once('-') {
        None => letters(location),
        Some((area, place)) => {
            let point = place.trim_end_matches(|c: char| c.is_ascii_digit());
            letters(area) && letters(point) && point.len() < place.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operations_api::tests::api;

    fn name(text: &str) -> OperationName {
        OperationName::parse(text).expect("a name")
    }

    fn at(location: &str) -> OperationName {
        name(&format!("projects/p/locations/{location}/operations/o"))
    }

    fn endpoints(change: impl FnOnce(&mut settings::Api)) -> Endpoints {
        let mut api = api();
        change(&mut api);
        Endpoints::new(&api).expect("valid")
    }

    fn get(endpoints: &Endpoints, name: &OperationName) -> Result<String, NoEndpoint> {
        endpoints.target(Call::Get, name).map(|target| target.url.to_string())
    }

    #[test]
    fn by_default_a_location_chooses_googles_host_for_it() {
        let defaults = endpoints(|_| ());
        for (location, host) in [
            ("global", "dialogflow.googleapis.com"),
            ("us-central1", "us-central1-dialogflow.googleapis.com"),
            ("northamerica-northeast12", "northamerica-northeast12-dialogflow.googleapis.com"),
            ("eu", "eu-dialogflow.googleapis.com"),
            ("us", "dialogflow.us.rep.googleapis.com"),
        ] {
            let expected = format!("https://{host}/v2beta1/projects/p/locations/{location}/operations/o");
            assert_eq!(get(&defaults, &at(location)), Ok(expected));
        }
        let without = get(&defaults, &name("projects/p/operations/o"));
        assert_eq!(without.as_deref(), Ok("https://dialogflow.googleapis.com/v2beta1/projects/p/operations/o"));
        let cancel = defaults.target(Call::Cancel, &at("global")).expect("known").url;
        assert_eq!(cancel.path(), "/v2beta1/projects/p/locations/global/operations/o:cancel");
    }

    #[test]
    fn a_listed_location_goes_before_every_rule() {
        let listed = endpoints(|api| {
            api.endpoint = Some("https://{location}.example.com/".into());
            api.endpoints.insert("global".into(), "https://all.example.com:8443".into());
            api.endpoints.insert("my region".into(), "https://mine.example.com".into());
        });
        let host =
            |name: &OperationName| listed.target(Call::Get, name).expect("known").url.origin().ascii_serialization();
        assert_eq!(host(&at("my region")), "https://mine.example.com");
        assert_eq!(host(&at("global")), "https://all.example.com:8443");
        assert_eq!(host(&name("projects/p/operations/o")), "https://all.example.com:8443");
        assert_eq!(host(&at("asia-east1")), "https://asia-east1.example.com");
    }

    #[test]
    fn an_endpoint_with_a_placeholder_serves_regions_and_global_and_one_without_serves_every_location() {
        let template = endpoints(|api| api.endpoint = Some("https://{location}.example.com".into()));
        assert!(get(&template, &at("global")).expect("known").starts_with("https://global.example.com/v2beta1/"));
        let without = get(&template, &name("projects/p/operations/o")).expect("known");
        assert!(without.starts_with("https://global.example.com/v2beta1/projects/p/operations/o"));
        assert!(get(&template, &at("a.b")).is_err());
        let one = endpoints(|api| api.endpoint = Some("http://127.0.0.1:8080".into()));
        let target = one.target(Call::Get, &at("any where@all")).expect("known");
        assert!(target.loopback);
        assert!(
            target.url.as_str().starts_with("http://127.0.0.1:8080/v2beta1/projects/p/locations/any%20where%40all/")
        );
    }

    #[test]
    fn a_location_that_is_no_region_never_becomes_a_host_and_the_message_names_it_and_the_setting() {
        let defaults = endpoints(|_| ());
        for location in [
            "evil.example.com#",
            "evil@",
            "US",
            "us-",
            "-east1",
            "us-east",
            "us-1",
            "us-east1-b",
            "us--east1",
            "1",
            "ü",
            "us-east1.",
            "us east1",
            "us-east1a",
            "xn--a1",
            "a:80",
            &"a".repeat(41),
        ] {
            let error = get(&defaults, &at(location)).expect_err(location).to_string();
            assert!(error.contains("api.endpoints"), "{error}");
            assert!(error.contains(&location[..location.len().min(10)]), "{error}");
        }
    }

    #[test]
    fn an_endpoint_with_more_than_a_host_is_refused_by_the_settings_name() {
        for endpoint in ["https://a/path", "https://a?q", "https://u:p@a", "ftp://a", "a.example.com", "https://"] {
            let mut settings = api();
            settings.endpoint = Some(endpoint.into());
            assert_eq!(Endpoints::new(&settings).err(), Some(InvalidEndpoint("api.endpoint".into())), "{endpoint}");
            settings.endpoint = None;
            settings.endpoints.insert("x".into(), endpoint.into());
            assert_eq!(Endpoints::new(&settings).err(), Some(InvalidEndpoint("api.endpoints.x".into())), "{endpoint}");
        }
    }

    /// Percent-encoding written once more, the slow way.
    fn encoded(segment: &str) -> String {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        segment.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    }

    proptest! {
        #[test]
        fn no_name_changes_the_host_or_escapes_the_path(
            project in "[^/\\pC]{1,12}|\\.{3}|%2e%2e|\\.\\.;|[?#@:\\\\&=+ ]{1,4}",
            location in "[^/\\pC]{1,12}|[a-z]{1,5}-[a-z]{1,5}[0-9]",
            id in "[^/\\pC]{1,40}|\\.%2e|[?#@:\\\\]{1,4}",
            cancel in any::<bool>(),
        ) {
            let Ok(name) = OperationName::parse(format!("projects/{project}/locations/{location}/operations/{id}"))
            else { return Ok(()) };
            let call = if cancel { Call::Cancel } else { Call::Get };
            let suffix = if cancel { ":cancel" } else { "" };
            let path = format!(
                "/v2beta1/projects/{}/locations/{}/operations/{}{suffix}",
                encoded(&project), encoded(&location), encoded(&id),
            );
            let one = endpoints(|api| api.endpoint = Some("https://api.example.com:8443".into()));
            let url = one.target(call, &name).expect("every location").url;
            prop_assert_eq!(url.origin().ascii_serialization(), "https://api.example.com:8443");
            prop_assert_eq!(url.path(), &path);
            prop_assert_eq!((url.query(), url.fragment(), url.username()), (None, None, ""));
            if let Ok(target) = endpoints(|api| api.endpoints.clear()).target(call, &name) {
                let host = target.url.host_str().expect("a host");
                let expected = if location == "global" {
                    "dialogflow.googleapis.com".to_owned()
                } else {
                    format!("{location}-dialogflow.googleapis.com")
                };
                prop_assert_eq!(host, expected);
                prop_assert_eq!(target.url.path(), &path);
            }
        }

        #[test]
        fn any_location_is_a_region_or_has_no_endpoint(location in "\\PC{1,50}") {
            let plain = location.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            prop_assert!(plain || !is_region(&location));
        }
    }
}
