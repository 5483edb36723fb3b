//! An answer as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::Shared;
use crate::error::Error;
use crate::mailbox::{Item, Mailbox};
use crate::types::{Answer, Choice, Delta};

/// The deltas of one answer: a `futures_core::Stream`, and in a `for` loop a blocking iterator. Dropping
/// it early cancels the request. An error is the last item.
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) id: u64,
    pub(crate) key: u64,
    answer: Answer,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>, id: u64, key: u64, n: usize) -> Self {
        let answer = Answer { choices: vec![Choice::default(); n], ..Answer::default() };
        Stream { shared, mailbox, id, key, answer, ended: false }
    }

    /// Cancels the request without leaving it: what was made before still comes, and then the end, an
    /// error with [`crate::Code::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancel(self.id);
    }

    /// What has come so far: whole when the iteration has ended, the beginning after an error.
    pub fn so_far(&self) -> &Answer {
        &self.answer
    }

    /// The next delta, blocking; `None` after the end.
    pub fn wait_next(&mut self) -> Option<Result<Delta, Error>> {
        while !self.ended {
            let item = self.mailbox.wait();
            if let Some(outcome) = self.digest(item) {
                return outcome;
            }
        }
        None
    }

    /// Reads on to the end, blocking, and gives the whole answer.
    pub fn finish(mut self) -> Result<Answer, Error> {
        while let Some(delta) = self.wait_next() {
            delta?;
        }
        Ok(std::mem::take(&mut self.answer))
    }

    /// The same for async callers.
    pub async fn collect_answer(mut self) -> Result<Answer, Error> {
        while let Some(delta) = std::future::poll_fn(|context| self.poll_delta(context)).await {
            delta?;
        }
        Ok(std::mem::take(&mut self.answer))
    }

    /// What the next item means for the caller: Some(Some(…)) to hand on, Some(None) the end, None: go on.
    fn digest(&mut self, item: Item) -> Option<Option<Result<Delta, Error>>> {
        match item {
            Item::Delta(delta) => {
                if let Some(choice) = self.answer.choices.get_mut(delta.index) {
                    choice.text.push_str(&delta.text);
                    choice.tokens.extend_from_slice(&delta.tokens);
                    choice.logprobs.extend_from_slice(&delta.logprobs);
                    choice.top_logprobs.extend_from_slice(&delta.top_logprobs);
                    choice.finish_reason = delta.finish_reason.or(choice.finish_reason);
                    choice.stop_text.clone_from(&delta.stop_text);
                    choice.stop_token = delta.stop_token;
                }
                Some(Some(Ok(delta)))
            }
            Item::PromptLogprobs(table) => {
                self.answer.prompt_logprobs = table;
                None
            }
            Item::End(end) => {
                (self.answer.usage, self.answer.timings) = (end.usage, end.timings);
                if let Some(first) = self.answer.choices.first_mut() {
                    first.finish_reason = first.finish_reason.or(end.finish_reason);
                }
                self.ended = true;
                Some(end.error.map(Err))
            }
        }
    }

    fn poll_delta(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delta, Error>>> {
        while !self.ended {
            match self.mailbox.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(item) => {
                    if let Some(outcome) = self.digest(item) {
                        return Poll::Ready(outcome);
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

/// A [`Stream`] as a blocking iterator; dropping it early cancels the request too.
pub struct Deltas(Stream);

impl Iterator for Deltas {
    type Item = Result<Delta, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.wait_next()
    }
}

impl IntoIterator for Stream {
    type Item = Result<Delta, Error>;
    type IntoIter = Deltas;

    fn into_iter(self) -> Deltas {
        Deltas(self)
    }
}

impl futures_core::Stream for Stream {
    type Item = Result<Delta, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delta(context)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.abandon(self.id, self.key);
        }
    }
}
