//! Published messages: a line with the publisher, its sequence number, the time and the length, so
//! that subscribers can detect messages that are missing, repeated, out of order or damaged.

/// The length of most messages in bytes.
pub const LEN: usize = 100;

/// The length of the numbers at the start of a message, and the offset of the last one.
const NUMBERS: usize = 35;
const LENGTH_AT: usize = 31;

/// Bytes that occur only at the start and the end of a message.
const BEGIN: u8 = b'~';
const END: u8 = b'$';

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of the publisher.
    pub publisher: u32,
    /// The number of the topic.
    pub topic: u32,
    /// The number of earlier messages of the publisher to the topic.
    pub sequence: u32,
    /// The time of sending, in nanoseconds since an arbitrary start.
    pub sent: u64,
    /// The length of the published form in bytes, from 37 to 65,535.
    pub len: usize,
}

impl Message {
    /// Returns a sample of this length in its published form, for endless streams.
    pub fn sample(len: usize) -> String {
        let mut data = Vec::new();
        Self { publisher: 0, topic: 0, sequence: 0, sent: 0, len }.write(&mut data);
        String::from_utf8(data).expect("ASCII")
    }

    /// Appends the message in its published form.
    pub fn write(self, to: &mut Vec<u8>) {
        let end = to.len() + self.len;
        to.push(BEGIN);
        hex(to, u64::from(self.publisher), 2);
        hex(to, u64::from(self.topic), 4);
        hex(to, u64::from(self.sequence), 8);
        hex(to, self.sent, 16);
        hex(to, self.len as u64, 4);
        to.resize(end - 1, b'.');
        to.push(END);
    }

    /// Parses a message of exactly these bytes. Returns `None` if it is damaged.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(NUMBERS)?;
        if rest.first() != Some(&b'.') || rest.last() != Some(&END) {
            return None;
        }
        Some(Self {
            publisher: u32::try_from(number(&numbers[1..3])?).ok()?,
            topic: u32::try_from(number(&numbers[3..7])?).ok()?,
            sequence: u32::try_from(number(&numbers[7..15])?).ok()?,
            sent: number(&numbers[15..LENGTH_AT])?,
            len: bytes.len(),
        })
    }
}

/// Calls `each` for every complete message, with `None` for a damaged one. Returns the number of
/// processed bytes: the rest is the start of an incomplete message.
///
/// Skips the framing around messages (chunks, IDs, comments). No server has a reason to split a
/// message.
pub fn scan(bytes: &[u8], mut each: impl FnMut(Option<Message>)) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr(BEGIN, &bytes[at..]) {
        let begin = at + found;
        let Some(numbers) = bytes.get(begin..begin + NUMBERS) else { return begin };
        let Some(len) = number(&numbers[LENGTH_AT..]).and_then(|len| usize::try_from(len).ok())
        else {
            each(None);
            at = begin + NUMBERS;
            continue;
        };
        // Includes the line end after the message.
        let Some(line) = bytes.get(begin..=begin + len) else { return begin };
        each(Message::read(&line[..len]).filter(|_| line[len] == b'\n'));
        at = begin + len.max(NUMBERS);
    }
    bytes.len()
}

fn hex(to: &mut Vec<u8>, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        let [.., low] = (number >> (4 * digit)).to_be_bytes();
        to.push(b"0123456789abcdef"[usize::from(low & 15)]);
    }
}

/// Parses hexadecimal digits without a branch for each: receiving must cost little CPU time.
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    let mut none = 0;
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        none |= value;
        number = number << 4 | u64::from(value & 15);
    }
    (none < 16).then_some(number)
}

/// The value of each byte as a hexadecimal digit, or 255.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_the_input_is_cut() {
        let sent = [
            Message { publisher: 3, topic: 0x3e7, sequence: 0xffff, sent: 1 << 60, len: LEN },
            Message { publisher: 0, topic: 0, sequence: 0, sent: 0, len: 150 },
        ];
        let mut wire = Vec::new();
        for message in sent {
            wire.extend(b"75\r\nid: 1-2\ndata: ");
            message.write(&mut wire);
            wire.extend(b"\n\n\r\n");
        }
        for cut in 0..=wire.len() {
            let mut found = Vec::new();
            let done = scan(&wire[..cut], |message| found.push(message));
            scan(&wire[done..], |message| found.push(message));
            assert_eq!(found, sent.map(Some));
        }
    }

    #[test]
    fn a_damaged_message_is_reported_as_none() {
        for damage in [3, LENGTH_AT + 1, 50] {
            let mut wire = Vec::new();
            Message { publisher: 0, topic: 0, sequence: 0, sent: 0, len: LEN }.write(&mut wire);
            wire.splice(damage..damage, *b"\r\n5\r\n");
            wire.push(b'\n');
            let mut found = Vec::new();
            scan(&wire, |message| found.push(message));
            assert_eq!(found, [None], "{damage}");
        }
    }
}
