use proptest::prelude::*;

use super::{api, names};
use crate::message::{NamePatterns, OperationName};
use crate::operations_api::classify::Call;
use crate::operations_api::endpoints::{Endpoints, NoEndpoint, WrongSetting, is_region};
use crate::settings;

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
    let host = |name: &OperationName| listed.target(Call::Get, name).expect("known").url.origin().ascii_serialization();
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
    assert!(target.url.as_str().starts_with("http://127.0.0.1:8080/v2beta1/projects/p/locations/any%20where%40all/"));
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
        assert_eq!(Endpoints::new(&settings).err(), Some(WrongSetting("api.endpoint".into())), "{endpoint}");
        settings.endpoint = None;
        settings.endpoints.insert("x".into(), endpoint.into());
        assert_eq!(Endpoints::new(&settings).err(), Some(WrongSetting("api.endpoints.x".into())), "{endpoint}");
    }
}

#[test]
fn a_region_that_is_listed_for_it_has_a_rep_host() {
    let every = endpoints(|api| api.rep_locations = vec!["*".into()]);
    for (location, host) in [
        ("us-central1", "https://dialogflow.us-central1.rep.googleapis.com/v2beta1/"),
        ("eu", "https://dialogflow.eu.rep.googleapis.com/v2beta1/"),
        ("global", "https://dialogflow.googleapis.com/v2beta1/"),
    ] {
        assert!(get(&every, &at(location)).expect("known").starts_with(host));
    }
    assert!(matches!(get(&every, &at("evil.example.com")), Err(NoEndpoint::Location(_))));
}

#[test]
fn with_mtls_googles_hosts_are_those_for_clients_with_a_certificate() {
    let mtls = endpoints(|api| api.mtls = true);
    for (location, host) in [
        ("global", "https://dialogflow.mtls.googleapis.com/v2beta1/"),
        ("us-central1", "https://us-central1-dialogflow.mtls.googleapis.com/v2beta1/"),
    ] {
        assert!(get(&mtls, &at(location)).expect("known").starts_with(host));
    }
    let error = get(&mtls, &at("us")).expect_err("no rule tells").to_string();
    assert_eq!(error, "no mTLS endpoint is known for the location \"us\": set its endpoint in api.endpoints");
}

#[test]
fn a_name_that_no_pattern_admits_has_no_url_whoever_gave_it() {
    let error = get(&endpoints(|_| ()), &name("projects/p/locations/l/models/m/operations/o")).expect_err("no URL");
    assert_eq!(
        error.to_string(),
        "the operation's name is not of the form projects/*/locations/*/operations/* or projects/*/operations/* (api.names)"
    );
}

/// Percent-encoding written once more, the slow way.
fn encoded(segment: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    segment.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What a URL could be led astray with, and what it could be mistaken for.
fn escape() -> impl Strategy<Value = String> {
    let parts = [
        ".",
        "..",
        "/",
        "//",
        "/../",
        "/./",
        "%2F",
        "%2f",
        "%252F",
        "%2e%2e",
        ".%2e",
        "\\",
        "..\\",
        "%5c",
        ":cancel",
        ":delete",
        ":",
        "?",
        "?alt=media",
        "#",
        "#x",
        "@",
        "user:pw@",
        "@evil.example.com",
        "evil.example.com",
        "://evil.example.com",
        "//evil.example.com",
        "http:",
        ";",
        ",",
        "&",
        "=",
        "+",
        "*",
        "**",
        "~",
        "!",
        "$",
        "'",
        "(",
        ")",
        "[::1]",
        "{name}",
        "%",
        "%00",
        "%0d%0a",
        "\0",
        "\r\n",
        "\n",
        "\t",
        "\u{7f}",
        "\u{85}",
        "\u{200b}",
        "\u{202e}",
        "\u{2028}",
        "\u{feff}",
        " ",
        "\u{ff0f}",
        "\u{2044}",
        "\u{2215}",
        "\u{ff0e}\u{ff0e}",
        "\u{2024}\u{2024}",
        "\u{ff1a}cancel",
        "\u{ff1f}",
        "\u{ff03}",
        "\u{ff20}",
        "\u{3002}",
        "\u{430}",
        "\u{e9}",
        "e\u{301}",
        "\u{1f600}",
        "us-central1",
        "global",
        "operations",
        "locations",
        "projects",
        "p",
        "o",
        "v2beta1",
        "HTTP/1.1",
        "Host: evil",
    ];
    let part = prop_oneof![20 => proptest::sample::select(parts.to_vec()).prop_map(str::to_owned), 1 => "\\PC{1,8}", 1 => "[a-z]{900,1100}"];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.concat())
}

