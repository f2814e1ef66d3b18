#![doc = include_str!("../README.md")]

use proc_macro::TokenStream;

mod event;
mod handler;

/// Implements `tickr::Event`: ties a body to its event type, which `#[event(type = "...")]` names.
///
/// The type is checked when the program is compiled: 1 to 255 bytes, without control characters. Where tickr has another name in
/// the program, `#[event(type = "...", crate = other_name)]` says which.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    syn::parse(input).and_then(|input| event::derive(&input)).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes the compiler explain what is wrong with a handler.
///
/// A function that is not a handler is refused where it is registered, and there the compiler knows only that a bound does not hold.
/// With this attribute on the function it names the argument that is no extractor, the returned type that is no verdict, or the
/// value that is held across an await and is not `Send`. A function whose first argument is a `Batch<...>` is checked as a batch
/// handler. Where tickr has another name in the program, `#[debug_handler(crate = other_name)]` says which.
///
/// The function itself is unchanged, and nothing is added to the compiled program. Generic functions cannot be checked.
#[proc_macro_attribute]
pub fn debug_handler(arguments: TokenStream, function: TokenStream) -> TokenStream {
    handler::check(arguments.into(), &function.into()).into()
}
