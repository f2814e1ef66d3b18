//! `suite!`: the list of cases as tests.

/// Emits one `#[test]` per case of the suite, in one module per group.
///
/// ```text
/// tickr_conformance::suite!(MyHarness);
/// tickr_conformance::suite!(MyHarness, without: [
///     tx = "a plain file has no transactions",
///     notify::other_handles_are_woken = "no LISTEN here",
/// ]);
/// ```
///
/// What is left out, a group or a single case, becomes `#[ignore = "reason"]`; the case
/// `capabilities::are_the_declared_ones` checks that it is just what the storage's
/// [`Capabilities`](tickr_core::Capabilities) say that it cannot do. Use it once in a module.
#[macro_export]
macro_rules! suite {
    ($harness:ty $(,)?) => {
        $crate::suite!($harness, without: []);
    };
    ($harness:ty, without: [$($group:ident $(:: $case:ident)? = $reason:literal),* $(,)?] $(,)?) => {
        type __TickrHarness = $harness;
        const __TICKR_WITHOUT: &[(&str, &str)] =
            &[$((concat!(stringify!($group) $(, "::", stringify!($case))?), $reason)),*];
        $crate::__define_case! { ($) [$($group $(:: $case)? = $reason,)*] {} }
        $crate::__for_each_case! { $crate::__emit_tests }
    };
}

/// Makes the macro `__tickr_case!`, whose arms match what is left out first.
#[doc(hidden)]
#[macro_export]
macro_rules! __define_case {
    (($d:tt) [$group:ident :: $case:ident = $reason:literal, $($rest:tt)*] {$($arms:tt)*}) => {
        $crate::__define_case! { ($d) [$($rest)*] {
            $($arms)*
            ($group $case) => { $crate::__test! { $group $case #[ignore = $reason] } };
        } }
    };
    (($d:tt) [$group:ident = $reason:literal, $($rest:tt)*] {$($arms:tt)*}) => {
        $crate::__define_case! { ($d) [$($rest)*] {
            $($arms)*
            ($group $d case:ident) => { $crate::__test! { $group $d case #[ignore = $reason] } };
        } }
    };
    (($d:tt) [] {$($arms:tt)*}) => {
        macro_rules! __tickr_case {
            $($arms)*
            ($d group:ident $d case:ident) => { $crate::__test! { $d group $d case } };
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __emit_tests {
    ($($group:ident { $($case:ident)* })*) => {
        $(mod $group {
            $(__tickr_case! { $group $case })*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test {
    ($group:ident $case:ident $(#[$ignore:meta])?) => {
        #[test]
        $(#[$ignore])?
        fn $case() {
            $crate::run::<super::__TickrHarness>(&$crate::Case {
                group: stringify!($group),
                name: stringify!($case),
                without: super::__TICKR_WITHOUT,
                body: |world| ::std::boxed::Box::pin($crate::__cases::$group::$case(world)),
            });
        }
    };
}
