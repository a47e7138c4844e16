//! Credentials.

use std::process::{Command, Output};

use super::dir::Dir;
use super::engine::with_each_and;
use super::support::Binary;
use super::support::subscriber::Publisher;

/// Runs a server that does not start, and returns its output.
fn refused(url: &str) -> Output {
    let mut server = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"));
    let output = server.args(["--listen", "127.0.0.1:0"]).env("SSE_NATS", url).output().unwrap();
    assert!(!output.status.success());
    output
}

#[test]
fn a_password_is_sent_and_not_shown() {
    with_each_and(&["--user", "us er", "--pass", "s%cret/1"], |engine| {
        let url = format!("nats://us%20er:s%25cret%2F1@127.0.0.1:{}", engine.port());
        let server = Binary::start_with_variable("SSE_NATS", &url, &["--open-publishing"]);
        Publisher::open(server.address).publish("a", "x");
        let (_, _, log) = server.stop("-TERM");
        assert!(log.contains("connected to NATS") && !log.contains("cret"), "{log}");
        let output = refused(&format!("nats://user:wr0ng@127.0.0.1:{}", engine.port()));
        let errors = String::from_utf8(output.stderr).unwrap().to_lowercase();
        assert!(
            errors.contains("authorization violation") && !errors.contains("wr0ng"),
            "{errors}"
        );
    });
}

#[test]
fn a_token_is_sent() {
    with_each_and(&["--auth", "s3cret"], |engine| {
        let url = format!("nats://s3cret@127.0.0.1:{}", engine.port());
        let server = Binary::start(&["--nats", &url]);
        Publisher::open(server.address).publish("a", "x");
    });
}

/// A pair from the documentation of NATS.
#[test]
fn an_nkey_signs() {
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let dir = Dir::new();
    dir.write("seed", &format!("{SEED}\n"));
    dir.write("config", &format!("authorization {{ users = [ {{ nkey: {PUBLIC} }} ] }}"));
    let path = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    with_each_and(&["-c", &path("config")], |engine| {
        let server = Binary::start(&["--nats", &engine.url(), "--nats-nkey", &path("seed")]);
        Publisher::open(server.address).publish("a", "x");
        refused(&engine.url());
    });
}
