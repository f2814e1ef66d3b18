//! `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, LitStr, Path, Result, parse_quote};

/// The longest event type in bytes, as `tickr_core::EventType::BYTES_MAX`.
const BYTES_MAX: usize = 255;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let (mut event_type, mut tickr): (Option<LitStr>, Path) = (None, parse_quote!(::tickr));
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("event")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("type") {
                event_type = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("crate") {
                tickr = meta.value()?.call(Path::parse_mod_style)?;
            } else {
                return Err(meta.error("unknown key; there is `type`, such as #[event(type = \"order.placed\")]"));
            }
            Ok(())
        })?;
    }
    let Some(event_type) = event_type else {
        let missing = "the event type is missing; name it with #[event(type = \"order.placed\")]";
        return Err(Error::new(input.ident.span(), missing));
    };
    check(&event_type)?;
    let (name, (generics, arguments, conditions)) = (&input.ident, input.generics.split_for_impl());
    Ok(quote! {
        #[automatically_derived]
        impl #generics #tickr::Event for #name #arguments #conditions {
            const TYPE: &'static str = #event_type;
        }
    })
}

fn check(event_type: &LitStr) -> Result<()> {
    let text = event_type.value();
    let wrong = if text.is_empty() {
        "the event type is empty".to_owned()
    } else if text.len() > BYTES_MAX {
        format!("the event type has {} bytes; the limit is {BYTES_MAX}", text.len())
    } else if text.chars().any(char::is_control) {
        "the event type has a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(event_type.span(), wrong))
}
