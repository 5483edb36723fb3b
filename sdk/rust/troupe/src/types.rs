//! What comes back.

use std::time::Duration;

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// End of sequence, a stop string or a stop id.
    Stop,
    /// max_tokens, or the context is full.
    Length,
    /// Cancelled.
    Cancelled,
    /// Failed.
    Error,
}

/// A token and its log-probability under the raw distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprob {
    /// The token's id.
    pub token: i32,
    /// Before temperature, penalties and the rest.
    pub logprob: f32,
    /// 1 is the likeliest.
    pub rank: i32,
}

/// More of one choice.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Which of the choices.
    pub index: usize,
    /// What became complete; never cut inside a character.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<i32>,
    /// One a token, when asked for.
    pub logprobs: Vec<f32>,
    /// A row a token, best first, when asked for.
    pub top_logprobs: Vec<Vec<Logprob>>,
    /// On the last delta of a choice.
    pub finish_reason: Option<FinishReason>,
    /// The stop string that ended the choice.
    pub stop_text: Option<String>,
    /// The id that ended the choice.
    pub stop_token: Option<i32>,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: i64,
    /// Of these, reused.
    pub cached: i64,
    /// Made, over all choices.
    pub completion: i64,
    /// Of the prompt, standing for images.
    pub image: i64,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Waiting.
    pub queued: Duration,
    /// Until the first token, from submission.
    pub first_token: Duration,
    /// Until the end.
    pub total: Duration,
}

/// One whole answer.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<i32>,
    /// One a token, when asked for.
    pub logprobs: Vec<f32>,
    /// A row a token, when asked for.
    pub top_logprobs: Vec<Vec<Logprob>>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// The stop string that ended it.
    pub stop_text: Option<String>,
    /// The id that ended it.
    pub stop_token: Option<i32>,
}

/// What `generate` gives.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// One, or Sampling::n.
    pub choices: Vec<Choice>,
    /// A row per prompt token, the first one empty, when asked for.
    pub prompt_logprobs: Vec<Vec<Logprob>>,
    /// Token counts.
    pub usage: Usage,
    /// Times.
    pub timings: Timings,
}

impl Answer {
    /// The first choice's text.
    pub fn text(&self) -> &str {
        self.choices.first().map_or("", |choice| &choice.text)
    }
}

/// What is open.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Info {
    pub model: String,
    pub family: String,
    pub endpoint: String,
    pub device: String,
    pub dtype: String,
    /// Empty: there is no chat template.
    pub chat_template_origin: String,
    pub context_length: i32,
    pub vocab_size: i32,
    pub max_sequences: i32,
    pub weight_bytes: i64,
    pub kv_bytes: i64,
    pub kv_tokens: i64,
    /// TROUPE_CAN_… bits.
    pub capabilities: u64,
}

/// Counters since opening, and gauges.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Stats {
    pub waiting: u32,
    pub running: u32,
    pub sessions: u32,
    pub submitted: u64,
    pub refused: u64,
    pub done: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    pub images: u64,
    pub steps: u64,
    pub preemptions: u64,
    pub kv_blocks_total: u64,
    pub kv_blocks_used: u64,
    pub uptime: Duration,
}
