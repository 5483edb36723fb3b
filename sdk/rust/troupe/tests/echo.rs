//! The crate over `echo:`, which answers with its prompt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use troupe::{Code, Engine, FinishReason, Image, Message, Options, Pixels, Request, Sampling};

fn open(endpoint: &str) -> Engine {
    Engine::open(endpoint).expect("echo opens")
}

fn wait_cancelled(engine: &Engine, want: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while engine.stats().expect("stats").cancelled != want {
        assert!(Instant::now() < deadline, "the request was not cancelled");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn generate_and_stream() {
    let engine = open("echo:");
    let answer = engine.generate(&Request::prompt("héllo 🎭")).expect("an answer");
    assert_eq!(answer.text(), "héllo 🎭");
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
    assert!(answer.usage.prompt > 0 && answer.timings.total > Duration::ZERO);
    let text: String = engine.stream(&Request::prompt("as it comes")).expect("a stream").into_iter().map(|d| d.expect("a delta").text).collect();
    assert_eq!(text, "as it comes");
}

#[test]
fn chat_in_both_forms() {
    let engine = open("echo:");
    for request in [
        Request::chat([Message::system("s"), Message::user("hello")]),
        Request::chat_json(r#"[{"role": "user", "content": "hello"}]"#),
    ] {
        assert_eq!(engine.generate(&request).expect("an answer").text(), "hello");
        assert!(engine.render(&request).expect("a rendering").contains("hello"));
    }
}

#[test]
fn choices_and_logprobs() {
    let engine = open("echo:");
    let sampling = Sampling { n: 3, logprobs: Some(2), ..Default::default() };
    let answer = engine.generate(&Request::prompt("abc").sampling(sampling)).expect("an answer");
    assert_eq!(answer.choices.len(), 3);
    for choice in &answer.choices {
        assert_eq!(choice.text, "abc");
        assert_eq!((choice.logprobs.len(), choice.top_logprobs.len()), (choice.tokens.len(), choice.tokens.len()));
    }
}

#[test]
fn scoring_gives_a_row_a_token() {
    let engine = open("echo:");
    let sampling = Sampling { max_tokens: Some(0), prompt_logprobs: Some(0), ..Default::default() };
    let rows = engine.generate(&Request::tokens([104, 105, 33]).sampling(sampling)).expect("scores").prompt_logprobs;
    assert_eq!(rows.len(), 3);
    assert!(rows[0].is_empty());
    assert_eq!(rows[1][0].token, 105);
}

#[test]
fn dropping_a_stream_cancels() {
    let engine = open("echo:?step_ms=5");
    let mut stream = engine.stream(&Request::prompt("x".repeat(3000))).expect("a stream");
    stream.wait_next().expect("a delta").expect("no error");
    drop(stream);
    wait_cancelled(&engine, 1);
}

#[test]
fn errors_have_their_kind() {
    let engine = open("echo:");
    let bad = Sampling { temperature: Some(-1.0), ..Default::default() };
    let error = engine.generate(&Request::prompt("x").sampling(bad)).expect_err("refused");
    assert_eq!(error.code(), Code::Invalid);
    assert!(error.message().contains("temperature"), "{error}");
    assert_eq!(Engine::open("/nowhere/at/all").err().expect("refused").code(), Code::NotFound);
    let slow = open("echo:?step_ms=20");
    let late = slow.generate(&Request::prompt("x".repeat(3000)).timeout(Duration::from_millis(100)));
    assert_eq!(late.expect_err("late").code(), Code::Deadline);
}

#[test]
fn close_is_final_and_idempotent() {
    let engine = open("echo:?step_ms=5");
    let stream = engine.stream(&Request::prompt("x".repeat(3000))).expect("a stream");
    engine.close(Duration::ZERO).expect("closes");
    engine.close(Duration::ZERO).expect("closes again");
    assert!(stream.finish().is_err());
    assert_eq!(engine.generate(&Request::prompt("x")).expect_err("closed").code(), Code::Closed);
}

#[test]
fn a_stream_may_outlive_its_engine() {
    let engine = open("echo:?step_ms=5");
    let stream = engine.stream(&Request::prompt("x".repeat(3000))).expect("a stream");
    drop(engine);
    assert!(stream.finish().is_err());
}

#[test]
fn threads_share_an_engine() {
    let engine = Arc::new(open("echo:"));
    std::thread::scope(|scope| {
        for i in 0..16 {
            let engine = Arc::clone(&engine);
            scope.spawn(move || {
                let want = format!("thread {i}");
                assert_eq!(engine.generate(&Request::prompt(&want)).expect("an answer").text(), want);
            });
        }
    });
}

#[test]
fn a_thousand_streams_and_a_batch() {
    let engine = Engine::open_with("echo:", Options { max_sequences: Some(1024), ..Default::default() }).expect("opens");
    let streams: Vec<_> = (0..1000).map(|i| engine.stream(&Request::prompt(format!("s{i}"))).expect("a stream")).collect();
    for (i, stream) in streams.into_iter().enumerate() {
        assert_eq!(stream.finish().expect("an answer").text(), format!("s{i}"));
    }
    let requests: Vec<_> = (0..100).map(|i| Request::prompt(i.to_string())).collect();
    for (i, answer) in engine.batch(&requests).into_iter().enumerate() {
        assert_eq!(answer.expect("an answer").text(), i.to_string());
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn submitting_and_cancelling_keeps_memory_flat() {
    let cycles: usize = std::env::var("TROUPE_TEST_CYCLES").map_or(100_000, |given| given.parse().expect("a number"));
    let engine = open("echo:?step_ms=1");
    let request = Request::prompt("x".repeat(200));
    let rounds = |count: usize| {
        for _ in 0..count / 200 {
            let streams: Vec<_> = (0..200).map(|_| engine.stream(&request).expect("a stream")).collect();
            drop(streams);
            while engine.stats().is_ok_and(|s| s.running + s.waiting > 0) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    rounds(2000);
    let before = resident_kib();
    rounds(cycles);
    assert_eq!(engine.stats().expect("stats").submitted, 2000 + cycles as u64);
    // Other tests of this process run beside it: hence the room.
    assert!(resident_kib() < before + 32 * 1024, "{} KiB, {before} before", resident_kib());
}

#[test]
fn images_of_every_kind() {
    let engine = open("echo:");
    let pixels = Image::Pixels { width: 6, height: 4, format: Pixels::Rgb, data: vec![7; 72] };
    assert!(engine.generate(&Request::prompt("").image(pixels)).expect("an answer").text().contains("6x4"));
    let embedding = Image::Embedding { rows: 5, hidden: 8, values: vec![0.0; 40], grid: None };
    assert!(!engine.generate(&Request::prompt("").image(embedding)).expect("an answer").text().is_empty());
    let short = Image::Pixels { width: 6, height: 4, format: Pixels::Rgb, data: vec![7; 3] };
    assert_eq!(engine.generate(&Request::prompt("").image(short)).expect_err("refused").code(), Code::Invalid);
}

#[test]
fn sessions_fork() {
    let engine = open("echo:");
    let session = engine.session().expect("a session");
    engine.generate(&Request::prompt("first ").session(&session)).expect("an answer");
    let before = session.state().expect("a state").tokens;
    let fork = session.fork().expect("a fork");
    engine.generate(&Request::prompt("second").session(&fork)).expect("an answer");
    assert!(before > 0 && fork.state().expect("a state").tokens > before);
    assert_eq!(session.state().expect("a state").tokens, before);
}

#[test]
fn text_round_trip() {
    let engine = open("echo:");
    let ids = engine.tokenize("hi", false).expect("ids");
    assert_eq!(engine.detokenize(&ids, false).expect("text"), "hi");
}

#[tokio::test]
async fn streams_are_futures_streams_too() {
    let engine = open("echo:?step_ms=1");
    // On one worker: whoever blocked it would stop the other.
    let (left, right) = tokio::join!(collect(&engine, "left"), collect(&engine, "right"));
    assert_eq!((left.as_str(), right.as_str()), ("left", "right"));
    assert_eq!(engine.generate_async(&Request::prompt("x")).await.expect("an answer").text(), "x");
}

async fn collect(engine: &Engine, prompt: &str) -> String {
    let mut stream = engine.stream(&Request::prompt(prompt)).expect("a stream");
    let mut text = String::new();
    while let Some(delta) = stream.next().await {
        text += &delta.expect("a delta").text;
    }
    text
}
