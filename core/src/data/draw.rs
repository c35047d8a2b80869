//! Which object filled which place of training's endless stream.

use sha2::{Digest, Sha256};

/// An object as training drew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drawn {
    /// Position in the endless stream, counted from 0 over all steps, ranks and workers.
    pub position: u64,
    /// 0 for the object that the order has there, k for the k-th that stood in for it.
    pub attempt: u32,
    /// SHA-256 of the object's id.
    pub id: [u8; 32],
}

impl Drawn {
    /// Bytes of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 44;

    /// The object `id`, drawn for `position` on the `attempt`th try.
    pub fn new(position: u64, attempt: u32, id: &str) -> Self {
        Self { position, attempt, id: Sha256::digest(id.as_bytes()).into() }
    }

    /// As bytes, little-endian, for an exchange between processes.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.position.to_le_bytes());
        out[8..12].copy_from_slice(&self.attempt.to_le_bytes());
        out[12..].copy_from_slice(&self.id);
        out
    }

    /// What [`to_bytes`](Self::to_bytes) made.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut position, mut attempt, mut id) = ([0; 8], [0; 4], [0; 32]);
        position.copy_from_slice(&bytes[..8]);
        attempt.copy_from_slice(&bytes[8..12]);
        id.copy_from_slice(&bytes[12..]);
        Self { position: u64::from_le_bytes(position), attempt: u32::from_le_bytes(attempt), id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_survives_the_way_to_another_process() {
        let drawn = Drawn::new(1 << 40, 3, "abc");
        assert_eq!(Drawn::from_bytes(&drawn.to_bytes()), drawn);
        // FIPS 180-4's example of SHA-256.
        assert_eq!(drawn.id[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
