//! The C face: raw pointers in, raw pointers out, every unwind caught.

use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::grammar::{Compiler, Grammar};
use crate::pieces::{self, Pieces};
use crate::template::{ChatTemplate, RenderRequest};
use crate::tokenizer::TextTokenizer;
use crate::{corrupt, Failure, Outcome, INVALID, OK, PANIC};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

#[repr(C)]
pub struct CPieces {
    count: u32,
    bytes: Bytes,
    byte_offsets: Ids,
    names: Bytes,
    name_offsets: Ids,
    flags: Bytes,
    decode: i32,
    strip_left: u32,
    first_drops_spaces: i32,
}

#[repr(C)]
pub struct CRender {
    messages: Slice,
    tools: Slice,
    documents: Slice,
    kwargs: Slice,
    special_tokens: Slice,
    continue_field: Slice,
    add_generation_prompt: i32,
    has_now: i32,
    now_s: i64,
}

#[repr(C)]
pub struct CVocabulary {
    count: u32,
    bytes: Slice,
    offsets: *const u32,
    eos: *const u32,
    eos_count: usize,
}

impl Slice {
    /// SAFETY: the caller of the C face promises `size` readable bytes at `data` for the call.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 || self.data.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(self.data, self.size)
        }
    }

    /// SAFETY: as `bytes`.
    unsafe fn text<'a>(self, what: &str) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()).map_err(|e| Failure {
            status: INVALID,
            message: format!("{what} is not valid UTF-8 at byte {}", e.valid_up_to()),
        })
    }
}

fn give_bytes(bytes: Vec<u8>) -> Bytes {
    let boxed = bytes.into_boxed_slice();
    let size = boxed.len();
    Bytes { data: Box::into_raw(boxed) as *mut u8, size }
}

fn give_ids(ids: Vec<u32>) -> Ids {
    let boxed = ids.into_boxed_slice();
    let size = boxed.len();
    Ids { data: Box::into_raw(boxed) as *mut u32, size }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".into())
}

/// The library below panics on some damaged files, as they are read or with the first text (a
/// post-processor that names a token which is not there). Either shows now, as the file's fault.
fn loaded(load: impl FnOnce() -> Outcome<TextTokenizer>) -> Outcome<TextTokenizer> {
    let tried = || {
        let tokenizer = load()?;
        let _ = tokenizer.encode("a", true, false); // what is refused here is refused by name later
        Ok(tokenizer)
    };
    catch_unwind(AssertUnwindSafe(tried)).unwrap_or_else(|payload| {
        Err(corrupt(format!(
            "the file is damaged: its parts do not go together, and the library that reads it gives \
             up ({}); download it again",
            panic_text(payload.as_ref())
        )))
    })
}

/// What panics is reported through the C face and printed nowhere. The library is linked statically,
/// its standard library with it: no other code's hook is touched.
fn keep_panics_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// Runs `body`, hands its value to `keep`, and turns failures and panics into a status.
///
/// SAFETY: `error` is null or points to a Bytes that the caller owns.
unsafe fn guarded<T>(
    error: *mut Bytes,
    body: impl FnOnce() -> Outcome<T>,
    keep: impl FnOnce(T),
) -> i32 {
    keep_panics_quiet();
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => {
            keep(value);
            return OK;
        }
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let message = format!("the text library panicked: {}", panic_text(payload.as_ref()));
            Failure { status: PANIC, message }
        }
    };
    if !error.is_null() {
        error.write(give_bytes(failure.message.into_bytes()));
    }
    failure.status
}

/// What is made becomes the caller's, who gives it back to `take_back`.
///
/// SAFETY: `out` points to a handle that the caller owns.
unsafe fn hand_out<T>(out: *mut *mut T) -> impl FnOnce(T) {
    move |made| out.write(Box::into_raw(Box::new(made)))
}

/// SAFETY: `handle` is null or came from `hand_out`, and is used no more.
unsafe fn take_back<T>(handle: *mut T) {
    if !handle.is_null() {
        let owned = Box::from_raw(handle);
        let _ = catch_unwind(AssertUnwindSafe(move || drop(owned)));
    }
}

#[no_mangle]
pub unsafe extern "C" fn tt_bytes_free(bytes: Bytes) {
    if !bytes.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(bytes.data, bytes.size)));
    }
}

