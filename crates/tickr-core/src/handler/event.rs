//! Event types that the arguments of a handler name, so that registering it need not repeat them.
//!
//! A codec crate implements [`EventBody`] for its wrapper (`Json<E>`, `Prost<E>`). [`NamesEvent`] finds the one argument with an
//! event among those of a handler, [`BatchEvent`] the event of a batch's members; `on_event` and `on_batch_event` are bound by
//! them. Nobody else needs to implement or call anything here.

use super::extract::FromMessage;
use crate::event_type::Event;

/// An extractor whose body is an [`Event`]: a codec's wrapper such as `Json<E>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which event the handler is for",
    note = "`on_event` wants one argument such as `Json<E>`, where `E` implements `Event`; `on_batch_event` wants `Batch<Json<E>>`",
    note = "register a handler without one by its type: `.on(\"order.placed\", handler)`, `.on_batch(\"order.placed\", handler)`"
)]
pub trait EventBody: FromMessage {
    /// The body.
    type Event: Event;
}

/// The position of an argument, from 0: it distinguishes the implementations of [`NamesEvent`], and is always inferred.
#[derive(Debug)]
pub struct Nth<const POSITION: usize>;

/// The arguments of a handler, one of which is a body with an [`Event`].
#[diagnostic::on_unimplemented(
    message = "no argument of this handler says which event it handles",
    note = "`on_event` wants one argument such as `Json<E>`, where `E` implements `Event`",
    note = "register a handler without one by its type: `.on(\"order.placed\", handler)`"
)]
pub trait NamesEvent<Position> {
    /// The event type.
    const TYPE: &'static str;
}

/// The members of a batch and the further arguments of its handler, where the members' body is an [`Event`].
#[diagnostic::on_unimplemented(
    message = "the members of this batch handler do not say which event it handles",
    note = "`on_batch_event` wants a first argument such as `Batch<Json<E>>`, where `E` implements `Event`",
    note = "register a batch handler without one by its type: `.on_batch(\"order.placed\", handler)`"
)]
pub trait BatchEvent {
    /// The event type.
    const TYPE: &'static str;
}

macro_rules! names_event {
    ($position:literal: $($before:ident)* [$body:ident] $($after:ident)*) => {
        impl<$($before,)* $body: EventBody, $($after,)*> NamesEvent<Nth<$position>> for ($($before,)* $body, $($after,)*) {
            const TYPE: &'static str = <$body::Event as Event>::TYPE;
        }
    };
}

names_event!(0: [A]);
names_event!(0: [A] B);
names_event!(1: A [B]);
names_event!(0: [A] B C);
names_event!(1: A [B] C);
names_event!(2: A B [C]);
names_event!(0: [A] B C D);
names_event!(1: A [B] C D);
names_event!(2: A B [C] D);
names_event!(3: A B C [D]);
names_event!(0: [A] B C D E);
names_event!(1: A [B] C D E);
names_event!(2: A B [C] D E);
names_event!(3: A B C [D] E);
names_event!(4: A B C D [E]);
names_event!(0: [A] B C D E F);
names_event!(1: A [B] C D E F);
names_event!(2: A B [C] D E F);
names_event!(3: A B C [D] E F);
names_event!(4: A B C D [E] F);
names_event!(5: A B C D E [F]);
names_event!(0: [A] B C D E F G);
names_event!(1: A [B] C D E F G);
names_event!(2: A B [C] D E F G);
names_event!(3: A B C [D] E F G);
names_event!(4: A B C D [E] F G);
names_event!(5: A B C D E [F] G);
names_event!(6: A B C D E F [G]);
names_event!(0: [A] B C D E F G H);
names_event!(1: A [B] C D E F G H);
names_event!(2: A B [C] D E F G H);
names_event!(3: A B C [D] E F G H);
names_event!(4: A B C D [E] F G H);
names_event!(5: A B C D E [F] G H);
names_event!(6: A B C D E F [G] H);
names_event!(7: A B C D E F G [H]);

macro_rules! batch_event {
    ($($further:ident)*) => {
        impl<Body: EventBody, $($further,)*> BatchEvent for (Body, $($further,)*) {
            const TYPE: &'static str = <Body::Event as Event>::TYPE;
        }
    };
}

batch_event!();
batch_event!(A);
batch_event!(A B);
batch_event!(A B C);
