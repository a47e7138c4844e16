//! The configuration of a storage on NATS.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use crate::storage::{History, StorageError, StorageErrorKind};

/// The configuration of a [`NatsStorage`](super::NatsStorage).
#[derive(Clone)]
#[non_exhaustive]
pub struct NatsConfig {
    /// The URLs of the servers of one cluster, with commas between them: `nats://HOST:PORT` or
    /// `tls://HOST:PORT`. The first may have a user and a password, or a token in place of the
    /// user, before the host.
    pub servers: String,
    /// The name of the stream, which is also the first token of its subjects: 1 to 32 characters
    /// from `A-Z a-z 0-9 _ -`. Default: `sse`.
    pub stream: String,
    /// The number of replicas of a stream that is created, 1 to 5. Default: 1.
    pub replicas: u8,
    /// A file with the credentials of a user, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an nkey on its first line.
    pub nkey: Option<PathBuf>,
    /// A file with the certificates of authorities that the servers' certificates may be signed by,
    /// in place of those of the system.
    pub ca: Option<PathBuf>,
    /// Files with the certificate of this client, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The bounds of the events of each topic in a stream that is created. The stream has no bound
    /// on the bytes of a topic. Default: 1000 events, one hour.
    pub history: History,
    /// The maximum size of the events of all topics together in bytes, in a stream that is created.
    /// Default: 256 MiB.
    pub max_bytes: usize,
    /// The maximum number of topics that hold events. Several servers may exceed it by the topics
    /// that they create at the same time. Default: 1000.
    pub max_topics: usize,
    /// The maximum time of an operation, within which it is retried if the connection is lost. The
    /// events of a batch have four fifths of it together, so that their results arrive in the time
    /// that publishers have. Default: 5 seconds.
    pub timeout: Duration,
}

impl NatsConfig {
    /// Creates the default configuration for servers.
    pub fn new(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            stream: "sse".to_owned(),
            replicas: 1,
            credentials: None,
            nkey: None,
            ca: None,
            certificate: None,
            history: History::default(),
            max_bytes: 256 << 20,
            max_topics: 1000,
            timeout: Duration::from_secs(5),
        }
    }

    /// Returns an error that names the value that cannot be used.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        let name = &self.stream;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !(1..=32).contains(&name.len()) || !name.bytes().all(is_name) {
            return Err(invalid(format_args!(
                "stream {name:?}: a name is 1 to 32 characters from A-Z a-z 0-9 _ -"
            )));
        }
        if !(1..=5).contains(&self.replicas) {
            return Err(invalid(format_args!("{} replicas: 1 to 5 are possible", self.replicas)));
        }
        self.addresses().map(|_| ())
    }

    /// Returns the addresses of the servers.
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, StorageError> {
        let mut addresses = Vec::new();
        for (index, one) in self.servers.split(',').enumerate() {
            // The text may contain a password, so errors do not.
            let address: ServerAddr = one.trim().parse().map_err(|error| {
                invalid(format_args!("URL {} of the servers: {error}", index + 1))
            })?;
            if address.host().is_empty() {
                return Err(invalid(format_args!("URL {} of the servers: no host", index + 1)));
            }
            if address.is_websocket() {
                return Err(invalid(format_args!(
                    "URL {} of the servers: the scheme must be nats or tls",
                    index + 1
                )));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// Returns the servers without secrets, for messages.
    pub(super) fn shown(&self) -> String {
        let one = |address: &ServerAddr| format!("{}:{}", address.host(), address.port());
        let addresses = self.addresses().unwrap_or_default();
        addresses.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Returns how this client identifies itself, without secrets, for messages.
    pub(super) fn shown_access(&self) -> String {
        let addresses = self.addresses().unwrap_or_default();
        let user = addresses.iter().find(|address| address.has_user_pass());
        match (&self.credentials, &self.nkey, user) {
            (Some(path), ..) => format!("with the credentials in {}", path.display()),
            (_, Some(path), _) => format!("with the nkey in {}", path.display()),
            (_, _, Some(user)) if user.password().is_some() => {
                "with the user in the URL".to_owned()
            }
            (_, _, Some(_)) => "with the token in the URL".to_owned(),
            (None, None, None) => "without credentials".to_owned(),
        }
    }

    /// Returns the options of the connection.
    pub(super) fn options(&self) -> Result<ConnectOptions, StorageError> {
        let mut options = ConnectOptions::new();
        let addresses = self.addresses()?;
        if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
            let decode = |text: &str| {
                let decoded = percent_decode_str(text).decode_utf8().map(String::from);
                decoded.map_err(|_| invalid(format_args!("the user in the URL is not UTF-8")))
            };
            let user = decode(address.username().unwrap_or_default())?;
            options = match address.password() {
                Some(password) => options.user_and_password(user, decode(password)?),
                None => options.token(user),
            };
        }
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|error| invalid(format_args!("{}: {error}", path.display())))
        };
        if let Some(path) = &self.credentials {
            options = options
                .credentials(&read(path)?)
                .map_err(|error| invalid(format_args!("{}: {error}", path.display())))?;
        }
        if let Some(path) = &self.nkey {
            let text = read(path)?;
            let seed = text.lines().next().unwrap_or_default().trim();
            if nkeys::KeyPair::from_seed(seed).is_err() {
                return Err(invalid(format_args!(
                    "{}: the first line is not the seed of an nkey",
                    path.display()
                )));
            }
            options = options.nkey(seed.to_owned());
        }
        // The client reads these files for each connection. They are checked here, so that a file
        // that cannot be used is an error at start.
        let read_certificates = |path: &PathBuf| {
            let text = read(path)?;
            let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
            if matches!(certificates.next(), Some(Ok(_))) && certificates.all(|one| one.is_ok()) {
                return Ok(path.clone());
            }
            Err(invalid(format_args!(
                "{}: there is no certificate, or one of them is damaged",
                path.display()
            )))
        };
        if let Some(path) = &self.ca {
            options = options.add_root_certificates(read_certificates(path)?);
        }
        if let Some((certificate, key)) = &self.certificate {
            let certificate = read_certificates(certificate)?;
            if PrivateKeyDer::from_pem_slice(read(key)?.as_bytes()).is_err() {
                return Err(invalid(format_args!("{}: there is no key", key.display())));
            }
            options = options.add_client_certificate(certificate, key.clone());
        }
        Ok(options)
    }
}

impl fmt::Debug for NatsConfig {
    /// Shows the servers without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.shown())
            .field("stream", &self.stream)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

fn invalid(why: fmt::Arguments<'_>) -> StorageError {
    StorageError::new(StorageErrorKind::Unavailable, format!("NATS: {why}"))
}
