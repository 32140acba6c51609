//! Log lines about misbehaving clients, few enough that nobody can fill a disk with them.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many lines are written in each [`PERIOD`]; the rest is counted.
const MOST_LINES: u32 = 10;

const PERIOD: Duration = Duration::from_secs(10);

/// The lines of the current period.
pub(crate) struct Complaints {
    period: Mutex<Period>,
}

struct Period {
    start: Instant,
    written: u32,
    suppressed: u64,
}

impl Complaints {
    pub(crate) fn new() -> Complaints {
        Complaints { period: Mutex::new(Period { start: Instant::now(), written: 0, suppressed: 0 }) }
    }

    /// Writes the line, unless the period has had its share.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let mut period = self.period.lock();
        if period.start.elapsed() >= PERIOD {
            if period.suppressed > 0 {
                tracing::warn!(
                    "{} more connections were closed for their clients' faults",
                    period.suppressed
                );
            }
            *period = Period { start: Instant::now(), written: 0, suppressed: 0 };
        }
        if period.written < MOST_LINES {
            period.written += 1;
            tracing::warn!("{}", line());
        } else {
            period.suppressed += 1;
        }
    }
}
