use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The name of an endpoint, a project or an operation, as a number: made on every call, so it holds no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The same text is the same key; two texts of one process share one only by a 64-bit accident.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}