/// Names with something in them, around them, or instead of them.
fn escaping_name() -> impl Strategy<Value = String> {
    let forms = [
        "projects/A/locations/B/operations/C",
        "projects/A/locations/us-central1/operations/C",
        "projects/p/locations/B/operations/o",
        "projects/A/operations/C",
        "operations/A",
        "operations/build/A/B",
        "operations/o/A",
        "A",
        "/A/B",
        "projects/p/operations/oA",
        "projects/p/locations/lA/operations/o",
        "projects/p/locations/l/operations/oA/B",
        "Aprojects/p/operations/o",
        "operations/Ao/../../B",
        "projects/p/A/operations/C",
    ];
    let form = proptest::sample::select(forms.to_vec());
    (form, escape(), escape(), escape())
        .prop_map(|(form, a, b, c)| form.replace('A', &a).replace('B', &b).replace('C', &c))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn of_10_000_names_made_to_escape_each_has_the_url_of_the_endpoint_the_version_and_that_name_or_none(
        text in escaping_name(),
        cancel in any::<bool>(),
    ) {
        let patterns = names(&["projects/*/locations/*/operations/*", "projects/*/operations/*", "operations/**"]);
        let forms = |patterns: &NamePatterns| {
            let patterns = patterns.clone();
            move |api: &mut settings::Api| api.names = patterns
        };
        let one = endpoints(|api| {
            forms(&patterns)(api);
            api.endpoint = Some("https://api.example.com:8443".into());
        });
        let (call, verb) = if cancel { (Call::Cancel, ":cancel") } else { (Call::Get, "") };
        let Ok(name) = OperationName::parse(text.clone()) else {
            // Refused wherever it comes from: no URL can be asked for.
            prop_assert!(patterns.parse(&text).is_err());
            return Ok(());
        };
        let segments: Vec<&str> = text.split('/').collect();
        let known = matches!(
            segments[..],
            ["projects", _, "locations", _, "operations", _] | ["projects", _, "operations", _] | ["operations", _, ..]
        );
        prop_assert_eq!(patterns.parse(&text).is_ok(), known);
        let Ok(target) = one.target(call, &name) else {
            prop_assert!(!known);
            return Ok(());
        };
        prop_assert!(known);
        let path = segments.iter().map(|segment| encoded(segment)).collect::<Vec<_>>().join("/");
        prop_assert_eq!(target.url.as_str(), format!("https://api.example.com:8443/v2beta1/{path}{verb}"));
        // By Google's rule, the location may choose the host, and nothing else of the name.
        if let Ok(target) = endpoints(forms(&patterns)).target(call, &name) {
            let host = match segments[..] {
                ["projects", _, "locations", "us", ..] => "dialogflow.us.rep.googleapis.com".to_owned(),
                ["projects", _, "locations", location, ..] if location != "global" => {
                    prop_assert!(location.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                    format!("{location}-dialogflow.googleapis.com")
                }
                _ => "dialogflow.googleapis.com".to_owned(),
            };
            prop_assert_eq!(target.url.as_str(), format!("https://{host}/v2beta1/{path}{verb}"));
        }
    }

    #[test]
    fn any_location_is_a_region_or_has_no_endpoint(location in "\\PC{1,50}") {
        let plain = location.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        prop_assert!(plain || !is_region(&location));
    }
}
