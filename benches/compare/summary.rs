//! The tables of a comparison, as markdown: `compare DIRECTORY BROKER...`, where the directory has what
//! `benches/compare/run` measured, in a file `SHAPE.BROKER.ROUND.json` for each run.
//!
//! A value is the median of its rounds. Files of `oncelog bench --json` and of the Java clients call what both have by
//! the same names; only that is read here.

mod target;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::target::TARGETS;

/// Shapes of Kafka's Java clients: the name of the files, and what it is. See JavaClients.java.
const JAVA: [(&str, &str); 10] = [
    ("java-tx-1", "1 producer, 1 record a transaction"),
    ("java-tx-16", "16 producers, 1 record each, 1 partition"),
    ("java-tx-1x10x10", "1 producer, 10 records over 10 partitions"),
    ("java-tx-4x100x4", "4 producers, 100 records over 4 partitions"),
    ("java-produce-100", "produce 3 M × 100 B"),
    ("java-produce-1024", "produce 500,000 × 1 KiB"),
    ("java-produce-plain", "produce 1 M × 100 B"),
    ("java-produce-tx", "the same in transactions of 100 ms"),
    ("java-consume", "consume 4 M × 100 B, read_uncommitted"),
    ("java-consume-stable", "consume 4 M × 100 B, read_committed"),
];

