//! What each token contributes to a text, so that detokenising needs no library call per token.
//!
//! Most decoders of language models are one of two: ByteLevel (tokens are bytes), or replace the
//! space mark, fall back to bytes, fuse, strip a leading space. Both can be said per token; whatever
//! else a file asks for is left to the library as a whole (`MODE_WHOLE`).

use serde_json::Value;
use tokenizers::{Model, Tokenizer};

use crate::{corrupt, Outcome};

const MODE_BYTES: i32 = 0;
const MODE_PIECES: i32 = 1;
const MODE_WHOLE: i32 = 2;

const KNOWN: u8 = 1;
const SPECIAL: u8 = 2;
const BYTE: u8 = 4;

const MAX_ID: u32 = 1 << 22;

#[derive(Default)]
pub struct Rule {
    pub mode: i32,
    pub strip_left: u32,
    pub first_drops_spaces: bool,
    replace: Vec<(String, String)>,
    byte_fallback: bool,
}

pub struct Pieces {
    pub bytes: Vec<u8>,
    pub byte_offsets: Vec<u32>,
    pub names: Vec<u8>,
    pub name_offsets: Vec<u32>,
    pub flags: Vec<u8>,
    pub rule: Rule,
}

pub fn table(tokenizer: &Tokenizer) -> Outcome<Pieces> {
    let rule = rule(tokenizer)?;
    let names = names(tokenizer)?;
    let added = tokenizer.get_added_vocabulary();
    let mut pieces = Pieces {
        bytes: Vec::new(),
        byte_offsets: vec![0],
        names: Vec::new(),
        name_offsets: vec![0],
        flags: Vec::with_capacity(names.len()),
        rule,
    };
    for name in &names {
        let mut flags = 0;
        if let Some(name) = name {
            flags |= KNOWN;
            if added.is_special_token(name) {
                flags |= SPECIAL;
            }
            if let Some(byte) = pieces.rule.byte_of(name) {
                flags |= BYTE;
                pieces.bytes.push(byte);
            } else {
                pieces.rule.append(name, &mut pieces.bytes);
            }
            pieces.names.extend_from_slice(name.as_bytes());
        }
        pieces.flags.push(flags);
        pieces.byte_offsets.push(offset(pieces.bytes.len())?);
        pieces.name_offsets.push(offset(pieces.names.len())?);
    }
    Ok(pieces)
}

fn offset(size: usize) -> Outcome<u32> {
    u32::try_from(size).map_err(|_| corrupt("the vocabulary's text is larger than 4 GiB"))
}

fn names(tokenizer: &Tokenizer) -> Outcome<Vec<Option<String>>> {
    let model = tokenizer.get_model();
    let size = model.get_vocab_size();
    let mut names: Vec<Option<String>> = (0..size).map(|id| model.id_to_token(id as u32)).collect();
    let gaps = names.iter().any(Option::is_none);
    let mut put = |id: u32, name: String| -> Outcome<()> {
        if id >= MAX_ID {
            return Err(corrupt(format!("token {name:?} has id {id}; the limit is {MAX_ID}")));
        }
        let at = id as usize;
        if at >= names.len() {
            names.resize(at + 1, None);
        }
        names[at] = Some(name);
        Ok(())
    };
    // Where ids have gaps between them, some lie beyond the count.
    if gaps {
        for (name, id) in model.get_vocab() {
            put(id, name)?;
        }
    }
    for (id, token) in tokenizer.get_added_vocabulary().get_added_tokens_decoder() {
        put(*id, token.content.clone())?;
    }
    Ok(names)
}

impl Rule {
    fn byte_of(&self, name: &str) -> Option<u8> {
        let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
        if self.mode != MODE_PIECES || !self.byte_fallback || name.len() != 6 {
            return None;
        }
        u8::from_str_radix(digits, 16).ok()
    }

    fn append(&self, name: &str, out: &mut Vec<u8>) {
        if self.mode == MODE_BYTES {
            let start = out.len();
            for c in name.chars() {
                match char_byte(c) {
                    Some(byte) => out.push(byte),
                    None => {
                        out.truncate(start);
                        out.extend_from_slice(name.as_bytes());
                        return;
                    }
                }
            }
            return;
        }
        let mut text = name.to_string();
        for (from, to) in &self.replace {
            text = text.replace(from, to);
        }
        out.extend_from_slice(text.as_bytes());
    }
}

fn rule(tokenizer: &Tokenizer) -> Outcome<Rule> {
    let decoder = serde_json::to_value(tokenizer.get_decoder())
        .map_err(|e| corrupt(format!("decoder: {e}")))?;
    let mut steps = Vec::new();
    flatten(&decoder, &mut steps);
    Ok(rule_of(&steps).unwrap_or(Rule { mode: MODE_WHOLE, ..Rule::default() }))
}

fn flatten<'a>(decoder: &'a Value, steps: &mut Vec<&'a Value>) {
    match decoder["decoders"].as_array() {
        Some(list) if decoder["type"] == "Sequence" => {
            list.iter().for_each(|step| flatten(step, steps))
        }
        _ => steps.push(decoder),
    }
}

/// None: not one of the shapes that can be said per token.
fn rule_of(steps: &[&Value]) -> Option<Rule> {
    let kind = |step: &Value| step["type"].as_str().unwrap_or_default().to_string();
    if steps.len() == 1 && kind(steps[0]) == "ByteLevel" {
        return Some(Rule { mode: MODE_BYTES, ..Rule::default() });
    }
    let mut rule = Rule { mode: MODE_PIECES, ..Rule::default() };
    let mut fused = false;
    for step in steps {
        match kind(step).as_str() {
            "Replace" => {
                let from = step["pattern"]["String"].as_str()?;
                // Behind Fuse a longer pattern could match across tokens.
                if from.is_empty() || (fused && from.chars().count() > 1) || rule.strip_left > 0 {
                    return None;
                }
                rule.replace.push((from.to_string(), step["content"].as_str()?.to_string()));
            }
            "Metaspace" if steps.len() == 1 => {
                let mark = step["replacement"].as_str()?;
                rule.replace.push((mark.to_string(), " ".to_string()));
                rule.first_drops_spaces = step["prepend_scheme"] != "never";
            }
            "ByteFallback" if !fused => rule.byte_fallback = true,
            "Fuse" => fused = true,
            "Strip" if fused && step["content"] == " " && step["stop"] == 0 => {
                rule.strip_left += u32::try_from(step["start"].as_u64()?).ok()?;
            }
            _ => return None,
        }
    }
    (!steps.is_empty()).then_some(rule)
}

/// The printable character that stands for a byte in byte-level vocabularies: bytes that are
/// printable in Latin-1 stand for themselves, the others follow U+0100 in order.
pub fn byte_char(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x100 + 0x21 + u32::from(byte - 0x7F),
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or('\u{FFFD}')
}

fn char_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}
