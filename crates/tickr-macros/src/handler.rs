//! `#[debug_handler]`: checks beside a function, each of which fails at the token that is wrong.
//!
//! The bound of `on` is one trait, and all that the compiler says of a function that misses it is that it does. Each condition of the
//! trait is written out here as a call of its own, with the span of the argument, the returned type or the name of the function, so
//! that the compiler reports the one that does not hold. The calls stand in functions that nobody calls.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Path, Result, ReturnType, Type, parse_quote, parse_quote_spanned};

/// The most arguments of a handler, and of a batch handler, as tickr-core implements them.
const ARGUMENTS_MAX: usize = 8;
const BATCH_ARGUMENTS_MAX: usize = 4;

pub(crate) fn check(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let checks = checks(arguments, item.clone()).unwrap_or_else(Error::into_compile_error);
    quote! { #item #checks }
}

fn checks(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let tickr = path_of_tickr(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span, "a handler is an `async fn`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.generics.span(), "debug_handler cannot check a generic function"));
    }
    let types = argument_types(&function)?;
    let batch = types.first().and_then(|first| member_of_batch(first));
    let max = if batch.is_some() { BATCH_ARGUMENTS_MAX } else { ARGUMENTS_MAX };
    if types.len() > max {
        return Err(Error::new(types[max].span(), format!("a handler has at most {max} arguments")));
    }
    let arguments = types.iter().enumerate().map(|(position, argument)| {
        let bound = match (&batch, position) {
            (Some(_), 0) | (None, _) => quote!(#tickr::adapter::FromMessage),
            (Some(_), _) => quote!(#tickr::adapter::FromBatch),
        };
        let checked = if position == 0 { batch.as_ref().unwrap_or(argument) } else { argument };
        let check = format_ident!("argument_{position}", span = checked.span());
        quote_spanned! {checked.span()=>
            fn #check() {
                fn check<Argument: #bound + 'static>() {}
                check::<#checked>();
            }
        }
    });
    let returned: Type = match &signature.output {
        ReturnType::Type(_, returned) => (**returned).clone(),
        ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
    };
    let verdict = if batch.is_some() { quote!(IntoBatchResults) } else { quote!(IntoVerdict) };
    let returned = quote_spanned! {returned.span()=>
        fn returned() {
            fn check<Returned: #tickr::adapter::#verdict + 'static>() {}
            check::<#returned>();
        }
    };
    let (name, values) = (&signature.ident, types.iter().map(|argument| quote!(value::<#argument>())));
    let future = quote_spanned! {name.span()=>
        fn future() {
            fn value<T>() -> T {
                loop {}
            }
            fn check<Future: ::core::future::Future + ::core::marker::Send + 'static>(_: Future) {}
            check(#name(#(#values),*));
        }
    };
    Ok(quote! {
        #[allow(warnings, clippy::all, clippy::pedantic, reason = "checks that nobody calls")]
        const _: () = {
            #(#arguments)*
            #returned
            #future
        };
    })
}

fn path_of_tickr(arguments: TokenStream) -> Result<Path> {
    let mut tickr: Path = parse_quote!(::tickr);
    syn::meta::parser(|meta| {
        if !meta.path.is_ident("crate") {
            return Err(meta.error("unknown key; there is `crate`, the name of tickr in this program"));
        }
        tickr = meta.value()?.call(Path::parse_mod_style)?;
        Ok(())
    })
    .parse2(arguments)?;
    Ok(tickr)
}

fn argument_types(function: &ItemFn) -> Result<Vec<&Type>> {
    let types = function.sig.inputs.iter().map(|argument| match argument {
        FnArg::Typed(typed) => match &*typed.ty {
            Type::ImplTrait(unnamed) => Err(Error::new(unnamed.span(), "debug_handler cannot check an argument of type `impl Trait`")),
            named => Ok(named),
        },
        FnArg::Receiver(this) => Err(Error::new(this.span(), "a handler is a function, not a method: take what it needs as `State<T>`")),
    });
    types.collect()
}

/// `T` of a `Batch<T>`.
fn member_of_batch(argument: &Type) -> Option<&Type> {
    let Type::Path(path) = argument else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Batch")?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        syn::GenericArgument::Type(member) => Some(member),
        _ => None,
    })
}
