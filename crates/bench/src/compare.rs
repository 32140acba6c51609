//! Putting runs side by side. Runs of one shape are compared; several runs of one broker in one shape are rounds, of
//! which that with the middle rate stands for all.

use std::fmt;

use crate::Report;
use crate::table::{grouped, micros_text, ms_text};

/// Some runs, by shape and broker. As text it is a table for each shape, with the rates as multiples of the first
/// broker's.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The brokers.
    pub(crate) names: Vec<&'a str>,
    /// The shapes, and for each the brokers that have runs of it.
    pub(crate) shapes: Vec<(String, Vec<Group<'a>>)>,
}

/// The rounds of one broker in one shape.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// The broker's place among all.
    pub(crate) number: usize,
    /// By rate.
    pub(crate) rounds: Vec<&'a Report>,
}

/// A value in several rounds.
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) middle: f64,
    pub(crate) most: f64,
}

impl<'a> Comparison<'a> {
    /// Sorts runs; brokers and shapes stay in the order in which they come.
    pub fn of(reports: &'a [Report]) -> Comparison<'a> {
        let mut names: Vec<&str> = Vec::new();
        let mut shapes: Vec<(String, Vec<Group<'_>>)> = Vec::new();
        for report in reports {
            let name = report.settings.name.as_str();
            let number = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            let shape = report.settings.to_string();
            let place = shapes.iter().position(|(known, _)| *known == shape).unwrap_or_else(|| {
                shapes.push((shape, Vec::new()));
                shapes.len() - 1
            });
            let groups = &mut shapes[place].1;
            match groups.iter_mut().find(|group| group.number == number) {
                Some(group) => group.rounds.push(report),
                None => groups.push(Group { number, rounds: vec![report] }),
            }
        }
        for group in shapes.iter_mut().flat_map(|(_, groups)| groups) {
            group.rounds.sort_by(|one, other| one.rate().total_cmp(&other.rate()));
        }
        Comparison { names, shapes }
    }
}

impl<'a> Group<'a> {
    /// The round in the middle.
    pub(crate) fn typical(&self) -> &'a Report {
        self.rounds[self.rounds.len() / 2]
    }

    pub(crate) fn name(&self) -> &'a str {
        &self.typical().settings.name
    }

    /// A value of all rounds that have it.
    pub(crate) fn spread(&self, value: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(|round| value(round)).collect();
        values.sort_by(f64::total_cmp);
        Some(Spread { least: *values.first()?, middle: values[values.len() / 2], most: *values.last()? })
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shape, groups) in &self.shapes {
            let Some(first) = groups.first().map(Group::typical) else { continue };
            writeln!(f, "{shape}")?;
            let unit = first.unit();
            writeln!(
                f,
                "  {:<16} {unit:>12} {:>21} {:>8} {:>8} {:>8} {:>12} {:>9}",
                "", "range", "ratio", "p50 ms", "p99 ms", "CPU µs each", "peak MiB"
            )?;
            for group in groups {
                let report = group.typical();
                let range = group.spread(|round| Some(round.rate())).map_or_else(String::new, |rates| {
                    format!("{}–{}", grouped(rates.least), grouped(rates.most))
                });
                let cost = group.spread(|round| Some(round.broker_process?.cpu_us_each));
                let memory = group.spread(|round| Some(round.broker_process?.peak_memory_mib));
                writeln!(
                    f,
                    "  {:<16} {:>12} {range:>21} {:>8.2} {:>8} {:>8} {:>12} {:>9}",
                    group.name(),
                    grouped(report.rate()),
                    report.rate() / first.rate(),
                    ms_text(report.latency.p50_ms),
                    ms_text(report.latency.p99_ms),
                    cost.map_or("–".to_owned(), |cost| micros_text(cost.middle)),
                    memory.map_or("–".to_owned(), |memory| format!("{:.0}", memory.most)),
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::invented;

    #[test]
    fn the_middle_of_the_rounds_is_compared_with_the_first_broker() {
        let runs = [
            invented("first", 1000.0),
            invented("other", 3900.0),
            invented("first", 1100.0),
            invented("other", 4200.0),
            invented("first", 900.0),
            invented("other", 4000.0),
        ];
        let text = Comparison::of(&runs).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2][..4], ["first", "1,000", "900–1,100", "1.00"], "{text}");
        assert_eq!(lines[3][..4], ["other", "4,000", "3,900–4,200", "4.00"], "{text}");
        assert_eq!(lines.len(), 4);
    }
}
