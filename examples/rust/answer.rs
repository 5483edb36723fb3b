//! One answer: the whole of it, when it is there.   answer [ENDPOINT] [PROMPT]
use troupe::{Engine, Request};

fn main() -> Result<(), troupe::Error> {
    let mut args = std::env::args().skip(1);
    let engine = Engine::open(&args.next().unwrap_or("echo:".into()))?;
    let prompt = args.next().unwrap_or("All the world's a stage".into());
    println!("{}", engine.generate(&Request::prompt(prompt))?.text());
    Ok(())
}
