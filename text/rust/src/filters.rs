//! The filters of Jinja2 and transformers, where minijinja has none or does it differently.

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::pyfmt::{self, JsonStyle};
use crate::{bounds, pymethods};

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

pub fn add(env: &mut Environment<'static>) {
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: &Value| pyfmt::str(value));
    env.add_filter("join", join);
    env.add_filter("trim", |value: &Value, chars: Option<String>| {
        pymethods::stripped(&pyfmt::str(value), true, true, chars.as_deref()).to_string()
    });
    env.add_filter("upper", |value: &Value| pyfmt::str(value).to_uppercase());
    env.add_filter("lower", |value: &Value| pyfmt::str(value).to_lowercase());
    env.add_filter("title", title);
    env.add_filter("replace", |value: &Value, from: &Value, to: &Value, count: Option<i64>| {
        replaced(&pyfmt::text(value), &pyfmt::text(from), &pyfmt::text(to), count)
    });
    env.add_filter("split", |value: &Value, args: Rest<Value>| {
        pymethods::split(&pyfmt::text(value), false, &args)
    });
    env.add_filter("lines", |value: &Value| pymethods::splitlines(&pyfmt::text(value), &[]));
    env.add_filter("pprint", |value: &Value| pyfmt::repr(value));
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("round", round);
    env.add_filter("list", list);
    env.add_filter("indent", indent);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("items", |value: &Value| pymethods::dict_view(value, "items"));
    env.add_filter("sum", sum);
    env.add_filter("center", center);
    env.add_filter("truncate", truncate);
    env.add_filter("striptags", |value: &Value| striptags(&pyfmt::str(value)));
    for name in ["escape", "e", "forceescape"] {
        env.add_filter(name, |value: &Value| escape(&pyfmt::str(value)));
    }
    env.add_filter("wordcount", |value: &Value| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        pyfmt::str(value).split(|c| !word(c)).filter(|part| !part.is_empty()).count()
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
        out.push_str(&pyfmt::text(&item));
        bounds::text(out.len())?;
    }
    Ok(out)
}

/// What iterating over a value gives in Python: a string gives its characters.
fn items(value: &Value) -> Result<Vec<Value>, Error> {
    let count = value.as_str().map(|text| text.chars().count()).or_else(|| value.len());
    bounds::items(count.unwrap_or(0))?;
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

/// str.replace.
pub fn replaced(text: &str, from: &str, to: &str, count: Option<i64>) -> Result<String, Error> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    if to.len() > from.len() {
        let found = text.matches(from).count().min(count);
        bounds::text(text.len().saturating_add(found.saturating_mul(to.len() - from.len())))?;
    }
    Ok(text.replacen(from, to, count))
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
    let text = pyfmt::str(value) + "\n";
    pymethods::count_lines(&text)?;
    let mut out = String::new();
    if first {
        out.push_str(&indention);
    }
    for (at, line) in pymethods::lines(&text, false).into_iter().enumerate() {
        if at > 0 {
            out.push('\n');
            if blank || !line.is_empty() {
                out.push_str(&indention);
            }
        }
        out.push_str(line);
        bounds::text(out.len())?;
    }
    Ok(out)
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| error(format!("length: {} has none", pyfmt::repr(value))))
}

fn sum(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let attribute = match args.first() {
        Some(attribute) => Some(attribute.clone()),
        None => kwargs.get::<Option<Value>>("attribute")?,
    };
    let mut whole = 0i128;
    let mut fraction: Option<f64> = None;
    for item in items(value)? {
        let item = match &attribute {
            Some(name) => item.get_item(name)?,
            None => item,
        };
        if item.is_integer() || item.kind() == ValueKind::Bool {
            whole += i128::try_from(item)?;
        } else {
            *fraction.get_or_insert(0.0) += f64::try_from(item)?;
        }
    }
    Ok(fraction.map_or_else(|| Value::from(whole), |f| Value::from(f + whole as f64)))
}

fn center(value: &Value, width: Option<i64>) -> String {
    let text = pyfmt::str(value);
    let width = width.unwrap_or(80).clamp(0, 4096) as usize;
    let missing = width.saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & width & 1);
    format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))
}

/// Jinja2's truncate, its leeway of 5 included.
fn truncate(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    let (args, kwargs): (Rest<Value>, Kwargs) = from_args(&args)?;
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        match args.get(at) {
            Some(value) => Ok(Some(value.clone())),
            None => kwargs.get::<Option<Value>>(name),
        }
    };
    let size = |value: Option<Value>, other: usize| value.and_then(|v| v.as_usize()).unwrap_or(other);
    let length = size(option(0, "length")?, 255);
    let kill_words = option(1, "killwords")?.is_some_and(|v| v.is_true());
    let end = option(2, "end")?.map_or_else(|| "...".to_string(), |v| pyfmt::str(&v));
    let leeway = size(option(3, "leeway")?, 5);
    let chars: Vec<char> = pyfmt::str(value).chars().collect();
    if chars.len() <= length.saturating_add(leeway) {
        return Ok(chars.into_iter().collect());
    }
    let kept: String = chars[..length.saturating_sub(end.chars().count())].iter().collect();
    let kept = if kill_words { &kept[..] } else { kept.rsplit_once(' ').map_or(&kept[..], |(head, _)| head) };
    Ok(format!("{kept}{end}"))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn striptags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let Some(close) = rest[open..].find('>') else { break };
        out.push_str(&rest[..open]);
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let plain = entities.iter().fold(out, |text, (name, c)| text.replace(name, c));
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}
