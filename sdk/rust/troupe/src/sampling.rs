//! How tokens are drawn.

use std::ffi::CString;

use troupe_sys as sys;

use crate::engine::c_string;
use crate::error::{check, Code, Error};
use crate::raw::RawRequest;

/// How tokens are drawn. `None`: the model's generation_config.json decides, else the default.
///
/// ```
/// let sampling = troupe::Sampling { temperature: Some(0.7), max_tokens: Some(64), ..Default::default() };
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    /// 0 takes the likeliest.
    pub temperature: Option<f32>,
    /// Nucleus, in (0, 1].
    pub top_p: Option<f32>,
    /// In [0, 1].
    pub min_p: Option<f32>,
    /// 0: no limit.
    pub top_k: Option<i32>,
    /// Over prompt and output; above 1 discourages.
    pub repetition_penalty: Option<f32>,
    /// OpenAI's, over the output.
    pub presence_penalty: Option<f32>,
    /// OpenAI's, over the output.
    pub frequency_penalty: Option<f32>,
    /// Same seed, same draws, whatever else runs.
    pub seed: Option<i64>,
    /// 0 makes no token: scores the prompt.
    pub max_tokens: Option<i32>,
    /// No end before so many.
    pub min_tokens: Option<i32>,
    /// Choices; 0 counts as 1.
    pub n: i32,
    /// Alternatives per token; Some(0) is the chosen one's alone.
    pub logprobs: Option<i32>,
    /// Likewise, of the prompt.
    pub prompt_logprobs: Option<i32>,
    /// Go on past the end of sequence.
    pub ignore_eos: bool,
    /// Leave the stop string in the text.
    pub include_stop: bool,
    /// Leave special tokens in the text.
    pub keep_special_tokens: bool,
    /// Texts that end a choice.
    pub stop: Vec<String>,
    /// Ids that end a choice.
    pub stop_tokens: Vec<i32>,
    /// Never said.
    pub bad_words: Vec<String>,
    /// Added to the logit of each token.
    pub logit_bias: Vec<(i32, f32)>,
}

fn c_strings(values: &[String], field: &str) -> Result<Vec<CString>, Error> {
    values
        .iter()
        .map(|v| c_string(v, field))
        .collect()
}

impl Sampling {
    /// NaN and -1 would mean "not given" in the library; it judges all the rest itself.
    fn check(&self) -> Result<(), Error> {
        let numbers = [
            ("temperature", self.temperature),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("repetition_penalty", self.repetition_penalty),
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ];
        if let Some((field, _)) = numbers.iter().find(|(_, value)| value.is_some_and(f32::is_nan)) {
            return Err(Error::new(Code::Invalid, format!("{field} is NaN: None is for the default")));
        }
        let counts = [
            ("top_k", self.top_k),
            ("max_tokens", self.max_tokens),
            ("min_tokens", self.min_tokens),
            ("logprobs", self.logprobs),
            ("prompt_logprobs", self.prompt_logprobs),
            ("n", Some(self.n)),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, value)| *value == Some(-1)) {
            return Err(Error::new(Code::Invalid, format!("{field} is -1: it must be 0 or more")));
        }
        Ok(())
    }

    pub(crate) fn apply(&self, request: &RawRequest) -> Result<(), Error> {
        self.check()?;
        let stops = c_strings(&self.stop, "stop")?;
        let bads = c_strings(&self.bad_words, "bad_words")?;
        let stop_pointers: Vec<_> = stops.iter().map(|s| s.as_ptr()).collect();
        let bad_pointers: Vec<_> = bads.iter().map(|s| s.as_ptr()).collect();
        let (tokens, values): (Vec<i32>, Vec<f32>) = self.logit_bias.iter().copied().unzip();
        // SAFETY: init fills the whole struct, of which all-zero bytes are a valid value; what it then
        // points to outlives the call, which copies it.
        unsafe {
            let mut raw: sys::troupe_sampling = std::mem::zeroed();
            sys::troupe_sampling_init(&mut raw, std::mem::size_of_val(&raw) as u32);
            let give = |to: &mut f32, from: Option<f32>| *to = from.unwrap_or(*to);
            give(&mut raw.temperature, self.temperature);
            give(&mut raw.top_p, self.top_p);
            give(&mut raw.min_p, self.min_p);
            give(&mut raw.repetition_penalty, self.repetition_penalty);
            give(&mut raw.presence_penalty, self.presence_penalty);
            give(&mut raw.frequency_penalty, self.frequency_penalty);
            let give = |to: &mut i32, from: Option<i32>| *to = from.unwrap_or(*to);
            give(&mut raw.top_k, self.top_k);
            give(&mut raw.max_tokens, self.max_tokens);
            give(&mut raw.min_tokens, self.min_tokens);
            give(&mut raw.logprobs, self.logprobs);
            give(&mut raw.prompt_logprobs, self.prompt_logprobs);
            raw.seed = self.seed.unwrap_or(raw.seed);
            if self.n != 0 {
                raw.n = self.n;
            }
            if self.ignore_eos {
                raw.ignore_eos = 1;
            }
            if self.include_stop {
                raw.include_stop = 1;
            }
            if self.keep_special_tokens {
                raw.skip_special_tokens = 0;
            }
            (raw.stop, raw.n_stop) = (stop_pointers.as_ptr(), stop_pointers.len());
            (raw.bad_words, raw.n_bad_words) = (bad_pointers.as_ptr(), bad_pointers.len());
            (raw.stop_tokens, raw.n_stop_tokens) = (self.stop_tokens.as_ptr(), self.stop_tokens.len());
            (raw.bias_tokens, raw.bias_values, raw.n_bias) = (tokens.as_ptr(), values.as_ptr(), tokens.len());
            check(sys::troupe_request_sampling(request.get(), &raw))
        }
    }
}
