//! The libraries that define text for language models, behind a small C face (../text_ffi.h).
//!
//! `unsafe` is in `ffi`, and in single places of `bounds` (the allocator, the clock), `program` (a text and
//! what borrows from it) and `template_env` (libc's clock); everything else is ordinary Rust over
//! `tokenizers`, `minijinja` and `llguidance`. Nothing here keeps global state, the accounts of `bounds`
//! aside, starts threads or lets a panic reach C.

mod bounds;
mod ffi;
mod filters;
mod grammar;
mod guards;
mod pieces;
mod program;
mod pyfmt;
mod pymethods;
mod pyvalue;
mod ranks;
mod rewrite;
mod template;
mod template_env;
mod tokenizer;

#[global_allocator]
static ALLOCATOR: bounds::Counting = bounds::Counting;

/// What the C face reports: the status of text_ffi.h and a message for people.
#[derive(Debug)]
pub struct Failure {
    pub status: i32,
    pub message: String,
}

pub const OK: i32 = 0;
pub const INVALID: i32 = 1;
pub const CORRUPT: i32 = 2;
pub const UNSUPPORTED: i32 = 3;
pub const PANIC: i32 = 4;
pub const LIMIT: i32 = 5;

pub type Outcome<T> = Result<T, Failure>;

pub fn invalid(message: impl Into<String>) -> Failure {
    Failure { status: INVALID, message: message.into() }
}

pub fn corrupt(message: impl Into<String>) -> Failure {
    Failure { status: CORRUPT, message: message.into() }
}

pub fn unsupported(message: impl Into<String>) -> Failure {
    Failure { status: UNSUPPORTED, message: message.into() }
}
