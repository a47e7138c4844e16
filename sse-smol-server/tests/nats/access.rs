//! Users, passwords, tokens, nkeys and credentials.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::dir::Dir;
use super::engine::{Engine, with_each_and};
use super::nodes::request;
use super::support::Binary;
use super::support::subscriber::{Publisher, Subscriber};

/// Runs a server that does not start, and returns its errors.
pub(crate) fn refused(arguments: &[&str]) -> String {
    // Ends a server that starts.
    let mut server = Command::new("timeout");
    server.args(["20", env!("CARGO_BIN_EXE_sse-smol-server"), "--listen", "127.0.0.1:0"]);
    let output = server.args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Checks that errors name all of the parts, and not the secret.
pub(crate) fn assert_names(errors: &str, parts: &[&str], secret: &str) {
    for part in parts {
        assert!(errors.contains(part), "{part:?} in {errors}");
    }
    assert!(!errors.contains(secret), "{errors}");
}

/// Runs a server with these arguments, publishes an event, and checks that the secret is not in the
/// log.
pub(crate) fn assert_publishes(arguments: &[&str], secret: &str) {
    let server = Binary::start(arguments);
    Publisher::open(server.address).publish("a", "x");
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("connected to NATS") && !log.contains(secret), "{log}");
}

fn path(dir: &Dir, name: &str) -> String {
    dir.0.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_password_is_sent_and_not_shown() {
    with_each_and(&["--user", "us er", "--pass", "s%cret/1"], |engine| {
        let url = format!("nats://us%20er:s%25cret%2F1@127.0.0.1:{}", engine.port());
        let server = Binary::start_with_variable("SSE_NATS", &url, &["--open-publishing"]);
        Publisher::open(server.address).publish("a", "x");
        let (_, _, log) = server.stop("-TERM");
        assert!(log.contains("connected to NATS") && !log.contains("cret"), "{log}");
        let url = format!("nats://user:wr0ng@127.0.0.1:{}", engine.port());
        let parts = ["--nats", "the user in the URL", "authorization violation"];
        assert_names(&refused(&["--nats", &url]), &parts, "wr0ng");
        let parts = ["without credentials", "authorization violation"];
        assert_names(&refused(&["--nats", &engine.url()]), &parts, "cret");
    });
}

#[test]
fn a_token_is_sent_and_not_shown() {
    with_each_and(&["--auth", "s3cret"], |engine| {
        let url = |token: &str| format!("nats://{token}@127.0.0.1:{}", engine.port());
        assert_publishes(&["--nats", &url("s3cret")], "s3cret");
        let parts = ["--nats", "the token in the URL", "authorization violation"];
        assert_names(&refused(&["--nats", &url("wr0ng")]), &parts, "wr0ng");
    });
}

#[test]
fn an_nkey_signs_and_is_not_shown() {
    let [user, other] = [(); 2].map(|()| KeyPair::new_user());
    let (public, seed) = (user.public_key(), user.seed().unwrap());
    let dir = Dir::new();
    dir.write("seed", &format!("{seed}\n"));
    dir.write("other", &other.seed().unwrap());
    dir.write("damaged", &seed[..40]);
    dir.write("config", &format!("authorization {{ users = [ {{ nkey: {public} }} ] }}"));
    with_each_and(&["-c", &path(&dir, "config")], |engine| {
        let url = engine.url();
        assert_publishes(&["--nats", &url, "--nats-nkey", &path(&dir, "seed")], &seed);
        for (name, part) in [
            ("other", "authorization violation"),
            ("damaged", "not the seed of an nkey"),
            ("config", "not the seed of an nkey"),
            ("missing", "No such file"),
        ] {
            let file = path(&dir, name);
            let errors = refused(&["--nats", &url, "--nats-nkey", &file]);
            assert_names(&errors, &["--nats-nkey", &file, part], &seed[..40]);
        }
    });
}

/// An operator with an account for the system and another one, whose user may do what the
/// documentation lists.
struct Operator {
    config: String,
    account: KeyPair,
}

impl Operator {
    fn new() -> Self {
        let operator = KeyPair::new_operator();
        let [system, account] = [(); 2].map(|()| KeyPair::new_account());
        let unlimited = |names: &[&str]| -> serde_json::Map<String, Value> {
            names.iter().map(|name| ((*name).to_owned(), (-1).into())).collect()
        };
        let mut limits =
            unlimited(&["subs", "data", "payload", "imports", "exports", "conn", "leaf"]);
        limits.insert("wildcards".to_owned(), true.into());
        let of_system = token(
            &operator,
            &system,
            &json!({ "type": "account", "version": 2, "limits": limits }),
        );
        limits.extend(unlimited(&["mem_storage", "disk_storage", "streams", "consumer"]));
        let of_account = token(
            &operator,
            &account,
            &json!({ "type": "account", "version": 2, "limits": limits }),
        );
        let of_operator = token(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
        let [system, name] = [&system, &account].map(KeyPair::public_key);
        let config = format!(
            "operator: {of_operator}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{ {system}: {of_system}, {name}: {of_account} }}\n"
        );
        Self { config, account }
    }

    /// Returns the content of a file with the credentials of a new user of this account, and the
    /// seed in it.
    fn user(account: &KeyPair) -> (String, String) {
        let user = KeyPair::new_user();
        let seed = user.seed().unwrap();
        let rights = json!({
            "type": "user",
            "version": 2,
            "pub": { "allow": ["sse.*", "$JS.API.>"] },
            "sub": { "allow": ["_INBOX.>"] },
            "subs": -1,
            "data": -1,
            "payload": -1,
        });
        let token = token(account, &user, &rights);
        let content = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        (content, seed)
    }
}

/// Returns a signed token of NATS.
fn token(issuer: &KeyPair, subject: &KeyPair, content: &Value) -> String {
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = json!({
        "jti": "1",
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "test",
        "nats": content,
    });
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&head), encode(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

#[test]
fn credentials_of_a_user_with_the_documented_rights_suffice() {
    let operator = Operator::new();
    let (content, seed) = Operator::user(&operator.account);
    let (of_other, _) = Operator::user(&KeyPair::new_account());
    let dir = Dir::new();
    dir.write("config", &operator.config);
    dir.write("creds", &content);
    dir.write("other", &of_other);
    dir.write("damaged", &content[..content.len() / 2]);
    with_each_and(&["-c", &path(&dir, "config")], |engine: Engine| {
        let url = engine.url();
        let creds = path(&dir, "creds");
        assert_publishes(&["--nats", &url, "--nats-creds", &creds], &seed);
        // The stream exists, and events are read from it.
        let server = Binary::start(&["--nats", &url, "--nats-creds", &creds, "--window", "1"]);
        Publisher::open(server.address).publish("a", "y");
        let mut subscriber = Subscriber::open(server.address, "/topics/a?lastEventId=earliest");
        subscriber.read_events(2);
        assert_eq!(subscriber.data(), ["x", "y"]);
        let (status, body) = request(&server, "DELETE", "/topics/a", "");
        assert!((200..300).contains(&status), "{body}");
        for (name, part) in [
            ("other", "authorization violation"),
            ("damaged", "credentials"),
            ("missing", "No such file"),
        ] {
            let file = path(&dir, name);
            let errors = refused(&["--nats", &url, "--nats-creds", &file]);
            assert_names(&errors, &["--nats-creds", &file, part], &seed);
        }
        let errors = refused(&["--nats", &url]);
        assert_names(&errors, &["--nats", "without credentials", "authorization"], &seed);
    });
}
