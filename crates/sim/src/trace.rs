//! What happened in a world, line by line. The hash covers all of it; only the tail is kept.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// How many lines are kept for whoever wants to know how it came to this.
const TAIL: usize = 120;

/// The lines, or rather their hash and the last of them.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    tail: VecDeque<String>,
    is_printed: bool,
}

impl Trace {
    /// An empty trace. If `is_printed`, each line goes to the standard output as well.
    pub fn new(is_printed: bool) -> Trace {
        Trace { hash: FNV_OFFSET, tail: VecDeque::new(), is_printed }
    }

    /// Adds a line.
    pub fn note(&mut self, at: Duration, line: fmt::Arguments<'_>) {
        let line = format!("{:>12.6} {line}", at.as_secs_f64());
        self.hash = fnv(self.hash, line.as_bytes());
        if self.is_printed {
            println!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The hash of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A short fingerprint of a frame, for the trace.
pub fn fingerprint(bytes: &[u8]) -> u32 {
    (fnv(FNV_OFFSET, bytes) >> 32) as u32
}
