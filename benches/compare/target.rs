//! What oncelog has to reach beside others, and whether it did. The limit of the clients is taken into account: where
//! not even the floor, a stand-in that does nothing, nor any other broker is as fast as a target wants in its best round,
//! 90 % of the fastest of them does.

use crate::{Process, Results, Spread, grouped, significant};

/// Which part of the clients' limit is enough where a target is beyond it.
const OF_LIMIT: f64 = 0.9;

/// What a broker has to reach in a shape; for processes, with a kind of client.
pub(crate) struct Target {
    pub(crate) broker: &'static str,
    pub(crate) shape: &'static str,
    goal: Goal,
}

enum Goal {
    /// At least so many times the rate of another broker.
    Rate(f64, &'static str),
    /// At least so many a second.
    RateOf(f64),
    /// At least so many times the rate in another shape.
    RateBeside(f64, &'static str),
    /// At most so many times the CPU time of another broker.
    Cpu(f64, &'static str),
    /// At most so many µs of CPU time each.
    CpuOf(f64),
    /// At most so many times the CPU time in another shape.
    CpuBeside(f64, &'static str),
    /// At most so many MiB at the peak.
    Peak(f64),
    /// At most so many milliseconds until it answers.
    Ready(f64),
}

const fn oncelog(shape: &'static str, goal: Goal) -> Target {
    Target { broker: "oncelog", shape, goal }
}

const fn fsync(shape: &'static str, goal: Goal) -> Target {
    Target { broker: "oncelog-fsync", shape, goal }
}

pub(crate) const TARGETS: [Target; 30] = [
    oncelog("java-tx-1", Goal::Rate(30.0, "kafka")),
    oncelog("java-tx-1", Goal::Rate(2.0, "krabka")),
    oncelog("java-tx-1", Goal::Rate(1.4, "kfake")),
    oncelog("java-tx-1", Goal::CpuOf(50.0)),
    oncelog("java-tx-16", Goal::Rate(8.0, "kafka")),
    oncelog("java-tx-16", Goal::Rate(2.0, "krabka")),
    oncelog("java-tx-16", Goal::Rate(1.3, "kfake")),
    oncelog("java-tx-16", Goal::CpuOf(35.0)),
    oncelog("java-tx-1x10x10", Goal::Rate(15.0, "kafka")),
    oncelog("java-tx-1x10x10", Goal::Rate(5.0, "krabka")),
    oncelog("java-tx-1x10x10", Goal::Rate(1.5, "kfake")),
    oncelog("java-tx-1x10x10", Goal::CpuOf(120.0)),
    oncelog("java-tx-4x100x4", Goal::Rate(6.0, "kafka")),
    oncelog("java-tx-4x100x4", Goal::Rate(3.0, "krabka")),
    oncelog("java-tx-4x100x4", Goal::Rate(1.3, "kfake")),
    oncelog("java-tx-4x100x4", Goal::CpuOf(90.0)),
    oncelog("java-produce-100", Goal::Rate(1.0, "krabka")),
    oncelog("java-produce-100", Goal::Cpu(0.7, "krabka")),
    oncelog("java-produce-1024", Goal::Rate(1.0, "krabka")),
    oncelog("java-produce-1024", Goal::Cpu(0.7, "krabka")),
    oncelog("java-produce-tx", Goal::RateBeside(0.95, "java-produce-plain")),
    // 0.15 s for all 4 M.
    oncelog("java-consume", Goal::CpuOf(0.0375)),
    oncelog("java-consume-stable", Goal::CpuBeside(1.03, "java-consume")),
    oncelog("java", Goal::Peak(40.0)),
    oncelog("java", Goal::Ready(10.0)),
    fsync("tx-1", Goal::RateOf(1_500.0)),
    fsync("tx-64", Goal::RateOf(10_000.0)),
    fsync("tx-1", Goal::Rate(1.0, "kafka-fsync")),
    fsync("tx-64", Goal::Rate(1.0, "kafka-fsync")),
    fsync("java-tx-1", Goal::Rate(1.0, "kafka-fsync")),
];

/// A target as it came out.
pub(crate) struct Verdict {
    pub(crate) wanted: String,
    pub(crate) reached: String,
    pub(crate) is_met: bool,
}

impl Target {
    /// Nothing where what it needs was not measured.
    pub(crate) fn judge(&self, results: &Results) -> Option<Verdict> {
        let cpu = |shape, broker| Some(results.of(shape, broker)?.cpu_us);
        let rate = |shape, broker| Some(results.of(shape, broker)?.rate.median);
        match self.goal {
            Goal::Rate(factor, other) => {
                let (own, rival) = (rate(self.shape, self.broker)?, rate(self.shape, other)?);
                Some(within_the_limit(own, factor, (other, rival), self.limit(results)))
            }
            Goal::RateOf(least) => {
                let reached = rate(self.shape, self.broker)?;
                Some(Verdict {
                    wanted: format!("{} a second", grouped(least)),
                    reached: grouped(reached),
                    is_met: reached >= least,
                })
            }
            Goal::RateBeside(factor, other) => {
                let reached = rate(self.shape, self.broker)? / rate(other, self.broker)?;
                Some(Verdict {
                    wanted: format!("{factor} × the rate without"),
                    reached: format!("{reached:.2} ×"),
                    is_met: reached >= factor,
                })
            }
            Goal::Cpu(factor, other) => {
                let reached = cpu(self.shape, self.broker)? / cpu(self.shape, other)?;
                Some(at_most(factor, reached, &format!("× the CPU of {other}")))
            }
            Goal::CpuOf(most) => Some(at_most(most, cpu(self.shape, self.broker)?, "µs CPU each")),
            Goal::CpuBeside(factor, other) => {
                let reached = cpu(self.shape, self.broker)? / cpu(other, self.broker)?;
                Some(at_most(factor, reached, "× the CPU of read_uncommitted"))
            }
            Goal::Peak(most) => {
                let reached =
                    spread(results.processes(self.shape, self.broker), |process| process.peak_mib)?.most;
                Some(at_most(most, reached, "MiB at the peak"))
            }
            Goal::Ready(most) => {
                let processes = results.processes(self.shape, self.broker);
                Some(at_most(most, spread(processes, |process| process.ready_ms)?.median, "ms to ready"))
            }
        }
    }

    /// The most that others have shown the clients to do; nothing where the floor was not measured.
    fn limit(&self, results: &Results) -> Option<f64> {
        results.of(self.shape, "floor")?;
        let others = results
            .shapes
            .iter()
            .filter(|((shape, broker), _)| *shape == self.shape && broker != self.broker)
            .map(|(_, measured)| measured.rate.most);
        others.max_by(f64::total_cmp)
    }
}

fn within_the_limit(own: f64, factor: f64, (other, rival): (&str, f64), limit: Option<f64>) -> Verdict {
    let (wanted, reached) = (format!("{factor} × {other}"), format!("{:.2} ×", own / rival));
    match limit {
        Some(limit) if limit * OF_LIMIT < factor * rival => Verdict {
            wanted: format!("{wanted}, but 90 % of the clients' limit: {:.2} ×", limit * OF_LIMIT / rival),
            reached: format!("{reached}, {:.0} % of the limit", own / limit * 100.0),
            is_met: own >= limit * OF_LIMIT,
        },
        _ => Verdict { wanted, reached, is_met: own >= factor * rival },
    }
}

fn at_most(most: f64, reached: f64, what: &str) -> Verdict {
    Verdict {
        wanted: format!("at most {most} {what}"),
        reached: significant(reached),
        is_met: reached <= most,
    }
}

fn spread(processes: &[Process], value: fn(&Process) -> f64) -> Option<Spread> {
    (!processes.is_empty()).then(|| Spread::of(processes.iter().map(value)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::invented;

    const TARGET: Target = oncelog("java-tx-1", Goal::Rate(2.0, "kfake"));

    fn verdict(own: f64, floor: f64) -> Verdict {
        let rates = [("oncelog", own), ("kfake", 100.0), ("floor", floor)];
        TARGET.judge(&invented(&rates.map(|(broker, rate)| ("java-tx-1", broker, rate)))).unwrap()
    }

    #[test]
    fn a_target_that_the_clients_can_reach_is_not_lowered() {
        assert!(verdict(200.0, 300.0).is_met && !verdict(199.0, 300.0).is_met);
        let verdict = verdict(150.0, 300.0);
        assert_eq!((verdict.wanted, verdict.reached), ("2 × kfake".into(), "1.50 ×".into()));
    }

    #[test]
    fn where_the_clients_are_the_limit_nine_tenths_of_it_are_enough() {
        assert!(verdict(135.0, 150.0).is_met && !verdict(134.0, 150.0).is_met);
        let verdict = verdict(135.0, 150.0);
        assert_eq!(verdict.wanted, "2 × kfake, but 90 % of the clients' limit: 1.35 ×");
        assert_eq!(verdict.reached, "1.35 ×, 90 % of the limit");
    }

    #[test]
    fn a_floor_that_was_slower_than_a_broker_is_not_the_limit() {
        assert!(verdict(90.0, 10.0).is_met && !verdict(89.0, 10.0).is_met);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(TARGET.judge(&invented(&[("java-tx-1", "oncelog", 1.0)])).is_none());
        assert!(oncelog("java", Goal::Ready(1.0)).judge(&invented(&[])).is_none());
    }
}
