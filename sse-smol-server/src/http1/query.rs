//! The decoded parts of a request target: query parameters and path segments.

use percent_encoding::percent_decode_str;

use super::request_error::RequestError;

/// The parameters in the query of a request, decoded, in their order.
///
/// ```
/// use sse_smol_server::Query;
///
/// let query = Query::parse("topic=a%20b&topic=c+d&limit=5&100%")?;
/// assert_eq!(query.all("topic").collect::<Vec<_>>(), ["a b", "c d"]);
/// assert_eq!(query.only("limit")?, Some("5"));
/// assert_eq!(query.only("100%")?, Some(""));
/// assert_eq!(query.only("after")?, None);
/// assert!(query.only("topic").is_err()); // there are two
/// # Ok::<(), sse_smol_server::RequestError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a form-encoded query. A `%` that does not begin an escape stands for itself, as in
    /// the URL Standard.
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if a name or value is not UTF-8. A lossy decoding would make
    /// different values equal.
    pub fn parse(query: &str) -> Result<Self, RequestError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| decode(&text.replace('+', " "));
            let name = decode(name)
                .ok_or_else(|| RequestError::bad("The name of a query parameter is not UTF-8."))?;
            let value = decode(value).ok_or_else(|| {
                RequestError::bad(format!("The query parameter {name:?} is not UTF-8."))
            })?;
            Ok((name, value))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the names and values of all parameters.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns all values of a parameter.
    pub fn all<'q>(&'q self, name: &'q str) -> impl DoubleEndedIterator<Item = &'q str> {
        self.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns the value of a parameter that must not be repeated.
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if the parameter is repeated.
    pub fn only<'q>(&'q self, name: &'q str) -> Result<Option<&'q str>, RequestError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => {
                let why = format!("The query has more than one parameter {name:?}.");
                Err(RequestError::bad(why))
            }
            (value, None) => Ok(value),
        }
    }
}

/// The segments of a path, decoded. It does not borrow from the request that it is from, so that
/// the request can be moved on while the segments are matched.
///
/// ```
/// use sse_smol_server::Segments;
///
/// let path = Segments::parse("/rooms/caf%C3%A9/a%2Fb")?;
/// let [first, room, message] = path.to_vec()[..] else { panic!("{path:?}") };
/// assert_eq!((first, room, message), ("rooms", "café", "a/b"));
///
/// assert!(Segments::parse("/")?.to_vec().is_empty());
/// assert_eq!(Segments::parse("/rooms/")?.to_vec(), ["rooms", ""]);
/// # Ok::<(), sse_smol_server::RequestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Box<[Box<str>]>);

impl Segments {
    /// Splits a path at its slashes, and decodes the parts between them. The path `/` has no
    /// segments. A slash at the end of another path is followed by an empty segment.
    ///
    /// A decoded segment may contain a slash, or be `..`. So it is no file name without a check.
    ///
    /// # Errors
    ///
    /// Returns an error with status 400 if a segment is not UTF-8.
    pub fn parse(path: &str) -> Result<Self, RequestError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Self(Box::default()));
        }
        let decoded = path.split('/').map(|segment| decode(segment).map(String::into_boxed_str));
        let segments: Option<_> = decoded.collect();
        segments.map(Self).ok_or_else(|| RequestError::bad("The path is not UTF-8."))
    }

    /// Returns the segments as a list of texts, which can be matched with a slice pattern.
    pub fn to_vec(&self) -> Vec<&str> {
        self.0.iter().map(|segment| &**segment).collect()
    }
}

/// Decodes percent-encoded text. Returns `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf_8_is_refused_with_its_place() {
        for (query, why) in [
            ("a=%FF", "The query parameter \"a\" is not UTF-8."),
            ("%FF=a", "The name of a query parameter is not UTF-8."),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert_eq!((error.status().as_u16(), error.to_string().as_str()), (400, why));
        }
        assert_eq!(Segments::parse("/a/%FF").unwrap_err().status(), 400);
    }

    #[test]
    fn empty_pairs_are_skipped_and_values_may_contain_equals_signs() {
        let query = Query::parse("&&a=b=c&=&d").unwrap();
        assert_eq!(query.iter().collect::<Vec<_>>(), [("a", "b=c"), ("", ""), ("d", "")]);
    }
}
