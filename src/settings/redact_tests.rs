//! No error and no list of settings shows a password, wherever in a broken file or in the environment it stands.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::load::load_from;

/// Any four letters of it in a row occur nowhere else.
const PASSWORD: &str = "zQ9xW7vK4jT2";

fn assert_hidden(printed: &str, what: &str) {
    for part in PASSWORD.as_bytes().windows(4) {
        let part = str::from_utf8(part).expect("ASCII");
        assert!(!printed.contains(part), "{what}\nis told of with: {printed}");
    }
}

fn of_file(text: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.toml");
    std::fs::write(&path, text).expect("written");
    let loaded = load_from(&[path], &[], HashMap::new());
    match loaded {
        Ok(loaded) => Ok(format!("{loaded:?}")),
        Err(error) => {
            assert_hidden(&format!("{error:?}"), text);
            Err(error.to_string())
        }
    }
}

#[test]
fn a_broken_file_is_told_of_by_line_and_column_and_no_line_of_it_is_quoted() {
    let uri = format!("amqp://ann:{PASSWORD}@broker/%2f");
    let half = &PASSWORD[..6];
    for (text, place) in [
        (format!("[amqp]\nuri = \"{uri}\nprefetch = 5\n"), "line 2, column "),
        (format!("[amqp]\nuri = {uri}\"\n"), "line 2, column "),
        (format!("[amqp]\nuri = {uri}\n"), "line 2, column "),
        (format!("[amqp]\nuri = '{uri}\n"), "line 2, column "),
        (format!("[amqp]\nuri = \"\"\"{uri}\nprefetch = 5\n"), "line "),
        (format!("[amqp]\nuri \"{uri}\"\n"), "line 2, column "),
        (format!("[amqp]\nuri: \"{uri}\"\n"), "line 2, column "),
        (format!("[amqp]\nuri = = \"{uri}\"\n"), "line 2, column "),
        (format!("[amqp]\nuri = \"{uri}\"\nuri = \"{uri}\"\n"), "line 3, column 1 (key `uri`)"),
        (format!("[amqp]\nuri = \"{uri}\" prefetch = 5\n"), "line 2, column "),
        (format!("[amqp]\nuri = \"{uri}\"\n[amqp]\nprefetch = 5\n"), "line 3, column "),
        (format!("[amqp]\nuri = \"ann:\\{PASSWORD}\"\n"), "line 2, column "),
        (format!("[amqp]\nuri = [\"{uri}\", \"{uri}\"\n"), "line "),
        (format!("[amqp]\nuri = [\"{uri}\" \"{uri}\"]\n"), "line 2, column "),
        (format!("[amqp\nuri = \"{uri}\"\n"), "line 1, column "),
        (format!("amqp = {{ uri = \"{uri}\"\n"), "line "),
        (format!("[amqp]\n{half} = \"{uri}\n"), "line 2, column "),
        (format!("[amqp]\n{uri}\n"), "line 2, column "),
        (format!("\u{feff}[amqp]\nuri = \"{uri}\n"), "line 2, column "),
        (format!("[amqp]\r\nuri = \"{uri}\r\n"), "line 2, column "),
    ] {
        let error = of_file(&text).expect_err(&text);
        assert_hidden(&error, &text);
        assert!(error.contains("my.toml is no TOML at ") && error.contains(place), "{text}\n{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_value_of_a_wrong_type_or_in_a_wrong_place_is_not_quoted_where_it_may_hold_a_password() {
    let uri = format!("amqp://ann:{PASSWORD}@broker/%2f");
    for text in [
        format!("[amqp.uri]\nvalue = \"{uri}\"\n"),
        format!("[amqp]\nuri = {{ \"{uri}\" = 1 }}\n"),
        format!("[amqp]\nuri = [[\"{uri}\"]]\n"),
        format!("[amqp]\nuri = [{{ a = \"{uri}\" }}]\n"),
        format!("[amqp]\n\"{uri}\" = 1\n"),
        format!("[\"{uri}\"]\na = 1\n"),
        format!("amqp = \"{uri}\"\n"),
        format!("[amqp]\nurl = \"{uri}\"\n"),
        format!("[amqp]\nprefetch = \"{uri}\"\n"),
        format!("[amqp]\nheartbeat = \"{uri}\"\n"),
        format!("[amqp.topology]\nwait_levels = [\"1s\", \"{uri}\"]\n"),
        format!("[amqp.topology]\nwait_levels = \"1s,{uri}\"\n"),
        format!("[amqp.topology]\ndeclare = \"{uri}\"\n"),
        format!("[amqp]\nuri_file = \"{uri}\"\n"),
        format!("[amqp]\nuri_file = \"ann:{PASSWORD}@broker\"\n"),
        format!("[api]\nresponse_limit = \"{uri}\"\n"),
        format!("[api]\ncancel_body = \"{uri}\"\n"),
        format!("[api]\nnames = \"{uri}\"\n"),
        format!("[api]\nservice = \"{uri}\"\n"),
        format!("[api]\nendpoint = \"{uri}\"\n"),
        format!("[api]\nendpoint = \"https://ann:{PASSWORD}@host:port\"\n"),
        format!("[api]\nendpoint = \"http://ann:{PASSWORD}@10.0.0.1\"\n"),
        format!("[api.endpoints]\nus = \"https://ann:{PASSWORD}@host/\"\n"),
        format!("[retry]\nmultiplier = \"{uri}\"\n"),
        format!("[admin]\nlisten = \"{uri}\"\n"),
        format!("[events]\nmode = \"{uri}\"\n"),
        format!("[log]\nfilter = \"{uri}=x\"\n"),
        format!("[amqp]\nuri = \"amqp://ann:7#{PASSWORD}@broker\"\n"),
        format!("[amqp]\nuri = \"amqp://ann:7/{PASSWORD}@broker\"\n"),
        format!("[amqp]\nuri = \"amqp://ann:a,{PASSWORD}@broker\"\n"),
        format!("[amqp]\nuri = \"{PASSWORD}\"\n"),
    ] {
        let error = of_file(&text).expect_err(&text);
        assert_hidden(&error, &text);
        let key = text.split(['[', ']', ' ', '\n', '"', '.']).find(|word| word.chars().any(char::is_alphabetic));
        let key = key.filter(|key| !key.contains("://")).unwrap_or_default();
        assert!(error.contains(key), "{text}\n{error}");
    }
    for text in [format!("[events]\nsource = \"{uri}\"\n"), format!("[log]\nfilter = \"{uri}\"\n")] {
        let accepted = of_file(&text).expect(&text);
        let list = accepted.split("effective").last().expect("a list");
        assert_hidden(list, &text);
    }
}

#[test]
fn what_belongs_into_a_file_is_not_shown_as_the_files_name() {
    for setting in [
        "amqp.uri_file",
        "api.client_certificate_file",
        "api.client_key_file",
        "api.ca_file",
        "api.credentials.token_file",
        "api.credentials.file",
    ] {
        for content in [
            format!("amqp://ann:{PASSWORD}@broker"),
            format!("-----BEGIN PRIVATE KEY-----{PASSWORD}"),
            format!("{PASSWORD}\n"),
            format!("{{\"private_key\": \"{PASSWORD}\"}}"),
            format!("eyJ{}", PASSWORD.repeat(30)),
        ] {
            let error = load_from(&[], &[(setting, content)], HashMap::new()).expect_err(setting);
            assert_hidden(&format!("{error} {error:?}"), setting);
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
}

#[test]
fn the_environment_is_no_more_talkative() {
    let uri = format!("amqp://ann:{PASSWORD}@broker/%2f");
    for (name, value) in [
        ("CANCEL_WORKER__AMQP__URI", uri.replace("://ann:", "://ann:7#")),
        ("CANCEL_WORKER__AMQP__URI__A", uri.clone()),
        ("CANCEL_WORKER__AMQP__URL", uri.clone()),
        ("CANCEL_WORKER__AMQP", uri.clone()),
        ("CANCEL_WORKER__AMQP__URI_FILE", uri.clone()),
        ("CANCEL_WORKER__AMQP__PREFETCH", uri.clone()),
        ("CANCEL_WORKER__AMQP__HEARTBEAT", uri.clone()),
        ("CANCEL_WORKER__AMQP__TOPOLOGY__WAIT_LEVELS", format!("1s,{uri}")),
        ("CANCEL_WORKER__LOG__FORMAT", uri.clone()),
    ] {
        let environment = HashMap::from([(name.to_owned(), value)]);
        let error = load_from(&[], &[], environment).expect_err(name);
        assert_hidden(&error.to_string(), name);
        assert_hidden(&format!("{error:?}"), name);
    }
    let name = OsString::from("CANCEL_WORKER__AMQP__URI");
    let value = OsString::from_vec([uri.as_bytes(), b"\xff"].concat());
    let error = super::environment::ours([(name, value)].into_iter()).expect_err("no UTF-8").to_string();
    assert_hidden(&error, "bytes");
    assert!(error.contains("CANCEL_WORKER__AMQP__URI"), "{error}");
    let stray = HashMap::from([("CANCEL_WORKER_AMQP__URI".to_owned(), uri)]);
    let loaded = load_from(&[], &[], stray).expect("valid, but warned of");
    assert!(loaded.warnings[0].contains("CANCEL_WORKER__AMQP__URI?"), "{:?}", loaded.warnings);
    assert_hidden(&format!("{loaded:?}"), "a stray variable");
}
