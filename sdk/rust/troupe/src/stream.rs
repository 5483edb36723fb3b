//! An answer as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::Shared;
use crate::error::Error;
use crate::mailbox::{Ending, Item, Mailbox};
use crate::types::{Answer, Choice, Delta};

/// The deltas of one answer: a blocking iterator and a `futures_core::Stream`. Dropping it early cancels
/// the request. An error is the last item.
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) id: u64,
    pub(crate) key: u64,
    answer: Answer,
    end: Option<Ending>,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>, id: u64, key: u64, n: usize) -> Self {
        let answer = Answer { choices: vec![Choice::default(); n], ..Answer::default() };
        Stream { shared, mailbox, id, key, answer, end: None }
    }

    /// Reads on to the end, blocking, and gives the whole answer.
    pub fn finish(mut self) -> Result<Answer, Error> {
        while let Some(delta) = self.next() {
            delta?;
        }
        Ok(self.into_answer())
    }

    /// The same for async callers.
    pub async fn collect_answer(mut self) -> Result<Answer, Error> {
        while let Some(delta) = std::future::poll_fn(|context| self.poll_delta(context)).await {
            delta?;
        }
        Ok(self.into_answer())
    }

    fn into_answer(mut self) -> Answer {
        let mut answer = std::mem::take(&mut self.answer);
        if let Some(end) = &self.end {
            (answer.usage, answer.timings) = (end.usage, end.timings);
            if let Some(first) = answer.choices.first_mut() {
                first.finish_reason = first.finish_reason.or(end.finish_reason);
            }
        }
        answer
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
                }
                Some(Some(Ok(delta)))
            }
            Item::PromptLogprobs(table) => {
                self.answer.prompt_logprobs = table;
                None
            }
            Item::End(end) => {
                let error = end.error.clone();
                self.end = Some(end);
                Some(error.map(Err))
            }
        }
    }

    fn poll_delta(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delta, Error>>> {
        while self.end.is_none() {
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

impl Iterator for Stream {
    type Item = Result<Delta, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.end.is_none() {
            let item = self.mailbox.wait();
            if let Some(outcome) = self.digest(item) {
                return outcome;
            }
        }
        None
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
        if self.end.is_none() {
            self.shared.abandon(self.id, self.key);
        }
    }
}
