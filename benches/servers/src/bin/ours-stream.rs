//! A program on the library of sse-smol-server that sends an endless stream of events, for which the
//! server has no route.
//!
//!     ours-stream PORT

use servers::message::{LEN, Message};
use smol::{Executor, stream};
use sse_proto::Event;
use sse_smol_server::{Config, Error, Request, Server};

fn main() {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("ours-stream PORT");
    let server = Server::bind(("127.0.0.1", port), Config::default());
    let server = server.expect("a free port");
    server.run(&Executor::new(), endless).expect("a server that runs");
}

async fn endless(request: Request) -> Result<(), Error> {
    let data = Message::sample(LEN);
    request.open().await?.forward(stream::repeat_with(|| Event::new(&data))).await
}
