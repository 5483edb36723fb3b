//! The steps that the rewriting of a template (rewrite.rs) puts between the template's own: each looks
//! whether the rendering is still within its bounds, and whether what was just made is.
//!
//! Their names cannot be written in a template.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{filters, functions, Environment, Error, ErrorKind, State, Value};

use crate::{bounds, pyfmt, pyvalue};

/// Passes a value on.
pub const TICK: &str = "<tick>";
/// What an operator, a filter or a literal made: lists and dicts become those of pyvalue.rs.
pub const MADE: &str = "<made>";
/// What a call gave: as MADE, but what is only iterated over stays lazy.
pub const GIVEN: &str = "<given>";
/// What becomes an attribute of a namespace.
pub const KEPT: &str = "<kept>";
/// What is about to be taken apart into its items by somebody else's code.
pub const SPREAD: &str = "<spread>";
/// The operator `~`.
pub const CONCAT: &str = "<~>";

pub fn add(env: &mut Environment<'static>) {
    env.add_filter(TICK, |value: &Value| bounds::check().map(|()| value.clone()));
    env.add_filter(MADE, |value: &Value| made(value, true));
    env.add_filter(GIVEN, |value: &Value| made(value, false));
    env.add_filter(KEPT, kept);
    env.add_filter(SPREAD, spread);
    env.add_filter(CONCAT, concat);
    env.add_filter("batch", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        bounds::items(count)?;
        filters::batch(state, value, count, fill)
    });
    env.add_filter("slice", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        bounds::items(count)?;
        filters::slice(state, value, count, fill)
    });
    env.add_filter("format", |state: &State, format: &Value, args: Rest<Value>| {
        format_fits(format.as_str().unwrap_or_default(), &args)?;
        filters::format(state, format, args)
    });
    env.add_function("namespace", namespace);
    // It prints every variable there is, and Jinja2 has none of that name.
    env.remove_global("debug");
}

fn made(value: &Value, whole: bool) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => bounds::text(value.as_str().map_or(0, str::len))?,
        ValueKind::Iterable if !whole => bounds::check()?,
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => return pyvalue::held(value),
        _ => bounds::check()?,
    }
    Ok(value.clone())
}

fn kept(value: &Value) -> Result<Value, Error> {
    if pyvalue::size(value)?.foreign {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a namespace keeps plain values, not namespaces, macros or loops",
        ));
    }
    Ok(value.clone())
}

fn spread(value: &Value) -> Result<Value, Error> {
    bounds::items(value.as_str().map(str::len).or_else(|| value.len()).unwrap_or(0))?;
    Ok(value.clone())
}

fn concat(left: &Value, right: &Value) -> Result<String, Error> {
    let (left, right) = (pyfmt::text(left), pyfmt::text(right));
    bounds::text(left.len().saturating_add(right.len()))?;
    Ok([left, right].concat())
}

fn namespace(args: Rest<Value>) -> Result<Value, Error> {
    let (defaults, kwargs): (Option<Value>, Kwargs) = minijinja::value::from_args(&args)?;
    let mut fields = pyvalue::fields(defaults.as_ref())?;
    for name in kwargs.args() {
        fields.insert(Value::from(name), kwargs.get::<Value>(name)?);
    }
    for value in fields.values() {
        kept(value)?;
    }
    functions::namespace(Some(pyvalue::dict(fields)?))
}

/// Before "%…" or "{…}" are filled in: a bound of what comes out, and no widths that blow it up.
pub fn format_fits(format: &str, args: &[Value]) -> Result<(), Error> {
    let digits = format.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    if digits > 4 {
        return Err(bounds::exceeded("formats with a width or an index of more than 9999"));
    }
    const WIDTH: usize = 4 * 9999; // of characters of four bytes
    let places = format.bytes().filter(|c| matches!(c, b'{' | b'%')).count();
    let longest: usize = args.iter().map(|arg| pyfmt::text(arg).len()).sum();
    bounds::text(places.saturating_mul(longest.saturating_add(WIDTH)).saturating_add(format.len()))
}
