/// The environment variable of a setting.
pub fn variable(setting: &str) -> String {
    format!("CANCEL_WORKER__{}", setting.replace('.', "__").to_uppercase())
}

/// The full name of the operation with this id.
pub fn operation(id: &str) -> String {
    format!("projects/p/locations/global/operations/{id}")
}

/// UUIDv5 of an array's JSON, now and in every later version.
fn id_of(array: &serde_json::Value) -> String {
    const NAMESPACE: uuid::Uuid = uuid::uuid!("fe04dc8f-e4a3-53a9-9615-6681d032a409");
    uuid::Uuid::new_v5(&NAMESPACE, array.to_string().as_bytes()).to_string()
}

/// The key of a request, by what it is known and for which operation.
pub fn key_of(kind: &str, identity: &str, name: &str) -> String {
    id_of(&serde_json::json!([kind, identity, name, 0]))
}

/// The keys of all requests that may be known by this text, of whatever kind: of an event it is source and id.
pub fn keys_of(identity: &str, name: &serde_json::Value, replay: &serde_json::Value) -> Vec<String> {
    let simple =
        ["request_id", "message_id", "name"].map(|kind| id_of(&serde_json::json!([kind, identity, name, replay])));
    let event =
        identity.split_once(' ').map(|(source, id)| id_of(&serde_json::json!(["event", source, id, name, replay])));
    simple.into_iter().chain(event).collect()
}

/// The key of the request with this `request_id` for the operation of the same id.
pub fn request_key(id: &str) -> String {
    key_of("request_id", id, &operation(id))
}

/// The id of an answer to a request: its outcome, with the reason where there is one, is such as `failed: not_found`.
pub fn event_id(request_key: &str, verdict: &str) -> String {
    let (outcome, reason) =
        verdict.split_once(": ").map_or((verdict, None), |(outcome, reason)| (outcome, Some(reason)));
    id_of(&serde_json::json!([request_key, outcome, reason]))
}
