//! A session with a fork: one beginning, two ways to go on, and neither repeats its work.   session [ENDPOINT]
use troupe::{Engine, Error, Request, Session};

fn ask(engine: &Engine, session: &Session, prompt: &str) -> Result<(), Error> {
    println!("{}", engine.generate(&Request::prompt(prompt).session(session))?.text());
    Ok(())
}

fn main() -> Result<(), Error> {
    let engine = Engine::open(&std::env::args().nth(1).unwrap_or("echo:".into()))?;
    let session = engine.session()?;
    ask(&engine, &session, "Once upon a time there was a lamp.")?;

    let other = session.fork()?;
    ask(&engine, &session, " It was lit.")?;
    ask(&engine, &other, " It was broken.")?;
    println!("the fork holds {} tokens", other.state()?.tokens);
    Ok(())
}
