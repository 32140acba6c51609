//! Random values of every message, from a seed.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use oncelog_wire::{
    ErrorCode, LeaderEpoch, Message, Offset, ProducerEpoch, ProducerId, Records, Str, Timestamp, Uuid, Writer,
};

/// As the build script emits it from `protocol/`.
#[allow(unused, clippy::all)]
pub mod samples {
    use super::{Sample, Sampler, Visitor};
    include!(concat!(env!("OUT_DIR"), "/samples.rs"));
}

/// Is shown every message, with all its versions.
pub trait Visitor {
    fn message<M: Message + Sample + Clone + Debug + PartialEq>(
        &mut self,
        name: &'static str,
        versions: RangeInclusive<i16>,
    );
}

/// What a random value can be made of.
pub trait Sample {
    fn sample(s: &mut Sampler, version: i16) -> Self;
}

/// A source of random values (xorshift64*) that makes arrays smaller the more it has made.
pub struct Sampler {
    state: u64,
    made: usize,
}

impl Sampler {
    /// The seed in `ONCELOG_SEED`, or else always the same one.
    pub fn from_environment() -> Sampler {
        let seed = std::env::var("ONCELOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
        println!("ONCELOG_SEED={seed}");
        Sampler { state: 0x9e37_79b9_7f4a_7c15 ^ seed, made: 0 }
    }

    pub fn word(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() >> 16) as usize % limit
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A number of as many bits as chance has it, so that small ones are common.
    fn number(&mut self) -> i64 {
        let shift = self.below(64);
        (self.word() as i64) >> shift
    }

    /// A message of its own, with no regard to how many were made before.
    pub fn message<M: Sample>(&mut self, version: i16) -> M {
        self.made = 0;
        M::sample(self, version)
    }
}

/// The encoded form, in one piece.
pub fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    message.encode(&mut w, version);
    w.finish_bytes()
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(s: &mut Sampler, version: i16) -> Self {
        let most = if s.made < 50 { 4 } else { 1 };
        let count = s.below(most + 1);
        s.made += count;
        (0..count).map(|_| T::sample(s, version)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(s: &mut Sampler, version: i16) -> Self {
        (s.below(4) > 0).then(|| T::sample(s, version))
    }
}

macro_rules! sample_numbers {
    ($($number:ty)*) => {
        $(impl Sample for $number {
            fn sample(s: &mut Sampler, _version: i16) -> Self {
                s.number() as $number
            }
        })*
    };
}

sample_numbers! { i8 i16 u16 i32 i64 f64 }

macro_rules! sample_newtypes {
    ($($newtype:ident)*) => {
        $(impl Sample for $newtype {
            fn sample(s: &mut Sampler, version: i16) -> Self {
                $newtype(Sample::sample(s, version))
            }
        })*
    };
}

sample_newtypes! { Offset ProducerId ProducerEpoch LeaderEpoch Timestamp }

impl Sample for bool {
    fn sample(s: &mut Sampler, _version: i16) -> Self {
        s.coin()
    }
}

impl Sample for Uuid {
    fn sample(s: &mut Sampler, _version: i16) -> Self {
        let mut bytes = [0; 16];
        bytes.fill_with(|| s.word() as u8);
        Uuid(bytes)
    }
}

impl Sample for ErrorCode {
    fn sample(s: &mut Sampler, _version: i16) -> Self {
        ErrorCode::ALL[s.below(ErrorCode::ALL.len())]
    }
}

impl Sample for Str {
    fn sample(s: &mut Sampler, _version: i16) -> Self {
        let length = if s.below(50) == 0 { 300 } else { s.below(12) };
        (0..length).map(|_| ['a', 'z', '-', '.', '7', 'é', '語', '🦀'][s.below(8)]).collect::<String>().into()
    }
}

impl Sample for Bytes {
    fn sample(s: &mut Sampler, _version: i16) -> Self {
        let length = if s.below(20) == 0 { 5000 } else { s.below(20) };
        (0..length).map(|_| s.word() as u8).collect()
    }
}

impl Sample for Records {
    fn sample(s: &mut Sampler, version: i16) -> Self {
        Records::Bytes(Bytes::sample(s, version))
    }
}
