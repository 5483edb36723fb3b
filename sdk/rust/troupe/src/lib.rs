//! Language and vision-language models in your process, or from afar, with one handle.
//!
//! ```
//! use troupe::{Engine, Request};
//!
//! # fn main() -> Result<(), troupe::Error> {
//! let engine = Engine::open("echo:")?; // or a model folder, or tcp://host:port
//! for delta in engine.stream(&Request::prompt("one after the other"))? {
//!     print!("{}", delta?.text);
//! }
//! assert_eq!(engine.generate(&Request::prompt("Hello"))?.text(), "Hello");
//! # Ok(())
//! # }
//! ```
//!
//! A [`Stream`] is a [`futures_core::Stream`] on any runtime, and a blocking iterator in a `for` loop: one
//! thread per engine reads events and wakes whoever waits. Dropping a stream cancels its request. Async code
//! opens and closes with [`Engine::open_async`] and [`Engine::close_async`].
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

mod engine;
mod error;
mod mailbox;
mod off_thread;
mod raw;
mod reader;
mod request;
mod sampling;
mod server;
mod session;
mod stream;
mod types;

pub use engine::{Engine, Options};
pub use error::{Code, Error, Failure};
pub use request::{Constraint, Image, Message, Part, Pixels, Request, Role};
pub use sampling::Sampling;
pub use server::{keygen, KeyPair, Server, ServerOptions};
pub use session::{Session, SessionState};
pub use stream::{Deltas, Stream};
pub use types::{Answer, Choice, Delta, FinishReason, Info, Logprob, Stats, Timings, Usage};
