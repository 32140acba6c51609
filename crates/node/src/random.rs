//! Randomness, handed in by whoever runs the node.

use parking_lot::Mutex;

/// Fills a buffer with random bytes: the operating system's in a broker, a seed's in a simulation.
pub type FillRandom = Box<dyn FnMut(&mut [u8]) + Send>;

/// The node's source of random ids.
pub(crate) struct Random {
    fill: Mutex<FillRandom>,
}

impl Random {
    pub(crate) fn new(fill: FillRandom) -> Random {
        Random { fill: Mutex::new(fill) }
    }

    /// So many random bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.fill.lock())(&mut bytes);
        bytes
    }
}
