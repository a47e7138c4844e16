//! Quantiles, medians and number formatting.

use std::time::Duration;

/// Returns the quantile `part` (0 to 1), or zero if there are no durations.
pub(crate) fn quantile(all: &[Duration], part: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not past the end")]
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Returns the median of each column.
pub(crate) fn medians(rows: &[Vec<f64>]) -> Vec<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns)
        .map(|column| {
            let mut all: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            all.sort_unstable_by(f64::total_cmp);
            f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
        })
        .collect()
}

/// Converts to milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Formats a number with three significant digits, or all digits before the point.
pub(crate) fn show(number: f64) -> String {
    let digits = match number.abs() {
        0.0 => 0,
        ..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_with_three_significant_digits() {
        let shown = [0.0, 0.01234, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(show);
        assert_eq!(shown, ["0", "0.012", "1.23", "12.3", "123", "1 234", "1 234 567"]);
    }

    #[test]
    fn quantiles_and_medians_are_computed() {
        let all: Vec<Duration> = (0..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&all, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&all, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
        assert_eq!(medians(&[vec![1.0, 9.0], vec![3.0, 5.0], vec![2.0, 7.0]]), [2.0, 7.0]);
    }
}
