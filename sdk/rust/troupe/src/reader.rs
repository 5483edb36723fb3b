//! The one thread of an engine: waits on its queue and hands each event to the stream it is of.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use troupe_sys as sys;

use crate::error::{check, Code, Error};
use crate::mailbox::{Ending, Item, Mailbox};
use crate::raw::{slice, RawQueue};
use crate::types::{Delta, FinishReason, Logprob, Timings, Usage};

pub(crate) enum Opening {
    Progress(String, f64),
    Ready,
    Failed(Error),
}

pub(crate) struct Reader {
    pub queue: RawQueue,
    pub boxes: Mutex<HashMap<u64, Arc<Mailbox>>>,
    pub stopping: AtomicBool,
}

impl Reader {
    pub(crate) fn forget(&self, key: u64) -> Option<Arc<Mailbox>> {
        self.boxes.lock().unwrap_or_else(|p| p.into_inner()).remove(&key)
    }

    fn mailbox(&self, key: u64) -> Option<Arc<Mailbox>> {
        self.boxes.lock().unwrap_or_else(|p| p.into_inner()).get(&key).cloned()
    }

    /// Runs until `stopping` is set, the queue woken, and everything pending handed on.
    pub(crate) fn run(&self, opening: &Sender<Opening>) {
        loop {
            let stopping = self.stopping.load(Ordering::Acquire);
            let mut list = ptr::null_mut();
            // SAFETY: the queue lives as long as self; `list` is valid.
            let waited = unsafe { check(sys::troupe_queue_wait(self.queue.get(), if stopping { 0 } else { -1 }, 0, &mut list)) };
            if let Err(error) = waited {
                return self.fail(&error);
            }
            if list.is_null() && stopping {
                return;
            }
            if list.is_null() {
                continue;
            }
            // SAFETY: the list is ours until freed; events stand event_size bytes apart.
            unsafe {
                let (base, stride) = ((*list).events.cast::<u8>(), (*list).event_size as usize);
                for i in 0..(*list).count as usize {
                    self.hand_on(&*base.add(i * stride).cast::<sys::troupe_event>(), opening);
                }
                sys::troupe_events_free(list);
            }
        }
    }

    /// Ends every stream: nothing will come any more.
    fn fail(&self, error: &Error) {
        let boxes = std::mem::take(&mut *self.boxes.lock().unwrap_or_else(|p| p.into_inner()));
        for mailbox in boxes.into_values() {
            mailbox.put(Item::End(Ending {
                error: Some(error.clone()),
                finish_reason: Some(FinishReason::Error),
                usage: Usage::default(),
                timings: Timings::default(),
            }));
        }
    }

    /// # Safety
    /// `event` is live, and so is what it points to.
    unsafe fn hand_on(&self, event: &sys::troupe_event, opening: &Sender<Opening>) {
        // SAFETY: the caller's promise, throughout.
        unsafe {
            if event.id == 0 {
                let heard = match event.kind {
                    sys::TROUPE_EVENT_PROGRESS => Opening::Progress(text_of(event), event.progress),
                    sys::TROUPE_EVENT_READY => Opening::Ready,
                    _ => Opening::Failed(error_of(event, "the engine did not open")),
                };
                let _ = opening.send(heard);
                return;
            }
            let ended = matches!(event.kind, sys::TROUPE_EVENT_DONE | sys::TROUPE_EVENT_CANCELLED | sys::TROUPE_EVENT_FAILED);
            let mailbox = if ended { self.forget(event.user_data) } else { self.mailbox(event.user_data) };
            let Some(mailbox) = mailbox else { return };
            if !event.prompt_logprobs.is_null() {
                mailbox.put(Item::PromptLogprobs(table_of(event.prompt_logprobs)));
            }
            if event.kind == sys::TROUPE_EVENT_TOKENS {
                mailbox.put(Item::Delta(delta_of(event)));
            } else if ended {
                mailbox.put(Item::End(ending_of(event)));
            }
        }
    }
}

fn finish_of(value: i32) -> Option<FinishReason> {
    match value {
        sys::TROUPE_FINISH_STOP => Some(FinishReason::Stop),
        sys::TROUPE_FINISH_LENGTH => Some(FinishReason::Length),
        sys::TROUPE_FINISH_CANCELLED => Some(FinishReason::Cancelled),
        sys::TROUPE_FINISH_ERROR => Some(FinishReason::Error),
        _ => None,
    }
}

unsafe fn text_of(event: &sys::troupe_event) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { slice(event.text.cast::<u8>(), event.text_size) }).into_owned()
}

unsafe fn error_of(event: &sys::troupe_event, otherwise: &str) -> Error {
    if event.error.is_null() {
        return Error::new(Code::Cancelled, otherwise);
    }
    // SAFETY: the caller's promise.
    unsafe { Error::borrowed(event.error) }
}

unsafe fn table_of(table: *const sys::troupe_logprob_table) -> Vec<Vec<Logprob>> {
    if table.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; entries stand entry_size bytes apart.
    unsafe {
        let table = &*table;
        let starts = slice(table.row_starts, table.n_rows + 1);
        let entry = |i: usize| {
            let raw = &*table.entries.cast::<u8>().add(i * table.entry_size as usize).cast::<sys::troupe_logprob>();
            Logprob { token: raw.token, logprob: raw.logprob, rank: raw.rank }
        };
        starts.windows(2).map(|row| (row[0]..row[1]).map(entry).collect()).collect()
    }
}

unsafe fn delta_of(event: &sys::troupe_event) -> Delta {
    // SAFETY: the caller's promise.
    unsafe {
        Delta {
            index: event.index as usize,
            text: text_of(event),
            tokens: slice(event.tokens, event.n_tokens).to_vec(),
            logprobs: slice(event.logprobs, if event.logprobs.is_null() { 0 } else { event.n_tokens }).to_vec(),
            top_logprobs: table_of(event.top_logprobs),
            finish_reason: finish_of(event.finish_reason),
            stop_text: (!event.stop_text.is_null())
                .then(|| String::from_utf8_lossy(slice(event.stop_text.cast::<u8>(), event.stop_text_size)).into_owned()),
            stop_token: (event.finish_reason != sys::TROUPE_FINISH_NONE && event.stop_token >= 0).then_some(event.stop_token),
        }
    }
}

unsafe fn ending_of(event: &sys::troupe_event) -> Ending {
    let duration = |ns: i64| Duration::from_nanos(ns.max(0) as u64);
    Ending {
        // SAFETY: the caller's promise.
        error: (event.kind != sys::TROUPE_EVENT_DONE).then(|| unsafe { error_of(event, "the request was cancelled") }),
        finish_reason: finish_of(event.finish_reason),
        usage: Usage {
            prompt: event.prompt_tokens,
            cached: event.cached_tokens,
            completion: event.completion_tokens,
            image: event.image_tokens,
        },
        timings: Timings {
            queued: duration(event.queued_ns),
            first_token: duration(event.first_token_ns),
            total: duration(event.total_ns),
        },
    }
}
