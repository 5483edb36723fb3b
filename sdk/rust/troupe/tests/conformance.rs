//! The conformance table (sdk/conformance/README.md), over `echo:`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};
use troupe::{
    Answer, Choice, Code, Constraint, Engine, Error, FinishReason, Image, Message, Options, Part, Pixels, Request, Role,
    Sampling, Session,
};

/// What these types make impossible to write, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("planes have their own order", "Image::Pixels is height x width x channels"),
    ("no choice", "Sampling::n of 0 is the default"),
];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Refuses a key that this runner does not know: a typo must not pass as a case.
fn know(object: &Value, keys: &[&str]) {
    for key in object.as_object().expect("an object").keys() {
        assert!(keys.contains(&key.as_str()), "the table has an unknown key {key:?}");
    }
}

/// A string, or {"repeat": ["abc", 3]}; {i} becomes `i`.
fn text_of(value: &Value, i: usize) -> String {
    let text = match value.get("repeat") {
        Some(repeat) => repeat[0].as_str().expect("a string").repeat(repeat[1].as_u64().expect("a count") as usize),
        None => value.as_str().expect("a string").to_string(),
    };
    text.replace("{i}", &i.to_string())
}

fn ids_of(value: &Value) -> Vec<i32> {
    value.as_array().expect("a list").iter().map(|v| v.as_i64().expect("an id") as i32).collect()
}

fn strings_of(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().expect("a string").to_string()).collect()
}

