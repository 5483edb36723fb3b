//! The methods of Python's str, dict and list that templates call. What minijinja-contrib has and
//! does as Python does is left to it; the rest is here.

use std::collections::HashSet;

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use crate::{bounds, filters, guards, pyfmt, pyvalue};

pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let ours = match value.kind() {
        ValueKind::String => str_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => dict_method(value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, method, args),
        _ => None,
    };
    match ours {
        Some(result) => result,
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

type Answer = Option<Result<Value, Error>>;

fn str_method(text: &str, method: &str, args: &[Value]) -> Answer {
    Some(match method {
        "strip" | "lstrip" | "rstrip" => strip(text, method, args),
        "split" | "rsplit" => split(text, method == "rsplit", args),
        "splitlines" => splitlines(text, args),
        "partition" | "rpartition" => partition(text, method == "rpartition", args),
        "removeprefix" | "removesuffix" => remove_affix(text, method == "removeprefix", args),
        "find" | "rfind" | "index" | "rindex" => find(text, method, args),
        "count" => count(text, args),
        "title" => Ok(title(text).into()),
        "capitalize" => Ok(capitalize(text).into()),
        "swapcase" => Ok(swapcase(text).into()),
        "casefold" => Ok(text.to_lowercase().into()),
        "zfill" | "ljust" | "rjust" | "center" => pad(text, method, args),
        "join" => join(text, args),
        "replace" => replace(text, args),
        "format" => return guards::format_fits(text, args).err().map(Err),
        "islower" | "isupper" | "isspace" | "isalpha" | "isalnum" | "isdigit" | "isnumeric"
        | "isdecimal" | "istitle" => Ok(is_all(text, method).into()),
        _ => return None,
    })
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    Ok(stripped(text, method != "rstrip", method != "lstrip", chars).into())
}

pub fn stripped<'a>(text: &'a str, left: bool, right: bool, chars: Option<&str>) -> &'a str {
    let set: Option<HashSet<char>> = chars.map(|chars| chars.chars().collect());
    let drop = |c: char| match &set {
        Some(chars) => chars.contains(&c),
        None => is_space(c),
    };
    let text = if left { text.trim_start_matches(drop) } else { text };
    if right {
        text.trim_end_matches(drop)
    } else {
        text
    }
}

pub fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
    let sep = match args.first() {
        Some(sep) => sep.clone(),
        None => kwargs.get::<Option<Value>>("sep")?.unwrap_or(Value::from(())),
    };
    let limit = match args.get(1) {
        Some(limit) => limit.as_i64(),
        None => kwargs.get::<Option<i64>>("maxsplit")?,
    };
    kwargs.assert_all_used()?;
    let limit = usize::try_from(limit.unwrap_or(-1)).unwrap_or(usize::MAX);
    let parts: Vec<String> = if sep.is_none() || sep.is_undefined() {
        bounds::items(many(text, || text.chars().filter(|c| is_space(*c)).count().min(limit)))?;
        split_space(text, from_right, limit)
    } else {
        let sep = sep.as_str().ok_or_else(|| error("split: the separator must be a string"))?;
        if sep.is_empty() {
            return Err(error("split: empty separator"));
        }
        bounds::items(many(text, || text.matches(sep).count().min(limit)))?;
        let pieces = limit.saturating_add(1);
        if from_right {
            let mut parts: Vec<_> = text.rsplitn(pieces, sep).map(String::from).collect();
            parts.reverse();
            parts
        } else {
            text.splitn(pieces, sep).map(String::from).collect()
        }
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_space(text: &str, from_right: bool, limit: usize) -> Vec<String> {
    let trim = |text| stripped(text, !from_right, from_right, None);
    let mut parts = Vec::new();
    let mut rest = trim(text);
    while !rest.is_empty() {
        let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut.filter(|_| parts.len() < limit) else {
            parts.push(rest.to_string());
            break;
        };
        let (word, others) = if from_right {
            (rest[cut..].trim_start_matches(is_space), &rest[..cut])
        } else {
            (&rest[..cut], &rest[cut..])
        };
        parts.push(word.to_string());
        rest = trim(others);
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// How many parts a text has, where it is long enough to have too many.
fn many(text: &str, count: impl Fn() -> usize) -> usize {
    if text.len() > bounds::ITEMS {
        count()
    } else {
        0
    }
}

pub fn splitlines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keep,): (Option<bool>,) = from_args(args)?;
    count_lines(text)?;
    Ok(lines(text, keep.unwrap_or(false)).into_iter().map(Value::from).collect())
}

fn is_break(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Before a text is taken apart into its lines.
pub fn count_lines(text: &str) -> Result<(), Error> {
    bounds::items(many(text, || text.chars().filter(|c| is_break(*c)).count()))
}

/// str.splitlines.
pub fn lines(text: &str, keep: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(end) = rest.find(is_break) else {
            lines.push(rest);
            break;
        };
        let width = if rest[end..].starts_with("\r\n") {
            2
        } else {
            rest[end..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(&rest[..if keep { end + width } else { end }]);
        rest = &rest[end + width..];
    }
    lines
}

fn partition(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (sep,): (&str,) = from_args(args)?;
    if sep.is_empty() {
        return Err(error("partition: empty separator"));
    }
    let found = if from_right { text.rsplit_once(sep) } else { text.split_once(sep) };
    let parts = match found {
        Some((head, tail)) => [head, sep, tail],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(pyvalue::tuple(parts.into_iter().map(Value::from)))
}

fn remove_affix(text: &str, prefix: bool, args: &[Value]) -> Result<Value, Error> {
    let (affix,): (&str,) = from_args(args)?;
    let cut = if prefix { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
    Ok(cut.unwrap_or(text).into())
}

/// The byte range of text[start:end], in Python's reading of the two.
fn range(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, usize) {
    let length = text.chars().count() as i64;
    let clamp = |at: i64| if at < 0 { (at + length).max(0) } else { at.min(length) };
    let byte = |at: i64| {
        text.char_indices().nth(at as usize).map_or(text.len(), |(offset, _)| offset)
    };
    let (start, end) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(length)));
    (byte(start), byte(end.max(start)))
}

fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let (from, to) = range(text, start, end);
    let part = &text[from..to];
    let found = if method.starts_with('r') { part.rfind(what) } else { part.find(what) };
    match found {
        Some(at) => Ok((text[..from + at].chars().count() as i64).into()),
        None if method.ends_with("index") => Err(error("substring not found")),
        None => Ok((-1).into()),
    }
}

fn count(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let (from, to) = range(text, start, end);
    Ok((text[from..to].matches(what).count() as i64).into())
}

pub fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase(),
        None => String::new(),
    }
}

