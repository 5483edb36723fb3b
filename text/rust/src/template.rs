//! A chat template and its rendering, equal to transformers' apply_chat_template.

use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::bounds::{self, Exceeded, Rendering};
use crate::program::Program;
use crate::template_env::{self, Raised, NOW};
use crate::{invalid, pyvalue, unsupported, Failure, Outcome, LIMIT};

pub struct RenderRequest<'a> {
    pub messages: &'a str,
    pub tools: &'a str,
    pub documents: &'a str,
    pub kwargs: &'a str,
    pub special_tokens: &'a str,
    pub continue_field: &'a str,
    pub add_generation_prompt: bool,
    pub now_s: Option<i64>,
}

pub struct ChatTemplate {
    env: Environment<'static>,
    program: Program,
    source: String,
}

const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl ChatTemplate {
    pub fn new(source: &str) -> Outcome<Self> {
        let program = Program::new(prepare(source))
            .map_err(|e| unsupported(describe("the chat template cannot be read", &e)))?;
        Ok(Self { env: template_env::environment(), program, source: source.to_string() })
    }

    pub fn render(&self, request: &RenderRequest) -> Outcome<String> {
        let _bounds = Rendering::begin();
        let mut messages = messages(request.messages)?;
        let mut going_on = None;
        if !request.continue_field.is_empty() {
            if request.add_generation_prompt {
                return Err(invalid("continue_final_message and add_generation_prompt exclude one another: the first goes on with the last message, the second begins a new one"));
            }
            going_on = Some(self.mark_final(&mut messages, request.continue_field)?);
        }
        let context = self.context(request, messages)?;
        NOW.set(request.now_s);
        let rendered = self.program.run(&self.env, context).map_err(render_failure)?;
        match going_on {
            Some(text) => cut_at_tag(&rendered, &text),
            None => Ok(rendered),
        }
    }

    fn context(&self, request: &RenderRequest, messages: Vec<Json>) -> Outcome<Value> {
        let mut context = Map::new();
        context.extend(object(request.special_tokens, "special tokens")?);
        context.extend(object(request.kwargs, "template kwargs")?);
        context.insert("messages".into(), Json::Array(messages));
        context.insert("tools".into(), list(request.tools, "tools")?);
        let documents = list(request.documents, "documents")?;
        if let Some(bad) = documents.as_array().into_iter().flatten().position(|d| !d.is_object()) {
            return Err(invalid(format!("documents[{bad}] is not an object with 'title' and 'text'")));
        }
        context.insert("documents".into(), documents);
        context.insert("add_generation_prompt".into(), request.add_generation_prompt.into());
        Ok(pyvalue::from_json(Json::Object(context)))
    }

    /// Marks the end of the text to go on with; gives that text back.
    fn mark_final(&self, messages: &mut [Json], field: &str) -> Outcome<String> {
        let last = messages
            .last_mut()
            .and_then(Json::as_object_mut)
            .ok_or_else(|| invalid("continue_final_message: the conversation is empty"))?;
        let text = last.get(field).cloned().filter(|v| !v.is_null()).ok_or_else(|| {
            invalid(format!("continue_final_message: the final message has no {field:?} to continue"))
        })?;
        let fields: Vec<&str> = if REASONING.contains(&field) {
            REASONING.into_iter().filter(|name| last.get(*name) == Some(&text)).collect()
        } else {
            vec![field]
        };
        if !fields.iter().any(|name| self.source.contains(name)) {
            return Err(invalid(format!(
                "continue_final_message: the chat template does not use the field {field:?}"
            )));
        }
        let nothing = || invalid("continue_final_message: no text to continue in the final message");
        match text {
            Json::String(text) => {
                for name in fields {
                    last.insert(name.to_string(), Json::String(format!("{text}{TAG}")));
                }
                Ok(text)
            }
            Json::Array(_) => {
                let blocks = last.get_mut(field).and_then(Json::as_array_mut);
                let block = blocks
                    .into_iter()
                    .flatten()
                    .rev()
                    .find_map(|block| block.get_mut("text"))
                    .ok_or_else(nothing)?;
                let text = block.as_str().ok_or_else(nothing)?.to_string();
                *block = Json::String(format!("{text}{TAG}"));
                Ok(text)
            }
            _ => Err(nothing()),
        }
    }
}

