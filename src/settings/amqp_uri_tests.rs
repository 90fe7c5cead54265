//! Which texts are AMQP URIs, what they mean, and that a password is never printed, whatever it is made of.

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::{AmqpUri, AuthMechanism, UriProblem};

fn read(text: &str) -> Result<AmqpUri, UriProblem> {
    text.parse()
}

#[test]
fn a_uri_says_who_logs_in_where_and_is_printed_without_its_password() {
    for (text, parts, shown) in [
        ("amqp://broker", ("guest", "guest", "broker", 5672, "/"), "amqp://guest@broker:5672/%2f"),
        ("amqps://ann:s3@broker", ("ann", "s3", "broker", 5671, "/"), "amqps://ann@broker:5671/%2f"),
        ("AMQP://ann:s3@B.example:1/", ("ann", "s3", "B.example", 1, ""), "amqp://ann@B.example:1/"),
        ("amqp://ann:@broker/jobs", ("ann", "", "broker", 5672, "jobs"), "amqp://ann@broker:5672/jobs"),
        ("amqp://a:s:3@10.0.0.1/a%2fb", ("a", "s:3", "10.0.0.1", 5672, "a/b"), "amqp://a@10.0.0.1:5672/a%2Fb"),
        ("amqp://a:s3@broker//", ("a", "s3", "broker", 5672, "/"), "amqp://a@broker:5672/%2f"),
        ("amqp://a:s3@broker/../v", ("a", "s3", "broker", 5672, "../v"), "amqp://a@broker:5672/..%2Fv"),
        ("amqp://a:s3@[::1]:5000/%2f", ("a", "s3", "::1", 5000, "/"), "amqp://a@[::1]:5000/%2f"),
        ("amqps://a:s3@[2001:DB8::7]", ("a", "s3", "2001:db8::7", 5671, "/"), "amqps://a@[2001:db8::7]:5671/%2f"),
        (
            "amqp://a%40b%3A:7%23s%2F%3F%40%25%20%C3%A9@broker",
            ("a@b:", "7#s/?@% é", "broker", 5672, "/"),
            "amqp://a%40b%3A@broker:5672/%2f",
        ),
        (
            "amqp://a^b:{s}|\\\"<3>`@broker",
            ("a^b", "{s}|\\\"<3>`", "broker", 5672, "/"),
            "amqp://a%5Eb@broker:5672/%2f",
        ),
    ] {
        let uri = read(text).expect(text);
        let (user, password) = (uri.user(), uri.password().expose_secret());
        assert_eq!((user, password, uri.host(), uri.port(), uri.vhost()), parts, "{text}");
        assert_eq!((uri.to_string().as_str(), format!("{uri:?}").as_str()), (shown, shown));
        assert_eq!(uri.is_tls(), text.starts_with("amqps"));
    }
    let token = "t".repeat(2000);
    assert_eq!(read(&format!("amqp://a:{token}@b")).expect("long").password().expose_secret(), token);
}

