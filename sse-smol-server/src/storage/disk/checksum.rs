//! The checksum of events and of dropped positions in the file: CRC-32, as in gzip (RFC 1952,
//! section 8).

/// Lookup tables for eight bytes in one step: table `n` has the checksum of each byte followed by
/// `n` zeros.
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte as usize] = sum;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Returns the checksum of a position and of the bytes stored there. It includes the position, so
/// that bytes found at another position count as damaged.
pub(super) fn checksum(position: u64, bytes: &[u8]) -> u32 {
    !update(update(!0, &position.to_le_bytes()), bytes)
}

fn update(mut sum: u32, bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let bytes = (u64::from_le_bytes(*eight) ^ u64::from(sum)).to_le_bytes();
        let sums = bytes.iter().zip(TABLES.iter().rev());
        sum = sums.fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
    }
    for byte in rest {
        sum = sum >> 8 ^ TABLES[0][usize::from(sum.to_le_bytes()[0] ^ byte)];
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_gzip() {
        assert_eq!(!update(!0, b"123456789"), 0xCBF4_3926);
        let position = u64::from_le_bytes(*b"12345678");
        for rest in ["9", "", "a longer text, in several blocks of eight bytes"] {
            assert_eq!(
                checksum(position, rest.as_bytes()),
                !update(update(!0, b"12345678"), rest.as_bytes())
            );
        }
        assert_eq!(checksum(position, b"9"), 0xCBF4_3926);
    }
}
