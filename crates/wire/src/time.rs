//! The two clocks. Neither is read here: time is handed in.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the Unix epoch, as Kafka writes them; -1 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// "No timestamp" on the wire.
    pub const NONE: Timestamp = Timestamp(-1);

    /// The moment `ms` milliseconds later (earlier, where negative), held within what 64 bits can say.
    pub fn plus_ms(self, ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; negative where the clock stepped back.
    pub fn ms_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One reading of both clocks, taken by the shell and handed down.
///
/// Deadlines and timeouts live on `monotonic`, so a wall clock that jumps changes none of them; what is
/// stored or shown to clients comes from `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary fixed moment; never goes back.
    pub monotonic: Duration,
    /// What the wall clock shows; may jump.
    pub wall: Timestamp,
}