/// Shapes of `oncelog bench`.
const BENCH: [(&str, &str); 13] = [
    ("tx-1", "1 producer, 1 record a transaction"),
    ("tx-16", "16 producers, 1 record each, 1 partition"),
    ("tx-64", "64 producers, 1 record each, 1 partition"),
    ("tx-1x10x10", "1 producer, 10 records over 10 partitions"),
    ("tx-4x100x4", "4 producers, 100 records over 4 partitions"),
    ("tx-16-v1", "16 producers, 1 record, transaction version 1"),
    ("transform", "transform, 10 records a transaction"),
    ("end-to-end", "end-to-end, 100 transactions a second"),
    ("produce-100", "produce, 100 B"),
    ("produce-1024", "produce, 1 KiB"),
    ("produce-tx", "produce, 100 B, transactions of 100 ms"),
    ("consume", "consume, 100 B, read_uncommitted"),
    ("consume-stable", "consume, 100 B, read_committed"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: compare DIRECTORY BROKER...")?;
    let brokers: Vec<String> = arguments.collect();
    let results = Results::read(Path::new(&directory), &brokers)?;
    print_shapes("Java clients", &JAVA, &brokers, &results);
    print_shapes("oncelog bench", &BENCH, &brokers, &results);
    print_processes(&brokers, &results);
    print_targets(&results);
    Ok(())
}

/// A run, as far as it is compared.
#[derive(Deserialize)]
struct Run {
    rates: Rates,
    latency: Option<Latency>,
    broker_process: Cost,
}

#[derive(Deserialize)]
struct Rates {
    transactions: f64,
    records: f64,
}

#[derive(Clone, Copy, Deserialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Deserialize)]
struct Cost {
    cpu_us_each: f64,
}

/// A broker's process from its start to its end.
#[derive(Deserialize)]
struct Process {
    ready_ms: f64,
    formatting_ms: f64,
    peak_mib: f64,
}

/// The rounds of one broker in one shape.
struct Measured {
    /// Transactions or records a second.
    rate: Spread,
    /// CPU time of the broker for each.
    cpu_us: f64,
    latency: Option<Latency>,
}

/// All that was measured.
struct Results {
    /// By shape and broker.
    shapes: BTreeMap<(&'static str, String), Measured>,
    /// By kind of client and broker.
    processes: BTreeMap<(&'static str, String), Vec<Process>>,
}

impl Results {
    fn read(directory: &Path, brokers: &[String]) -> Result<Results, Box<dyn Error>> {
        let (mut shapes, mut processes) = (BTreeMap::new(), BTreeMap::new());
        for broker in brokers {
            for (shape, _) in JAVA.iter().chain(&BENCH) {
                let runs = rounds(directory, shape, broker)?;
                if !runs.is_empty() {
                    shapes.insert((*shape, broker.clone()), Measured::of(&runs, is_transactional(shape)));
                }
            }
            for kind in ["java", "bench"] {
                processes.insert((kind, broker.clone()), rounds(directory, kind, broker)?);
            }
        }
        Ok(Results { shapes, processes })
    }

    fn of(&self, shape: &'static str, broker: &str) -> Option<&Measured> {
        self.shapes.get(&(shape, broker.to_owned()))
    }

    fn processes(&self, kind: &'static str, broker: &str) -> &[Process] {
        self.processes.get(&(kind, broker.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// Whether the rate of a shape is in transactions, not records.
fn is_transactional(shape: &str) -> bool {
    !["produce", "consume", "end-to-end"].iter().any(|kind| shape.contains(kind))
}

fn rounds<T: DeserializeOwned>(
    directory: &Path,
    shape: &str,
    broker: &str,
) -> Result<Vec<T>, Box<dyn Error>> {
    let mut rounds = Vec::new();
    for round in 1.. {
        let path = directory.join(format!("{shape}.{broker}.{round}.json"));
        let Ok(text) = fs::read_to_string(&path) else { break };
        rounds.push(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(rounds)
}

impl Measured {
    fn of(runs: &[Run], is_transactional: bool) -> Measured {
        let rate = |run: &Run| if is_transactional { run.rates.transactions } else { run.rates.records };
        let latencies: Vec<Latency> = runs.iter().filter_map(|run| run.latency).collect();
        Measured {
            rate: Spread::of(runs.iter().map(rate)),
            cpu_us: Spread::of(runs.iter().map(|run| run.broker_process.cpu_us_each)).median,
            latency: (!latencies.is_empty()).then(|| Latency {
                p50_ms: Spread::of(latencies.iter().map(|latency| latency.p50_ms)).median,
                p99_ms: Spread::of(latencies.iter().map(|latency| latency.p99_ms)).median,
            }),
        }
    }
}

/// A value in several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// # Panics
    /// Where there is none.
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Spread { least: values[0], median, most: values[values.len() - 1] }
    }
}

fn print_shapes(client: &str, shapes: &[(&'static str, &str)], brokers: &[String], results: &Results) {
    let mut rows = Vec::new();
    for (shape, title) in shapes {
        let reference = results.of(shape, &brokers[0]).map(|measured| measured.rate.median);
        let mut title = *title;
        for broker in brokers {
            let Some(measured) = results.of(shape, broker) else { continue };
            let Spread { least, median, most } = measured.rate;
            let ms = |value: fn(Latency) -> f64| {
                measured.latency.map_or("–".to_owned(), |latency| significant(value(latency)))
            };
            rows.push(vec![
                std::mem::take(&mut title).to_owned(),
                broker.clone(),
                format!("{} {}/s", grouped(median), if is_transactional(shape) { "tx" } else { "rec" }),
                format!("{} to {}", grouped(least), grouped(most)),
                reference.map_or("–".to_owned(), |reference| format!("{:.3}", median / reference)),
                format!("{} µs", significant(measured.cpu_us)),
                ms(|latency| latency.p50_ms),
                ms(|latency| latency.p99_ms),
            ]);
        }
    }
    if !rows.is_empty() {
        println!("\n**{client}**\n");
        print_table(&["shape", "broker", "rate", "range", "ratio", "CPU each", "p50 ms", "p99 ms"], &rows);
    }
}

fn print_processes(brokers: &[String], results: &Results) {
    let rows = brokers.iter().map(|broker| {
        let all = || ["java", "bench"].into_iter().flat_map(|kind| results.processes(kind, broker));
        let median = |value: fn(&Process) -> f64| format!("{:.0} ms", Spread::of(all().map(value)).median);
        let peak = |kind| match results.processes(kind, broker) {
            [] => "–".to_owned(),
            processes => {
                format!("{:.0} MiB", Spread::of(processes.iter().map(|process| process.peak_mib)).most)
            }
        };
        vec![
            broker.clone(),
            median(|process| process.ready_ms),
            median(|process| process.formatting_ms),
            peak("java"),
            peak("bench"),
        ]
    });
    println!("\n**The process**\n");
    let heads =
        ["broker", "start to ready", "formatting before", "peak memory, Java", "peak memory, oncelog bench"];
    print_table(&heads, &rows.collect::<Vec<_>>());
}

fn print_targets(results: &Results) {
    let title =
        |shape: &str| JAVA.iter().chain(&BENCH).find(|(name, _)| *name == shape).map(|(_, title)| *title);
    let rows = TARGETS.iter().filter_map(|target| {
        let verdict = target.judge(results)?;
        let client = if target.shape.starts_with("java") { "Java" } else { "oncelog bench" };
        let met = if verdict.is_met { "yes" } else { "**no**" };
        Some(vec![
            format!("{client}: {}", title(target.shape).unwrap_or("all shapes")),
            target.broker.to_owned(),
            verdict.wanted,
            verdict.reached,
            met.to_owned(),
        ])
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        println!("\n**Targets**\n");
        print_table(&["shape", "broker", "target", "reached", "met"], &rows);
    }
}

/// A table that can be read with and without a browser.
fn print_table(heads: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
    };
    line(&mut heads.iter().copied());
    println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    rows.iter().for_each(|row| line(&mut row.iter().map(String::as_str)));
}

/// A number of two or more digits that mean something.
fn significant(value: f64) -> String {
    match value {
        value if value < 0.1 => format!("{value:.3}"),
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 10.0 => format!("{value:.1}"),
        value => grouped(value),
    }
}

/// A whole number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results of one round, in which all CPU times are 10 µs.
    pub(crate) fn invented(rates: &[(&'static str, &str, f64)]) -> Results {
        let measured = |rate| Measured { rate: Spread::of([rate].into_iter()), cpu_us: 10.0, latency: None };
        let shapes =
            rates.iter().map(|(shape, broker, rate)| ((*shape, (*broker).to_owned()), measured(*rate)));
        Results { shapes: shapes.collect(), processes: BTreeMap::new() }
    }

    #[test]
    fn the_middle_of_the_rounds_counts_and_of_two_their_mean() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[5.0, 1.0, 3.0]), Spread { least: 1.0, median: 3.0, most: 5.0 });
        assert_eq!(spread(&[4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn numbers_are_written_to_be_read() {
        let numbers = [0.0123, 0.456, 7.89, 1234.5, 1_234_567.0];
        assert_eq!(numbers.map(significant), ["0.012", "0.46", "7.9", "1,234", "1,234,567"]);
    }
}
