//! How often an operation is repeated on another connection.

use crate::error::Fault;

/// How often an operation is repeated on another connection, because the pool's was in a state that somebody left.
pub(crate) struct Patience {
    /// Connections with an open transaction: as many as the pool may have, and a new one.
    foreign: usize,
    /// Used connections with an error that a new one might not have, such as one without the rights of a role that was set.
    suspect: usize,
}

impl Patience {
    pub(super) fn new(connections: usize) -> Self {
        Self { foreign: connections, suspect: 1 }
    }

    /// Whether nothing happened that another connection might not do.
    pub(crate) fn tries_another(&mut self, fault: &Fault, used: bool) -> bool {
        let left = match fault {
            Fault::Foreign(_) => &mut self.foreign,
            fault if used && fault.may_be_of_the_connection() => &mut self.suspect,
            _ => return false,
        };
        let tries = *left > 0;
        *left = left.saturating_sub(1);
        if tries && fault.is_foreign() {
            tracing::warn!("the pool gave a connection with an open transaction; it was closed, which rolls that transaction back");
        }
        tries
    }
}
