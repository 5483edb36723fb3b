//! Passes events from the reader to one stream: blocking readers wait on the condition variable,
//! tasks leave a waker.

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::types::{Delta, FinishReason, Logprob, Timings, Usage};

pub(crate) enum Item {
    Delta(Delta),
    PromptLogprobs(Vec<Vec<Logprob>>),
    End(Ending),
}

#[derive(Clone)]
pub(crate) struct Ending {
    pub error: Option<Error>,
    pub finish_reason: Option<FinishReason>,
    pub usage: Usage,
    pub timings: Timings,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    waker: Option<Waker>,
}

pub(crate) struct Mailbox {
    state: Mutex<State>,
    arrived: Condvar,
    process: u32,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Mailbox { state: Mutex::default(), arrived: Condvar::new(), process: std::process::id() }
    }

    /// In a fork of the process there is no reader: nothing will come, and the lock may be held for ever.
    fn orphaned(&self) -> Option<Item> {
        let forked = std::process::id() != self.process;
        forked.then(|| Item::End(Ending { error: Some(Error::forked()), finish_reason: None, usage: Usage::default(), timings: Timings::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a queue of whole items: still good.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn put(&self, item: Item) {
        let mut state = self.lock();
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_one();
        if let Some(waker) = waker {
            // A waker is the executor's code, and this the thread that serves all streams: a panic there ends here.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    pub(crate) fn wait(&self) -> Item {
        if let Some(end) = self.orphaned() {
            return end;
        }
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return item;
            }
            state = self.arrived.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Item> {
        if let Some(end) = self.orphaned() {
            return Poll::Ready(end);
        }
        let mut state = self.lock();
        match state.items.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