fn bytes_of(base64: &Value) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in base64.as_str().expect("base64").trim_end_matches('=').chars() {
        bits = bits << 6 | DIGITS.find(c).expect("a digit of base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn image_of(image: &Value) -> Image {
    know(image, &["kind", "base64", "width", "height", "format", "layout", "rows", "hidden", "type"]);
    let data = bytes_of(&image["base64"]);
    let number = |key: &str| image[key].as_u64().expect("a number") as u32;
    match image["kind"].as_str() {
        Some("encoded") => Image::Encoded(data),
        Some("pixels") => {
            assert_eq!((&image["format"], &image["layout"]), (&json!("rgb"), &json!("hwc")));
            Image::Pixels { width: number("width"), height: number("height"), format: Pixels::Rgb, data }
        }
        Some("embedding") => {
            assert_eq!(image["type"], "f32");
            let values = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
            Image::Embedding { rows: number("rows"), hidden: number("hidden"), values, grid: None }
        }
        other => panic!("unknown kind of image {other:?}"),
    }
}

fn parts_of(content: &Value, i: usize) -> Vec<Part> {
    let Some(parts) = content.as_array() else { return vec![text_of(content, i).into()] };
    let part = |part: &Value| {
        know(part, &["text", "tokens", "image"]);
        if let Some(image) = part.get("image") {
            image_of(image).into()
        } else if let Some(tokens) = part.get("tokens") {
            Part::Tokens(ids_of(tokens))
        } else {
            text_of(&part["text"], i).into()
        }
    };
    parts.iter().map(part).collect()
}

fn message_of(message: &Value) -> Message {
    let role = match message["role"].as_str() {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        other => panic!("unknown role {other:?}"),
    };
    Message::new(role, parts_of(&message["content"], 0))
}

fn sampling_of(given: &Value) -> Sampling {
    const KEYS: &[&str] = &[
        "temperature", "top_p", "min_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty",
        "seed", "max_tokens", "min_tokens", "n", "logprobs", "include_stop", "stop", "stop_tokens", "bias",
    ];
    if given.is_null() {
        return Sampling::default();
    }
    know(given, KEYS);
    let float = |key: &str| given.get(key).map(|v| v.as_f64().expect("a number") as f32);
    let whole = |key: &str| given.get(key).map(|v| v.as_i64().expect("a whole number") as i32);
    let bias = |pair: &Value| (pair[0].as_i64().expect("an id") as i32, pair[1].as_f64().expect("a number") as f32);
    Sampling {
        temperature: float("temperature"),
        top_p: float("top_p"),
        min_p: float("min_p"),
        repetition_penalty: float("repetition_penalty"),
        presence_penalty: float("presence_penalty"),
        frequency_penalty: float("frequency_penalty"),
        top_k: whole("top_k"),
        seed: given.get("seed").and_then(Value::as_i64),
        max_tokens: whole("max_tokens"),
        min_tokens: whole("min_tokens"),
        n: whole("n").unwrap_or(0),
        logprobs: whole("logprobs"),
        include_stop: whole("include_stop") == Some(1),
        stop: strings_of(&given["stop"]),
        stop_tokens: given.get("stop_tokens").map(ids_of).unwrap_or_default(),
        logit_bias: given["bias"].as_array().into_iter().flatten().map(bias).collect(),
        ..Default::default()
    }
}

type Sessions = HashMap<String, Session>;

fn request_of(given: &Value, sessions: &Sessions, i: usize) -> Request {
    const KEYS: &[&str] = &[
        "prompt", "tokens", "parts", "messages", "messages_json", "images", "tools", "sampling", "options",
        "constraint", "session",
    ];
    know(given, KEYS);
    let mut request = if let Some(prompt) = given.get("prompt") {
        Request::prompt(text_of(prompt, i))
    } else if let Some(tokens) = given.get("tokens") {
        Request::tokens(ids_of(tokens))
    } else if let Some(parts) = given.get("parts") {
        Request::parts(parts_of(parts, i))
    } else if let Some(messages) = given.get("messages") {
        Request::chat(messages.as_array().expect("a list").iter().map(message_of).collect::<Vec<_>>())
    } else {
        Request::chat_json(given["messages_json"].to_string())
    };
    for image in given["images"].as_array().into_iter().flatten() {
        request = request.image(image_of(image));
    }
    for (key, value) in given["options"].as_object().into_iter().flatten() {
        request = request.option(key, value.as_str().expect("a string"));
    }
    if let Some(constraint) = given.get("constraint") {
        assert_eq!(constraint["kind"], "regex");
        request = request.constraint(Constraint::Regex(text_of(&constraint["text"], 0)));
    }
    if let Some(tools) = given.get("tools") {
        request = request.tools(tools.to_string());
    }
    if let Some(name) = given["session"].as_str() {
        request = request.session(&sessions[name]);
    }
    request.sampling(sampling_of(&given["sampling"]))
}

// ---- what comes of a request ----

fn same(what: &str, expected: &Value, got: impl Into<Value>) -> Outcome<()> {
    let got = got.into();
    if *expected == got {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:.300}, got {got:.300}").into())
}

fn check_error(expected: &Value, error: &Error) -> Outcome<()> {
    know(expected, &["code", "says", "retryable"]);
    let code = format!("{:?}", error.code()).to_uppercase();
    let wanted = expected["code"].as_str().expect("a code").replace('_', "");
    same(&format!("the code of {error}"), &json!(wanted), code)?;
    for part in strings_of(&expected["says"]) {
        if !error.message().contains(&part) {
            return Err(format!("the message must say {part:?}: {error}").into());
        }
    }
    match expected.get("retryable") {
        Some(retryable) => same("retryable", retryable, error.is_retryable()),
        None => Ok(()),
    }
}

/// A call that must succeed, or fail as `step["error"]` says.
fn must<T>(step: &Value, result: Result<T, Error>) -> Outcome<Option<T>> {
    match (step.get("error"), result) {
        (None, result) => Ok(Some(result?)),
        (Some(expected), Err(error)) => check_error(expected, &error).map(|()| None),
        (Some(expected), Ok(_)) => Err(format!("no error, but expected {expected}").into()),
    }
}

fn finish_name(finish: Option<FinishReason>) -> Value {
    finish.map_or(Value::Null, |f| json!(format!("{f:?}").to_lowercase()))
}

fn check_outcome(expected: &Value, answer: &Answer, error: Option<&Error>, i: usize) -> Outcome<()> {
    let first = &answer.choices[0];
    for (key, want) in expected.as_object().into_iter().flatten() {
        match key.as_str() {
            "end" => same("end", want, match error.map(Error::code) {
                None => "done",
                Some(Code::Cancelled) => "cancelled",
                Some(_) => "failed",
            })?,
            "error" => check_error(want, error.ok_or("there is no error")?)?,
            "text" => same("text", &json!(text_of(want, i)), first.text.as_str())?,
            "text_begins" => assert!(text_of(want, i).starts_with(&first.text), "another text: {}", first.text),
            "tokens" => same("tokens", want, first.tokens.clone())?,
            "tokens_min" => assert!(first.tokens.len() as u64 >= want.as_u64().expect("a count")),
            "tokens_max" => assert!(first.tokens.len() as u64 <= want.as_u64().expect("a count")),
            "finish" => same("finish", want, finish_name(first.finish_reason))?,
            "stop_text" => same("stop_text", want, first.stop_text.clone())?,
            "stop_token" => same("stop_token", want, first.stop_token)?,
            "choices" => same("choices", want, answer.choices.iter().map(choice_value).collect::<Vec<_>>())?,
            "usage" => check_usage(want, answer)?,
            "logprobs" => same("logprobs", want, first.logprobs.len())?,
            "prompt_logprobs" => same("prompt_logprobs", want, answer.prompt_logprobs.len())?,
            "top_logprobs" => {
                same("rows", &json!(first.tokens.len()), first.top_logprobs.len())?;
                first.top_logprobs.iter().try_for_each(|row| same("top_logprobs", want, row.len()))?;
            }
            other => panic!("the table has an unknown key {other:?}"),
        }
    }
    Ok(())
}

fn choice_value(choice: &Choice) -> Value {
    json!({"text": choice.text, "finish": finish_name(choice.finish_reason)})
}

fn check_usage(expected: &Value, answer: &Answer) -> Outcome<()> {
    for (key, want) in expected.as_object().into_iter().flatten() {
        match key.as_str() {
            "prompt_tokens" => same(key, want, answer.usage.prompt)?,
            "completion_tokens" => same(key, want, answer.usage.completion)?,
            "image_tokens" => same(key, want, answer.usage.image)?,
            "cached_tokens_min" => assert!(answer.usage.cached >= want.as_i64().expect("a count")),
            other => panic!("the table has an unknown key {other:?}"),
        }
    }
    Ok(())
}

// ---- steps ----

struct Case {
    engine: Engine,
    sessions: Sessions,
}

impl Case {
    fn step(&mut self, step: &Value) -> Outcome<()> {
        match step["do"].as_str().expect("a verb") {
            "generate" => self.generate(step),
            "many" | "flood" => self.many(step),
            "tokenize" => {
                let special = strings_of(&step["flags"]).contains(&"add_special".into());
                match must(step, self.engine.tokenize(&text_of(&step["text"], 0), special))? {
                    Some(ids) => same("tokens", &step["tokens"], ids),
                    None => Ok(()),
                }
            }
            "detokenize" => {
                let skip = strings_of(&step["flags"]).contains(&"skip_special".into());
                match must(step, self.engine.detokenize(&ids_of(&step["tokens"]), skip))? {
                    Some(text) => same("text", &step["text"], text),
                    None => Ok(()),
                }
            }
            "render" => match must(step, self.engine.render(&request_of(&step["request"], &self.sessions, 0)))? {
                Some(text) => same("text", &step["text"], text),
                None => Ok(()),
            },
            "close" => {
                let patience = Duration::from_millis(step["drain_ms"].as_u64().unwrap_or(0));
                must(step, self.engine.close(patience)).map(|_| ())
            }
            verb => self.session(step, verb),
        }
    }

    fn generate(&self, step: &Value) -> Outcome<()> {
        know(step, &["do", "request", "expect", "error", "cancel_after"]);
        let request = request_of(&step["request"], &self.sessions, 0);
        let Some((answer, failure)) = must(step, self.ask(&request, step))? else { return Ok(()) };
        check_outcome(&step["expect"], &answer, failure.as_ref(), 0)
    }

    /// An answer, also a cut one; an error where none is expected of the end.
    fn ask(&self, request: &Request, step: &Value) -> Result<(Answer, Option<Error>), Error> {
        let mut stream = self.engine.stream(request)?;
        let cancel_after = step["cancel_after"].as_u64().unwrap_or(u64::MAX);
        let (mut seen, mut failure) = (0, None);
        if cancel_after == 0 {
            stream.cancel();
        }
        while let Some(delta) = stream.wait_next() {
            match delta {
                Ok(delta) if delta.index == 0 => seen += delta.tokens.len() as u64,
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
            if seen >= cancel_after {
                stream.cancel();
            }
        }
        match failure {
            Some(error) if step["expect"].get("end").is_none() => Err(error),
            failure => Ok((stream.so_far().clone(), failure)),
        }
    }

    fn many(&self, step: &Value) -> Outcome<()> {
        know(step, &["do", "request", "count", "expect", "refused", "accepted_min", "refused_min"]);
        let (mut streams, mut refused) = (Vec::new(), 0);
        for i in 0..step["count"].as_u64().expect("a count") as usize {
            match (self.engine.stream(&request_of(&step["request"], &self.sessions, i)), step.get("refused")) {
                (Ok(stream), _) => streams.push((i, stream)),
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(expected)) => {
                    check_error(expected, &error)?;
                    refused += 1;
                }
            }
        }
        assert!(streams.len() as u64 >= step["accepted_min"].as_u64().unwrap_or(0), "{} accepted", streams.len());
        assert!(refused >= step["refused_min"].as_u64().unwrap_or(0), "{refused} refused");
        for (i, stream) in streams {
            check_outcome(&step["expect"], &stream.finish()?, None, i)?;
        }
        Ok(())
    }

    fn session(&mut self, step: &Value, verb: &str) -> Outcome<()> {
        know(step, &["do", "session", "as", "tokens", "error"]);
        let name = step["session"].as_str().expect("a name").to_string();
        match verb {
            "session_new" => {
                if let Some(session) = must(step, self.engine.session())? {
                    self.sessions.insert(name, session);
                }
            }
            "session_fork" => {
                if let Some(fork) = must(step, self.sessions[&name].fork())? {
                    self.sessions.insert(step["as"].as_str().expect("a name").into(), fork);
                }
            }
            "session_rewind" => {
                must(step, self.sessions[&name].rewind(step["tokens"].as_i64().expect("a count")))?;
            }
            "session_info" => same("tokens", &step["tokens"], self.sessions[&name].state()?.tokens)?,
            "session_free" => drop(self.sessions.remove(&name)),
            other => panic!("the table has an unknown step {other:?}"),
        }
        Ok(())
    }
}

fn run(case: &Value) -> Outcome<()> {
    know(case, &["name", "endpoint", "options", "open_error", "steps", "local"]);
    let given = case.get("options").cloned().unwrap_or(json!({}));
    know(
        &given,
        &["threads", "max_sequences", "max_waiting", "server_key", "client_public_key", "client_secret_key"],
    );
    let text = |key: &str| given.get(key).map(|v| v.as_str().expect("text").to_owned());
    let number = |key: &str| given.get(key).map(|v| v.as_i64().expect("a number") as i32);
    let options = Options {
        threads: number("threads"),
        max_sequences: number("max_sequences"),
        max_waiting: number("max_waiting"),
        server_key: text("server_key"),
        client_public_key: text("client_public_key"),
        client_secret_key: text("client_secret_key"),
        ..Default::default()
    };
    let opened = Engine::open_with(case["endpoint"].as_str().unwrap_or("echo:"), options);
    let expectation = case.get("open_error").map_or(json!({}), |error| json!({"error": error}));
    let Some(engine) = must(&expectation, opened)? else { return Ok(()) };
    let mut running = Case { engine, sessions: HashMap::new() };
    for (number, step) in case["steps"].as_array().expect("a list").iter().enumerate() {
        running.step(step).map_err(|error| format!("step {}: {error}", number + 1))?;
    }
    Ok(())
}

#[test]
fn every_case_holds() {
    // Over the wire, the same table with the endpoints of servers in it (tests/wire/with_servers.py).
    let folder = std::env::var_os("TROUPE_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance"),
        std::path::PathBuf::from,
    );
    let (mut held, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(folder).expect("sdk/conformance is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let table: Value = serde_json::from_str(&fs::read_to_string(&path).expect("readable")).expect("JSON");
        know(&table, &["schema", "about", "cases"]);
        for case in table["cases"].as_array().expect("a list") {
            let name = case["name"].as_str().expect("a name");
            if let Some((_, why)) = SKIPPED.iter().find(|(skipped, _)| *skipped == name) {
                println!("{name}: skipped: {why}");
            } else if let Err(error) = run(case) {
                failed.push(format!("{}: {name}: {error}", path.display()));
            } else {
                held += 1;
            }
        }
    }
    assert!(failed.is_empty(), "{} cases hold, but not these:\n{}", held, failed.join("\n"));
    assert!(held > 50, "only {held} cases were found");
}
