//! async-sse: a reader as a stream of events, and a sender as a reader.

use std::error::Error;

use futures_lite::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Passes type and data of each event to `on_event`.
///
/// # Errors
///
/// Reading fails, or the stream is not UTF-8.
pub async fn before_decode(
    reader: impl AsyncBufRead + Unpin,
    mut on_event: impl FnMut(&str, &[u8]),
) -> Result<(), Box<dyn Error + Send + Sync>> {
    use async_sse::Event;
    use futures_lite::StreamExt as _;

    let mut events = async_sse::decode(reader);
    while let Some(event) = events.next().await {
        match event? {
            Event::Message(message) => on_event(message.name(), message.data()),
            Event::Retry(_) => {}
        }
    }
    Ok(())
}

/// The same with [`sse_proto::Decoder`].
///
/// # Errors
///
/// Reading fails, or an event is too large.
pub async fn after_decode(
    mut reader: impl AsyncBufRead + Unpin,
    mut on_event: impl FnMut(&str, &[u8]),
) -> Result<(), Box<dyn Error + Send + Sync>> {
    use sse_proto::Decoder;

    let mut decoder = Decoder::new();
    loop {
        let mut chunk = reader.fill_buf().await?;
        let length = chunk.len();
        if length == 0 {
            return Ok(());
        }
        while let Some(event) = decoder.next_event(&mut chunk)? {
            on_event(event.event_type().to_str()?, &event.data());
        }
        reader.consume(length);
    }
}

/// Writes an event.
///
/// # Errors
///
/// Writing fails.
pub async fn before_encode(mut writer: impl AsyncWrite + Unpin) -> Result<(), Box<dyn Error>> {
    let (sender, reader) = async_sse::encode();
    let send = async {
        sender.send("tick", "two\nlines", Some("7")).await?;
        drop(sender); // ends the stream
        Ok(())
    };
    futures_lite::future::try_zip(send, futures_lite::io::copy(reader, &mut writer)).await?;
    Ok(())
}

/// The same with [`sse_proto::Event`].
///
/// # Errors
///
/// Writing fails.
pub async fn after_encode(mut writer: impl AsyncWrite + Unpin) -> Result<(), Box<dyn Error>> {
    use sse_proto::{Event, event_id, event_type};

    let event = Event::new("two\nlines").with_type(event_type!("tick")).with_id(event_id!("7"));
    let mut wire = Vec::new();
    event.encode_to_vec(&mut wire);
    writer.write_all(&wire).await?;
    Ok(())
}
