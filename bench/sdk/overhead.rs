//! Reads many answers at once, one task each, and prints how many token events came.
//! overhead ENDPOINT STREAMS TOKENS; see bench/sdk/run.py
use futures_util::StreamExt;
use troupe::{Engine, Options, Request, Stream};

async fn count(mut stream: Stream) -> usize {
    let mut events = 0;
    while let Some(delta) = stream.next().await {
        events += usize::from(!delta.expect("no error").tokens.is_empty());
    }
    events
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (streams, tokens): (i32, usize) = (args[1].parse()?, args[2].parse()?);
    let engine = Engine::open_with(&args[0], Options { max_sequences: Some(streams), ..Default::default() })?;
    let request = Request::prompt("x".repeat(tokens));
    let total = tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        let opened: Result<Vec<_>, _> = (0..streams).map(|_| engine.stream(&request)).collect();
        let tasks: Vec<_> = opened?.into_iter().map(|stream| tokio::spawn(count(stream))).collect();
        let mut total = 0;
        for task in tasks {
            total += task.await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(total)
    })?;
    println!("{total}");
    Ok(())
}
