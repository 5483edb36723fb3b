//! A streamed chat: tokens are printed as they come.   chat [ENDPOINT] < lines
use std::io::{stdin, stdout, Write};

use troupe::{Engine, Message, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::open(&std::env::args().nth(1).unwrap_or("echo:".into()))?;
    let mut chat = vec![Message::system("Answer in one sentence.")];
    for line in stdin().lines() {
        chat.push(Message::user(line?));
        let mut answer = String::new();
        for delta in engine.stream(&Request::chat(chat.clone()))? {
            let text = delta?.text;
            print!("{text}");
            stdout().flush()?;
            answer += &text;
        }
        println!();
        chat.push(Message::assistant(answer));
    }
    Ok(())
}
