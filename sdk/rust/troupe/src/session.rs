//! A conversation whose work is kept.

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use troupe_sys as sys;

use crate::error::{check, Error};
use crate::raw::RawSession;

/// A conversation whose work is kept; clones are the same conversation, forks are another.
#[derive(Clone)]
pub struct Session(Arc<RawSession>);

/// How much a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// In the conversation.
    pub tokens: i64,
    /// Of these, those whose work is in the cache now.
    pub cached_tokens: i64,
    /// Unused for so long, it ends.
    pub lease_left: Duration,
}

impl Session {
    /// # Safety
    /// `raw` is a session that the caller owns and gives away.
    pub(crate) unsafe fn own(raw: *mut sys::troupe_session) -> Self {
        // SAFETY: the caller's promise.
        Session(Arc::new(unsafe { RawSession::own(raw) }))
    }

    pub(crate) fn raw(&self) -> *mut sys::troupe_session {
        self.0.get()
    }

    /// A second conversation that goes on from here.
    pub fn fork(&self) -> Result<Session, Error> {
        let mut out = ptr::null_mut();
        // SAFETY: the session is alive; on success `out` is ours.
        unsafe {
            check(sys::troupe_session_fork(self.raw(), &mut out))?;
            Ok(Session::own(out))
        }
    }

    /// Forgets all but the first `tokens` tokens.
    pub fn rewind(&self, tokens: i64) -> Result<(), Error> {
        // SAFETY: the session is alive.
        unsafe { check(sys::troupe_session_rewind(self.raw(), tokens)) }
    }

    /// How much it holds.
    pub fn state(&self) -> Result<SessionState, Error> {
        // SAFETY: all-zero bytes are a valid value of this plain struct; its size is set before the call.
        unsafe {
            let mut raw: sys::troupe_session_state = std::mem::zeroed();
            raw.struct_size = std::mem::size_of_val(&raw) as u32;
            check(sys::troupe_session_info(self.raw(), &mut raw))?;
            Ok(SessionState {
                tokens: raw.tokens,
                cached_tokens: raw.cached_tokens,
                lease_left: Duration::from_nanos(raw.lease_left_ns.max(0) as u64),
            })
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}
