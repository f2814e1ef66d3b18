//! Finds what can be changed in a Rust file.

use std::ops::Range;

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ItemImpl, Lit, ReturnType, Stmt, Type, UnOp};

use crate::site::{Edit, Site};

/// Methods that are exchanged for each other.
const METHODS: &[(&str, &str)] = &[
    ("min", "max"),
    ("is_some", "is_none"),
    ("is_ok", "is_err"),
    ("any", "all"),
    ("first", "last"),
    ("saturating_sub", "saturating_add"),
    ("min_by_key", "max_by_key"),
];

/// Methods whose number names a column or a place in a list: one more is an error of the driver, which any test sees.
const BY_INDEX: &[&str] = &["get", "try_get", "get_ref"];

/// Traits whose methods write texts for people.
const TEXTS: &[&str] = &["Debug", "Display"];

/// All changes of a file. What is only compiled for tests or on other systems, constants, patterns and the arguments of macros stay
/// as they are.
pub(crate) fn sites(group: &'static str, file: &str, text: &str) -> Result<Vec<Site>> {
    let parsed = syn::parse_file(text).with_context(|| format!("could not parse {file}"))?;
    let mut finder = Finder { group, file, text, scope: Vec::new(), sites: Vec::new() };
    finder.visit_file(&parsed);
    Ok(finder.sites)
}

struct Finder<'a> {
    group: &'static str,
    file: &'a str,
    text: &'a str,
    scope: Vec<String>,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn add(&mut self, edit: Edit, range: Range<usize>, mutated: String) {
        let line = self.text[..range.start].matches('\n').count() + 1;
        let original = self.text[range.clone()].to_owned();
        let place = self.scope.join("::");
        let (group, file) = (self.group, self.file.to_owned());
        self.sites.push(Site { id: 0, group, file, line, place, range, original, mutated, ordinal: 1, edit });
    }

    fn replace(&mut self, expression: &Expr, mutated: String) {
        self.add(Edit::Expression, expression.span().byte_range(), mutated);
    }

    fn text(&self, node: &impl Spanned) -> &str {
        &self.text[node.span().byte_range()]
    }

    /// The text of `whole` with another text in place of `part`.
    fn with(&self, whole: &impl Spanned, part: &impl Spanned, other: &str) -> String {
        let (whole, part) = (whole.span().byte_range(), part.span().byte_range());
        format!("{}{other}{}", &self.text[whole.start..part.start], &self.text[part.end..whole.end])
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if signature.constness.is_some() {
            return;
        }
        self.within(signature.ident.to_string(), |finder| {
            if !block.stmts.is_empty() {
                let at = block.span().byte_range().start + 1;
                for value in values(&signature.output) {
                    finder.add(Edit::Entry, at..at, format!("return {value};").replace(" ;", ";"));
                }
            }
            finder.visit_block(block);
        });
    }

    fn condition(&mut self, condition: &Expr, values: &[&str]) {
        if !has_let(condition) {
            for value in values {
                self.replace(condition, (*value).to_owned());
            }
        }
    }

    fn binary(&mut self, whole: &Expr, binary: &syn::ExprBinary) {
        let other = match binary.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            BinOp::Eq(_) => "!=",
            BinOp::Ne(_) => "==",
            BinOp::And(_) if !has_let(whole) => "||",
            BinOp::Or(_) => "&&",
            BinOp::Add(_) => "-",
            BinOp::Sub(_) => "+",
            BinOp::Mul(_) => "/",
            BinOp::Div(_) => "*",
            BinOp::BitAnd(_) => "|",
            BinOp::BitOr(_) => "&",
            BinOp::AddAssign(_) => "-=",
            BinOp::SubAssign(_) => "+=",
            BinOp::BitOrAssign(_) => "&=",
            BinOp::BitAndAssign(_) => "|=",
            _ => return,
        };
        let mutated = self.with(whole, &binary.op, other);
        self.replace(whole, mutated);
    }

    fn method(&mut self, whole: &Expr, call: &syn::ExprMethodCall) {
        let name = call.method.to_string();
        if name == "is_empty" && call.args.is_empty() {
            let mutated = format!("!{}", self.text(whole));
            self.replace(whole, mutated);
        }
        for (one, other) in METHODS {
            let other = if name == *one {
                other
            } else if name == *other {
                one
            } else {
                continue;
            };
            let mutated = self.with(whole, &call.method, other);
            self.replace(whole, mutated);
        }
    }

    fn literal(&mut self, whole: &Expr, literal: &Lit) {
        match literal {
            Lit::Int(number) => {
                if let Ok(value) = number.base10_parse::<u64>() {
                    self.replace(whole, format!("{}{}", value.saturating_add(1), number.suffix()));
                }
            }
            Lit::Bool(value) => self.replace(whole, (!value.value).to_string()),
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_not_built(&item.attrs) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_not_built(&item.attrs) {
            self.function(&item.sig, &item.block);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let of_trait = item.trait_.as_ref().and_then(|(_, path, _)| Some(path.segments.last()?.ident.to_string()));
        if is_not_built(&item.attrs) || of_trait.is_some_and(|name| TEXTS.contains(&name.as_str())) {
            return;
        }
        let name = last_segment(&item.self_ty).unwrap_or_default();
        self.within(name, |finder| item.items.iter().for_each(|item| finder.visit_impl_item(item)));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_not_built(&item.attrs) {
            self.within(item.ident.to_string(), |finder| visit::visit_item_mod(finder, item));
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(_)) = statement
            && is_call_or_assignment(expression)
        {
            self.add(Edit::Statement, statement.span().byte_range(), String::new());
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            visit::visit_local_init(self, init);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard, &["true", "false"]);
            self.visit_expr(guard);
        }
        self.visit_expr(&arm.body);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::If(branch) => self.condition(&branch.cond, &["true", "false"]),
            // One that is always true would not end.
            Expr::While(turn) => self.condition(&turn.cond, &["false"]),
            Expr::Binary(binary) => self.binary(expression, binary),
            Expr::MethodCall(call) => {
                self.method(expression, call);
                if BY_INDEX.contains(&call.method.to_string().as_str()) {
                    return self.visit_expr(&call.receiver);
                }
            }
            Expr::Unary(unary) => match unary.op {
                UnOp::Not(_) | UnOp::Neg(_) => {
                    let inner = self.text(&unary.expr).to_owned();
                    self.replace(expression, inner);
                }
                _ => {}
            },
            Expr::Lit(literal) => self.literal(expression, &literal.lit),
            Expr::Let(binding) => return self.visit_expr(&binding.expr),
            // The length is a constant.
            Expr::Repeat(repeat) => return self.visit_expr(&repeat.expr),
            Expr::Const(_) => return,
            Expr::ForLoop(turn) => {
                self.visit_expr(&turn.expr);
                return self.visit_block(&turn.body);
            }
            Expr::Closure(closure) => return self.visit_expr(&closure.body),
            _ => {}
        }
        visit::visit_expr(self, expression);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_item_macro(&mut self, _: &'ast syn::ItemMacro) {}
    fn visit_macro(&mut self, _: &'ast syn::Macro) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
}

/// True for `#[cfg(test)]`, `#[test]` and the like, and for what only other systems than this one build.
fn is_not_built(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => {
            let condition = list.tokens.to_string().replace(' ', "");
            let is_of_tests = condition.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test");
            list.path.is_ident("cfg") && (is_of_tests || condition == "not(unix)")
        }
        meta => meta.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    })
}