fn cut_at_tag(rendered: &str, text: &str) -> Outcome<String> {
    use crate::pymethods::stripped;
    let wanted = stripped(text, true, true, None);
    let at = rendered.rfind(TAG.trim_end()).filter(|_| rendered.contains(wanted));
    let Some(at) = at else {
        return Err(invalid("continue_final_message: the final message does not appear in what the chat template renders; it deletes or rewrites part of it"));
    };
    if rendered[at..].starts_with(TAG) {
        Ok(rendered[..at].to_string())
    } else {
        Ok(stripped(&rendered[..at], false, true, None).to_string())
    }
}

/// The source as minijinja is to see it: newlines as Jinja2 reads them, and the reference's own tag
/// `{% generation %}`, which only marks the assistant's text, as a plain scope.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let sign = usize::from(tag[2..].starts_with(['-', '+']));
        let (open, inner) = tag.split_at(2 + sign);
        out.push_str(open);
        let word = inner.trim_start();
        let blank = &inner[..inner.len() - word.len()];
        rest = inner;
        for (theirs, ours) in [("generation", "with"), ("endgeneration", "endwith")] {
            let Some(tail) = word.strip_prefix(theirs) else { continue };
            let end = tail.trim_start();
            if end.starts_with("%}") || end.starts_with("-%}") || end.starts_with("+%}") {
                out.push_str(blank);
                out.push_str(ours);
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

fn messages(json: &str) -> Outcome<Vec<Json>> {
    let parsed = list(json, "messages")?;
    let Json::Array(messages) = parsed else {
        return Err(invalid("messages: a chat needs at least one message"));
    };
    if messages.is_empty() {
        return Err(invalid("messages: a chat needs at least one message"));
    }
    messages.into_iter().enumerate().map(|(at, message)| normal(at, message)).collect()
}

/// A message without its null fields, its reasoning under every name that templates read.
fn normal(at: usize, message: Json) -> Outcome<Json> {
    let Json::Object(fields) = message else {
        return Err(invalid(format!("messages[{at}] is not an object")));
    };
    let fields: Map<String, Json> = fields.into_iter().filter(|(_, v)| !v.is_null()).collect();
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name)).cloned();
    let Some(reasoning) = reasoning else {
        return Ok(Json::Object(fields));
    };
    let mut aliased = Map::new();
    aliased.insert("thinking".into(), reasoning.clone());
    aliased.extend(fields);
    aliased.insert("reasoning_content".into(), reasoning);
    Ok(Json::Object(aliased))
}

fn list(json: &str, what: &str) -> Outcome<Json> {
    if json.is_empty() {
        return Ok(Json::Null);
    }
    let value: Json =
        serde_json::from_str(json).map_err(|e| invalid(format!("{what}: not valid JSON: {e}")))?;
    match value {
        Json::Null | Json::Array(_) => Ok(value),
        _ => Err(invalid(format!("{what}: not a JSON array"))),
    }
}

fn object(json: &str, what: &str) -> Outcome<Map<String, Json>> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(json) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(Json::Null) => Ok(Map::new()),
        Ok(_) => Err(invalid(format!("{what}: not a JSON object"))),
        Err(e) => Err(invalid(format!("{what}: not valid JSON: {e}"))),
    }
}

fn describe(what: &str, error: &Error) -> String {
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
    format!("{what}{place}: {}{detail}", error.kind())
}

fn render_failure(error: Error) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref::<Raised>() {
            return invalid(format!("the chat template refuses these messages: {message}"));
        }
        if let Some(Exceeded(what)) = cause.downcast_ref::<Exceeded>() {
            return beyond(what, &error);
        }
        source = cause.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return beyond(&format!("runs more than {} steps", bounds::STEPS), &error);
    }
    invalid(describe("the chat template failed on these messages", &error))
}

fn beyond(what: &str, error: &Error) -> Failure {
    let place = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let message = format!(
        "the chat template {what}{place}; that is beyond what one rendering may take: shorten the \
         messages, or name another template (--chat-template)"
    );
    Failure { status: LIMIT, message }
}
