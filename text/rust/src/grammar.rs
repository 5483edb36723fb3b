//! Output grammars: which tokens may come next. llguidance does it; here stands how a vocabulary and a
//! request's constraint are put to it.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{earley::SlicedBiasComputer, Matcher, ParserFactory};

use crate::{corrupt, invalid, Outcome};

pub struct Compiler {
    factory: ParserFactory,
    eos: Arc<[u32]>,
}

pub struct Grammar {
    matcher: Matcher,
    eos: Arc<[u32]>,
    // The end came after the token with which the matcher stopped by itself: it does not know of it.
    ended: bool,
}

const JSON_SCHEMA: i32 = 1;
const REGEX: i32 = 2;
const LARK: i32 = 3;
const CHOICE: i32 = 4;

impl Compiler {
    pub fn new(bytes: &[u8], offsets: &[u32], eos: &[u32]) -> Outcome<Self> {
        let count = offsets.len() - 1;
        let words: Vec<Vec<u8>> = offsets
            .windows(2)
            .map(|ends| bytes[ends[0] as usize..ends[1] as usize].to_vec())
            .collect();
        let Some(first) = eos.first().filter(|_| eos.iter().all(|id| (*id as usize) < count)) else {
            return Err(invalid("a grammar needs an end-of-sequence token of the vocabulary"));
        };
        let info = TokRxInfo::new(count as u32, *first);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(eos);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|e| corrupt(format!("grammar vocabulary: {e}")))?;
        factory.quiet();
        Ok(Self { factory, eos: eos.into() })
    }

    pub fn compile(&self, kind: i32, text: &str) -> Outcome<Grammar> {
        let parser = self.factory.create_parser(top_level(kind, text)?);
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(invalid(format!("the grammar does not compile: {error}"))),
            None => Ok(Grammar { matcher, eos: self.eos.clone(), ended: false }),
        }
    }
}

fn top_level(kind: i32, text: &str) -> Outcome<TopLevelGrammar> {
    match kind {
        JSON_SCHEMA => {
            let schema = serde_json::from_str(text)
                .map_err(|e| invalid(format!("json_schema: not valid JSON: {e}")))?;
            Ok(TopLevelGrammar::from_json_schema(schema))
        }
        REGEX => Ok(TopLevelGrammar::from_regex(text)),
        LARK => Ok(TopLevelGrammar::from_lark(text.to_string())),
        CHOICE => {
            let choices: Vec<String> = serde_json::from_str(text)
                .map_err(|e| invalid(format!("choice: not a JSON array of strings: {e}")))?;
            if choices.is_empty() || choices.iter().any(String::is_empty) {
                return Err(invalid("choice: needs one or more strings, none of them empty"));
            }
            let quoted: Vec<String> = choices
                .iter()
                .map(|choice| serde_json::Value::from(choice.as_str()).to_string())
                .collect();
            Ok(TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | "))))
        }
        _ => Err(invalid(format!("unknown kind of grammar {kind}"))),
    }
}

impl Grammar {
    pub fn mask(&mut self, bits: &mut [u32]) -> Outcome<()> {
        let allowed = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|e| invalid(format!("the grammar cannot go on: {e}")))?;
        let words = allowed.as_slice();
        if words.len() > bits.len() {
            return Err(invalid(format!("the mask needs {} words, {} given", words.len(), bits.len())));
        }
        let (mask, rest) = bits.split_at_mut(words.len());
        mask.copy_from_slice(words);
        rest.fill(0);
        Ok(())
    }

    pub fn commit(&mut self, token: u32) -> Outcome<()> {
        let complete = self.matcher.is_stopped() && !self.matcher.is_error();
        if complete && !self.ended && self.eos.contains(&token) {
            self.ended = true;
            return Ok(());
        }
        self.matcher
            .consume_token(token)
            .map_err(|e| invalid(format!("token {token} does not fit the grammar: {e}")))
    }

    pub fn rollback(&mut self, tokens: usize) -> Outcome<()> {
        let tokens = tokens - usize::from(self.ended && tokens > 0);
        self.ended = false;
        if tokens == 0 {
            return Ok(());
        }
        self.matcher.rollback(tokens).map_err(|e| invalid(format!("the grammar cannot go back: {e}")))
    }

    pub fn finished(&self) -> bool {
        self.matcher.is_stopped()
    }
}
