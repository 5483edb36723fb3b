//! The environment of the reference's templates: filters, tests and functions as Jinja2 and
//! transformers define them, where minijinja's own differ.

use std::cell::Cell;
use std::fmt::Write as _;

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::pyfmt::{self, JsonStyle};
use crate::pymethods;

// A template is somebody else's program: this many instructions are far above what a real one needs
// for the longest conversation, and end an endless one within seconds.
const FUEL: u64 = 200_000_000;

thread_local! {
    /// The clock of strftime_now while a template renders on this thread; None: now.
    pub static NOW: Cell<Option<i64>> = const { Cell::new(None) };
}

/// What raise_exception carries, so that its message comes out as it went in.
#[derive(Debug)]
pub struct Raised(pub String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

pub fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_keep_trailing_newline(false);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(|out, _, value| {
        out.write_str(&pyfmt::str(value)).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    env.set_unknown_method_callback(pymethods::call);
    add_filters(&mut env);
    add_tests(&mut env);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env
}

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(error("raise_exception").with_source(Raised(pyfmt::str(message))))
}

fn add_filters(env: &mut Environment<'static>) {
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: &Value| pyfmt::str(value));
    env.add_filter("join", join);
    env.add_filter("trim", |value: &Value, chars: Option<String>| {
        pymethods::stripped(&pyfmt::str(value), true, true, chars.as_deref()).to_string()
    });
    env.add_filter("upper", |value: &Value| pyfmt::str(value).to_uppercase());
    env.add_filter("lower", |value: &Value| pyfmt::str(value).to_lowercase());
    env.add_filter("title", title);
    env.add_filter("replace", replace);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("round", round);
    env.add_filter("list", list);
    env.add_filter("indent", indent);
    env.add_filter("wordcount", |value: &Value| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        pyfmt::str(value).split(|c| !word(c)).filter(|part| !part.is_empty()).count()
    });
}

fn add_tests(env: &mut Environment<'static>) {
    env.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::String
        )
    });
    env.add_test("iterable", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::String | ValueKind::Undefined
        )
    });
    env.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
}

fn tojson(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = match args.get(at) {
            Some(value) => Some(value.clone()),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(given.filter(|value| !value.is_none()))
    };
    let mut style = JsonStyle {
        ensure_ascii: option(0, "ensure_ascii")?.is_some_and(|v| v.is_true()),
        ..JsonStyle::default()
    };
    if let Some(indent) = option(1, "indent")? {
        style.indent = Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(indent.as_i64().unwrap_or(0).clamp(0, 64) as usize),
        });
        style.item_separator = ",".into();
    }
    if let Some(separators) = option(2, "separators")? {
        style.item_separator = pyfmt::str(&separators.get_item_by_index(0)?);
        style.key_separator = pyfmt::str(&separators.get_item_by_index(1)?);
    }
    style.sort_keys = option(3, "sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    pyfmt::json(value, &style)
}

fn join(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let separator = match args.first() {
        Some(separator) => Some(separator.clone()),
        None => kwargs.get::<Option<Value>>("d")?,
    };
    let attribute = match args.get(1) {
        Some(attribute) => Some(pyfmt::str(attribute)),
        None => kwargs.get::<Option<String>>("attribute")?,
    };
    kwargs.assert_all_used()?;
    let separator = separator.map(|s| pyfmt::str(&s)).unwrap_or_default();
    let mut out = String::new();
    for (at, item) in items(value)?.into_iter().enumerate() {
        if at > 0 {
            out.push_str(&separator);
        }
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        out.push_str(&pyfmt::str(&item));
    }
    Ok(out)
}

/// What iterating over a value gives in Python: a string gives its characters.
fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().map(Value::from).collect());
    }
    if value.is_undefined() {
        return Ok(Vec::new());
    }
    Ok(value.try_iter()?.collect())
}

fn list(value: &Value) -> Result<Value, Error> {
    items(value).map(Value::from)
}

