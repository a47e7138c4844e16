//! What is published: a line that says who sent it, as which of its messages, and when, so that who
//! receives it sees whether anything is missing, twice or out of order.

/// How long each message is.
pub const LEN: usize = 100;

/// Found nowhere but at the beginning of a message, nor the other but at its end.
const BEGIN: u8 = b'~';
const END: u8 = b'$';

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub publisher: u32,
    /// Where to.
    pub topic: u32,
    /// How many this publisher sent there before.
    pub sequence: u32,
    /// When, in nanoseconds since whatever the sender counts from.
    pub sent: u64,
}

impl Message {
    /// One that nobody sent, as it would be published: for streams that always have another.
    pub fn sample() -> String {
        let mut data = Vec::new();
        Self { publisher: 0, topic: 0, sequence: 0, sent: 0 }.write(&mut data);
        String::from_utf8(data).expect("ASCII")
    }

    /// As it is published.
    pub fn write(self, to: &mut Vec<u8>) {
        let end = to.len() + LEN;
        to.push(BEGIN);
        hex(to, u64::from(self.publisher), 2);
        hex(to, u64::from(self.topic), 4);
        hex(to, u64::from(self.sequence), 8);
        hex(to, self.sent, 16);
        to.resize(end - 1, b'.');
        to.push(END);
    }

    /// Of exactly its bytes; nothing if it was torn.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(31)?;
        if rest.first() != Some(&b'.') || rest.last() != Some(&END) {
            return None;
        }
        Some(Self {
            publisher: u32::try_from(number(&numbers[1..3])?).ok()?,
            topic: u32::try_from(number(&numbers[3..7])?).ok()?,
            sequence: u32::try_from(number(&numbers[7..15])?).ok()?,
            sent: number(&numbers[15..])?,
        })
    }
}

/// Calls `each` for every message in what was received, with nothing for one that is torn. Gives how
/// many bytes were looked at to the end: what is left begins a message whose end has not come.
///
/// Whatever servers put around messages (chunks, ids, comments) is passed over. None has a reason
/// to put anything into them.
pub fn scan(bytes: &[u8], mut each: impl FnMut(Option<Message>)) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr(BEGIN, &bytes[at..]) {
        let begin = at + found;
        // With the line end after it.
        let Some(line) = bytes.get(begin..=begin + LEN) else { return begin };
        each(Message::read(&line[..LEN]).filter(|_| line[LEN] == b'\n'));
        at = begin + LEN;
    }
    bytes.len()
}

fn hex(to: &mut Vec<u8>, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        let [.., low] = (number >> (4 * digit)).to_be_bytes();
        to.push(b"0123456789abcdef"[usize::from(low & 15)]);
    }
}

/// Without a branch for each digit: a receiver is to cost less than what is measured.
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

/// What each byte is worth as a digit, or more than any.
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
    fn what_is_written_is_found_however_it_is_cut() {
        let sent = [
            Message { publisher: 3, topic: 0x3e7, sequence: 0xffff, sent: 1 << 60 },
            Message { publisher: 0, topic: 0, sequence: 0, sent: 0 },
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
    fn a_torn_message_is_none() {
        let mut wire = Vec::new();
        Message { publisher: 0, topic: 0, sequence: 0, sent: 0 }.write(&mut wire);
        wire.splice(50..50, *b"\r\n5\r\n");
        wire.push(b'\n');
        let mut found = Vec::new();
        scan(&wire, |message| found.push(message));
        assert_eq!(found, [None]);
    }
}
