//! Scripts.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use sse_proto::{EventId, EventType, OwnedEvent};

use super::encode::{Fields, Lines, PATCH_ELEMENTS, Patch, Sink, event, frame, owned};
use crate::{Error, Frame};

/// The end tag of a script up to its name, which ends a script wherever it stands in it.
const END: &str = "</script";

/// A name that an HTML attribute cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAttribute(String);

impl fmt::Display for InvalidAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a name of an HTML attribute", self.0)
    }
}

impl std::error::Error for InvalidAttribute {}

impl From<InvalidAttribute> for Error {
    fn from(error: InvalidAttribute) -> Self {
        Self::Failed(error.into())
    }
}

/// An event that executes a script: a patch that appends a `script` element to the body.
///
/// `</script` in the script is sent as `\x3C/script`, which is the same in a string, since it would
/// end the element (HTML Standard, 4.12.1.3).
///
/// ```
/// use sse_smol_server::Frame;
/// use sse_smol_server::datastar::ExecuteScript;
///
/// let script = ExecuteScript::new("console.log('here')");
/// assert_eq!(
///     Frame::from(script).encoded(),
///     b"event: datastar-patch-elements\n\
///       data: selector body\n\
///       data: mode append\n\
///       data: elements <script data-effect=\"el.remove()\">console.log('here')</script>\n\n",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecuteScript<'a> {
    script: Cow<'a, str>,
    auto_remove: bool,
    attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    fields: Fields<'a>,
}

impl<'a> ExecuteScript<'a> {
    /// Creates an event from a script. Values in it have to be JSON or JavaScript literals.
    pub fn new(script: impl Into<Cow<'a, str>>) -> Self {
        Self {
            script: script.into(),
            auto_remove: true,
            attributes: Vec::new(),
            fields: Fields::default(),
        }
    }

    /// Returns the event with this choice whether the element is removed after the script has run.
    /// Default: true.
    #[must_use]
    pub fn with_auto_remove(mut self, auto_remove: bool) -> Self {
        self.auto_remove = auto_remove;
        self
    }

    /// Returns the event with a further attribute of the element. The value is escaped.
    ///
    /// ```
    /// use sse_smol_server::datastar::ExecuteScript;
    ///
    /// let script = ExecuteScript::new("run()").with_attribute("type", "module")?;
    /// let frame = sse_smol_server::Frame::from(&script);
    /// let element = b"<script type=\"module\" data-effect=\"el.remove()\">run()</script>\n\n";
    /// assert!(frame.encoded().ends_with(element));
    /// assert!(script.with_attribute("a onload", "forged()").is_err());
    /// # Ok::<(), sse_smol_server::datastar::InvalidAttribute>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidAttribute`] if the name is empty or contains white space, a control character or
    /// one of `"'>/=<`.
    pub fn with_attribute(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<Cow<'a, str>>,
    ) -> Result<Self, InvalidAttribute> {
        let name = name.into();
        let is_invalid = |c: char| c.is_whitespace() || c.is_control() || "\"'>/=<".contains(c);
        if name.is_empty() || name.contains(is_invalid) {
            return Err(InvalidAttribute(name.into_owned()));
        }
        self.attributes.push((name, value.into()));
        Ok(self)
    }
}

impl Patch for ExecuteScript<'_> {
    const EVENT_TYPE: EventType<'static> = PATCH_ELEMENTS;

    fn fields(&self) -> Fields<'_> {
        self.fields
    }

    fn write<S: Sink>(&self, lines: &mut Lines<'_, S>) {
        lines.pair("selector", "body");
        lines.pair("mode", "append");
        lines.pair("elements", "<script");
        for (name, value) in &self.attributes {
            for piece in [" ", name, "=\""] {
                lines.push(piece);
            }
            let mut rest: &str = value;
            while let Some(at) = rest.find(['&', '"']) {
                lines.push(&rest[..at]);
                lines.push(if rest[at..].starts_with('&') { "&amp;" } else { "&quot;" });
                rest = &rest[at + 1..];
            }
            lines.push(rest);
            lines.push("\"");
        }
        if self.auto_remove {
            lines.push(" data-effect=\"el.remove()\"");
        }
        lines.push(">");
        let mut rest: &str = &self.script;
        while let Some(at) = find_end(rest) {
            lines.push(&rest[..at]);
            lines.push("\\x3C");
            rest = &rest[at + 1..];
        }
        lines.push(rest);
        lines.push("</script>");
    }
}

/// Returns the offset of the first [`END`] in a script, in any case.
fn find_end(script: &str) -> Option<usize> {
    let mut windows = script.as_bytes().windows(END.len());
    windows.position(|window| window.eq_ignore_ascii_case(END.as_bytes()))
}

event!(ExecuteScript);
