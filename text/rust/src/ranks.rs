//! tiktoken vocabularies ("base64-token rank" per line) as byte-level BPE.
//!
//! tiktoken merges the adjacent pair whose joined bytes have the lowest rank, so every way to split a
//! token into two known halves is a merge of that token's rank. A piece that is a token itself is
//! taken whole, which is what `ignore_merges` says.

use std::collections::HashMap;

use serde_json::{json, Value};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{unicode::NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::Tokenizer;

use crate::pieces::byte_char;
use crate::{corrupt, Outcome};

const MAX_ID: u32 = 1 << 22;

pub fn build(file: &[u8], options: &Value) -> Outcome<Tokenizer> {
    let ranks = parse(file)?;
    let mut vocab: HashMap<String, u32> = HashMap::with_capacity(ranks.len());
    for (token, rank) in &ranks {
        vocab.insert(spelled(token), *rank);
    }
    let merges = merges(&ranks);
    for token in options["special_tokens"].as_array().into_iter().flatten() {
        let content = token["content"].as_str().unwrap_or_default();
        let id = token["id"].as_u64().filter(|id| *id < MAX_ID as u64);
        let id = id.ok_or_else(|| corrupt(format!("special token {content:?}: id out of range")))?;
        if vocab.contains_key(content) {
            return Err(corrupt(format!("special token {content:?} is also an ordinary token")));
        }
        vocab.insert(content.to_string(), id as u32);
    }
    let vocab: Vec<(String, u32)> = vocab.into_iter().collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
        .ignore_merges(true)
        .build()
        .map_err(|e| corrupt(e.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    dress(&mut tokenizer, options)?;
    Ok(tokenizer)
}

type Vocab = tokenizers::models::bpe::Vocab;

fn dress(tokenizer: &mut Tokenizer, options: &Value) -> Outcome<()> {
    let pattern = options["pattern"].as_str().unwrap_or_default();
    let parse = |e: serde_json::Error| corrupt(format!("split pattern: {e}"));
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(json!({
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ],
    }))
    .map_err(parse)?;
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let decoder: DecoderWrapper = serde_json::from_value(byte_level.clone()).map_err(parse)?;
    let processor: PostProcessorWrapper = serde_json::from_value(byte_level).map_err(parse)?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(decoder));
    tokenizer.with_post_processor(Some(processor));
    if options["nfc"].as_bool().unwrap_or(false) {
        tokenizer.with_normalizer(Some(NormalizerWrapper::NFC(NFC)));
    }
    Ok(())
}

fn spelled(token: &[u8]) -> String {
    token.iter().map(|b| byte_char(*b)).collect()
}

fn parse(file: &[u8]) -> Outcome<HashMap<Vec<u8>, u32>> {
    let mut ranks = HashMap::new();
    for (number, line) in file.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let bad = |what: &str| corrupt(format!("line {}: {what}", number + 1));
        let space = line.iter().position(|b| *b == b' ').ok_or_else(|| bad("no rank"))?;
        let token = base64(&line[..space]).ok_or_else(|| bad("the token is not base64"))?;
        let rank = std::str::from_utf8(line[space + 1..].trim_ascii())
            .ok()
            .and_then(|digits| digits.parse::<u32>().ok())
            .filter(|rank| *rank < MAX_ID)
            .ok_or_else(|| bad("the rank is not a number below 2^22"))?;
        if token.is_empty() || ranks.insert(token, rank).is_some() {
            return Err(bad("an empty token, or one seen before"));
        }
    }
    if ranks.is_empty() {
        return Err(corrupt("no token in the file"));
    }
    Ok(ranks)
}

fn merges(ranks: &HashMap<Vec<u8>, u32>) -> Vec<(String, String)> {
    let mut found: Vec<(u32, u32, u32, &[u8], usize)> = Vec::new();
    for (token, rank) in ranks {
        for cut in 1..token.len() {
            if let (Some(left), Some(right)) = (ranks.get(&token[..cut]), ranks.get(&token[cut..])) {
                found.push((*rank, *left, *right, token, cut));
            }
        }
    }
    found.sort_unstable_by_key(|(rank, left, right, _, _)| (*rank, *left, *right));
    let halves = |(_, _, _, token, cut): &(u32, u32, u32, &[u8], usize)| {
        (spelled(&token[..*cut]), spelled(&token[*cut..]))
    };
    found.iter().map(halves).collect()
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(out)
}
