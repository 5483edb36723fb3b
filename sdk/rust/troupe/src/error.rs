//! What can go wrong, by kind.

use std::ffi::CStr;
use std::fmt;

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

/// A failure: what, where and what to do stand in its message.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    message: String,
    retryable: bool,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), retryable: false }
    }

    pub(crate) fn closed() -> Self {
        Error::new(Code::Closed, "the engine is closed")
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Copies an error that stays the library's.
    ///
    /// # Safety
    /// `raw` is a live troupe_error.
    pub(crate) unsafe fn borrowed(raw: *const sys::troupe_error) -> Self {
        // SAFETY: the caller's promise; messages end in NUL and live as long as the error.
        unsafe {
            Error {
                code: Code::from(sys::troupe_error_code(raw)),
                message: CStr::from_ptr(sys::troupe_error_message(raw)).to_string_lossy().into_owned(),
                retryable: sys::troupe_error_retryable(raw) != 0,
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

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
