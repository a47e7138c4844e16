//! The grammar of a line: a field name, a colon, an optional space and a value (HTML Standard,
//! 9.2.5).

/// The kind of a line.
///
/// The standard calls `data`, `event`, `id` and `retry` fields; comments are listed with them
/// because they are also lines with a value. Lines with other names have no meaning and are not
/// reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// `data`: a line of the event's data.
    Data,
    /// `event`: the event type.
    EventType,
    /// `id`: the last event ID.
    Id,
    /// `retry`: the reconnection time.
    Retry,
    /// A line that begins with a colon. Its value is everything after the colon, including a
    /// leading space, which is not part of a field's value.
    Comment,
}

impl Field {
    /// Returns the name, followed by a colon.
    #[inline]
    pub(crate) const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Data => b"data:",
            Self::EventType => b"event:",
            Self::Id => b"id:",
            Self::Retry => b"retry:",
            Self::Comment => b":",
        }
    }

    /// Returns the field whose name begins with this byte.
    pub(crate) fn with_initial(byte: u8) -> Option<Self> {
        let fields = [Self::Data, Self::EventType, Self::Id, Self::Retry];
        fields.into_iter().find(|field| field.prefix()[0] == byte)
    }

    /// Returns whether a line of this field begins here, with its whole name.
    #[inline]
    pub(crate) fn begins(self, line: &[u8]) -> bool {
        self.strip_name(line).is_some()
    }

    /// Returns what follows the name and the colon.
    #[inline]
    pub(crate) fn strip_name(self, line: &[u8]) -> Option<&[u8]> {
        line.strip_prefix(self.prefix())
    }

    /// Splits off the name and the colon, if they lie completely in the chunk. `retry` is so rare
    /// that it is not worth a comparison.
    #[inline]
    pub(crate) fn split_name(line: &[u8]) -> Option<(Self, &[u8])> {
        let fields = [Self::Data, Self::EventType, Self::Id, Self::Comment];
        fields.into_iter().find_map(|field| Some((field, field.strip_name(line)?)))
    }

    /// Removes the space that may precede a value. In a comment, it is part of the value.
    #[inline]
    pub(crate) fn strip_space(self, value: &[u8]) -> &[u8] {
        let space = self != Self::Comment && value.first() == Some(&b' ');
        &value[usize::from(space)..]
    }

    /// Returns the value of a whole line, if it is a line of this field with a colon.
    #[inline]
    pub(crate) fn value_in(self, line: &[u8]) -> Option<&[u8]> {
        self.strip_name(line).map(|value| self.strip_space(value))
    }
}
