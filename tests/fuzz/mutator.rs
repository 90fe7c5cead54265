use fastrand::Rng;

/// What stands in messages, in odd places and sizes: boundaries, look-alikes, overflows, deep nesting.
const WORDS: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"name\":",
    "\"request_id\":",
    "\"identity\":",
    "\"deadline\":",
    "\"timeout\":",
    "\"context\":{",
    "\"v\":1,",
    "\"v\":2,",
    "\"data\":",
    "\"data_base64\":\"",
    "\"progress\":",
    "\"done\":true",
    "\"error\":{\"code\":1}",
    "\"99999-12-31T23:59:60Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"584942417355y\"",
    "\"10m\"",
    "../",
    "%2f",
    ":cancel",
    "projects/",
    "/operations/",
    "\u{0}",
    "\u{feff}",
    "\u{2215}",
    "\u{1f4a3}",
    "\\ud800",
    "\\u0000",
    "\n",
];

/// Changes a few places of `seed`, or makes bytes from nothing.
pub fn mutate(dice: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    if dice.u8(..50) == 0 {
        let length = dice.usize(..200);
        return std::iter::repeat_with(|| dice.u8(..)).take(length).collect();
    }
    let mut bytes = seed.to_vec();
    for _ in 0..dice.usize(..5) {
        step(dice, &mut bytes, other);
    }
    bytes
}

fn step(dice: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = dice.usize(..=bytes.len());
    let end = at + dice.usize(..=(bytes.len() - at).min(40));
    match dice.u8(..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.u8(..8),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        3 => {
            let length = dice.usize(..8);
            let random: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(length).collect();
            bytes.splice(at..end.min(at + 2), random);
        }
        4 | 5 => {
            let word = dice.choice(WORDS).unwrap_or_default();
            bytes.splice(at..end.min(at + word.len()), word.bytes());
        }
        6 => bytes.truncate(at),
        7 => {
            let from = dice.usize(..=other.len());
            let to = from + dice.usize(..=(other.len() - from).min(200));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            let many = dice.choice([100usize, 130, 256, 300, 1025, 5000]).unwrap_or_default();
            let word = dice.choice(["[", "{\"a\":", "x", "9", "\u{fc}"]).unwrap_or_default();
            // Rarely, for it is long.
            if dice.u8(..10) == 0 {
                bytes.splice(at..at, word.repeat(many).into_bytes());
            }
        }
    }
}

/// A property or header: mostly there, mostly right.
pub fn text(dice: &mut Rng, usual: &str) -> Option<String> {
    match dice.u8(..8) {
        0 => None,
        1 => Some(String::new()),
        2 => Some(String::from_utf8_lossy(&mutate(dice, usual.as_bytes(), b"")).into_owned()),
        3 => Some(usual.repeat(dice.usize(1..40))),
        _ => Some(usual.to_owned()),
    }
}
