//! Events and signals of [Datastar](https://data-star.dev), by its SDK specification.
//!
//! The events convert to a [`Frame`](crate::Frame), so
//! [`EventStream::send`](crate::EventStream::send) takes them. Their values are borrowed or owned,
//! and written directly into the frame. A value may have any line ends: it takes as many data lines
//! as it has lines, each with the same key, so it cannot become another option or another event.
//!
//! ```
//! use sse_smol_server::datastar::{ExecuteScript, PatchElements, PatchSignals, read_signals};
//! use sse_smol_server::{Error, Frame, Request};
//!
//! #[derive(serde::Deserialize)]
//! struct Signals {
//!     name: String,
//! }
//!
//! // For `@get('/greet')` and `@post('/greet')`.
//! async fn greet(mut request: Request) -> Result<(), Error> {
//!     let Signals { name } = read_signals(&mut request).await?; // or 400
//!     let name = name.replace('&', "&amp;").replace('<', "&lt;");
//!     let mut stream = request.open().await?;
//!     stream.send(PatchElements::new(format!("<p id='greeting'>Hello {name}</p>"))).await?;
//!     stream.send(PatchSignals::new(r#"{"name":""}"#)).await?;
//!     stream.send(ExecuteScript::new("document.title = 'Greeted'")).await
//! }
//! # let server = sse_smol_server::Server::bind("127.0.0.1:0", Default::default())?;
//! # let address = server.local_addr()?;
//! # let drain = server.drain();
//! # let client = smol::unblock(move || {
//! #     use std::io::{Read, Write};
//! #     let mut socket = std::net::TcpStream::connect(address).unwrap();
//! #     socket.write_all(b"GET /?datastar={%22name%22:%22A%26B%22} HTTP/1.0\r\n\r\n").unwrap();
//! #     let mut answer = String::new();
//! #     socket.read_to_string(&mut answer).unwrap();
//! #     drain.begin();
//! #     answer
//! # });
//! # server.run(&smol::Executor::new(), greet)?;
//! # let answer = smol::block_on(client);
//! # assert!(answer.ends_with(
//! #     "event: datastar-patch-elements\n\
//! #      data: elements <p id='greeting'>Hello A&amp;B</p>\n\n\
//! #      event: datastar-patch-signals\n\
//! #      data: signals {\"name\":\"\"}\n\n\
//! #      event: datastar-patch-elements\n\
//! #      data: selector body\n\
//! #      data: mode append\n\
//! #      data: elements <script data-effect=\"el.remove()\">document.title = 'Greeted'</script>\n\n",
//! # ), "{answer}");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A topic takes an event as an [`OwnedEvent`](sse_proto::OwnedEvent), and sends it to all pages that
//! follow it:
//!
//! ```
//! use sse_smol_server::datastar::PatchSignals;
//! use sse_smol_server::sse_proto::OwnedEvent;
//! use sse_smol_server::{TopicError, Topics};
//!
//! async fn publish(topics: &Topics, count: u32) -> Result<(), TopicError> {
//!     let patch = PatchSignals::new(format!(r#"{{"count":{count}}}"#));
//!     topics.publish("count", &OwnedEvent::from(patch)).await.map(drop)
//! }
//! # let topics = Topics::new(Default::default())?;
//! # let text = smol::block_on(async {
//! #     let mut subscription = topics.subscribe(&["count"], sse_smol_server::Start::Latest).await?;
//! #     publish(&topics, 3).await?;
//! #     // The first frame has an id and no data.
//! #     let mut frames = subscription.next_batch().await.unwrap();
//! #     if frames.len() == 1 {
//! #         frames = subscription.next_batch().await.unwrap();
//! #     }
//! #     Ok::<_, TopicError>(String::from_utf8_lossy(frames.last().unwrap().encoded()).into_owned())
//! # })?;
//! # assert!(text.starts_with("event: datastar-patch-signals\nid: "), "{text}");
//! # assert!(text.ends_with("\ndata: signals {\"count\":3}\n\n"), "{text}");
//! # Ok::<(), TopicError>(())
//! ```

mod elements;
mod encode;
mod read;
mod script;
mod signals;

pub use self::elements::{ElementPatchMode, Namespace, PatchElements};
pub use self::read::read_signals;
pub use self::script::{ExecuteScript, InvalidAttribute};
pub use self::signals::PatchSignals;
