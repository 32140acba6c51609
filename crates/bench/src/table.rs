//! A report for the terminal.

use std::fmt;

use crate::{Broker, Report, Workload};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        let mut row = |name: &str, text: String| writeln!(f, "{}", format!("{name:<13} {text}").trim_end());
        row("broker", format!("{} at {}", settings.name, settings.bootstrap))?;
        row("workload", settings.to_string())?;
        if settings.is_transactional() && settings.workload != Workload::Consume {
            let Broker { transaction_version: finalized, used_transaction_version: used, .. } = &self.broker;
            row("transactions", format!("version {used} (the broker has finalized {finalized})"))?;
        }
        row("machine", self.machine.to_string())?;
        let (seconds, warmup) = (self.seconds, settings.warmup.as_secs_f64());
        row("measured", format!("{seconds:.1} s after {warmup:.1} s of warm-up, {} UTC", self.started))?;
        row("", String::new())?;

        let rates = &self.rates;
        if self.counts.transactions > 0 {
            row("transactions", format!("{}/s", grouped(rates.transactions)))?;
        }
        row("records", format!("{}/s, {:.1} MiB/s", grouped(rates.records), rates.mib))?;
        let latency = &self.latency;
        row("latency", format!("{}, in ms", self.latency_is))?;
        let columns = ["p50", "p90", "p99", "p99.9", "max", "mean"];
        row("", columns.map(|name| format!("{name:>9}")).concat())?;
        let values = [
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms,
            latency.mean_ms,
        ];
        row("", values.map(|ms| format!("{:>9}", ms_text(ms))).concat())?;
        if self.counts.aborted > 0 {
            row("aborted", self.counts.aborted.to_string())?;
        }
        row("errors", self.errors_text())?;
        if self.retries > 0 {
            row("retries", format!("{} requests, after errors that pass", self.retries))?;
        }
        if self.not_started > 0 {
            row("not started", format!("{}: the broker did not keep up with the rate", self.not_started))?;
        }
        if let Some(process) = &self.broker_process {
            let each = self.each();
            row(
                "broker",
                format!(
                    "{:.2} s CPU, {} µs a {each}; {:.0} MiB at its peak",
                    process.cpu_seconds,
                    micros_text(process.cpu_us_each),
                    process.peak_memory_mib
                ),
            )?;
        }
        row("generator", format!("{:.2} s CPU", self.generator_cpu_seconds))?;
        if let Some(verified) = &self.verified {
            let unknown = match verified.unknown {
                0 => String::new(),
                unknown => format!(", {unknown} unknown"),
            };
            let verdict = if verified.is_right() { "right" } else { "WRONG" };
            row(
                "verified",
                format!("{} found, {} committed{unknown}: {verdict}", verified.found, verified.committed),
            )?;
        }
        Ok(())
    }
}

impl Report {
    /// The errors by name.
    pub(crate) fn errors_text(&self) -> String {
        if self.counts.errors.is_empty() {
            return "none".to_owned();
        }
        let errors: Vec<String> =
            self.counts.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
        errors.join(", ")
    }
}

impl fmt::Display for crate::Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = (self.memory_mib + 512) >> 10;
        write!(f, "{}, {} cores, {gib} GiB, Linux {}", self.processor, self.cores, self.kernel)
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
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

/// Milliseconds with as many digits as mean something.
pub(crate) fn ms_text(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.2}"),
        ms => format!("{ms:.0}"),
    }
}

/// Microseconds, which may be parts of one.
pub(crate) fn micros_text(micros: f64) -> String {
    match micros {
        micros if micros < 1.0 => format!("{micros:.3}"),
        micros if micros < 10.0 => format!("{micros:.1}"),
        micros => format!("{micros:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::invented;

    #[test]
    fn numbers_are_written_to_be_read() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(123.0), "123");
        assert_eq!(grouped(12.34), "12.3");
        assert_eq!(
            (ms_text(0.1234), ms_text(12.345), ms_text(1234.5)),
            ("0.123".into(), "12.35".into(), "1234".into())
        );
    }

    #[test]
    fn the_table_says_what_was_measured_and_what_went_wrong() {
        let text = invented("a broker", 1000.0).to_string();
        for expected in [
            "a broker at 127.0.0.1:9092",
            "closed loop",
            "1,000/s",
            "2 × PRODUCER_FENCED",
            "50 µs a transaction",
            "10 found, 10 committed: right",
            "version 2 (the broker has finalized 2)",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
