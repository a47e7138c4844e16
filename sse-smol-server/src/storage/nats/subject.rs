//! Topics as subjects of NATS.
//!
//! A dot separates the tokens of a subject, none of which may be empty. So a topic is one token, in
//! which `.` is written as `=d`. No other character of a topic's name has a meaning in subjects, and
//! `=` is not in topics.

use std::sync::Arc;

/// Returns the subject of a topic in a stream.
pub(super) fn of_topic(stream: &str, topic: &str) -> String {
    let mut subject = String::with_capacity(stream.len() + topic.len() + 8);
    subject.push_str(stream);
    subject.push('.');
    for (index, part) in topic.split('.').enumerate() {
        if index > 0 {
            subject.push_str("=d");
        }
        subject.push_str(part);
    }
    subject
}

/// Returns the topic of a subject, or `None` if it is not the subject of a topic.
pub(super) fn to_topic(stream: &str, subject: &str) -> Option<Arc<str>> {
    let token = subject.strip_prefix(stream)?.strip_prefix('.')?;
    let topic = token.replace("=d", ".");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let is_topic = (1..=128).contains(&topic.len()) && topic.bytes().all(is_name);
    // Each topic has one subject.
    (is_topic && !token.contains('.')).then(|| topic.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_one_token_and_come_back() {
        for (topic, subject) in [
            ("news", "sse.news"),
            (".", "sse.=d"),
            ("..a..b.", "sse.=d=da=d=db=d"),
            ("A-z_~9.d", "sse.A-z_~9=dd"),
        ] {
            assert_eq!(of_topic("sse", topic), subject);
            assert_eq!(to_topic("sse", subject).as_deref(), Some(topic));
        }
        for foreign in ["sse", "sse.", "sse.a.b", "sse.a=b", "other.a", "sse.a b", "sse.=D"] {
            assert_eq!(to_topic("sse", foreign), None, "{foreign}");
        }
        assert_eq!(to_topic("sse", &format!("sse.{}", "x".repeat(129))), None);
    }
}
