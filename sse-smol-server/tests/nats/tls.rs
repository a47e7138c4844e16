//! Certificates of servers and clients.

use std::process::Command;

use super::access::{assert_names, assert_publishes, refused};
use super::dir::Dir;
use super::engine::with_each_and;

/// Certificates, and their keys, in a directory.
struct Certificates(Dir);

impl Certificates {
    /// Creates two authorities, and certificates that the first one has signed.
    fn new() -> Self {
        let certificates = Self(Dir::new());
        certificates.0.write("config", "[req]\ndistinguished_name = name\n[name]\n");
        let of_authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
        certificates.create("ca", &of_authority);
        certificates.create("other-ca", &of_authority);
        let (ca, key) = (certificates.path("ca.pem"), certificates.path("ca.key"));
        let signed = ["-CA", &ca, "-CAkey", &key, "-addext"];
        let of_server = "subjectAltName=IP:127.0.0.1";
        certificates.create("server", &[&signed[..], &[of_server]].concat());
        let of_client = "extendedKeyUsage=clientAuth";
        certificates.create("client", &[&signed[..], &[of_client]].concat());
        certificates
    }

    fn create(&self, name: &str, arguments: &[&str]) {
        let (config, key) = (self.path("config"), self.path(&format!("{name}.key")));
        let curve = "ec_paramgen_curve:prime256v1";
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "1"])
            .args(["-config", &config, "-subj", &format!("/CN={name}"), "-keyout", &key])
            .args(["-out", &self.path(&format!("{name}.pem"))])
            .args(arguments)
            .output()
            .expect("openssl is installed: see scripts/test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.0.0.join(name).to_str().unwrap().to_owned()
    }

    /// Returns the arguments of an engine with TLS.
    fn of_engine(&self) -> [String; 5] {
        let flags = ["--tls", "--tlscert", "--tlskey"].map(str::to_owned);
        let [tls, certificate, key] = flags;
        [tls, certificate, self.path("server.pem"), key, self.path("server.key")]
    }
}

const SECRET: &str = "PRIVATE KEY";

#[test]
fn the_certificate_of_the_engine_is_verified() {
    let certificates = Certificates::new();
    let arguments = certificates.of_engine();
    with_each_and(&arguments.each_ref().map(String::as_str), |engine| {
        let ca = certificates.path("ca.pem");
        // The engine requires TLS with any scheme.
        for scheme in ["nats", "tls"] {
            let url = format!("{scheme}://127.0.0.1:{}", engine.port());
            assert_publishes(&["--nats", &url, "--nats-ca", &ca], SECRET);
        }
        let url = engine.url();
        let errors = refused(&["--nats", &url]);
        assert_names(&errors, &["--nats", "invalid peer certificate"], SECRET);
        let other = certificates.path("other-ca.pem");
        let errors = refused(&["--nats", &url, "--nats-ca", &other]);
        assert_names(&errors, &["--nats-ca", "invalid peer certificate"], SECRET);
        for (name, part) in [
            ("ca.key", "no certificate"),
            ("config", "no certificate"),
            ("missing", "No such file"),
        ] {
            let file = certificates.path(name);
            let errors = refused(&["--nats", &url, "--nats-ca", &file]);
            assert_names(&errors, &["--nats-ca", &file, part], SECRET);
        }
        // The certificate is for the address.
        let url = format!("tls://localhost:{}", engine.port());
        let errors = refused(&["--nats", &url, "--nats-ca", &ca]);
        assert_names(&errors, &["--nats-ca", "certificate not valid for name"], SECRET);
    });
}

#[test]
fn an_engine_without_tls_is_refused_if_the_url_requires_it() {
    with_each_and(&[], |engine| {
        let url = format!("tls://127.0.0.1:{}", engine.port());
        assert_names(&refused(&["--nats", &url]), &["--nats", "TLS: "], SECRET);
    });
}

#[test]
fn the_engine_verifies_the_certificate_of_the_server() {
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let [tls, certificate, of_engine, key, key_of_engine] = certificates.of_engine();
    let arguments =
        [&*tls, &certificate, &of_engine, &key, &key_of_engine, "--tlsverify", "--tlscacert", &ca];
    with_each_and(&arguments, |engine| {
        let (url, client) = (engine.url(), certificates.path("client.pem"));
        let with = |certificate: &str, key: &str| {
            let files = [&ca, certificate, key];
            let [ca, certificate, key] = files;
            let flags = ["--nats", &url, "--nats-ca", ca, "--nats-cert", certificate];
            [&flags[..], &["--nats-key", key]].concat().into_iter().map(str::to_owned).collect()
        };
        let start = |arguments: Vec<String>| {
            assert_publishes(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), SECRET);
        };
        let fail = |arguments: Vec<String>| {
            refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let of_client = certificates.path("client.key");
        start(with(&client, &of_client));
        let errors = refused(&["--nats", &url, "--nats-ca", &ca]);
        assert_names(&errors, &["--nats", "TLS: received fatal alert"], SECRET);
        // A certificate that another authority has signed.
        let [other, of_other] =
            ["other-ca.pem", "other-ca.key"].map(|name| certificates.path(name));
        let errors = fail(with(&other, &of_other));
        assert_names(&errors, &["--nats-cert", "TLS: received fatal alert"], SECRET);
        for (certificate, key, parts) in [
            (&client, &of_other, ["--nats-key", "certificate or key"]),
            (&of_client, &of_client, ["--nats-cert", "no certificate"]),
            (&client, &client, ["--nats-key", "no key"]),
        ] {
            assert_names(&fail(with(certificate, key)), &parts, SECRET);
        }
    });
}
