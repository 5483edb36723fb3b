//! Owners of the library's handles.

use std::ptr::NonNull;

use troupe_sys as sys;

macro_rules! owner {
    ($(#[$doc:meta])* $name:ident, $raw:path, $free:path) => {
        $(#[$doc])*
        pub(crate) struct $name(NonNull<$raw>);

        impl $name {
            /// # Safety
            /// `raw` is a handle that the caller owns and gives away.
            pub(crate) unsafe fn own(raw: *mut $raw) -> Self {
                $name(NonNull::new(raw).expect("the library returned no handle"))
            }

            pub(crate) fn get(&self) -> *mut $raw {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: ours, and not used again.
                unsafe { $free(self.0.as_ptr()) }
            }
        }
    };
}

owner!(
    /// An open engine.
    RawEngine, sys::troupe_engine, sys::troupe_engine_free
);
owner!(
    /// A completion queue.
    RawQueue, sys::troupe_queue, sys::troupe_queue_free
);
owner!(
    /// A request being built.
    RawRequest, sys::troupe_request, sys::troupe_request_free
);
owner!(
    /// A session.
    RawSession, sys::troupe_session, sys::troupe_session_free
);
owner!(
    /// A server.
    RawServer, sys::troupe_server, sys::troupe_server_free
);

// SAFETY: troupe.h promises that engines, queues, sessions and servers may be used from many threads at
// once (rule 4). Requests belong to one thread at a time, and stay inside one call here.
unsafe impl Send for RawEngine {}
unsafe impl Sync for RawEngine {}
unsafe impl Send for RawQueue {}
unsafe impl Sync for RawQueue {}
unsafe impl Send for RawSession {}
unsafe impl Sync for RawSession {}
unsafe impl Send for RawServer {}
unsafe impl Sync for RawServer {}

/// The contents of a troupe_bytes, which is freed.
///
/// # Safety
/// `raw` is a troupe_bytes that the caller owns.
pub(crate) unsafe fn take_bytes(raw: *mut sys::troupe_bytes) -> Vec<u8> {
    // SAFETY: live until freed; data has `size` bytes.
    unsafe {
        let bytes = slice((*raw).data.cast::<u8>(), (*raw).size).to_vec();
        sys::troupe_bytes_free(raw);
        bytes
    }
}

/// A slice that may be NULL when it is empty.
///
/// # Safety
/// `data` points to `len` values that outlive 'a, or `len` is 0.
pub(crate) unsafe fn slice<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 || data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data, len) }
}
