//! What is asked.

use std::ptr;
use std::time::Duration;

use troupe_sys as sys;

use crate::engine::c_string;
use crate::error::{check, Error};
use crate::raw::RawRequest;
use crate::sampling::Sampling;
use crate::session::Session;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// How raw pixels lie in memory: 8 bits per channel, height x width x channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pixels {
    Rgb,
    Rgba,
    Bgr,
    Bgra,
    Grey,
}

/// A picture in one of its forms.
#[derive(Clone, Debug)]
pub enum Image {
    /// The bytes of a JPEG, PNG or WebP file.
    Encoded(Vec<u8>),
    /// Dense rows of raw pixels.
    Pixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// Channels.
        format: Pixels,
        /// width x height x channels bytes.
        data: Vec<u8>,
    },
    /// What the model's projector would have made: rows x hidden, row-major.
    Embedding {
        /// Number of rows.
        rows: u32,
        /// Values per row.
        hidden: u32,
        /// rows x hidden of them.
        values: Vec<f32>,
        /// Time, height and width in merged patches, for models that rotate by position.
        grid: Option<[i32; 3]>,
    },
}

/// A piece of a prompt or of a message. Strings and images turn into one by `into()`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Part {
    Text(String),
    Tokens(Vec<i32>),
    Image(Image),
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Part::Text(text.into())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Part::Text(text)
    }
}

impl From<Image> for Part {
    fn from(image: Image) -> Self {
        Part::Image(image)
    }
}

/// One turn of a chat: who speaks, and what, in order.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of several parts.
    pub fn new(role: Role, parts: impl Into<Vec<Part>>) -> Self {
        Message { role, parts: parts.into() }
    }

    /// A message of the user.
    pub fn user(text: impl Into<Part>) -> Self {
        Message::new(Role::User, [text.into()])
    }

    /// A message of the system.
    pub fn system(text: impl Into<Part>) -> Self {
        Message::new(Role::System, [text.into()])
    }

    /// A message of the assistant.
    pub fn assistant(text: impl Into<Part>) -> Self {
        Message::new(Role::Assistant, [text.into()])
    }
}

/// What the answer must match. Engines that cannot constrain answer [`Code::Unsupported`].
#[derive(Clone, Debug)]
pub enum Constraint {
    /// A JSON schema.
    JsonSchema(String),
    /// A regular expression.
    Regex(String),
    /// A grammar.
    Ebnf(String),
    /// One of a JSON array of strings.
    Choice(String),
}

#[derive(Clone, Debug)]
enum Prompt {
    Parts(Vec<Part>),
    Messages(Vec<Message>),
    Json(String),
}

/// What is asked: a prompt with its images, sampling and options.
///
/// ```
/// use std::time::Duration;
/// use troupe::{Message, Request, Sampling};
///
/// let request = Request::chat([Message::user("Why is the sky blue?")])
///     .sampling(Sampling { max_tokens: Some(100), ..Default::default() })
///     .timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    prompt: Prompt,
    images: Vec<Image>,
    pub(crate) sampling: Sampling,
    session: Option<Session>,
    constraint: Option<Constraint>,
    json: [(Json, Option<String>); 3],
    options: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Json {
    Tools,
    Documents,
    TemplateKwargs,
}

impl Request {
    fn of(prompt: Prompt) -> Self {
        Request {
            prompt,
            images: Vec::new(),
            sampling: Sampling::default(),
            session: None,
            constraint: None,
            json: [(Json::Tools, None), (Json::Documents, None), (Json::TemplateKwargs, None)],
            options: Vec::new(),
        }
    }

