//! What users do that nobody planned: each has a documented result, none hangs, none crashes.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use troupe::{Answer, Code, Delta, Engine, Error, Failure, Image, Options, Pixels, Request, Sampling, Server, ServerOptions, Session, Stream};

const fn assert_send<T: Send>() {}
const fn assert_sync<T: Sync>() {}

// Compiling this is the test.
const _: () = {
    assert_send::<Engine>();
    assert_sync::<Engine>();
    assert_send::<Session>();
    assert_sync::<Session>();
    assert_send::<Server>();
    assert_sync::<Server>();
    assert_send::<Stream>();
    assert_send::<Request>();
    assert_send::<Answer>();
    assert_send::<Delta>();
    assert_send::<Error>();
    assert_sync::<Error>();
    const fn assert_unpin<T: Unpin>() {}
    assert_unpin::<Stream>();
    const fn assert_static_error<T: std::error::Error + Send + Sync + Clone + 'static>() {}
    assert_static_error::<Error>();
};

fn open(endpoint: &str) -> Engine {
    Engine::open(endpoint).expect("echo opens")
}

fn long() -> Request {
    Request::prompt("x".repeat(3000))
}

fn wait_cancelled(engine: &Engine, want: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while engine.stats().expect("stats").cancelled != want {
        assert!(Instant::now() < deadline, "the request was not cancelled");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn errors_are_matched_by_kind_and_have_their_source() {
    let engine = open("echo:");
    match engine.generate(&Request::prompt("x").sampling(Sampling { top_p: Some(7.0), ..Default::default() })) {
        Err(Error::Invalid(failure)) => assert!(failure.message().contains("top_p"), "{failure}"),
        other => panic!("{other:?}"),
    }
    let error = Engine::open("echo:\0").err().expect("refused");
    let source = error.source().expect("what the standard library said");
    assert!(source.downcast_ref::<std::ffi::NulError>().is_some(), "{source}");
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert!(boxed.to_string().starts_with("Invalid: endpoint"), "{boxed}");
    let failure: Failure = engine.generate(&Request::tokens([-5])).expect_err("refused").failure().clone();
    assert!(!failure.is_retryable());
}

#[test]
fn values_that_mean_something_else_in_c() {
    let engine = open("echo:");
    for (field, sampling) in [
        ("temperature", Sampling { temperature: Some(f32::NAN), ..Default::default() }),
        ("max_tokens", Sampling { max_tokens: Some(-1), ..Default::default() }),
        ("n is", Sampling { n: -1, ..Default::default() }),
        ("stop", Sampling { stop: vec!["a\0b".into()], ..Default::default() }),
    ] {
        let error = engine.generate(&Request::prompt("x").sampling(sampling)).expect_err(field);
        assert!(error.code() == Code::Invalid && error.message().contains(field), "{error}");
    }
    assert_eq!(engine.generate(&Request::prompt("x").option("client", "a\0b")).expect_err("NUL").code(), Code::Invalid);
    assert_eq!(engine.generate(&Request::prompt("x").option("colour", "red")).expect_err("unknown").code(), Code::Invalid);
    assert_eq!(engine.generate(&Request::prompt("nul \0 in it")).expect("text").text(), "nul \0 in it");
    for (width, height) in [(0, 4), (u32::MAX, 1), (1 << 20, 1 << 20)] {
        let image = Image::Pixels { width, height, format: Pixels::Rgb, data: vec![0; 72] };
        engine.generate(&Request::prompt("").image(image)).expect_err("no such picture");
    }
    let ragged = Image::Embedding { rows: 4, hidden: 8, values: vec![0.0; 40], grid: None };
    engine.generate(&Request::prompt("").image(ragged)).expect_err("no such rows");
}

#[test]
fn the_longest_time_is_for_ever() {
    let engine = open("echo:");
    let session = engine.session_with(Some(Duration::MAX)).expect("a session");
    assert!(session.state().expect("a state").lease_left > Duration::from_secs(100 * 365 * 24 * 3600));
    let request = Request::prompt("x").timeout(Duration::from_nanos(1)).timeout(Duration::MAX);
    assert_eq!(engine.generate(&request).expect("no deadline").text(), "x");
    let window = ServerOptions { resume_window: Some(Duration::MAX), ..Default::default() };
    let server = engine.serve("tcp://127.0.0.1:*", &window).expect("a server");
    let patient = Options { connect_timeout: Some(Duration::MAX), ..Default::default() };
    let far = Engine::open_with(server.endpoint(), patient).expect("connects");
    far.close(Duration::MAX).expect("closes");
}

#[test]
fn closing_cuts_short_a_drain_that_goes_on() {
    let engine = open("echo:?step_ms=10");
    let stream = engine.stream(&long()).expect("a stream");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.close(Duration::MAX).expect("drains"));
        std::thread::sleep(Duration::from_millis(100));
        engine.close(Duration::ZERO).expect("closes");
        // What runs has ended: its end is there already.
        assert_eq!(stream.finish().expect_err("cancelled").code(), Code::Cancelled);
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "of 30");
}

#[test]
fn sessions_and_servers_outlive_their_engine() {
    let engine = open("echo:");
    let session = engine.session_with(Some(Duration::from_secs(60))).expect("a session");
    assert!(session.state().expect("a state").lease_left <= Duration::from_secs(60));
    let server = engine.serve("tcp://127.0.0.1:*", &Default::default()).expect("a server");
    let other = open("echo:");
    let stranger = other.generate(&Request::prompt("x").session(&session)).expect_err("not its engine's");
    assert_eq!(stranger.code(), Code::Invalid);
    drop(engine);
    assert_eq!(session.state().expect_err("closed").code(), Code::Closed);
    assert_eq!(session.fork().expect_err("closed").code(), Code::Closed);
    drop(server);
}

