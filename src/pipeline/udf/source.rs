//! A UDF's source: what its one `#[udf]` function takes and gives. Rule: what the plugin's macro or Arroyo would refuse is
//! refused here, in words, before anything is compiled.

use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, GenericArgument, Item, ItemFn, Pat, PathArguments, ReturnType, Type};
use toml::Table;

use super::error::UdfError;
use super::kind::{Kind, Typed};

const ONE: &str = "a file holds one function with #[udf]; put the others into files of their own";
const ARGUMENTS: &str = "an argument is i32, i64, u32, u64, f32, f64, &str, &[u8], or an Option of one of them";
const RESULTS: &str = "a result is i32, i64, u32, u64, f32, f64, String, Vec<u8>, or an Option of one of them";
/// `#[udf]` of 0.2.0 makes a `PrimitiveArray<BooleanType>` of it, which is no array.
const NO_BOOL: &str =
    "arroyo-udf-plugin 0.2.0 does not compile bool: use i32, with 1 and 0, and compare with 1 in the SQL";

/// A source that can be built.
#[derive(Clone, Debug)]
pub struct UdfSource {
    pub path: PathBuf,
    pub text: String,
    /// Of the text, in hexadecimal digits.
    pub hash: String,
    pub name: String,
    pub arguments: Vec<Typed>,
    pub returns: Typed,
    /// As the `[dependencies]` comment has them.
    pub dependencies: Table,
}

/// Hexadecimal digits that stand for a text.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

/// Whether SQL and a file can have this name as it is.
pub(super) fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl UdfSource {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, UdfError> {
        let text = std::fs::read_to_string(path).map_err(UdfError::file("read", path))?;
        Self::parse(path, text)
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, UdfError> {
        let faults = Faults { path };
        let file = syn::parse_file(&text)
            .map_err(|error| faults.at(error.span(), error.to_string(), "rustc says more of such errors"))?;
        if let Some(item) = file.items.iter().find_map(allocator) {
            let message = "a global allocator of its own is not supported";
            return Err(faults.at(item, message, "leave it out: arguments are allocated by Prescale, with System"));
        }
        let functions: Vec<&ItemFn> = file.items.iter().filter_map(udf_function).collect();
        let function = match functions[..] {
            [function] => function,
            [] => return Err(faults.at(Span::call_site(), "no function has the attribute #[udf]", ONE)),
            [_, second, ..] => return Err(faults.at(second.sig.ident.span(), "a second function with #[udf]", ONE)),
        };
        let name = function_name(&faults, path, function)?;
        let arguments = arguments(&faults, function)?;
        let returns = result(&faults, function)?;
        let dependencies = dependencies(&faults, &text)?;
        let hash = hash_of(text.as_bytes());
        Ok(Self { path: path.to_owned(), text, hash, name, arguments, returns, dependencies })
    }
}

/// Makes errors with a place.
struct Faults<'a> {
    path: &'a Path,
}

impl Faults<'_> {
    fn at(&self, span: Span, message: impl Into<String>, hint: impl Into<String>) -> UdfError {
        let start = span.start();
        self.line(start.line.max(1), start.column + 1, message, hint)
    }

    fn line(&self, line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) -> UdfError {
        UdfError::Source { path: self.path.to_owned(), line, column, message: message.into(), hint: hint.into() }
    }
}

fn is_udf(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "udf")
}

fn udf_function(item: &Item) -> Option<&ItemFn> {
    match item {
        Item::Fn(function) if function.attrs.iter().any(is_udf) => Some(function),
        _ => None,
    }
}

fn allocator(item: &Item) -> Option<Span> {
    match item {
        Item::Static(item) => {
            let found = item.attrs.iter().find(|attribute| attribute.path().is_ident("global_allocator"));
            found.map(|attribute| attribute.span())
        }
        _ => None,
    }
}

