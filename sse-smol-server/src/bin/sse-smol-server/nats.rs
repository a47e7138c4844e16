//! The flags for events on NATS.

use std::iter;
use std::path::PathBuf;
use std::time::Duration;

use smol::block_on;
use sse_smol_server::TopicsConfig;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};

/// The minimum time of an operation on NATS. Reads take no part in the time of a publication.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The flags for events on NATS.
#[derive(Debug, clap::Args)]
pub(crate) struct Nats {
    /// Keep the events of topics in a stream of NATS JetStream, which several servers can share:
    /// nats://HOST:PORT or tls://HOST:PORT, with commas between the servers of a cluster. A
    /// user and password, or a token, before the host are better set in the environment. The
    /// limits on events apply to a stream that is created
    #[arg(long, value_name = "URL", group = "storage", hide_env_values = true)]
    nats: Option<String>,

    /// Name of the stream, which is created if necessary, and of its subjects, such as sse.news
    #[arg(long, value_name = "NAME", requires = "nats", default_value = "sse")]
    nats_stream: String,

    /// Number of replicas of a stream that is created
    #[arg(long, value_name = "COUNT", requires = "nats", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,

    /// File with the credentials of a NATS user
    #[arg(long, value_name = "FILE", requires = "nats")]
    nats_creds: Option<PathBuf>,

    /// File with the seed of an nkey
    #[arg(long, value_name = "FILE", requires = "nats", conflicts_with = "nats_creds")]
    nats_nkey: Option<PathBuf>,

    /// File with certificates of authorities that the certificates of NATS servers may be signed
    /// by, in place of those of the system
    #[arg(long, value_name = "FILE", requires = "nats")]
    nats_ca: Option<PathBuf>,

    /// File with the certificate that NATS servers verify this client by
    #[arg(long, value_name = "FILE", requires_all = ["nats", "nats_key"])]
    nats_cert: Option<PathBuf>,

    /// File with the key of --nats-cert
    #[arg(long, value_name = "FILE", requires_all = ["nats", "nats_cert"])]
    nats_key: Option<PathBuf>,
}

impl Nats {
    /// Opens the storage, if there is a URL.
    pub(crate) fn open(&self, config: &TopicsConfig) -> Option<Result<NatsStorage, String>> {
        let mut of_nats = NatsConfig::new(self.nats.as_ref()?);
        of_nats.stream.clone_from(&self.nats_stream);
        of_nats.replicas = self.nats_replicas;
        of_nats.credentials.clone_from(&self.nats_creds);
        of_nats.nkey.clone_from(&self.nats_nkey);
        of_nats.ca.clone_from(&self.nats_ca);
        of_nats.certificate = self.nats_cert.clone().zip(self.nats_key.clone());
        of_nats.history = config.history;
        of_nats.max_bytes = config.max_bytes;
        of_nats.max_topics = config.max_topics;
        of_nats.timeout = config.publish_timeout.max(MIN_TIMEOUT);
        let opened = block_on(NatsStorage::open(of_nats));
        Some(opened.map_err(|error| format!("{}: {error}", self.flags())))
    }

    /// Returns the flags that are set and that a failure to connect may be due to.
    fn flags(&self) -> String {
        let files = [
            ("--nats-creds", &self.nats_creds),
            ("--nats-nkey", &self.nats_nkey),
            ("--nats-ca", &self.nats_ca),
            ("--nats-cert", &self.nats_cert),
            ("--nats-key", &self.nats_key),
        ];
        let set = files.iter().filter(|(_, file)| file.is_some()).map(|(flag, _)| *flag);
        iter::once("--nats").chain(set).collect::<Vec<_>>().join(", ")
    }
}