/// Jinja2's title: a word begins behind a blank, a dash or an opening bracket.
fn title(value: &Value) -> String {
    let mut out = String::new();
    let mut begins = true;
    for c in pyfmt::str(value).chars() {
        if pymethods::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<') {
            out.push(c);
            begins = true;
        } else if begins {
            out.extend(c.to_uppercase());
            begins = false;
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn replace(value: &Value, from: &Value, to: &Value, count: Option<i64>) -> String {
    let (text, from, to) = (pyfmt::str(value), pyfmt::str(from), pyfmt::str(to));
    match count.map(usize::try_from) {
        Some(Ok(count)) => text.replacen(&from, &to, count),
        _ => text.replace(&from, &to),
    }
}

fn int(value: &Value, default: Option<Value>, base: Option<u32>) -> Value {
    let fallback = || default.clone().unwrap_or_else(|| Value::from(0));
    match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        ValueKind::Number if value.is_integer() => value.clone(),
        ValueKind::Number => f64::try_from(value.clone())
            .ok()
            .filter(|f| f.is_finite())
            .map_or_else(fallback, |f| Value::from(f.trunc() as i128)),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let base = base.filter(|b| (2..=36).contains(b)).unwrap_or(10);
            let digits = match base {
                16 => text.trim_start_matches("0x").trim_start_matches("0X"),
                _ => text.as_str(),
            };
            i128::from_str_radix(digits, base)
                .ok()
                .or_else(|| text.parse::<f64>().ok().filter(|f| f.is_finite()).map(|f| f.trunc() as i128))
                .map_or_else(fallback, Value::from)
        }
        _ => fallback(),
    }
}

fn float(value: &Value, default: Option<Value>) -> Value {
    let parsed = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone())
            .ok()
            .or_else(|| value.to_string().parse().ok()),
        ValueKind::String => value.as_str().unwrap_or_default().trim().parse().ok(),
        _ => None,
    };
    parsed.map(Value::from).unwrap_or_else(|| default.unwrap_or_else(|| Value::from(0.0)))
}

/// Jinja2's round: always a float; "common" is Python's half-to-even.
fn round(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let precision = match args.first() {
        Some(precision) => precision.as_i64(),
        None => kwargs.get::<Option<i64>>("precision")?,
    };
    let precision = precision.unwrap_or(0).clamp(-300, 300) as i32;
    let method = match args.get(1) {
        Some(method) => pyfmt::str(method),
        None => kwargs.get::<Option<String>>("method")?.unwrap_or_else(|| "common".into()),
    };
    kwargs.assert_all_used()?;
    if value.is_integer() && method == "common" && precision >= 0 {
        return Ok(value.clone());
    }
    let number: f64 = value.to_string().parse().map_err(|_| error("round: not a number"))?;
    let scale = 10f64.powi(precision);
    Ok(Value::from(match method.as_str() {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        "common" if precision >= 0 => {
            format!("{number:.*}", precision as usize).parse().unwrap_or(number)
        }
        "common" => (number * scale).round_ties_even() / scale,
        other => return Err(error(format!("round: method {other:?} is not common, ceil or floor"))),
    }))
}

fn indent(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        match args.get(at) {
            Some(value) => Ok(Some(value.clone())),
            None => kwargs.get::<Option<Value>>(name),
        }
    };
    let width = option(0, "width")?.unwrap_or_else(|| Value::from(4));
    let first = option(1, "first")?.is_some_and(|v| v.is_true());
    let blank = option(2, "blank")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let indention = match width.as_str() {
        Some(text) => text.to_string(),
        None => " ".repeat(width.as_i64().unwrap_or(0).clamp(0, 1024) as usize),
    };
    let text = pyfmt::str(value);
    let mut out = String::new();
    if first {
        out.push_str(&indention);
    }
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
            if blank || !line.is_empty() {
                out.push_str(&indention);
            }
        }
        out.push_str(line);
    }
    Ok(out)
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let (seconds, micros) = match NOW.get() {
        Some(seconds) => (seconds, 0),
        None => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            (now.as_secs() as i64, now.subsec_micros())
        }
    };
    // Python fills these three in itself: the time is a naive one.
    let mut prepared = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('f')) => write!(prepared, "{micros:06}").map_err(|_| error("strftime"))?,
            ('%', Some('z' | 'Z')) => {}
            ('%', Some(other)) => {
                prepared.push('%');
                prepared.push(other);
            }
            (c, _) => prepared.push(c),
        }
    }
    local_strftime(&prepared, seconds)
}

fn local_strftime(format: &str, seconds: i64) -> Result<String, Error> {
    let format = std::ffi::CString::new(format!("{format}x")).map_err(|_| error("strftime_now: NUL in format"))?;
    let mut buffer = vec![0u8; 4096];
    // SAFETY: `time` is written by localtime_r before it is read, both strings end in NUL and the
    // length is the buffer's.
    let written = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut time).is_null() {
            return Err(error("strftime_now: the time is out of range"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &time)
    };
    if written == 0 {
        return Err(error("strftime_now: the format is too long"));
    }
    buffer.truncate(written - 1);
    String::from_utf8(buffer).map_err(|_| error("strftime_now: not UTF-8"))
}