fn function_name(faults: &Faults<'_>, path: &Path, function: &ItemFn) -> Result<String, UdfError> {
    let signature = &function.sig;
    let (name, at) = (signature.ident.to_string(), signature.ident.span());
    if signature.asyncness.is_some() {
        let hint = "make it a plain function: a pipeline's result may depend on nothing but its rows";
        return Err(faults.at(at, format!("`{name}` is async, which is not supported"), hint));
    }
    if !signature.generics.params.is_empty() || signature.variadic.is_some() || signature.abi.is_some() {
        return Err(faults.at(at, format!("`{name}` is generic or has an ABI of its own"), ARGUMENTS));
    }
    if !is_plain(&name) {
        let hint = "use small letters, digits and _: SQL does not tell capitals from small letters";
        return Err(faults.at(at, format!("`{name}` can't be called from SQL as it is"), hint));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if stem != name {
        let message = format!("the file `{stem}.rs` holds the function `{name}`");
        return Err(faults.at(at, message, format!("name the file `{name}.rs`: functions are found by their files")));
    }
    Ok(name)
}

fn arguments(faults: &Faults<'_>, function: &ItemFn) -> Result<Vec<Typed>, UdfError> {
    let mut arguments = Vec::new();
    for (index, input) in function.sig.inputs.iter().enumerate() {
        let FnArg::Typed(input) = input else {
            return Err(faults.at(input.span(), "`self` is no argument of a UDF", ARGUMENTS));
        };
        let name = match input.pat.as_ref() {
            Pat::Ident(pattern) => pattern.ident.to_string(),
            _ => format!("argument {}", index + 1),
        };
        let wrong = |message: String, hint: &str| Err(faults.at(input.ty.span(), message, hint));
        match typed(&input.ty, true) {
            Found::Type(kind, nullable) => arguments.push(Typed { name, kind, nullable }),
            Found::Vec => {
                return wrong(
                    format!("`{name}` is a Vec: aggregate UDFs are not supported yet"),
                    "aggregate in the SQL, and call the UDF on the rows or on the aggregates",
                );
            }
            Found::Bool => return wrong(format!("`{name}` is a bool"), NO_BOOL),
            Found::Owned(borrowed) => {
                return wrong(format!("`{name}` is owned, the plugin lends it"), &format!("write {borrowed}"));
            }
            Found::Other => return wrong(format!("the type of `{name}` has no SQL type"), ARGUMENTS),
        }
    }
    if arguments.is_empty() {
        let message = format!("`{}` takes no argument", function.sig.ident);
        return Err(faults.at(function.sig.ident.span(), message, "the plugin needs one: write a constant in the SQL"));
    }
    Ok(arguments)
}

fn result(faults: &Faults<'_>, function: &ItemFn) -> Result<Typed, UdfError> {
    let name = &function.sig.ident;
    let ReturnType::Type(_, returned) = &function.sig.output else {
        return Err(faults.at(name.span(), format!("`{name}` gives nothing back"), RESULTS));
    };
    let wrong = |message: &str, hint: &str| Err(faults.at(returned.span(), format!("`{name}` {message}"), hint));
    match typed(returned, false) {
        Found::Type(kind, nullable) => Ok(Typed { name: String::new(), kind, nullable }),
        Found::Bool => wrong("gives a bool back", NO_BOOL),
        Found::Owned(owned) => wrong("gives back what it only borrows", &format!("write {owned}")),
        Found::Vec | Found::Other => wrong("gives back a type that has no SQL type", RESULTS),
    }
}

/// What a Rust type is to SQL.
enum Found {
    Type(Kind, bool),
    Bool,
    /// Owned where it must be borrowed, or borrowed where it must be owned; how to write it.
    Owned(&'static str),
    Vec,
    Other,
}

fn typed(found: &Type, is_argument: bool) -> Found {
    let kind = match found {
        Type::Reference(reference) if reference.mutability.is_none() => match reference.elem.as_ref() {
            Type::Path(inner) if inner.path.is_ident("str") && is_argument => Kind::Text,
            Type::Path(inner) if inner.path.is_ident("str") => return Found::Owned("String"),
            Type::Path(inner) if inner.path.is_ident("String") && is_argument => return Found::Owned("&str"),
            Type::Slice(inner) if is_u8(&inner.elem) && is_argument => Kind::Bytes,
            Type::Slice(inner) if is_u8(&inner.elem) => return Found::Owned("Vec<u8>"),
            _ => return Found::Other,
        },
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Found::Other };
            match (last.ident.to_string().as_str(), inner_type(&last.arguments)) {
                ("Option", Some(inner)) => {
                    return match typed(inner, is_argument) {
                        Found::Type(kind, false) => Found::Type(kind, true),
                        Found::Type(..) => Found::Other,
                        other => other,
                    };
                }
                ("Vec", Some(inner)) if is_u8(inner) && is_argument => return Found::Owned("&[u8]"),
                ("Vec", Some(inner)) if is_u8(inner) => Kind::Bytes,
                ("Vec", Some(_)) => return Found::Vec,
                // The macro knows primitives by their bare names only.
                (name, None) if path.path.get_ident().is_some() => match name {
                    "i32" => Kind::Int,
                    "i64" => Kind::BigInt,
                    "u32" => Kind::IntUnsigned,
                    "u64" => Kind::BigIntUnsigned,
                    "f32" => Kind::Float,
                    "f64" => Kind::Double,
                    "String" if is_argument => return Found::Owned("&str"),
                    "String" => Kind::Text,
                    "bool" => return Found::Bool,
                    _ => return Found::Other,
                },
                _ => return Found::Other,
            }
        }
        _ => return Found::Other,
    };
    Found::Type(kind, false)
}