/// True if a condition binds names, which it does only at its place.
fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}

fn is_call_or_assignment(expression: &Expr) -> bool {
    match expression {
        Expr::MethodCall(_) | Expr::Call(_) | Expr::Assign(_) => true,
        Expr::Await(inner) => is_call_or_assignment(&inner.base),
        Expr::Try(inner) => is_call_or_assignment(&inner.expr),
        _ => false,
    }
}

fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

/// What a function could return instead of doing anything.
fn values(output: &ReturnType) -> Vec<String> {
    match output {
        ReturnType::Default => vec![String::new()],
        ReturnType::Type(_, ty) => values_of(ty),
    }
}

fn values_of(ty: &Type) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => texts(&["()"]),
        Type::Path(path) => {
            let Some(segment) = path.path.segments.last() else {
                return Vec::new();
            };
            match segment.ident.to_string().as_str() {
                "bool" => texts(&["true", "false"]),
                "u8" | "u16" | "u32" | "u64" | "usize" | "i16" | "i32" | "i64" => texts(&["0", "1"]),
                "Option" => texts(&["None"]),
                "Vec" => texts(&["Vec::new()"]),
                "String" => texts(&["String::new()"]),
                "Duration" => texts(&["::std::time::Duration::ZERO"]),
                "Result" => match &segment.arguments {
                    syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
                        Some(syn::GenericArgument::Type(inner)) => {
                            values_of(inner).into_iter().map(|value| format!("Ok({value})")).collect()
                        }
                        _ => Vec::new(),
                    },
                    _ => texts(&["Ok(())"]),
                },
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Vec<(String, String)> {
        let sites = sites("core", "a.rs", text).unwrap();
        sites.into_iter().filter(|site| site.edit != Edit::Entry).map(|site| (site.original, site.mutated)).collect()
    }

    fn pair(original: &str, mutated: &str) -> (String, String) {
        (original.to_owned(), mutated.to_owned())
    }

    #[test]
    fn comparisons_are_flipped_at_their_bound() {
        assert_eq!(changes("fn f(a: u8, b: u8) -> bool { a < b }"), [pair("a < b", "a <= b")]);
    }

    #[test]
    fn conditions_that_bind_a_name_stay() {
        let text = "fn f(a: Option<u8>, b: bool) -> u8 { if let Some(x) = a && b { x } else { y } }";
        assert_eq!(changes(text), []);
    }

    #[test]
    fn what_is_not_built_here_stays() {
        let (here, elsewhere) = ("#[cfg(unix)] fn f() { g(1); }", "#[cfg(not(unix))] fn f() { g(2); }");
        assert_eq!(changes(&format!("{here} {elsewhere}")), changes(here));
    }

    #[test]
    fn statements_are_left_out_if_they_only_act() {
        assert_eq!(changes("fn f(v: &mut V) { v.push(x); let a = b; }"), [pair("v.push(x);", "")]);
    }

    #[test]
    fn tests_constants_and_macros_stay() {
        let text = "const A: u8 = 1 + 1; #[cfg(test)] mod tests { fn f() { g(1); } } #[test] fn t() { g(1); } fn h() -> S { vec![1 + 1] }";
        assert_eq!(changes(text), []);
    }

    #[test]
    fn a_function_returns_at_once_what_its_type_allows() {
        let sites = sites("core", "a.rs", "fn f() -> Result<Option<u8>, E> { g() }").unwrap();
        assert_eq!(sites[0].mutated, "return Ok(None);");
        assert_eq!(sites[0].range, 33..33);
    }
}
