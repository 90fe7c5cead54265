use std::collections::{BTreeMap, HashMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::classify::Call;
use super::operations::ServingEndpoint;
use super::text::printable;
use crate::message::{NamePatterns, NotAdmitted, OperationName};
use crate::pacing::Key;
use crate::settings::{self, Endpoint};

/// What HTTP transcoding leaves alone within a segment, and the `/` between segments: an [`OperationName`]'s segments
/// hold none of their own.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Stands for the location in `api.endpoint`.
const PLACEHOLDER: &str = "{location}";

/// The location of names that have none.
const GLOBAL: &str = "global";

/// Every region, in `api.rep_locations`.
const EVERY: &str = "*";

/// Longest location that becomes part of a host: longer than any region, shorter than a host's label.
const MAX_REGION_BYTES: usize = 40;

/// Which host serves an operation, and the URL of a call. Everything but the URL itself is built once; nothing is kept
/// for locations, since they come from messages.
pub(super) struct Endpoints {
    /// No URL is made for any other name, wherever it comes from.
    names: NamePatterns,
    by_location: HashMap<String, Base>,
    rule: Rule,
}

/// For locations that `api.endpoints` does not list.
enum Rule {
    /// `api.endpoint`: every location is served by one host.
    Everywhere(Base),
    /// `api.endpoint` with a placeholder.
    Template(String),
    /// Google's hosts for `api.service`.
    Google(Google),
}

/// Templates are everything of a URL before the operation's name, with a placeholder for the location.
struct Google {
    global: Base,
    regional: String,
    /// `None`: no rule tells these hosts.
    rep: Option<String>,
    rep_locations: Vec<String>,
}

/// Everything of a URL before the operation's name.
struct Base {
    /// `https://host/version/`.
    text: String,
    loopback: bool,
}

/// Where one call goes.
pub(super) struct Target {
    /// The whole URL.
    pub url: Url,
    /// The host is this machine, by an address that settings name.
    pub loopback: bool,
    /// The setting that the host comes from.
    pub setting: &'static str,
}

impl Target {
    /// The host of the call, for people: `https://host`.
    pub(super) fn host(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Where an endpoint comes from.
struct Origin {
    /// The host is this machine.
    loopback: bool,
    setting: &'static str,
    /// The host is not made of the location.
    in_settings: bool,
}

/// No host is known that serves the operation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEndpoint {
    /// The settings have changed since it was requested.
    #[error("{0} (api.names)")]
    Name(#[from] NotAdmitted),
    /// A location that must not become part of a host.
    #[error(
        "no endpoint is known for the location {0:?}, which is no region such as us-central1; if it is right, set its endpoint in api.endpoints"
    )]
    Location(String),
    /// A location of `api.rep_locations`, with `api.mtls`.
    #[error("no mTLS endpoint is known for the location {0:?}: set its endpoint in api.endpoints")]
    Mtls(String),
}

/// The setting whose value is no endpoint. The value is not shown: it may hold a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongSetting(pub String);

impl Endpoints {
    pub(super) fn new(api: &settings::Api) -> Result<Self, WrongSetting> {
        let by_location = by_location(&api.endpoints, &api.version)?;
        Ok(Self { names: api.names.clone(), by_location, rule: rule(api)? })
    }

    /// The URL of a call, or why there is none.
    pub(super) fn target(&self, call: Call, name: &OperationName) -> Result<Target, NoEndpoint> {
        let location = self.names.locate(name)?.unwrap_or(GLOBAL);
        let mut text = String::with_capacity(128 + name.as_str().len());
        let Origin { loopback, setting, .. } = self.base(location, &mut text)?;
        text.extend(utf8_percent_encode(name.as_str(), PATH));
        if call == Call::Cancel {
            text.push_str(":cancel");
        }
        let url = Url::parse(&text).map_err(|_| no_endpoint(location))?;
        Ok(Target { url, loopback, setting })
    }

    /// Which endpoint that is. None where there is none.
    pub(super) fn serving(&self, name: &OperationName) -> Option<ServingEndpoint> {
        let location = self.names.locate(name).ok()?.unwrap_or(GLOBAL);
        let mut text = String::with_capacity(128);
        let Origin { in_settings, .. } = self.base(location, &mut text).ok()?;
        Some(ServingEndpoint { key: Key::of(&text), in_settings })
    }

    /// Writes everything before the name, and tells where it comes from.
    fn base(&self, location: &str, text: &mut String) -> Result<Origin, NoEndpoint> {
        let named = |loopback, setting| Origin { loopback, setting, in_settings: true };
        if let Some(base) = self.by_location.get(location) {
            text.push_str(&base.text);
            return Ok(named(base.loopback, "api.endpoints"));
        }
        let (template, setting) = match &self.rule {
            Rule::Everywhere(base) => {
                text.push_str(&base.text);
                return Ok(named(base.loopback, "api.endpoint"));
            }
            Rule::Google(google) if location == GLOBAL => {
                text.push_str(&google.global.text);
                return Ok(named(false, "api.service"));
            }
            Rule::Template(template) => (template, "api.endpoint"),
            Rule::Google(google) if google.rep_locations.iter().any(|listed| listed == location || listed == EVERY) => {
                let unknown = || NoEndpoint::Mtls(printable(location, 100));
                (google.rep.as_ref().ok_or_else(unknown)?, "api.service and api.rep_locations")
            }
            Rule::Google(google) => (&google.regional, "api.service"),
        };
        if !is_region(location) {
            return Err(no_endpoint(location));
        }
        text.push_str(&template.replace(PLACEHOLDER, location));
        Ok(Origin { loopback: false, setting, in_settings: false })
    }
}

fn no_endpoint(location: &str) -> NoEndpoint {
    NoEndpoint::Location(printable(location, 100))
}

fn by_location(endpoints: &BTreeMap<String, String>, version: &str) -> Result<HashMap<String, Base>, WrongSetting> {
    let base = |(location, endpoint): (&String, &String)| match Base::new(endpoint, version) {
        Some(base) => Ok((location.clone(), base)),
        None => Err(WrongSetting(format!("api.endpoints.{location}"))),
    };
    endpoints.iter().map(base).collect()
}

fn rule(api: &settings::Api) -> Result<Rule, WrongSetting> {
    let version = &api.version;
    let Some(endpoint) = &api.endpoint else { return google(api).map(Rule::Google) };
    let invalid = || WrongSetting("api.endpoint".to_owned());
    // What cannot be parsed with a region that exists cannot be parsed with any.
    let base = Base::new(&endpoint.replace(PLACEHOLDER, "us-central1"), version).ok_or_else(invalid)?;
    Ok(if endpoint.contains(PLACEHOLDER) {
        Rule::Template(format!("{}/{version}/", endpoint.trim_end_matches('/')))
    } else {
        Rule::Everywhere(base)
    })
}

fn google(api: &settings::Api) -> Result<Google, WrongSetting> {
    let settings::Api { service, version, .. } = api;
    let domain = if api.mtls { "mtls.googleapis.com" } else { "googleapis.com" };
    let invalid = || WrongSetting("api.service".to_owned());
    Ok(Google {
        global: Base::new(&format!("https://{service}.{domain}"), version).ok_or_else(invalid)?,
        regional: format!("https://{PLACEHOLDER}-{service}.{domain}/{version}/"),
        rep: (!api.mtls).then(|| format!("https://{service}.{PLACEHOLDER}.rep.{domain}/{version}/")),
        rep_locations: api.rep_locations.clone(),
    })
}

impl Base {
    fn new(endpoint: &str, version: &str) -> Option<Self> {
        let endpoint = Endpoint::parse(endpoint).ok()?;
        Some(Self { text: format!("{endpoint}{version}/"), loopback: endpoint.is_loopback() })
    }
}

/// `^[a-z]+(-[a-z]+[0-9]+)?$`: only such a location becomes part of a host.
pub(super) fn is_region(location: &str) -> bool {
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
