//! A plain handler as a stream: `GET /` answers with the contents of a file, and
//! `GET /?stream=true` with an event each time that they change. The source is polled once for all
//! streams, and not without one.
//!
//! ```text
//! cargo run -p sse-smol-server --example polled -- FILE
//! curl http://127.0.0.1:8080/
//! curl -N 'http://127.0.0.1:8080/?stream=true'
//! ```
//!
//! A second argument is the address to listen on, instead of `127.0.0.1:8080`.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use sse_smol_server::{Config, Error, Polled, PolledConfig, Response, Server};

/// Returns the contents of a file.
async fn contents(file: Arc<str>) -> Result<Response, Error> {
    Ok(Response::new(smol::fs::read(&*file).await?))
}

fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let file: Arc<str> = arguments.next().expect("a file is named").into();
    let address = arguments.next().unwrap_or("127.0.0.1:8080".to_owned());
    let server = Server::bind(address, Config::default())?;
    println!("listening on http://{}/", server.local_addr()?);
    let config = PolledConfig::default().with_interval(Duration::from_millis(50));
    let source = Arc::new(Polled::new(config, move || contents(Arc::clone(&file))));
    let handler = move |request| {
        let source = Arc::clone(&source);
        async move { source.serve(request).await }
    };
    server.run(&smol::Executor::new(), handler)
}
