//! Whole numbers on the command line.

use std::fmt::Display;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

/// Parses a whole number, without a sign or a unit.
pub(crate) fn whole_number<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "is too large".to_owned(),
        _ => "must be a whole number, without a sign or a unit".to_owned(),
    })
}

/// Returns a parser of whole numbers that are at least `least`. Its error gives `why` as the reason.
pub(crate) fn at_least<N>(
    least: N,
    why: &'static str,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr<Err = ParseIntError> + PartialOrd + Display + Copy + Send + Sync,
{
    move |text| match whole_number(text)? {
        number if number >= least => Ok(number),
        _ => Err(format!("must be at least {least}: {why}")),
    }
}
