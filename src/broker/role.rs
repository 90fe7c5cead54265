use std::fmt;

/// What a connection is for. An alarm blocks connections that publish, acknowledgements included, so consuming has
/// one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes deliveries and answers them.
    Consume,
    /// Publishes.
    Publish,
    /// Publishes direct replies.
    Reply,
    /// Looks at queues and exchanges.
    Inspect,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
            Self::Reply => "reply",
            Self::Inspect => "inspect",
        })
    }
}
