use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, ShortString};
use serde_json::Value;

use crate::support::keys_of;

/// A result event as a consumer gets it, in either content mode.
#[derive(Clone, Debug)]
pub struct Event {
    pub body: Vec<u8>,
    pub properties: BasicProperties,
    pub routing_key: String,
    json: Value,
}

impl Event {
    pub fn read(delivery: &Delivery) -> Self {
        let json = serde_json::from_slice(&delivery.data).unwrap();
        let (body, properties) = (delivery.data.clone(), delivery.properties.clone());
        Self { body, properties, routing_key: delivery.routing_key.to_string(), json }
    }

    /// The whole body, parsed.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The event's data, which is the whole body in binary mode.
    pub fn data(&self) -> &Value {
        if self.json.get("specversion").is_some() { &self.json["data"] } else { &self.json }
    }

    /// The AMQP `message_id`, which is the event's id in both modes.
    pub fn id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", ShortString::as_str)
    }

    /// The same for every answer to one request.
    pub fn request_key(&self) -> String {
        self.json["requestkey"].as_str().map_or_else(|| self.header("cloudEvents:requestkey").unwrap(), str::to_owned)
    }

    /// Whether it answers the request that is known by this.
    pub fn is_for(&self, identity: &str) -> bool {
        let data = self.data();
        keys_of(identity, &data["name"], &data["replay"]).contains(&self.request_key())
    }

    pub fn outcome(&self) -> &str {
        self.data()["outcome"].as_str().unwrap()
    }

    /// `cancelled`, or `failed: not_found`.
    pub fn verdict(&self) -> String {
        match self.data()["error"]["reason"].as_str() {
            Some(reason) => format!("{}: {reason}", self.outcome()),
            None => self.outcome().to_owned(),
        }
    }

    /// Cancel and get calls.
    pub fn attempts(&self) -> (u64, u64) {
        let count = |call: &str| self.data()["attempts"][call].as_u64().unwrap();
        (count("cancel"), count("get"))
    }

    pub fn correlation_id(&self) -> &str {
        self.properties.correlation_id().as_ref().map_or("", ShortString::as_str)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.properties, name)
    }
}

/// A header that is a text.
pub fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
        other => panic!("the header {name} is no text: {other:?}"),
    }
}
