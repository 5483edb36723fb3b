//! What one rendering may take. A chat template is a program of whoever made the model folder, so its
//! memory, its time and the size of every text and list that it makes are bounded here.
//!
//! Memory is what the thread holds beyond what it held when the rendering began, counted by the
//! allocator. It is looked at between the steps of a template (guards.rs), and each single step makes at
//! most a few times MEMORY; so does each take a bounded time. Time is the thread's own: a machine that
//! has much else to do turns no template away.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use minijinja::{Error, ErrorKind};

/// A prompt's text is at most this long (limits::prompt_bytes), and so is whatever goes into one.
pub const TEXT: usize = 64 << 20;
pub const MEMORY: usize = 512 << 20;
pub const TIME: Duration = Duration::from_secs(5);
/// Instructions: far above what a real template needs for the longest conversation.
pub const STEPS: u64 = 40_000_000;
/// Items of one list.
pub const ITEMS: usize = 4 << 20;

/// Of one thread. In one place, since each way to it is a call in a shared library.
struct Account {
    held: Cell<isize>,
    going_on: Cell<bool>,
    held_most: Cell<isize>,
    begun_ms: Cell<i64>, // of the thread's own time
    end_ms: Cell<i64>,   // not before this moment can it be used up
    broken: Cell<bool>,
    why: RefCell<String>,
}

thread_local! {
    static HERE: Account = const {
        Account {
            held: Cell::new(0),
            going_on: Cell::new(false),
            held_most: Cell::new(0),
            begun_ms: Cell::new(0),
            end_ms: Cell::new(0),
            broken: Cell::new(false),
            why: RefCell::new(String::new()),
        }
    };
}

fn milliseconds(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the struct it is given, and these clocks are always there.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Since some moment, to a few milliseconds: this is asked at every step.
fn now_ms() -> i64 {
    milliseconds(libc::CLOCK_MONOTONIC_COARSE)
}

/// What this thread has worked: a system call, asked when a rendering begins and when it may have had
/// its time.
fn worked_ms() -> i64 {
    milliseconds(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Renderings that are going on, in any thread: without one nothing is counted, since a thread's own
/// number costs a call in a shared library.
static GOING_ON: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which also counts what each thread holds.
pub struct Counting;

fn count(bytes: isize) {
    if GOING_ON.load(Ordering::Relaxed) > 0 {
        // Not while the thread ends and its account is gone.
        let _ = HERE.try_with(|here| here.held.set(here.held.get().wrapping_add(bytes)));
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
        HERE.with(|here| {
            here.held_most.set(here.held.get().wrapping_add(MEMORY as isize));
            here.begun_ms.set(worked_ms());
            here.end_ms.set(now_ms() + TIME.as_millis() as i64);
            here.broken.set(false);
            here.going_on.set(true);
        });
        Rendering(())
    }
}

impl Drop for Rendering {
    fn drop(&mut self) {
        HERE.with(|here| {
            here.going_on.set(false);
            here.why.take();
        });
        GOING_ON.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    fn breaks(&self, why: String) {
        self.why.replace(why);
        self.broken.set(true);
    }

    fn had_its_time(&self) -> bool {
        let now = now_ms();
        if now <= self.end_ms.get() {
            return false;
        }
        let left = TIME.as_millis() as i64 - (worked_ms() - self.begun_ms.get());
        self.end_ms.set(now + left);
        left <= 0
    }

    fn broken(&self) -> bool {
        if !self.going_on.get() || self.broken.get() {
            return self.going_on.get();
        }
        if self.held.get() > self.held_most.get() {
            self.breaks(format!("needs more memory than {MEMORY} bytes"));
        } else if self.had_its_time() {
            self.breaks(format!("runs for more than {} s", TIME.as_secs()));
        }
        self.broken.get()
    }
}

/// For writers that cannot fail: true once a bound is passed, that of the text so far or another. They
/// stop then, and the next check says why.
pub fn overlong(bytes: usize) -> bool {
    HERE.with(|here| {
        if bytes > TEXT && here.going_on.get() {
            here.breaks(long_text());
        }
        here.broken()
    })
}

fn long_text() -> String {
    format!("makes a text of more than {TEXT} bytes")
}

pub fn check() -> Result<(), Error> {
    HERE.with(|here| if here.broken() { Err(exceeded(here.why.borrow().clone())) } else { Ok(()) })
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
