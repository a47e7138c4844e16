//! Server-sent events from socket to socket, on smol.
//!
//! A handler is a function from a [`Request`] to a future. It opens the stream, and from the next
//! line on the client is connected; it sends events and waits for whatever it likes in between;
//! it returns, and the stream ends.
//!
//! ```
//! use std::time::Duration;
//!
//! use smol::Timer;
//! use sse_proto::{Event, EventType};
//! use sse_smol_server::{End, Request};
//!
//! async fn countdown(request: Request) -> Result<(), End> {
//!     let mut stream = request.open().await?; // the head is with the kernel, the client is told
//!     for n in (0..3).rev() {
//!         let event = Event::new(&n.to_string()).with_type(EventType::from_static("left"));
//!         stream.send(event).await?; // returns when the kernel has it all
//!         Timer::after(Duration::from_millis(1)).await; // meanwhile: keep-alives, and the peer is watched
//!     }
//!     Ok(()) // the last chunk
//! }
//!
//! # use std::io::{Read, Write};
//! # use sse_smol_server::{Config, Server};
//! let server = Server::bind(([127, 0, 0, 1], 0).into(), Config::default())?;
//! let address = server.local_addr()?;
//! let executor = smol::Executor::new();
//! # let client = std::thread::spawn(move || {
//! #     let mut socket = std::net::TcpStream::connect(address).unwrap();
//! #     socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
//! #     let mut answer = String::new();
//! #     socket.read_to_string(&mut answer).unwrap();
//! #     answer
//! # });
//! # let done = smol::unblock(move || client.join().unwrap());
//! # let serve = server.serve(&executor, countdown);
//! # let serve = async { serve.await; unreachable!() };
//! # let answer = smol::block_on(executor.run(smol::future::or(done, serve)));
//! # assert!(answer.ends_with("event: left\ndata: 2\n\nevent: left\ndata: 1\n\nevent: left\ndata: 0\n\n"));
//! # if false {
//! smol::block_on(executor.run(server.serve(&executor, countdown)));
//! # }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! If the client leaves, the handler's future is dropped where it stands: at once, and without a
//! write that would have to fail first.

#![forbid(unsafe_code)]

mod connection;
mod end;
mod head;
mod server;
mod stream;
mod wire;

pub use end::End;
pub use head::{Response, text};
pub use server::{Config, Server};
pub use stream::{EventStream, Request, not_allowed};
