//! Blocking work of a moment or two, awaited on any runtime: on a thread of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::error::{Code, Error};

struct State<T> {
    value: Option<Result<T, Error>>,
    waker: Option<Waker>,
}

type Shared<T> = Arc<Mutex<State<T>>>;

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, State<T>> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Outcome<T>(Shared<T>);

impl<T> Future for Outcome<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Tells the future of a panic, too: nobody must wait for ever.
struct Teller<T>(Shared<T>);

impl<T> Teller<T> {
    fn tell(&self, value: Result<T, Error>) {
        let mut state = lock(&self.0);
        state.value.get_or_insert(value);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Err(Error::new(Code::Internal, "the thread of this call panicked")));
        }
    }
}

/// Runs `work` to its end, also when the future is dropped: what it made is dropped then.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let shared = Arc::new(Mutex::new(State { value: None, waker: None }));
    let teller = Teller(Arc::clone(&shared));
    std::thread::Builder::new()
        .name("troupe-call".into())
        .spawn(move || teller.tell(work()))
        .map_err(|e| Error::because(Code::OutOfMemory, "no thread could be started", e))?;
    Outcome(shared).await
}