fn inner_type(arguments: &PathArguments) -> Option<&Type> {
    match arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            GenericArgument::Type(inner) => Some(inner),
            _ => None,
        },
        _ => None,
    }
}

fn is_u8(found: &Type) -> bool {
    matches!(found, Type::Path(path) if path.path.is_ident("u8"))
}

/// The table in a comment that opens with `/*` and, on the next line, `[dependencies]`, as Arroyo reads it.
fn dependencies(faults: &Faults<'_>, text: &str) -> Result<Table, UdfError> {
    const OPEN: &str = "/*\n[dependencies]\n";
    const FORM: &str = "write one comment: `/*`, `[dependencies]`, one dependency on each line, `*/`";
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    let Some(start) = text.find(OPEN) else {
        return match text.find("[dependencies]") {
            Some(at) => {
                Err(faults.line(line_of(at), 1, "the dependencies are not in the form that Arroyo reads", FORM))
            }
            None => Ok(Table::new()),
        };
    };
    let body = &text[start + "/*\n".len()..];
    if let Some(second) = body.find(OPEN) {
        return Err(faults.line(
            line_of(start + "/*\n".len() + second),
            1,
            "a second comment with [dependencies]",
            FORM,
        ));
    }
    let body = &body[..body.find("*/").unwrap_or(body.len())];
    let mut table: Table = toml::from_str(body).map_err(|error| {
        let line = error.span().map_or(0, |span| body[..span.start].matches('\n').count());
        faults.line(line_of(start) + 1 + line, 1, error.message().to_owned(), FORM)
    })?;
    let found = table.remove("dependencies");
    if let Some(other) = table.keys().next() {
        return Err(faults.line(line_of(start), 1, format!("`{other}` beside [dependencies]"), FORM));
    }
    let Some(toml::Value::Table(found)) = found else {
        return Err(faults.line(line_of(start), 1, "[dependencies] is no table", FORM));
    };
    if found.contains_key("arroyo-udf-plugin") {
        let message = "`arroyo-udf-plugin` is added by `prescale udf build`, in the version that Prescale can load";
        return Err(faults.line(line_of(start), 1, message, "leave it out"));
    }
    Ok(found)
}
