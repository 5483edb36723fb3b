//! A template made ready to run within the bounds: read, rewritten with guards, compiled.
//!
//! Chains (a.b.c, a ~ b ~ c, elif upon elif) nest in the syntax tree without nesting in the source, and
//! whoever walks such a tree uses stack for every link. So the tokens are looked at before it is built.

use std::collections::BTreeMap;

use minijinja::machinery::{
    make_string_output, parse, tokenize, CodeGenerator, Instructions, Token, Vm,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use crate::{bounds, rewrite, template_env};

const NAME: &str = "chat template";
const SOURCE: usize = 1 << 20;
const LINKS: usize = 1000;
const ELIFS: usize = 500;

pub struct Program {
    // Both borrow from the source, and are dropped before it.
    code: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
    _source: Box<str>,
}

impl Program {
    pub fn new(source: String) -> Result<Self, Error> {
        if source.len() > SOURCE {
            let what = format!("{} bytes; at most {SOURCE} are read", source.len());
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
        check_chains(&source)?;
        let source = source.into_boxed_str();
        // SAFETY: the text lies on the heap, is never written, and lives as long as this Program, whose
        // fields never leave it.
        let text: &'static str = unsafe { &*std::ptr::from_ref::<str>(&source) };
        let tree = parse(text, NAME, SyntaxConfig::default(), template_env::WHITESPACE)?;
        let mut generator = CodeGenerator::new(NAME, text);
        generator.compile_stmt(&rewrite::stmt(&tree));
        let (code, blocks) = generator.finish();
        Ok(Self { code, blocks, _source: source })
    }

    pub fn run(&self, env: &Environment<'static>, context: Value) -> Result<String, Error> {
        let mut out = String::new();
        Vm::new(env).eval(
            &self.code,
            context,
            &self.blocks,
            &mut make_string_output(&mut out),
            AutoEscape::None,
        )?;
        bounds::text(out.len())?;
        Ok(out)
    }
}

/// The links of one bracket: since its last comma, and the most between any two.
#[derive(Default)]
struct Level {
    links: usize,
    most: usize,
}

fn check_chains(source: &str) -> Result<(), Error> {
    let mut open: Vec<Level> = Vec::new();
    let mut elifs = 0;
    for item in tokenize(source, false, SyntaxConfig::default(), template_env::WHITESPACE) {
        let Ok((token, span)) = item else { break }; // the parser says what is wrong with it
        match token {
            Token::VariableStart | Token::BlockStart => open = vec![Level::default()],
            Token::VariableEnd | Token::BlockEnd => open.clear(),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => open.push(Level::default()),
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                let inner = open.pop().unwrap_or_default();
                if let Some(outer) = open.last_mut() {
                    outer.links += 1 + inner.most.max(inner.links);
                }
            }
            Token::Comma => {
                if let Some(level) = open.last_mut() {
                    level.most = level.most.max(level.links);
                    level.links = 0;
                }
            }
            token => {
                elifs += usize::from(matches!(token, Token::Ident("elif")));
                if let Some(level) = open.last_mut() {
                    level.links += 1;
                }
            }
        }
        if open.iter().map(|level| level.links).sum::<usize>() + open.len() > LINKS {
            return Err(too_long(span.start_line, format!("one expression of more than {LINKS} parts")));
        }
        if elifs > ELIFS {
            return Err(too_long(span.start_line, format!("more than {ELIFS} elif")));
        }
    }
    Ok(())
}

fn too_long(line: u16, what: String) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("line {line}: {what}"))
}
