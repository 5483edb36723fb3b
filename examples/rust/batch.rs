//! A batch: all requests run at once, the answers come in order.   batch [ENDPOINT]
use troupe::{Engine, Request};

fn main() -> Result<(), troupe::Error> {
    let engine = Engine::open(&std::env::args().nth(1).unwrap_or("echo:".into()))?;
    let prompts = ["one", "two", "three", "four", "five"];
    let answers = engine.batch(&prompts.map(Request::prompt));
    for (prompt, answer) in prompts.iter().zip(answers) {
        println!("{prompt} -> {}", answer?.text());
    }
    Ok(())
}