    /// Raw text, without a chat template.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::parts([Part::Text(text.into())])
    }

    /// Text, token ids and images in the order of the prompt.
    pub fn parts(parts: impl Into<Vec<Part>>) -> Self {
        Self::of(Prompt::Parts(parts.into()))
    }

    /// Token ids.
    pub fn tokens(ids: impl Into<Vec<i32>>) -> Self {
        Self::parts([Part::Tokens(ids.into())])
    }

    /// A chat.
    pub fn chat(messages: impl Into<Vec<Message>>) -> Self {
        Self::of(Prompt::Messages(messages.into()))
    }

    /// A chat as OpenAI's "messages" array; an image part is `{"type": "image"}`: the next of `images`.
    pub fn chat_json(messages: impl Into<String>) -> Self {
        Self::of(Prompt::Json(messages.into()))
    }

    /// An image before a raw prompt, or the next one of a JSON chat.
    pub fn image(mut self, image: Image) -> Self {
        self.images.push(image);
        self
    }

    /// How tokens are drawn.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Continues what the session holds.
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// What the answer must match.
    pub fn constraint(mut self, constraint: Constraint) -> Self {
        self.constraint = Some(constraint);
        self
    }

    /// OpenAI's "tools" array, JSON.
    pub fn tools(mut self, json: impl Into<String>) -> Self {
        self.json[0].1 = Some(json.into());
        self
    }

    /// Documents for the chat template, JSON.
    pub fn documents(mut self, json: impl Into<String>) -> Self {
        self.json[1].1 = Some(json.into());
        self
    }

    /// Further variables of the chat template, JSON.
    pub fn template_kwargs(mut self, json: impl Into<String>) -> Self {
        self.json[2].1 = Some(json.into());
        self
    }

    /// From submission; then the request fails with [`Code::Deadline`]. A millisecond at least; more than a year is
    /// none.
    pub fn timeout(mut self, limit: Duration) -> Self {
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        self.options.retain(|(key, _)| key != "deadline_ms");
        if limit > LONGEST {
            return self;
        }
        self.option("deadline_ms", limit.as_millis().max(1).to_string())
    }

    /// Higher runs first, -100 to 100.
    pub fn priority(self, priority: i32) -> Self {
        self.option("priority", priority.to_string())
    }

    /// Any option of troupe_request_option by name.
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    pub(crate) fn build(&self) -> Result<RawRequest, Error> {
        let mut out = ptr::null_mut();
        // SAFETY: `out` is valid; on success it holds a handle that is ours.
        let request = unsafe {
            check(sys::troupe_request_new(&mut out))?;
            RawRequest::own(out)
        };
        self.sampling.apply(&request)?;
        for image in &self.images {
            add_image(&request, image)?;
        }
        self.add_prompt(&request)?;
        self.add_constraint(&request)?;
        for (kind, json) in &self.json {
            let Some(json) = json else { continue };
            let give = match kind {
                Json::Tools => sys::troupe_request_tools,
                Json::Documents => sys::troupe_request_documents,
                Json::TemplateKwargs => sys::troupe_request_template_kwargs,
            };
            // SAFETY: the text outlives the call, which copies it.
            unsafe { check(give(request.get(), json.as_ptr().cast(), json.len()))? };
        }
        if let Some(session) = &self.session {
            // SAFETY: the session is alive as long as its owner is.
            unsafe { check(sys::troupe_request_session(request.get(), session.raw()))? };
        }
        for (key, value) in &self.options {
            let (key, value) = (c_string(key, "option")?, c_string(value, key)?);
            // SAFETY: both strings end in NUL and outlive the call.
            unsafe { check(sys::troupe_request_option(request.get(), key.as_ptr(), value.as_ptr()))? };
        }
        Ok(request)
    }

    fn add_prompt(&self, request: &RawRequest) -> Result<(), Error> {
        match &self.prompt {
            Prompt::Parts(parts) => add_parts(request, parts),
            // SAFETY: the text outlives the call, which copies it.
            Prompt::Json(json) => unsafe {
                check(sys::troupe_request_messages(request.get(), json.as_ptr().cast(), json.len()))
            },
            Prompt::Messages(messages) => messages.iter().try_for_each(|message| {
                // SAFETY: the request is alive.
                unsafe { check(sys::troupe_request_message(request.get(), message.role as i32))? };
                add_parts(request, &message.parts)
            }),
        }
    }

    fn add_constraint(&self, request: &RawRequest) -> Result<(), Error> {
        let (kind, text) = match &self.constraint {
            None => return Ok(()),
            Some(Constraint::JsonSchema(text)) => (sys::TROUPE_CONSTRAINT_JSON_SCHEMA, text),
            Some(Constraint::Regex(text)) => (sys::TROUPE_CONSTRAINT_REGEX, text),
            Some(Constraint::Ebnf(text)) => (sys::TROUPE_CONSTRAINT_EBNF, text),
            Some(Constraint::Choice(text)) => (sys::TROUPE_CONSTRAINT_CHOICE, text),
        };
        // SAFETY: the text outlives the call, which copies it.
        unsafe { check(sys::troupe_request_constraint(request.get(), kind, text.as_ptr().cast(), text.len())) }
    }
}

fn add_parts(request: &RawRequest, parts: &[Part]) -> Result<(), Error> {
    parts.iter().try_for_each(|part| match part {
        Part::Text(text) => add_text(request, text),
        Part::Image(image) => add_image(request, image),
        // SAFETY: the ids outlive the call, which copies them.
        Part::Tokens(ids) => unsafe { check(sys::troupe_request_tokens(request.get(), ids.as_ptr(), ids.len())) },
    })
}

fn add_text(request: &RawRequest, text: &str) -> Result<(), Error> {
    // SAFETY: the text outlives the call, which copies it.
    unsafe { check(sys::troupe_request_text(request.get(), text.as_ptr().cast(), text.len())) }
}

fn add_image(request: &RawRequest, image: &Image) -> Result<(), Error> {
    // SAFETY: init fills the whole struct, of which all-zero bytes are a valid value; the data outlives
    // the call, which copies it because `release` is not given.
    unsafe {
        let mut raw: sys::troupe_image = std::mem::zeroed();
        sys::troupe_image_init(&mut raw, std::mem::size_of_val(&raw) as u32);
        match image {
            Image::Encoded(data) => {
                raw.kind = sys::TROUPE_IMAGE_ENCODED;
                (raw.data, raw.size) = (data.as_ptr().cast(), data.len());
            }
            Image::Pixels { width, height, format, data } => {
                raw.kind = sys::TROUPE_IMAGE_PIXELS;
                raw.format = *format as i32;
                (raw.width, raw.height) = (*width as i32, *height as i32);
                (raw.data, raw.size) = (data.as_ptr().cast(), data.len());
            }
            Image::Embedding { rows, hidden, values, grid } => {
                raw.kind = sys::TROUPE_IMAGE_EMBEDDING;
                raw.type_ = sys::TROUPE_TYPE_F32;
                (raw.rows, raw.hidden) = (*rows as i32, *hidden as i32);
                (raw.data, raw.size) = (values.as_ptr().cast(), std::mem::size_of_val(values.as_slice()));
                if let Some(grid) = grid {
                    raw.grid = *grid;
                }
            }
        }
        check(sys::troupe_request_image(request.get(), &raw))
    }
}
