//! Comfort on top of [`Storage`].

use std::future::Future;

use super::{Enqueued, Storage};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::limits::Limits;
use crate::message::{IntoMessage, NewMessage};

/// What every storage can do beside its contract. Implemented for all of them.
pub trait StorageExt: Storage {
    /// Enqueues one message with default limits and a locally made id.
    fn enqueue_one<M: IntoMessage + Send>(&self, message: M) -> impl Future<Output = Result<Enqueued>> + Send {
        async move {
            let checked = NewMessage::check(message.into_message()?, MessageId::new(), &Limits::default())?;
            let results = self.enqueue(&[checked]).await?;
            results.first().copied().ok_or_else(|| Error::new(ErrorKind::Internal, "enqueue of one message answered none"))
        }
    }

    /// Fails unless the schema can be worked with, saying what to do.
    fn check_schema(&self) -> impl Future<Output = Result<()>> + Send {
        async move { self.schema().await?.usable() }
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}
