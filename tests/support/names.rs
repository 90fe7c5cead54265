/// The environment variable of a setting.
pub fn variable(setting: &str) -> String {
    format!("CANCEL_WORKER__{}", setting.replace('.', "__").to_uppercase())
}

/// The full name of the operation with this id.
pub fn operation(id: &str) -> String {
    format!("projects/p/locations/global/operations/{id}")
}

/// The id that the event for this identity must have, now and in every later version.
pub fn event_id(identity: &str) -> String {
    const NAMESPACE: uuid::Uuid = uuid::uuid!("fe04dc8f-e4a3-53a9-9615-6681d032a409");
    uuid::Uuid::new_v5(&NAMESPACE, identity.as_bytes()).to_string()
}