#[no_mangle]
pub unsafe extern "C" fn tt_ids_free(ids: Ids) {
    if !ids.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids.data, ids.size)));
    }
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_from_json(
    json: Slice,
    options: Slice,
    out: *mut *mut TextTokenizer,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || loaded(|| TextTokenizer::from_json(json.bytes(), options.text("options")?)),
        hand_out(out),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_from_ranks(
    file: Slice,
    options: Slice,
    out: *mut *mut TextTokenizer,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || loaded(|| TextTokenizer::from_ranks(file.bytes(), options.text("options")?)),
        hand_out(out),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_free(tokenizer: *mut TextTokenizer) {
    take_back(tokenizer)
}

const ADD_SPECIAL: u32 = 1;
const SPECIAL_AS_TEXT: u32 = 2;

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_encode(
    tokenizer: *const TextTokenizer,
    text: Slice,
    flags: u32,
    out: *mut Ids,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || {
            let text = text.text("text")?;
            (*tokenizer).encode(text, flags & ADD_SPECIAL != 0, flags & SPECIAL_AS_TEXT != 0)
        },
        |ids| out.write(give_ids(ids)),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_decode(
    tokenizer: *const TextTokenizer,
    ids: *const u32,
    count: usize,
    skip_special: i32,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    let ids = if count == 0 { &[][..] } else { std::slice::from_raw_parts(ids, count) };
    guarded(
        error,
        || (*tokenizer).decode(ids, skip_special != 0),
        |text| out.write(give_bytes(text.into_bytes())),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_pieces(
    tokenizer: *const TextTokenizer,
    out: *mut CPieces,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || pieces::table((*tokenizer).inner()),
        |table: Pieces| {
            out.write(CPieces {
                count: table.flags.len() as u32,
                bytes: give_bytes(table.bytes),
                byte_offsets: give_ids(table.byte_offsets),
                names: give_bytes(table.names),
                name_offsets: give_ids(table.name_offsets),
                flags: give_bytes(table.flags),
                decode: table.rule.mode,
                strip_left: table.rule.strip_left,
                first_drops_spaces: table.rule.first_drops_spaces as i32,
            })
        },
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_pieces_free(pieces: CPieces) {
    tt_bytes_free(pieces.bytes);
    tt_ids_free(pieces.byte_offsets);
    tt_bytes_free(pieces.names);
    tt_ids_free(pieces.name_offsets);
    tt_bytes_free(pieces.flags);
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_new(
    source: Slice,
    out: *mut *mut ChatTemplate,
    error: *mut Bytes,
) -> i32 {
    guarded(error, || ChatTemplate::new(source.text("the chat template")?), hand_out(out))
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_render(
    template: *const ChatTemplate,
    request: *const CRender,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || {
            let request = &*request;
            (*template).render(&RenderRequest {
                messages: request.messages.text("messages")?,
                tools: request.tools.text("tools")?,
                documents: request.documents.text("documents")?,
                kwargs: request.kwargs.text("template kwargs")?,
                special_tokens: request.special_tokens.text("special tokens")?,
                continue_field: request.continue_field.text("continue_field")?,
                add_generation_prompt: request.add_generation_prompt != 0,
                now_s: (request.has_now != 0).then_some(request.now_s),
            })
        },
        |text| out.write(give_bytes(text.into_bytes())),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_free(template: *mut ChatTemplate) {
    take_back(template)
}

#[no_mangle]
pub unsafe extern "C" fn tt_compiler_new(
    vocabulary: *const CVocabulary,
    out: *mut *mut Compiler,
    error: *mut Bytes,
) -> i32 {
    guarded(
        error,
        || {
            let given = &*vocabulary;
            let offsets = std::slice::from_raw_parts(given.offsets, given.count as usize + 1);
            let eos = std::slice::from_raw_parts(given.eos, given.eos_count);
            Compiler::new(given.bytes.bytes(), offsets, eos)
        },
        hand_out(out),
    )
}

#[no_mangle]
pub unsafe extern "C" fn tt_compiler_free(compiler: *mut Compiler) {
    take_back(compiler)
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_new(
    compiler: *const Compiler,
    kind: i32,
    text: Slice,
    out: *mut *mut Grammar,
    error: *mut Bytes,
) -> i32 {
    guarded(error, || (*compiler).compile(kind, text.text("the grammar")?), hand_out(out))
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_free(grammar: *mut Grammar) {
    take_back(grammar)
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_mask(
    grammar: *mut Grammar,
    bits: *mut u32,
    words: usize,
    error: *mut Bytes,
) -> i32 {
    let bits = std::slice::from_raw_parts_mut(bits, words);
    guarded(error, || (*grammar).mask(bits), |()| ())
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_commit(
    grammar: *mut Grammar,
    token: u32,
    error: *mut Bytes,
) -> i32 {
    guarded(error, || (*grammar).commit(token), |()| ())
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_rollback(
    grammar: *mut Grammar,
    tokens: usize,
    error: *mut Bytes,
) -> i32 {
    guarded(error, || (*grammar).rollback(tokens), |()| ())
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_finished(grammar: *const Grammar) -> i32 {
    i32::from((*grammar).finished())
}