#[test]
fn everything_of_one_engine_at_once() {
    let engine = Arc::new(open("echo:?step_ms=1"));
    std::thread::scope(|scope| {
        for i in 0..24 {
            let engine = Arc::clone(&engine);
            scope.spawn(move || match i % 4 {
                0 => engine.close(Duration::ZERO).expect("closes"),
                1 => assert!(engine.generate(&long()).is_err()),
                2 => drop(engine.stream(&long())),
                _ => drop((engine.stats(), engine.tokenize("abc", false), engine.session())),
            });
        }
    });
    assert_eq!(engine.info().expect_err("closed").code(), Code::Closed);
}

#[test]
fn a_batch_waits_where_the_engine_is_full() {
    let small = Options { max_sequences: Some(2), max_waiting: Some(2), ..Default::default() };
    let engine = Engine::open_with("echo:?step_ms=1", small).expect("opens");
    let requests: Vec<_> = (0..40).map(|i| Request::prompt(format!("p{i}"))).collect();
    for (i, answer) in engine.batch(&requests).into_iter().enumerate() {
        assert_eq!(answer.expect("an answer").text(), format!("p{i}"));
    }
    assert!(engine.batch(&[]).is_empty());
}

#[tokio::test]
async fn select_cancels_what_lost() {
    let engine = open("echo:?step_ms=5");
    tokio::select! {
        _ = engine.generate_async(&long()) => panic!("that quickly?"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    wait_cancelled(&engine, 1);
    let spawned = tokio::spawn(engine.generate_async(&Request::prompt("a task of its own")));
    assert_eq!(spawned.await.expect("no panic").expect("an answer").text(), "a task of its own");
    let late = tokio::time::timeout(Duration::from_millis(50), engine.generate_async(&long())).await;
    assert!(late.is_err());
    wait_cancelled(&engine, 2);
    let mut stream = engine.stream(&long()).expect("a stream");
    stream.next().await.expect("a delta").expect("no error");
    stream.cancel();
    let mut last = None;
    while let Some(item) = stream.next().await {
        last = Some(item);
    }
    assert_eq!(last.expect("an end").expect_err("cancelled").code(), Code::Cancelled);
    assert!(stream.next().await.is_none() && !stream.so_far().text().is_empty());
}

#[tokio::test]
async fn opening_and_closing_leave_the_worker_free() {
    // On one worker: while the engine loads and while it drains, this counts on.
    let beats = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&beats);
    let count = move || counter.load(std::sync::atomic::Ordering::Relaxed);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            beats.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let engine = Engine::open_async("echo:?load_ms=300&step_ms=10", Options::default()).await.expect("opens");
    let opened = count();
    assert!(opened >= 10, "{opened} beats while it loaded");
    let stream = engine.stream(&Request::prompt("y".repeat(20))).expect("a stream");
    engine.close_async(Duration::from_secs(30)).await.expect("closes");
    assert!(count() >= opened + 5, "{} beats while it drained", count() - opened);
    assert_eq!(stream.collect_answer().await.expect("drained").text(), "y".repeat(20));
    assert_eq!(Engine::open_async("/nowhere/at/all", Options::default()).await.err().expect("refused").code(), Code::NotFound);
    // Nobody waits for it any more: it is closed as soon as it is there.
    let given_up = tokio::time::timeout(Duration::from_millis(20), Engine::open_async("echo:?load_ms=300", Options::default()));
    assert!(given_up.await.is_err());
}

#[test]
fn the_last_engine_dropped_by_a_waker() {
    struct Last(std::sync::Mutex<Option<Engine>>, std::sync::mpsc::Sender<()>);
    impl std::task::Wake for Last {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().expect("ours").take()); // on the reader's thread
            let _ = self.1.send(());
        }
    }
    let engine = open("echo:?step_ms=20");
    let mut stream = engine.stream(&Request::prompt("x".repeat(50))).expect("a stream");
    let (done, heard) = std::sync::mpsc::channel();
    let waker = Arc::new(Last(std::sync::Mutex::new(Some(engine)), done)).into();
    let mut context = std::task::Context::from_waker(&waker);
    while stream.poll_next_unpin(&mut context).is_ready() {}
    heard.recv_timeout(Duration::from_secs(10)).expect("the waker came back");
    assert!(stream.finish().is_err());
}

/// The thread that serves all streams outlives a waker that panics.
#[test]
fn a_waker_that_panics_stops_nobody() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("from a waker (expected)");
        }
    }
    let engine = open("echo:?step_ms=5");
    let mut stream = engine.stream(&Request::prompt("x".repeat(20))).expect("a stream");
    let waker = Arc::new(Panics).into();
    let mut context = std::task::Context::from_waker(&waker);
    while stream.poll_next_unpin(&mut context).is_ready() {}
    assert_eq!(engine.generate(&Request::prompt("another")).expect("an answer").text(), "another");
    assert_eq!(stream.finish().expect("the rest").text(), "x".repeat(20));
}

/// The child of a fork has no reader: what waits there is told.
#[cfg(unix)]
#[test]
fn a_stream_in_a_fork_ends() {
    extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(code: i32) -> !;
    }
    let engine = open("echo:?step_ms=5");
    let mut stream = engine.stream(&Request::prompt("x".repeat(200))).expect("a stream");
    stream.wait_next().expect("a delta").expect("no error");
    // SAFETY: the child calls what a child may, and leaves by _exit.
    let child = unsafe { fork() };
    if child == 0 {
        let told = matches!(stream.wait_next(), Some(Err(Error::Forked(_)))) && stream.wait_next().is_none();
        // SAFETY: as above.
        unsafe { _exit(if told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid.
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status >> 8, 7);
    assert!(stream.finish().is_ok());
}
