//! reqwest-eventsource, which has its own HTTP client: it reads the chunks from a server on
//! loopback (feature `heavy`).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::codecs::milliseconds;
use crate::decode::{Decode, Item, Start};

/// `reqwest_eventsource::EventSource`, up to its first error, such as the end of the stream.
#[derive(Debug)]
pub enum ReqwestEventsource {}

impl Decode for ReqwestEventsource {
    const NAME: &'static str = "reqwest-eventsource";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        use reqwest_eventsource::{Event, EventSource};
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
            Builder::new_current_thread().enable_all().build().expect("a runtime")
        });
        static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
        let address = serve(chunks);
        RUNTIME.block_on(async {
            let request = CLIENT.get(format!("http://{address}/"));
            let mut source = EventSource::new(request).expect("a GET can be repeated");
            while let Some(event) = source.next().await {
                match event {
                    Ok(Event::Open) => {}
                    Ok(Event::Message(event)) => {
                        if let Some(retry) = event.retry {
                            emit(Item::Retry(milliseconds(retry)));
                        }
                        emit(Item::Event {
                            event_type: event.event.as_bytes(),
                            data: event.data.as_bytes(),
                            id: event.id.as_bytes(),
                        });
                    }
                    Err(_) => {
                        emit(Item::Error);
                        source.close();
                    }
                }
            }
        });
    }
}

/// Makes the server respond to the next connection with these chunks. Returns its address.
fn serve(chunks: &[Bytes]) -> SocketAddr {
    static SERVER: LazyLock<(SocketAddr, Mutex<mpsc::Sender<Vec<u8>>>)> = LazyLock::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port");
        let (answers, next) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            for (answer, peer) in next.into_iter().zip(listener.incoming()) {
                // A client that has seen an error may close early, which is not a failure here.
                let _ = peer.and_then(|peer| respond(peer, &answer));
            }
        });
        (address, Mutex::new(answers))
    });
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
        connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        answer.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend(&chunk[..]);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    let (address, answers) = &*SERVER;
    answers.lock().expect("no holder of the lock panics").send(answer).expect("the server runs");
    *address
}

fn respond(mut peer: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    for line in BufReader::new(&peer).lines() {
        if line?.is_empty() {
            break;
        }
    }
    peer.write_all(answer)
}
