//! Extractors: how arguments of a handler are made from its message.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;

use super::context::Context;
use super::failure::Failure;

/// An argument of a handler, made from the message: a body by its codec, [`State`], [`Context`], [`Raw`].
///
/// A codec implements this for its wrapper (`Json<T>`); a body that cannot be decoded is [`Failure::dead`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "arguments are extractors: a codec's wrapper such as `Json<T>`, `State<T>`, `Context`, `Raw`"
)]
pub trait FromMessage: Sized + Send {
    /// Makes the argument.
    ///
    /// # Errors
    /// A [`Failure`], which ends the attempt before the handler is called.
    fn from_message(context: &Context) -> Result<Self, Failure>;

    /// Says what the argument needs to be there when the worker is built.
    fn requires(_requirements: &mut Requirements) {}
}

impl FromMessage for Context {
    fn from_message(context: &Context) -> Result<Self, Failure> {
        Ok(context.clone())
    }
}

/// The undecoded body.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl fmt::Debug for Raw {
    /// Never shows the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

impl FromMessage for Raw {
    fn from_message(context: &Context) -> Result<Self, Failure> {
        Ok(Self(context.message().payload.clone()))
    }
}

/// A value of the application, given to the worker with [`state`](crate::WorkerBuilder::state). Missing ones are found
/// when the worker is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromMessage for State<T> {
    fn from_message(context: &Context) -> Result<Self, Failure> {
        context.states().extract()
    }

    fn requires(requirements: &mut Requirements) {
        requirements.state::<T>();
    }
}

/// What handlers need to be there when the worker is built.
#[derive(Debug, Default)]
pub struct Requirements {
    states: Vec<(TypeId, &'static str)>,
}

impl Requirements {
    /// Needs a state of type `T`.
    pub fn state<T: 'static>(&mut self) {
        self.states.push((TypeId::of::<T>(), type_name::<T>()));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.states.extend(other.states);
    }

    /// The name of a type that is not among `states`.
    pub(crate) fn missing(&self, states: &StateMap) -> Option<&'static str> {
        self.states.iter().find(|(id, _)| !states.0.contains_key(id)).map(|(_, name)| *name)
    }
}

/// One value per type.
#[derive(Default)]
pub(crate) struct StateMap(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl StateMap {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    pub(crate) fn extract<T: Clone + 'static>(&self) -> Result<State<T>, Failure> {
        let found = self.0.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref::<T>());
        found.cloned().map(State).ok_or_else(|| Failure::new(format!("there is no state of type {}", type_name::<T>())))
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMap({})", self.0.len())
    }
}
