//! What can go wrong, by kind.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use troupe_sys as sys;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:path,)*) => {
        /// The frozen error codes, shared by the C ABI, the wire protocol and every SDK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this crate does not know.
            Unknown(i32),
        }

        impl From<i32> for Code {
            fn from(value: i32) -> Self {
                match value {
                    $($value => Code::$name,)*
                    other => Code::Unknown(other),
                }
            }
        }

        /// What went wrong, by kind; what, where and what to do stand in its [`Failure`].
        ///
        /// ```
        /// use troupe::{Engine, Error};
        ///
        /// match Engine::open("/nowhere/at/all") {
        ///     Ok(_) => unreachable!(),
        ///     Err(Error::NotFound(failure)) => assert!(failure.message().contains("/nowhere/at/all")),
        ///     Err(Error::Overloaded(_)) => println!("later"),
        ///     Err(other) => panic!("{other}"),
        /// }
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $name(Failure),)*
            /// A code that this crate does not know.
            Unknown(i32, Failure),
        }

        impl Error {
            fn of(code: Code, failure: Failure) -> Self {
                match code {
                    $(Code::$name => Error::$name(failure),)*
                    Code::Unknown(value) => Error::Unknown(value, failure),
                }
            }

            /// The kind of failure.
            pub fn code(&self) -> Code {
                match self {
                    $(Error::$name(_) => Code::$name,)*
                    Error::Unknown(value, _) => Code::Unknown(*value),
                }
            }

            /// What, where, and what to do.
            pub fn failure(&self) -> &Failure {
                match self {
                    $(Error::$name(failure) => failure,)*
                    Error::Unknown(_, failure) => failure,
                }
            }
        }
    };
}

codes! {
    /// An argument: the message names it, its value and its bounds.
    Invalid = sys::TROUPE_ERROR_INVALID,
    /// Larger than a limit that is in force.
    Limit = sys::TROUPE_ERROR_LIMIT,
    /// Too much is waiting; the same call may succeed later.
    Overloaded = sys::TROUPE_ERROR_OVERLOADED,
    /// The request's deadline passed.
    Deadline = sys::TROUPE_ERROR_DEADLINE,
    /// Cancelled.
    Cancelled = sys::TROUPE_ERROR_CANCELLED,
    /// A file, model, session or adapter is not there.
    NotFound = sys::TROUPE_ERROR_NOT_FOUND,
    /// Known, and not possible here.
    Unsupported = sys::TROUPE_ERROR_UNSUPPORTED,
    /// A model folder is damaged: names file and field.
    CorruptModel = sys::TROUPE_ERROR_CORRUPT_MODEL,
    /// Out of memory.
    OutOfMemory = sys::TROUPE_ERROR_OUT_OF_MEMORY,
    /// A device failed.
    DeviceFailed = sys::TROUPE_ERROR_DEVICE_FAILED,
    /// The server is gone; a new request may succeed.
    ConnectionLost = sys::TROUPE_ERROR_CONNECTION_LOST,
    /// The engine was closed.
    Closed = sys::TROUPE_ERROR_CLOSED,
    /// This process is a fork of the one that opened the engine.
    Forked = sys::TROUPE_ERROR_FORKED,
    /// Not allowed.
    Unauthorised = sys::TROUPE_ERROR_UNAUTHORISED,
    /// A bug of Troupe's.
    Internal = sys::TROUPE_ERROR_INTERNAL,
}

/// What an [`Error`] has to say.
#[derive(Clone, Debug)]
pub struct Failure {
    message: String,
    retryable: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// What failed, where, and what to do about it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error::of(code, Failure { message: message.into(), retryable: false, source: None })
    }

    /// One that another error is the reason for.
    pub(crate) fn because(code: Code, message: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::of(code, Failure { message: message.into(), retryable: false, source: Some(Arc::new(source)) })
    }

    pub(crate) fn closed() -> Self {
        Error::new(Code::Closed, "the engine is closed")
    }

    pub(crate) fn forked() -> Self {
        Error::new(Code::Forked, "this process is a fork of the one that opened the engine: open one here")
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        self.failure().message()
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.failure().is_retryable()
    }

    /// Copies an error that stays the library's.
    ///
    /// # Safety
    /// `raw` is a live troupe_error.
    pub(crate) unsafe fn borrowed(raw: *const sys::troupe_error) -> Self {
        // SAFETY: the caller's promise; messages end in NUL and live as long as the error.
        unsafe {
            let failure = Failure {
                message: CStr::from_ptr(sys::troupe_error_message(raw)).to_string_lossy().into_owned(),
                retryable: sys::troupe_error_retryable(raw) != 0,
                source: None,
            };
            Error::of(Code::from(sys::troupe_error_code(raw)), failure)
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure().source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// Turns what a call returned into a Result, and frees it.
///
/// # Safety
/// `raw` is NULL or an error that the caller owns.
pub(crate) unsafe fn check(raw: *mut sys::troupe_error) -> Result<(), Error> {
    if raw.is_null() {
        return Ok(());
    }
    // SAFETY: not NULL, and ours until freed.
    let error = unsafe { Error::borrowed(raw) };
    // SAFETY: ours, and not used again.
    unsafe { sys::troupe_error_free(raw) };
    Err(error)
}
