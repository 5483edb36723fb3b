//! What one rendering may take. A chat template is a program of whoever made the model folder, so its
//! memory, its time and the size of every text and list that it makes are bounded here.
//!
//! Memory is what the thread holds beyond what it held when the rendering began, counted by the
//! allocator. It is looked at between the steps of a template (guards.rs), and each single step makes at
//! most a few times MEMORY; so does each take a bounded time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minijinja::{Error, ErrorKind};

/// A prompt's text is at most this long (limits::prompt_bytes), and so is whatever goes into one.
pub const TEXT: usize = 64 << 20;
pub const MEMORY: usize = 512 << 20;
pub const TIME: Duration = Duration::from_secs(5);
/// Instructions: far above what a real template needs for the longest conversation.
pub const STEPS: u64 = 40_000_000;
/// Items of one list.
pub const ITEMS: usize = 4 << 20;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static END: Cell<Option<(isize, Instant)>> = const { Cell::new(None) };
    static BROKEN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Renderings that are going on, in any thread: without one nothing is counted, since a thread's own
/// number costs a call in a shared library.
static GOING_ON: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which also counts what each thread holds.
pub struct Counting;

fn count(bytes: isize) {
    if GOING_ON.load(Ordering::Relaxed) > 0 {
        HELD.set(HELD.get().wrapping_add(bytes));
    }
}

// SAFETY: every call is the system allocator's own; counting touches a thread-local number that needs no
// allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        System.dealloc(at, layout)
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        System.realloc(at, layout, size)
    }
}

/// A limit that a template went beyond, for people.
#[derive(Debug)]
pub struct Exceeded(pub String);

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Exceeded {}

pub fn exceeded(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, "limit").with_source(Exceeded(what.into()))
}

/// While it lives, this thread renders one template within the bounds.
pub struct Rendering(());

impl Rendering {
    pub fn begin() -> Self {
        GOING_ON.fetch_add(1, Ordering::Relaxed);
        END.set(Some((HELD.get().wrapping_add(MEMORY as isize), Instant::now() + TIME)));
        BROKEN.take();
        Rendering(())
    }
}

impl Drop for Rendering {
    fn drop(&mut self) {
        END.set(None);
        BROKEN.take();
        GOING_ON.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For writers that cannot fail: true once a bound is passed; they stop, and the next check says why.
pub fn broken() -> bool {
    let Some((memory, time)) = END.get() else { return false };
    if BROKEN.with_borrow(|broken| broken.is_some()) {
        return true;
    }
    let why = if HELD.get() > memory {
        format!("needs more memory than {MEMORY} bytes")
    } else if Instant::now() > time {
        format!("runs for more than {} s", TIME.as_secs())
    } else {
        return false;
    };
    BROKEN.set(Some(why));
    true
}

/// For those writers too: the text so far is too long.
pub fn overlong(bytes: usize) -> bool {
    if bytes > TEXT && END.get().is_some() {
        BROKEN.set(Some(long_text()));
    }
    broken()
}

fn long_text() -> String {
    format!("makes a text of more than {TEXT} bytes")
}

pub fn check() -> Result<(), Error> {
    if !broken() {
        return Ok(());
    }
    Err(exceeded(BROKEN.with_borrow(|broken| broken.clone().unwrap_or_default())))
}

/// Before a text of this many bytes is made.
pub fn text(bytes: usize) -> Result<(), Error> {
    if bytes > TEXT {
        return Err(exceeded(long_text()));
    }
    check()
}

/// Before a list of this many items is made.
pub fn items(count: usize) -> Result<(), Error> {
    if count > ITEMS {
        return Err(exceeded(format!("makes a list of more than {ITEMS} values")));
    }
    check()
}
