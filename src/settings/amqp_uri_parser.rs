use std::net::Ipv6Addr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::amqp_uri::{AmqpUri, AuthMechanism, UriParameters};

/// Why a text is no AMQP URI. Never quotes any of it: where a password begins and ends is just what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriProblem {
    /// No text.
    #[error("it is empty")]
    Empty,
    /// Another scheme, or none.
    #[error("it does not begin with amqp:// or amqps://")]
    Scheme,
    /// White space, a control character, or one outside of ASCII.
    #[error("it has a blank, a line break or another character that no URI holds (a blank is %20)")]
    Character,
    /// `#`, which would cut the URI off.
    #[error("it has a \"#\" (%23)")]
    Fragment,
    /// `/` or `?` before an `@`.
    #[error("it has a \"/\" (%2F) or a \"?\" (%3F) before an \"@\" (%40)")]
    Delimiter,
    /// More than one.
    #[error("it has more than one \"@\" (%40)")]
    SecondAt,
    /// Not followed by two hexadecimal digits.
    #[error("it has a \"%\" that begins no percent-encoded character (a \"%\" itself is %25)")]
    PercentSign,
    /// Percent-encoded bytes that are no text.
    #[error("what is percent-encoded in it is no text in UTF-8 without control characters")]
    Encoded,
    /// `:password@` or `@`.
    #[error("no user stands before the \"@\"")]
    User,
    /// `user@`.
    #[error("no password follows the user: it is written user:password@")]
    Password,
    /// Empty, or not what a host's name is made of.
    #[error("what stands for the host is no host name, IPv4 address, or IPv6 address in brackets")]
    Host,
    /// No number, or an impossible one.
    #[error("what follows the host and its \":\" is no port from 1 to 65535; is the \"@\" before the host missing?")]
    Port,
    /// Longer than AMQP allows.
    #[error("its vhost is longer than 255 bytes")]
    Vhost,
    /// Unknown, given twice, or out of range.
    #[error(
        "its query may set, each once, heartbeat (1 to 3600 seconds), frame_max (8192 to 2147483647 bytes), channel_max (16 to 65535) and auth_mechanism (plain, amqplain, external), and nothing else"
    )]
    Parameters,
}

/// What AMQP allows a vhost's name, and DNS a host's, in bytes.
const LONGEST: usize = 255;

impl FromStr for AmqpUri {
    type Err = UriProblem;

    fn from_str(text: &str) -> Result<Self, UriProblem> {
        parse(text)
    }
}

/// Reads the whole of a text. Stricter than RFC 3986 and the WHATWG's rules, which know no password that was not encoded:
/// whatever they would cut off, move or repair is refused.
fn parse(text: &str) -> Result<AmqpUri, UriProblem> {
    if text.is_empty() {
        return Err(UriProblem::Empty);
    }
    let (tls, rest) = scheme(text)?;
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UriProblem::Character);
    }
    if rest.contains('#') {
        return Err(UriProblem::Fragment);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if path.contains('@') {
        return Err(UriProblem::Delimiter);
    }
    let (login, node) = match authority.split_once('@') {
        Some((login, node)) => (Some(login), node),
        None => (None, authority),
    };
    if node.contains('@') {
        return Err(UriProblem::SecondAt);
    }
    let (vhost, query) = path.split_once('?').unwrap_or((path, ""));
    let parameters = parameters(query)?;
    let (user, password) = match login {
        Some(login) => self::login(login, parameters.auth_mechanism)?,
        // As every client of RabbitMQ does.
        None => ("guest".to_owned(), "guest".to_owned()),
    };
    let (host, port) = self::node(node)?;
    let port = port.unwrap_or(if tls { 5671 } else { 5672 });
    let vhost = vhost.strip_prefix('/').map_or_else(|| Ok("/".to_owned()), decoded)?;
    if vhost.len() > LONGEST {
        return Err(UriProblem::Vhost);
    }
    Ok(AmqpUri { tls, user, password: SecretString::from(password), host, port, vhost, parameters })
}

fn scheme(text: &str) -> Result<(bool, &str), UriProblem> {
    let (scheme, rest) = text.split_once("://").ok_or(UriProblem::Scheme)?;
    match scheme.to_ascii_lowercase().as_str() {
        "amqp" => Ok((false, rest)),
        "amqps" => Ok((true, rest)),
        _ => Err(UriProblem::Scheme),
    }
}

fn login(text: &str, mechanism: Option<AuthMechanism>) -> Result<(String, String), UriProblem> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, password),
        // The certificate says who it is.
        None if mechanism == Some(AuthMechanism::External) => (text, ""),
        // Nothing is guessed, and what stands there may be a password.
        None => return Err(UriProblem::Password),
    };
    if user.is_empty() {
        return Err(UriProblem::User);
    }
    Ok((decoded(user)?, decoded(password)?))
}

fn node(text: &str) -> Result<(String, Option<u16>), UriProblem> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(UriProblem::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| UriProblem::Host)?;
        (address.to_string(), port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > LONGEST || !host.bytes().all(of_a_name) {
            return Err(UriProblem::Host);
        }
        (host.to_owned(), port)
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(UriProblem::Port),
    }
}

fn decoded(text: &str) -> Result<String, UriProblem> {
    let hexadecimal =
        |rest: &str| rest.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if !text.split('%').skip(1).all(hexadecimal) {
        return Err(UriProblem::PercentSign);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UriProblem::Encoded)?;
    if decoded.chars().any(char::is_control) {
        return Err(UriProblem::Encoded);
    }
    Ok(decoded.into_owned())
}

/// Unknown ones are refused, as unknown settings are: whoever wrote `verify=…` counts on it.
fn parameters(query: &str) -> Result<UriParameters, UriProblem> {
    let mut read = UriParameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(UriProblem::Parameters)?;
        let new = match name {
            "heartbeat" => read.heartbeat.replace(number(value, 1, 3600)?).is_none(),
            "frame_max" => read.frame_max.replace(number(value, 8192, 0x7fff_ffff)?).is_none(),
            "channel_max" => read.channel_max.replace(number(value, 16, u16::MAX)?).is_none(),
            "auth_mechanism" => read.auth_mechanism.replace(mechanism(value)?).is_none(),
            _ => false,
        };
        if !new {
            return Err(UriProblem::Parameters);
        }
    }
    Ok(read)
}

fn number<N: FromStr + PartialOrd>(text: &str, least: N, most: N) -> Result<N, UriProblem> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or(UriProblem::Parameters)
}

fn mechanism(text: &str) -> Result<AuthMechanism, UriProblem> {
    let all = [AuthMechanism::Plain, AuthMechanism::AmqPlain, AuthMechanism::External];
    let known = all.into_iter().find(|mechanism| text.eq_ignore_ascii_case(mechanism.as_str()));
    known.ok_or(UriProblem::Parameters)
}
