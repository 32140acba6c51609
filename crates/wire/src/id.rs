//! Identifiers and positions as types of their own.

use std::fmt;

use crate::Str;

/// The position of a record in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// "No offset", or "not known", on the wire.
    pub const NONE: Offset = Offset(-1);
    /// The first offset of a partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0.saturating_add(count))
    }

    /// The offset right after this one.
    pub fn next(self) -> Offset {
        self.plus(1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a producer for as long as it lives (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A batch, or a request, without a producer id.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl Default for ProducerId {
    fn default() -> Self {
        ProducerId::NONE
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells the incarnations of one producer id apart; the higher one fences the lower (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// A batch, or a request, without an epoch.
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);

    /// From this epoch on a producer needs a new id: the one above it is kept for the fencing marker.
    pub const EXHAUSTED: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

    /// Whether no epoch is left for another bump.
    pub fn is_exhausted(self) -> bool {
        self >= ProducerEpoch::EXHAUSTED
    }

    /// The epoch after this one.
    pub fn next(self) -> ProducerEpoch {
        ProducerEpoch(self.0.saturating_add(1))
    }
}

impl Default for ProducerEpoch {
    fn default() -> Self {
        ProducerEpoch::NONE
    }
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the leaderships of a partition (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// "Not known", or "do not check", on the wire.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);

    /// The epoch after this one.
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0.saturating_add(1))
    }
}

impl Default for LeaderEpoch {
    fn default() -> Self {
        LeaderEpoch::NONE
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 128-bit id of a topic, a directory or a cluster, printed as Kafka does: URL-safe base64 without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeros: "no id".
    pub const ZERO: Uuid = Uuid([0; 16]);

    const ALPHABET: &'static [u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// Whether this is the "no id" value.
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }

    /// Makes 16 random bytes a version 4 (random) id.
    pub fn from_random(mut bytes: [u8; 16]) -> Uuid {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }

    /// Reads the 22-character form; `None` where it is anything else.
    pub fn parse(text: &str) -> Option<Uuid> {
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (at, byte) in text.bytes().enumerate() {
            let value = Self::ALPHABET.iter().position(|&a| a == byte)? as u128;
            if at == 21 {
                if value & 0xf != 0 {
                    return None;
                }
                bits = (bits << 2) | (value >> 4);
            } else {
                bits = (bits << 6) | value;
            }
        }
        Some(Uuid(bits.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (at, slot) in text.iter_mut().enumerate() {
            let value = if at == 21 { (bits & 0x3) << 4 } else { (bits >> (122 - 6 * at)) & 0x3f };
            *slot = Self::ALPHABET[value as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// One partition of one topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Str>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_prints_and_reads_back_as_kafka_writes_it() {
        let id = Uuid::parse("5L6g3nShT-eMCtK--X86sw").expect("a well-known cluster id");
        assert_eq!(id.to_string(), "5L6g3nShT-eMCtK--X86sw");
        assert_eq!(id.0[..4], [0xe4, 0xbe, 0xa0, 0xde]);
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(Uuid::parse("short"), None);
    }
}
