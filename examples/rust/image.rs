//! A question about an image.   image [ENDPOINT] FILE
use troupe::{Engine, Image, Message, Request, Role};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let file = args.last().ok_or("usage: image [ENDPOINT] FILE: a JPEG, PNG or WebP")?;
    let endpoint = if args.len() > 1 { &args[0] } else { "echo:" };
    let picture = Image::Encoded(std::fs::read(file)?);

    let engine = Engine::open(endpoint)?;
    let question = Message::new(Role::User, [picture.into(), " What is this?".into()]);
    println!("{}", engine.generate(&Request::chat([question]))?.text());
    Ok(())
}
