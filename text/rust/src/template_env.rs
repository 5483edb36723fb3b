//! The environment of the reference's templates: settings, tests and functions as Jinja2 and
//! transformers define them (filters: filters.rs; methods of values: pymethods.rs).

use std::cell::Cell;
use std::fmt::Write as _;

use minijinja::value::{Rest, ValueKind};
use minijinja::machinery::WhitespaceConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::{bounds, filters, guards, pyfmt, pymethods};

pub const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

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
    env.set_fuel(Some(bounds::STEPS));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(|out, _, value| {
        bounds::check()?;
        let text = pyfmt::text(value);
        bounds::text(text.len())?;
        out.write_str(&text).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    env.set_unknown_method_callback(pymethods::call);
    filters::add(&mut env);
    guards::add(&mut env);
    add_tests(&mut env);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    env
}

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(error("raise_exception").with_source(Raised(pyfmt::str(message))))
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
