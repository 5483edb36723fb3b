//! Serving an engine of this process, with keys and without.

use std::time::Duration;

use troupe::{keygen, Code, Engine, Error, KeyPair, Options, Request, ServerOptions};

fn answers(engine: &Engine, text: &str) {
    assert_eq!(engine.generate(&Request::prompt(text)).expect("an answer").text(), text);
}

#[test]
fn served_and_gone() {
    let near = Engine::open("echo:").expect("opens");
    let server = near.serve("tcp://127.0.0.1:*", &ServerOptions::default()).expect("serves");
    assert!(server.endpoint().starts_with("tcp://127.0.0.1:") && !server.endpoint().ends_with('*'));
    let far = Engine::open(server.endpoint()).expect("reaches it");
    answers(&far, "from near and far");
    server.close(Duration::from_secs(1)).expect("closes");
    server.close(Duration::ZERO).expect("closes again");
    assert!(far.generate(&Request::prompt("too late")).expect_err("gone").is_retryable());
    answers(&near, "the engine is still open");
}

#[test]
fn keys_keep_strangers_out() {
    let [own, friend, stranger] = [(); 3].map(|()| keygen().expect("keys"));
    assert!(own.public.len() == 40 && own.secret.len() == 40 && own != friend);
    assert!(!format!("{own:?}").contains(&own.secret), "secrets are not printed");
    let allowed = std::env::temp_dir().join(format!("troupe-clients-{}", std::process::id()));
    std::fs::write(&allowed, format!("{}\n", friend.public)).expect("a file");
    let near = Engine::open("echo:").expect("opens");
    let options = ServerOptions {
        keys: Some(own.clone()),
        client_keys: Some(allowed.to_string_lossy().into_owned()),
        ..Default::default()
    };
    let server = near.serve("tcp://127.0.0.1:*", &options).expect("serves");
    let connect = |pair: &KeyPair| -> Result<Engine, Error> {
        Engine::open_with(
            server.endpoint(),
            Options {
                server_key: Some(own.public.clone()),
                client_public_key: Some(pair.public.clone()),
                client_secret_key: Some(pair.secret.clone()),
                connect_timeout: Some(Duration::from_secs(2)),
                ..Default::default()
            },
        )
    };
    answers(&connect(&friend).expect("a friend comes in"), "nobody else reads this");
    assert!(connect(&stranger).is_err(), "a stranger came in");
    std::fs::remove_file(allowed).expect("the file is still there");
}

#[test]
fn what_is_refused() {
    let engine = Engine::open("echo:").expect("opens");
    let open = engine.serve("tcp://0.0.0.0:*", &ServerOptions::default());
    assert_eq!(open.expect_err("not without keys").code(), Code::Invalid);
    let misspelt = ServerOptions { settings: vec!["requets=1".into()], ..Default::default() };
    let error = engine.serve("tcp://127.0.0.1:*", &misspelt).expect_err("no such setting");
    assert!(error.message().contains("requests"), "{error}");
}
