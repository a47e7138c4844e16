//! The event type and the event ID, which are valid by construction.

use core::fmt;
use core::str::Utf8Error;

use crate::line_end::is_line_end;
use crate::{Field, Text};

/// A value that would break the stream if it were written into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    field: Field,
    byte: u8,
    offset: usize,
}

impl InvalidValue {
    /// Returns the field that cannot hold the value.
    pub const fn field(self) -> Field {
        self.field
    }

    /// Returns the rejected byte: CR, LF or, in an ID, NUL.
    pub const fn byte(self) -> u8 {
        self.byte
    }

    /// Returns the offset of that byte in the value, in bytes.
    pub const fn offset(self) -> usize {
        self.offset
    }
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field == Field::Id { "event id" } else { "event type" };
        let byte = match self.byte {
            b'\r' => "carriage return",
            b'\n' => "line feed",
            _ => "NUL",
        };
        write!(f, "{field} holds a {byte} at byte {}, which would break the stream", self.offset)
    }
}

impl core::error::Error for InvalidValue {}

const fn check(field: Field, value: &[u8]) -> Result<(), InvalidValue> {
    let nul_allowed = !matches!(field, Field::Id);
    let mut offset = 0;
    while offset < value.len() {
        let byte = value[offset];
        if is_line_end(byte) || (byte == 0 && !nul_allowed) {
            return Err(InvalidValue { field, byte, offset });
        }
        offset += 1;
    }
    Ok(())
}

/// An event type: any text without CR and LF.
///
/// An empty type and `message` mean the same as no type.
///
/// ```
/// use sse_proto::EventType;
///
/// const TICK: EventType<'static> = EventType::from_static("tick");
/// assert_eq!(TICK, EventType::new("tick")?);
/// assert_eq!(TICK, "tick".try_into()?);
/// assert_eq!(TICK.to_string(), "tick");
///
/// let error = EventType::new("a\ndata: forged").unwrap_err();
/// assert_eq!((error.byte(), error.offset()), (b'\n', 1));
/// # Ok::<(), sse_proto::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType<'a>(pub(super) Text<'a>);

impl<'a> EventType<'a> {
    /// Creates an event type from any text.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] at the first CR or LF.
    pub fn new(text: impl Into<Text<'a>>) -> Result<Self, InvalidValue> {
        let text = text.into();
        check(Field::EventType, text.as_bytes()).map(|()| Self(text))
    }

    /// Creates an event type from a literal; in a `const`, it is checked at compile time. The macro
    /// [`event_type!`](crate::event_type) is such a `const` in an expression.
    ///
    /// ```compile_fail,E0080
    /// # use sse_proto::EventType;
    /// const FORGED: EventType<'static> = EventType::from_static("a\ndata: forged");
    /// ```
    ///
    /// # Panics
    ///
    /// If the text contains CR or LF.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(
            check(Field::EventType, text.as_bytes()).is_ok(),
            "an event type must not contain CR or LF"
        );
        Self(Text::from_bytes(text.as_bytes()))
    }
}

/// A value for the last event ID: any text without CR, LF and NUL.
///
/// An empty ID is written too: it resets the receiver's last event ID.
///
/// The receiver sends the ID back in the `Last-Event-ID` request header (9.2.4). A space or tab at
/// either end is lost there, and many servers reject a request with control characters; both are
/// allowed here because the stream itself can carry them.
///
/// ```
/// use sse_proto::EventId;
///
/// assert!(EventId::new("42").is_ok());
/// assert!(EventId::new("4\02").is_err(), "receivers ignore an ID with a NUL");
/// assert!(EventId::from_static("41") < EventId::from_static("42"), "in the order of bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId<'a>(pub(super) Text<'a>);

impl<'a> EventId<'a> {
    /// Creates an ID from any text.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] at the first CR, LF or NUL.
    pub fn new(text: impl Into<Text<'a>>) -> Result<Self, InvalidValue> {
        let text = text.into();
        check(Field::Id, text.as_bytes()).map(|()| Self(text))
    }

    /// Creates an ID from a literal; in a `const`, it is checked at compile time. The macro
    /// [`event_id!`](crate::event_id) is such a `const` in an expression.
    ///
    /// # Panics
    ///
    /// If the text contains CR, LF or NUL.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(
            check(Field::Id, text.as_bytes()).is_ok(),
            "an event ID must not contain CR, LF or NUL"
        );
        Self(Text::from_bytes(text.as_bytes()))
    }
}

/// Implements the conversions of a checked value, which is text as the caller or the stream had it.
/// It may be invalid UTF-8, so there is no `AsRef<str>`.
macro_rules! conversions {
    ($value:ident) => {
        impl<'a> $value<'a> {
            /// Returns the value as text that lives as long as what the value borrows from.
            pub const fn as_text(self) -> Text<'a> {
                self.0
            }

            /// Returns the value if it is valid UTF-8: see [`Text::to_str`].
            ///
            /// # Errors
            ///
            /// [`Utf8Error`] with the position of the first broken sequence.
            pub fn to_str(self) -> Result<&'a str, Utf8Error> {
                self.0.to_str()
            }
        }

        impl AsRef<[u8]> for $value<'_> {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl<'a> From<$value<'a>> for Text<'a> {
            fn from(value: $value<'a>) -> Self {
                value.0
            }
        }

        /// Writes the value as the standard decodes it: see [`Text`].
        impl fmt::Display for $value<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        conversions!($value, &'a str, &'a [u8], Text<'a>);
        #[cfg(feature = "alloc")]
        conversions!($value, &'a alloc::string::String);
    };
    ($value:ident, $($source:ty),*) => {$(
        impl<'a> TryFrom<$source> for $value<'a> {
            type Error = InvalidValue;

            fn try_from(source: $source) -> Result<Self, InvalidValue> {
                Self::new(source)
            }
        }
    )*};
}

conversions!(EventType);
conversions!(EventId);

/// Creates an [`EventType`] from a literal, which is checked at compile time.
///
/// ```
/// use sse_proto::{Event, event_type};
///
/// let event = Event::new("1").with_type(event_type!("tick"));
/// assert_eq!(event.event_type(), "tick");
/// ```
///
/// ```compile_fail,E0080
/// sse_proto::event_type!("a\ndata: forged");
/// ```
#[macro_export]
macro_rules! event_type {
    ($text:expr) => {
        const { $crate::EventType::from_static($text) }
    };
}

/// Creates an [`EventId`] from a literal, which is checked at compile time.
///
/// ```
/// use sse_proto::{Event, event_id};
///
/// let event = Event::new("hello").with_id(event_id!("7"));
/// assert_eq!(event.last_event_id(), "7");
/// ```
#[macro_export]
macro_rules! event_id {
    ($text:expr) => {
        const { $crate::EventId::from_static($text) }
    };
}
