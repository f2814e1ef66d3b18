//! The names of attributes, from the semantic conventions for messaging (1.42.0) where they have one.

/// The conventions that the names follow.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// The value of [`SYSTEM`].
pub(crate) const TICKR: &str = "tickr";

pub(crate) const SYSTEM: &str = "messaging.system";
pub(crate) const OPERATION_NAME: &str = "messaging.operation.name";
pub(crate) const OPERATION_TYPE: &str = "messaging.operation.type";
pub(crate) const DESTINATION_NAME: &str = "messaging.destination.name";
pub(crate) const CLIENT_ID: &str = "messaging.client.id";
pub(crate) const MESSAGE_ID: &str = "messaging.message.id";
pub(crate) const BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// The conventions have no general name for it.
pub(crate) const MESSAGE_ATTEMPT: &str = "tickr.message.attempt";

pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const EXCEPTION: &str = "exception";
pub(crate) const EXCEPTION_TYPE: &str = "exception.type";
pub(crate) const EXCEPTION_MESSAGE: &str = "exception.message";
