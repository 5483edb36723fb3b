//! A tokenizer as a model folder describes it: tokenizer.json, or a tiktoken vocabulary turned into
//! the same object, plus what tokenizer_config.json says about it.

use std::sync::OnceLock;

use serde_json::{json, Value};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::{corrupt, invalid, ranks, Outcome};

pub struct TextTokenizer {
    inner: Tokenizer,
    // The same tokenizer that reads special tokens as ordinary text. The switch is a property of a
    // `Tokenizer`, so the twin is made when it is first asked for.
    literal: OnceLock<Tokenizer>,
}

impl TextTokenizer {
    pub fn from_json(file: &[u8], options: &str) -> Outcome<Self> {
        let options = parse_options(options)?;
        let mut inner = Tokenizer::from_bytes(file).map_err(|e| corrupt(e.to_string()))?;
        if let Some(scheme) = options["metaspace"].as_str() {
            use_llama_pipeline(&mut inner, scheme)?;
        }
        Self::finish(inner, &options, "added_tokens")
    }

    pub fn from_ranks(file: &[u8], options: &str) -> Outcome<Self> {
        let options = parse_options(options)?;
        let inner = ranks::build(file, &options)?;
        Self::finish(inner, &options, "special_tokens")
    }

    fn finish(mut inner: Tokenizer, options: &Value, tokens_key: &str) -> Outcome<Self> {
        // What is cut and padded is the engine's business, not the vocabulary's.
        inner.with_truncation(None).map_err(|e| corrupt(e.to_string()))?;
        inner.with_padding(None);
        let tokens: Vec<AddedToken> =
            options[tokens_key].as_array().into_iter().flatten().map(added_token).collect();
        inner.add_tokens(&tokens);
        if options["prefix"].is_array() || options["suffix"].is_array() {
            let processor = post_processor(&inner, options)?;
            inner.with_post_processor(Some(processor));
        }
        Ok(Self { inner, literal: OnceLock::new() })
    }

    pub fn inner(&self) -> &Tokenizer {
        &self.inner
    }

    pub fn encode(&self, text: &str, add_special: bool, special_as_text: bool) -> Outcome<Vec<u32>> {
        let tokenizer = if special_as_text {
            self.literal.get_or_init(|| {
                let mut twin = self.inner.clone();
                twin.set_encode_special_tokens(true);
                twin
            })
        } else {
            &self.inner
        };
        let encoding = tokenizer
            .encode_fast(text, add_special)
            .map_err(|e| invalid(format!("the text cannot be encoded: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Outcome<String> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|e| invalid(format!("the tokens cannot be decoded: {e}")))
    }
}

fn parse_options(options: &str) -> Outcome<Value> {
    if options.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_str(options).map_err(|e| invalid(format!("tokenizer options: {e}")))
}

fn added_token(token: &Value) -> AddedToken {
    let flag = |name: &str| token[name].as_bool().unwrap_or(false);
    AddedToken::from(token["content"].as_str().unwrap_or_default(), flag("special"))
        .lstrip(flag("lstrip"))
        .rstrip(flag("rstrip"))
        .single_word(flag("single_word"))
        .normalized(flag("normalized"))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn post_processor(tokenizer: &Tokenizer, options: &Value) -> Outcome<PostProcessorWrapper> {
    let (prefix, suffix) = (strings(&options["prefix"]), strings(&options["suffix"]));
    let mut specials = serde_json::Map::new();
    for token in prefix.iter().chain(&suffix) {
        let id = tokenizer
            .token_to_id(token)
            .ok_or_else(|| corrupt(format!("special token {token:?} is not in the vocabulary")))?;
        specials
            .insert(token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]}));
    }
    let special = |token: &&str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let around = |sequences: &[&str]| -> Vec<Value> {
        let middle = sequences.iter().map(|id| json!({"Sequence": {"id": id, "type_id": 0}}));
        prefix.iter().map(special).chain(middle).chain(suffix.iter().map(special)).collect()
    };
    let description = json!({
        "type": "TemplateProcessing",
        "single": around(&["A"]),
        "pair": around(&["A", "B"]),
        "special_tokens": specials,
    });
    serde_json::from_value(description).map_err(|e| corrupt(format!("post-processor: {e}")))
}

/// The pipeline that the reference gives every LlamaTokenizer, whatever its file says.
fn use_llama_pipeline(tokenizer: &mut Tokenizer, scheme: &str) -> Outcome<()> {
    let parse = |e: serde_json::Error| corrupt(format!("Llama pipeline: {e}"));
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(json!({
        "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false,
    }))
    .map_err(parse)?;
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if scheme != "never" {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let decoder: DecoderWrapper =
        serde_json::from_value(json!({"type": "Sequence", "decoders": decoders})).map_err(parse)?;
    tokenizer.with_normalizer(None::<NormalizerWrapper>);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(decoder));
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
        let mut bpe = bpe.clone();
        bpe.fuse_unk = true;
        bpe.byte_fallback = true;
        tokenizer.with_model(bpe);
    }
    Ok(())
}