#[test]
fn the_query_sets_what_is_known_and_nothing_else() {
    let uri = read("amqp://h/?heartbeat=3&frame_max=16384&channel_max=64&auth_mechanism=AMQPLAIN").expect("known");
    let parameters = uri.parameters();
    assert_eq!((parameters.heartbeat, parameters.frame_max), (Some(3), Some(16_384)));
    assert_eq!((parameters.channel_max, parameters.auth_mechanism), (Some(64), Some(AuthMechanism::AmqPlain)));
    assert!(read("amqp://h?").is_ok() && read("amqp://ann@h?auth_mechanism=external").is_ok());
    for query in [
        "heartbeat=0",
        "heartbeat=3601",
        "heartbeat=99999999999",
        "heartbeat=-1",
        "heartbeat=",
        "heartbeat",
        "heartbeat=3&heartbeat=4",
        "frame_max=4096",
        "channel_max=1",
        "auth_mechanism=anonymous",
        "connection_timeout=30",
        "verify=verify_none",
        "Heartbeat=3",
    ] {
        assert_eq!(read(&format!("amqp://h/v?{query}")), Err(UriProblem::Parameters), "{query}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (text, problem) in [
        ("", UriProblem::Empty),
        ("s3cret", UriProblem::Scheme),
        ("http://ann:s3cret@h/", UriProblem::Scheme),
        ("amqp:ann:s3cret@h", UriProblem::Scheme),
        ("ann:s3cret@h", UriProblem::Scheme),
        ("\"amqp://ann:s3cret@h\"", UriProblem::Scheme),
        ("amqp://ann:7#s3cret@h", UriProblem::Fragment),
        ("amqp://ann:s3cret@h/v#f", UriProblem::Fragment),
        ("amqp://ann:7/s3cret@h", UriProblem::Delimiter),
        ("amqp://ann:7?s3cret@h", UriProblem::Delimiter),
        ("amqp://ann:s3@cret@h", UriProblem::SecondAt),
        ("amqp://ann:s3 cret@h", UriProblem::Character),
        ("amqp://ann:s3\tcret@h", UriProblem::Character),
        ("amqp://ann:s3\ncret@h", UriProblem::Character),
        ("amqp://ann:s3\u{0}cret@h", UriProblem::Character),
        ("amqp://ann:s3\u{200b}cret@h", UriProblem::Character),
        ("amqp://ann:s3cr\u{e9}t@h", UriProblem::Character),
        ("amqp://ann:s3%cret@h", UriProblem::PercentSign),
        ("amqp://ann:s3cret%@h", UriProblem::PercentSign),
        ("amqp://ann:s3cret%4@h", UriProblem::PercentSign),
        ("amqp://ann:s3cret%ff@h", UriProblem::Encoded),
        ("amqp://ann:s3cret%0a@h", UriProblem::Encoded),
        ("amqp://s3cret@h", UriProblem::Password),
        ("amqp://ann%3As3cret@h", UriProblem::Password),
        ("amqp://:s3cret@h", UriProblem::User),
        ("amqp://@h", UriProblem::Password),
        ("amqp://ann:s3cret", UriProblem::Port),
        ("amqp://ann:s3cret@h:", UriProblem::Port),
        ("amqp://ann:s3cret@h:0", UriProblem::Port),
        ("amqp://ann:s3cret@h:65536", UriProblem::Port),
        ("amqp://ann:s3cret@h:+1", UriProblem::Port),
        ("amqp://ann:s3cret@h:1:2", UriProblem::Port),
        ("amqp://ann:s3cret@[::1]5672", UriProblem::Port),
        ("amqp://ann:s3cret@", UriProblem::Host),
        ("amqp://", UriProblem::Host),
        ("amqp:///jobs", UriProblem::Host),
        ("amqp://ann:s3cret@h,i", UriProblem::Host),
        ("amqp://ann:s3cret@h%41", UriProblem::Host),
        ("amqp://ann:s3cret@::1", UriProblem::Host),
        ("amqp://ann:s3cret@[::1", UriProblem::Host),
        ("amqp://ann:s3cret@[fe80::1%25eth0]", UriProblem::Host),
        ("amqp://ann:s3cret@[10.0.0.1]", UriProblem::Host),
    ] {
        assert_eq!(read(text), Err(problem), "{text:?}");
        assert!(!problem.to_string().contains("s3"), "{problem}");
    }
    let long = format!("amqp://h/{}", "v".repeat(256));
    assert_eq!(read(&long), Err(UriProblem::Vhost));
}

/// Parts of a password that occur in no sentence, with anything at all between them.
fn password() -> impl Strategy<Value = (String, Vec<String>)> {
    let part = "[QXZJKV]{5}";
    let between = prop_oneof![
        Just("#"),
        Just("/"),
        Just("?"),
        Just("@"),
        Just(":"),
        Just("%"),
        Just("%40"),
        Just("%2"),
        Just(" "),
        Just(","),
        Just("\t"),
        Just("\n"),
        Just("\r\n"),
        Just("\u{0}"),
        Just("\u{feff}"),
        Just("\u{2028}"),
        Just("é"),
        Just("\\"),
        Just("["),
        Just("]"),
        Just("//"),
        Just("7/"),
        Just("7#"),
        Just("7?"),
        Just("@h:7/"),
        Just("\""),
        Just("'"),
        Just("&"),
        Just("="),
        Just("+"),
        Just("$"),
        Just("{"),
        Just("amqp://"),
        Just(""),
    ];
    (proptest::collection::vec((part, between), 1..5), part).prop_map(|(pairs, last)| {
        let text = pairs.iter().map(|(part, between)| format!("{part}{between}")).collect::<String>();
        let mut parts: Vec<String> = pairs.into_iter().map(|(part, _)| part).collect();
        parts.push(last.clone());
        (format!("{text}{last}"), parts)
    })
}

/// Where passwords stand.
fn shape(shape: u8, password: &str) -> String {
    match shape {
        0 => format!("amqp://ann:{password}@broker.example:5672/%2f"),
        1 => format!("amqps://ann:7{password}@broker.example"),
        2 => format!("amqp://ann:7/{password}@broker.example/jobs?heartbeat=3"),
        3 => format!("amqp://ann:{password}@[::1]:5672"),
        4 => format!("amqp://:{password}@broker.example"),
        5 => format!("amqp:ann:{password}@broker.example"),
        6 => format!("ann:{password}@broker.example"),
        _ => format!("amqp://ann:7#{password}@broker.example"),
    }
}

proptest! {
    #[test]
    fn a_password_of_any_characters_is_used_whole_or_refused_and_never_printed(
        (password, parts) in password(),
        which in 0_u8..8,
    ) {
        let text = shape(which, &password);
        let loaded = super::load(&[], &[("amqp.uri", text.clone())]);
        let mut printed = vec![format!("{loaded:?}")];
        match &loaded {
            Ok(loaded) => {
                let uris = loaded.settings.amqp.uris.last();
                printed.extend([loaded.settings.amqp.uris.to_string(), format!("{:?}", loaded.effective)]);
                for uri in uris.iter() {
                    prop_assert!(matches!(uri.host(), "broker.example" | "::1"), "{text:?} was taken for {uri}");
                    prop_assert_eq!(uri.user(), "ann");
                    let parsed: AmqpUri = uri.with_password().expose_secret().parse().expect("its own URI");
                    prop_assert_eq!(&parsed, uri);
                    let used = uri.password().expose_secret();
                    prop_assert!(parts.iter().all(|part| used.contains(part.as_str())), "a part of {text:?} is lost");
                }
            }
            Err(error) => printed.push(error.to_string()),
        }
        if let Err(problem) = read(&text) {
            printed.extend([problem.to_string(), format!("{problem:?}")]);
        }
        for printed in printed {
            for part in &parts {
                prop_assert!(!printed.contains(part.as_str()), "{printed}");
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(amqps?://)?.{0,40}") {
        if let Ok(uri) = read(&text) {
            let again: AmqpUri = uri.with_password().expose_secret().parse().expect("its own URI");
            prop_assert_eq!(again, uri);
        }
    }
}
