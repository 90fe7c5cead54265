use lapin::ExchangeKind;
use lapin::types::FieldTable;

use super::names::Name;

/// One thing that has to be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TopologyItem {
    Exchange { name: Name, kind: ExchangeKind },
    Queue { name: Name, arguments: FieldTable },
    Binding { queue: String, exchange: String, key: String },
}

impl TopologyItem {
    pub(super) const fn is_external(&self) -> bool {
        match self {
            Self::Exchange { name, .. } | Self::Queue { name, .. } => name.external,
            Self::Binding { .. } => false,
        }
    }

    /// The name of a queue.
    pub(super) fn queue(&self) -> Option<&str> {
        match self {
            Self::Queue { name, .. } => Some(&name.name),
            Self::Exchange { .. } | Self::Binding { .. } => None,
        }
    }

    /// Whether it is a binding, and one of its ends is among these.
    pub(super) fn is_binding_of(&self, items: &[Self]) -> bool {
        let Self::Binding { queue, exchange, .. } = self else { return false };
        items.iter().any(|item| match item {
            Self::Queue { name, .. } => name.name == *queue,
            Self::Exchange { name, .. } => name.name == *exchange,
            Self::Binding { .. } => false,
        })
    }

    /// Such as `queue "cancel-worker.requests"`.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {:?}", name.name),
            Self::Queue { name, .. } => format!("queue {:?}", name.name),
            Self::Binding { queue, exchange, .. } => format!("the binding of queue {queue:?} to exchange {exchange:?}"),
        }
    }
}