fn swapcase(text: &str) -> String {
    let swap = |c: char| -> String {
        if c.is_uppercase() {
            c.to_lowercase().collect()
        } else {
            c.to_uppercase().collect()
        }
    };
    text.chars().map(swap).collect()
}

fn pad(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    if missing > 1 << 20 {
        return Err(bounds::exceeded(format!("pads to a width of {width}, beyond {}", 1 << 20)));
    }
    if fill.is_some_and(|fill| fill.chars().count() != 1) {
        return Err(error(format!("{method}: what fills must be one character")));
    }
    let blanks = |n: usize| fill.unwrap_or(" ").repeat(n);
    Ok(match method {
        "ljust" => format!("{text}{}", blanks(missing)),
        "rjust" => format!("{}{text}", blanks(missing)),
        "center" => {
            let left = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
            format!("{}{text}{}", blanks(left), blanks(missing - left))
        }
        _ => {
            let (sign, digits) = match text.chars().next() {
                Some(c @ ('+' | '-')) => (c.to_string(), &text[1..]),
                _ => (String::new(), text),
            };
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
    }
    .into())
}

fn join(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (values,): (&Value,) = from_args(args)?;
    let mut out = String::new();
    for (at, value) in values.try_iter()?.enumerate() {
        if at > 0 {
            out.push_str(text);
        }
        match value.as_str() {
            Some(part) => out.push_str(part),
            None => {
                let what = pyfmt::repr(&value);
                return Err(error(format!("join: expected a string, found {what}")));
            }
        }
        bounds::text(out.len())?;
    }
    Ok(out.into())
}

fn replace(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
    filters::replaced(text, from, to, count).map(Value::from)
}

fn is_all(text: &str, method: &str) -> bool {
    let cased = |c: char| c.is_lowercase() || c.is_uppercase();
    match method {
        "islower" => text.chars().any(cased) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(cased) && !text.chars().any(char::is_lowercase),
        "istitle" => text.chars().any(cased) && title(text) == text,
        _ => {
            let each: fn(char) -> bool = match method {
                "isspace" => is_space,
                "isalpha" => char::is_alphabetic,
                "isalnum" => char::is_alphanumeric,
                "isnumeric" => char::is_numeric,
                // Superscripts aside, the decimal digits of every script.
                _ => |c| c.is_numeric() && !matches!(c, '\u{bc}'..='\u{be}') && c.is_alphanumeric(),
            };
            !text.is_empty() && text.chars().all(each)
        }
    }
}

fn dict_method(value: &Value, method: &str, args: &[Value]) -> Answer {
    match method {
        "copy" if args.is_empty() => Some(Ok(value.clone())),
        "items" | "keys" | "values" if args.is_empty() => Some(dict_view(value, method)),
        "pop" | "update" | "clear" | "setdefault" | "popitem" => {
            Some(Err(error(format!("{method}: a template may not change its data"))))
        }
        _ => None,
    }
}

pub fn dict_view(value: &Value, method: &str) -> Result<Value, Error> {
    let mut out = Vec::new();
    for key in value.try_iter()? {
        out.push(match method {
            "keys" => key,
            "values" => value.get_item(&key)?,
            _ => pyvalue::tuple([key.clone(), value.get_item(&key)?]),
        });
    }
    Ok(Value::from(out))
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Answer {
    match method {
        "copy" if args.is_empty() => {
            Some(value.try_iter().map(|items| Value::from(items.collect::<Vec<_>>())))
        }
        "index" => Some(list_index(value, args)),
        "append" | "extend" | "insert" | "pop" | "remove" | "sort" | "reverse" | "clear" => {
            Some(Err(error(format!("{method}: a template may not change its data"))))
        }
        _ => None,
    }
}

fn list_index(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (what,): (&Value,) = from_args(args)?;
    match value.try_iter()?.position(|item| &item == what) {
        Some(at) => Ok((at as i64).into()),
        None => Err(error(format!("{} is not in list", pyfmt::repr(what)))),
    }
}
