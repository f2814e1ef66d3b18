//! Which server answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use deadpool_postgres::ClientWrapper;
use tickr_core::Timestamp;

use crate::error::{Fault, connecting};
use crate::row;

/// The server that answered last, as a new connection finds it.
#[derive(Debug, Default)]
pub(super) struct LastServer {
    identity: Mutex<Option<Identity>>,
    /// How many times it was another one.
    generation: AtomicU64,
}

/// What tells servers and databases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    started_at: Timestamp,
    /// The number of the database.
    database: u32,
}

impl LastServer {
    /// How many times a new connection found another server than the one before.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Asks a new connection which server and database it leads to; returns whether it is another one than before.
    pub(super) async fn changes_with(&self, client: &ClientWrapper, question: &str) -> Result<bool, Fault> {
        let rows = client.query_typed(question, &[]).await.map_err(connecting)?;
        let row = row::only(&rows)?;
        let found = Identity { started_at: row::timestamp(row, 0)?, database: row.try_get(1)? };
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let is_another = identity.replace(found).is_some_and(|known| known != found);
        if is_another {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        Ok(is_another)
    }
}
