//! When operations start. In an open loop their times are fixed before the run, whatever the broker does, and a
//! latency counts from there: that is what keeps coordinated omission out.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The times at which the operations of all workers start; whichever worker is free takes the next.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    end: Instant,
    /// Between two operations; none in a closed loop.
    interval: Option<Duration>,
    next: AtomicU64,
}

impl Schedule {
    /// A closed loop, or an open one at `rate` a second, from `start` to `end`.
    pub(crate) fn new(start: Instant, end: Instant, rate: Option<f64>) -> Schedule {
        let interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Schedule { start, end, interval, next: AtomicU64::new(0) }
    }

    /// The share of one of `count` workers that do not take turns; the shares together have this schedule's rate.
    pub(crate) fn share(&self, worker: usize, count: usize) -> Schedule {
        let (worker, count) = (worker as u32, count as u32);
        let start = self.start + self.interval.map_or(Duration::ZERO, |interval| interval * worker);
        let interval = self.interval.map(|interval| interval * count);
        Schedule { start, end: self.end, interval, next: AtomicU64::new(0) }
    }

    /// When everything begins.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Whether operations have times of their own.
    pub(crate) fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// Whether no operation starts any more.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Takes the next operation, waits until it is to start, and says when that was; nothing once the time is up.
    pub(crate) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(_) = self.interval else {
            return (now < self.end).then_some(now);
        };
        let intended = self.intended(self.next.fetch_add(1, Ordering::Relaxed))?;
        if intended > now {
            std::thread::sleep(intended - now);
        }
        // A worker that is late by then is late for good: what the broker did not get to is not charged twice.
        (!self.is_over()).then_some(intended)
    }

    /// When an operation of an open loop is to start, if that is before the end.
    pub(crate) fn intended(&self, number: u64) -> Option<Instant> {
        let interval = self.interval?.as_nanos() * u128::from(number);
        let intended = self.start + Duration::from_nanos(u64::try_from(interval).ok()?);
        (intended < self.end).then_some(intended)
    }

    /// How many operations an open loop was to start.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let interval = self.interval?.as_nanos().max(1);
        u64::try_from((self.end - self.start).as_nanos().div_ceil(interval)).ok()
    }
}

/// Asks the system to wake this thread when it wants to, not up to 50 µs later.
pub(crate) fn wake_in_time() {
    // Where it is not to be had, latencies are that much longer, and that is all.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_open_loop_starts_at_its_rate_and_ends_with_its_time() {
        let start = Instant::now();
        let schedule = Schedule::new(start, start + SECOND, Some(100.0));
        assert_eq!(schedule.wanted(), Some(100));
        assert_eq!(schedule.intended(0), Some(start));
        assert_eq!(schedule.intended(7), Some(start + Duration::from_millis(70)));
        assert_eq!(schedule.intended(100), None);
    }

    #[test]
    fn a_worker_that_is_late_is_told_when_it_should_have_started() {
        let start = Instant::now() - SECOND;
        let schedule = Schedule::new(start, start + 1000 * SECOND, Some(10.0));
        assert_eq!(schedule.next(), Some(start));
        assert_eq!(schedule.next(), Some(start + Duration::from_millis(100)));
        assert_eq!(schedule.next(), Some(start + Duration::from_millis(200)));
    }

    #[test]
    fn a_closed_loop_starts_now_until_its_time_is_up() {
        let now = Instant::now();
        assert!(Schedule::new(now, now + 1000 * SECOND, None).next().unwrap() >= now);
        assert_eq!(Schedule::new(now - SECOND, now, None).next(), None);
        assert_eq!(Schedule::new(now - SECOND, now, Some(1.0)).next(), None);
    }

    #[test]
    fn the_shares_of_workers_make_up_the_whole() {
        let start = Instant::now();
        let schedule = Schedule::new(start, start + SECOND, Some(10.0));
        let mut times: Vec<Instant> = (0..3)
            .flat_map(|worker| {
                let share = schedule.share(worker, 3);
                (0..).map_while(move |number| share.intended(number)).collect::<Vec<_>>()
            })
            .collect();
        times.sort();
        let whole: Vec<Instant> = (0..).map_while(|number| schedule.intended(number)).collect();
        assert_eq!(times, whole);
    }
}
