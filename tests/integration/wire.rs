//! Just enough of AMQP 0-9-1 to publish what nobody should, and to read it again.

use std::io::{Read, Write};
use std::net::TcpStream;

use url::Url;

use crate::support::Broker;
use crate::test_env::PATIENCE;

/// What a frame holds at most: of RabbitMQ's 131,072 bytes, all but its type, channel, length and end.
pub const FRAME: usize = 131_072 - 8;

/// What a message header holds beside its properties: class, weight, body size.
const HEADER_OVERHEAD: usize = 2 + 2 + 8;

/// A message as it goes over the wire: nobody has looked at these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Flags and values.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// The bits that say which properties a message has; the values follow in the order from the highest bit to the lowest.
pub mod property {
    pub const CONTENT_TYPE: u16 = 1 << 15;
    pub const CONTENT_ENCODING: u16 = 1 << 14;
    pub const HEADERS: u16 = 1 << 13;
    pub const DELIVERY_MODE: u16 = 1 << 12;
    pub const PRIORITY: u16 = 1 << 11;
    pub const CORRELATION_ID: u16 = 1 << 10;
    pub const REPLY_TO: u16 = 1 << 9;
    pub const EXPIRATION: u16 = 1 << 8;
    pub const MESSAGE_ID: u16 = 1 << 7;
    pub const TIMESTAMP: u16 = 1 << 6;
    pub const TYPE: u16 = 1 << 5;
    pub const USER_ID: u16 = 1 << 4;
    pub const APP_ID: u16 = 1 << 3;
    pub const CLUSTER_ID: u16 = 1 << 2;
}

impl Raw {
    /// With these properties, from the highest bit to the lowest.
    pub fn new(properties: &[(u16, Vec<u8>)], body: impl Into<Vec<u8>>) -> Self {
        let flags = properties.iter().fold(0, |flags, (bit, _)| flags | bit);
        let values: Vec<u8> = properties.iter().flat_map(|(_, value)| value.clone()).collect();
        Self { properties: [&u16::to_be_bytes(flags), values.as_slice()].concat(), body: body.into() }
    }

    /// Whether these bytes are somewhere in the properties.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.properties.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// How many bytes of header entries fit into one frame, where a message has no other property.
pub const LARGEST_HEADERS: usize = FRAME - HEADER_OVERHEAD - 2 - 4;

/// A connection with one channel, on which publishes are confirmed.
pub struct Wire(TcpStream);

impl Wire {
    /// To the broker that all tests share. Blocks, as everything here does.
    pub fn open() -> Self {
        let url = Url::parse(Broker::shared().uri()).unwrap();
        let address = (url.host_str().unwrap(), url.port().unwrap_or(5672));
        let mut wire = Self(TcpStream::connect(address).unwrap());
        wire.0.set_read_timeout(Some(PATIENCE)).unwrap();
        wire.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        wire.answer();
        let login = ["", url.username(), url.password().unwrap_or_default()].join("\0");
        let login = [long(b""), short(b"PLAIN"), long(login.as_bytes()), short(b"en_US")].concat();
        wire.method(10, 11, &login, 0);
        let tune = wire.answer();
        // No heartbeat.
        wire.method(10, 31, &[&tune[4..10], &[0, 0]].concat(), 0);
        let vhost = url.path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/");
        wire.method(10, 40, &[short(vhost.as_bytes()), vec![0, 0]].concat(), 0);
        wire.answer();
        wire.method(20, 10, &[0], 1);
        wire.answer();
        wire.method(85, 10, &[0], 1);
        wire.answer();
        wire
    }

    /// Publishes, and waits for the confirm. What the broker says where it refuses: then this connection is of no more use.
    pub fn publish(&mut self, exchange: &[u8], routing_key: &[u8], message: &Raw) -> Result<(), String> {
        let Raw { properties, body } = message;
        self.method(60, 40, &[&[0, 0], &*short(exchange), &short(routing_key), &[0]].concat(), 1);
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        self.frame(2, 1, &[&60_u16.to_be_bytes(), &[0, 0][..], &size, properties].concat());
        if !body.is_empty() {
            self.frame(3, 1, body);
        }
        let answer = self.answer();
        match answer[..4] {
            // basic.ack
            [0, 60, 0, 80] => Ok(()),
            // channel.close, connection.close: a number, then a text.
            [0, 20, 0, 40] | [0, 10, 0, 50] => {
                Err(String::from_utf8_lossy(&answer[7..7 + usize::from(answer[6])]).into_owned())
            }
            _ => panic!("not an answer to a publish: {answer:?}"),
        }
    }

    /// Takes the message at the head of a queue, if there is one.
    pub fn get(&mut self, queue: &str) -> Option<Raw> {
        // Without acknowledgement.
        self.method(60, 70, &[&[0, 0], &*short(queue.as_bytes()), &[1]].concat(), 1);
        // basic.get-empty, or basic.get-ok.
        if self.answer()[..4] == [0, 60, 0, 72] {
            return None;
        }
        let header = self.answer();
        let size = usize::try_from(u64::from_be_bytes(header[4..12].try_into().unwrap())).unwrap();
        let mut body = Vec::new();
        while body.len() < size {
            body.extend(self.answer());
        }
        Some(Raw { properties: header[12..].to_vec(), body })
    }

    fn method(&mut self, class: u16, method: u16, arguments: &[u8], channel: u16) {
        self.frame(1, channel, &[&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[0xce]].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// The payload of the next frame.
    fn answer(&mut self) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
        self.0.read_exact(&mut payload).unwrap();
        payload.truncate(payload.len() - 1);
        payload
    }
}

/// A short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// A long string; a table or an array, of its entries.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An entry of a table: a name, the letter of a type, and the value's bytes.
pub fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name), &[kind][..], value].concat()
}

/// Header entries that are one header, of arrays in arrays (`A`) or tables in tables (`F`), as deep as fits into `size`
/// bytes.
pub fn nested(kind: u8, size: usize) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { &[0] } else { &[] };
    let level = name.len() + 1 + 4;
    let levels = (size - 1) / level;
    let mut entries = vec![0];
    for inside in (0..levels).rev() {
        // The header's own name is there already.
        entries.extend(if inside + 1 < levels { name } else { &[] });
        entries.push(kind);
        entries.extend(u32::try_from(inside * level).unwrap().to_be_bytes());
    }
    entries
}
