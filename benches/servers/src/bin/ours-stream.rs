//! A program on the library of sse-smol-server that sends an endless stream of events, for which the
//! server has no route.
//!
//!     ours-stream PORT

use std::thread;

use servers::message::Message;
use smol::{Executor, block_on, future, stream};
use sse_proto::Event;
use sse_smol_server::{Config, Error, Request, Server};

fn main() {
    let port: u16 =
        std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("ours-stream PORT");
    let server = Server::bind(("127.0.0.1", port), Config::default());
    let server = server.expect("a free port");
    let executor = Executor::new();
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| block_on(executor.run(future::pending::<()>())));
        }
        block_on(executor.run(server.serve(&executor, endless)));
    });
}

async fn endless(request: Request) -> Result<(), Error> {
    let data = Message::sample();
    request.open().await?.forward(stream::repeat_with(|| Event::new(&data))).await
}
