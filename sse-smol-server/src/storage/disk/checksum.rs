//! The checksum of events and of dropped positions in the file: CRC-32, as in gzip (RFC 1952,
//! section 8).

use crc32fast::Hasher;

/// Returns the checksum of a position and of the bytes stored there. It includes the position, so
/// that bytes found at another position count as damaged.
pub(super) fn checksum(position: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the algorithm. The files of earlier versions have these checksums.
    #[test]
    fn it_is_the_checksum_of_gzip() {
        assert_eq!(checksum(u64::from_le_bytes(*b"12345678"), b"9"), 0xCBF4_3926);
    }
}
