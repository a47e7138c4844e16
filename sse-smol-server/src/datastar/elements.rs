//! Patches of elements.

use std::borrow::Cow;
use std::time::Duration;

use sse_proto::{EventId, EventType, OwnedEvent};

use super::encode::{Fields, Lines, PATCH_ELEMENTS, Patch, Sink, event, frame, owned};
use crate::Frame;

/// How elements are patched into the page.
///
/// All modes but [`Outer`](Self::Outer) and [`Replace`](Self::Replace) need a
/// [selector](PatchElements::with_selector). By the specification, [`Remove`](Self::Remove) can also
/// find its targets by the ids of the elements, but no client up to Datastar 1.0.1 does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementPatchMode {
    /// Morphs the target into the element, keeping the state of both. The default.
    #[default]
    Outer,
    /// Morphs the contents of the target.
    Inner,
    /// Replaces the target, with its state.
    Replace,
    /// Inserts before the first child of the target.
    Prepend,
    /// Inserts after the last child of the target.
    Append,
    /// Inserts before the target.
    Before,
    /// Inserts after the target.
    After,
    /// Removes the target.
    Remove,
}

impl ElementPatchMode {
    /// Returns the name of the mode in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
            Self::Replace => "replace",
            Self::Prepend => "prepend",
            Self::Append => "append",
            Self::Before => "before",
            Self::After => "after",
            Self::Remove => "remove",
        }
    }
}

/// The namespace in which the client creates elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Namespace {
    /// HTML, the default.
    #[default]
    Html,
    /// SVG, for elements to be inserted into an `svg` element.
    Svg,
    /// `MathML`, for elements to be inserted into a `math` element.
    MathMl,
}

impl Namespace {
    /// Returns the name of the namespace in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Svg => "svg",
            Self::MathMl => "mathml",
        }
    }
}

/// An event that patches elements into the page.
///
/// ```
/// use sse_smol_server::Frame;
/// use sse_smol_server::datastar::{ElementPatchMode, PatchElements};
///
/// let item = PatchElements::new("<li>\n  new\n</li>")
///     .with_selector("#list")
///     .with_mode(ElementPatchMode::Append);
/// assert_eq!(
///     Frame::from(item).encoded(),
///     b"event: datastar-patch-elements\n\
///       data: selector #list\n\
///       data: mode append\n\
///       data: elements <li>\n\
///       data: elements   new\n\
///       data: elements </li>\n\n",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchElements<'a> {
    elements: Cow<'a, str>,
    selector: Option<Cow<'a, str>>,
    mode: ElementPatchMode,
    view_transition: bool,
    namespace: Namespace,
    fields: Fields<'a>,
}

impl<'a> PatchElements<'a> {
    /// Creates an event from one or more whole elements. Unless there is a
    /// [selector](Self::with_selector), each of them needs an `id`, which is that of its target.
    ///
    /// The text is sent as it is: values in it that users entered have to be escaped as HTML.
    pub fn new(elements: impl Into<Cow<'a, str>>) -> Self {
        Self {
            elements: elements.into(),
            selector: None,
            mode: ElementPatchMode::Outer,
            view_transition: false,
            namespace: Namespace::Html,
            fields: Fields::default(),
        }
    }

    /// Creates an event that removes the elements which match a selector.
    ///
    /// ```
    /// use sse_smol_server::Frame;
    /// use sse_smol_server::datastar::PatchElements;
    ///
    /// let removal = Frame::from(PatchElements::remove("#feed, #other"));
    /// let expected = "event: datastar-patch-elements\n\
    ///                 data: selector #feed, #other\n\
    ///                 data: mode remove\n\n";
    /// assert_eq!(removal.encoded(), expected.as_bytes());
    /// ```
    pub fn remove(selector: impl Into<Cow<'a, str>>) -> Self {
        Self::new("").with_selector(selector).with_mode(ElementPatchMode::Remove)
    }

    /// Returns the event with a CSS selector for the target.
    #[must_use]
    pub fn with_selector(mut self, selector: impl Into<Cow<'a, str>>) -> Self {
        self.selector = Some(selector.into());
        self
    }

    /// Returns the event with this mode. Default: [`ElementPatchMode::Outer`].
    #[must_use]
    pub const fn with_mode(mut self, mode: ElementPatchMode) -> Self {
        self.mode = mode;
        self
    }

    /// Returns the event with or without a view transition in browsers that support it. Default:
    /// without.
    #[must_use]
    pub const fn with_view_transition(mut self, view_transition: bool) -> Self {
        self.view_transition = view_transition;
        self
    }

    /// Returns the event with the namespace of its elements. Default: [`Namespace::Html`]. Clients
    /// before Datastar 1.0.0-RC.7 ignore it.
    #[must_use]
    pub const fn with_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }
}

impl Patch for PatchElements<'_> {
    const EVENT_TYPE: EventType<'static> = PATCH_ELEMENTS;

    fn fields(&self) -> Fields<'_> {
        self.fields
    }

    fn write<S: Sink>(&self, lines: &mut Lines<'_, S>) {
        if let Some(selector) = &self.selector {
            lines.pair("selector", selector);
        }
        if self.mode != ElementPatchMode::default() {
            lines.pair("mode", self.mode.as_str());
        }
        if self.view_transition {
            lines.pair("useViewTransition", "true");
        }
        if self.namespace != Namespace::default() {
            lines.pair("namespace", self.namespace.as_str());
        }
        if !self.elements.is_empty() {
            lines.pair("elements", &self.elements);
        }
    }
}

event!(PatchElements);
