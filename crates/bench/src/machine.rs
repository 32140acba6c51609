//! What the system tells of itself and of a process, from /proc.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::BenchError;

/// The machine that a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Machine {
    pub processor: String,
    /// Cores that this program may use.
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
        Machine {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            memory_mib: kib_of(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// What a process used during the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// CPU time, its own and the kernel's on its behalf.
    pub cpu_seconds: f64,
    /// CPU time for each transaction or record, whichever the workload's rate counts.
    pub cpu_us_each: f64,
    /// The most memory it ever had, this run or before.
    pub peak_memory_mib: f64,
}

/// CPU seconds that a process has used so far.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64, BenchError> {
    let ticks = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| cpu_ticks(&stat));
    let ticks = ticks.ok_or_else(|| BenchError::Process(format!("there is no process {pid}")))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory a process ever had.
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64, BenchError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = kib_of(&status, "VmHWM");
    Ok(kib.ok_or_else(|| BenchError::Process(format!("there is no process {pid}")))? as f64 / 1024.0)
}

/// Fields 14 and 15 of a stat line. The second, the program's name in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The value of a line like `VmHWM:  1234 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 3 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_and_this_machine_can_be_looked_at() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(peak_memory_mib(pid).unwrap() > 0.5);
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
