//! Batches of a topic, a line each, and their records if wanted.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use oncelog_log::Disk;
use oncelog_records::{BatchError, BatchView, EndTransactionMarker, MarkerKind};
use oncelog_wire::{Offset, ProducerId, TopicPartition};

use super::walk;
use crate::directory::{Directory, log_name};
use crate::error::InspectError;
use crate::time::utc;

/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 200;

/// Which batches to print.
#[derive(Clone, Debug)]
pub struct BatchesToDump {
    /// A topic, or a partition as `topic-0`.
    pub name: String,
    /// The first offset of interest.
    pub from: Offset,
    /// How many batches of each partition, unless all.
    pub count: Option<u64>,
    /// Whether to print the records too.
    pub with_records: bool,
}

/// Prints the batches of a topic or partition.
///
/// # Errors
/// Where the directory is not one of oncelog or has no such topic, or a file cannot be read.
pub fn dump_batches(
    disk: &dyn Disk,
    root: &Path,
    wanted: &BatchesToDump,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let directory = Directory::open(disk, root)?;
    let partition = log_name(&wanted.name).filter(|log| directory.logs.contains(log));
    let is_wanted = |log: &&TopicPartition| match &partition {
        Some(partition) => *log == partition,
        None => log.topic == wanted.name.as_str(),
    };
    let logs: Vec<_> = directory.logs.iter().filter(is_wanted).collect();
    if logs.is_empty() {
        return Err(InspectError::NotFound { directory: root.to_owned(), name: wanted.name.clone() });
    }
    for log in logs {
        writeln!(out, "{log}")?;
        writeln!(
            out,
            "{:>20} {:>9} {:>7} {:6} {:>14} {:>19} {:>6} {:11} NEWEST (UTC)",
            "OFFSETS", "BYTES", "RECORDS", "CODEC", "PRODUCER:EPOCH", "SEQUENCE", "LEADER", "KIND"
        )?;
        let mut left = wanted.count.unwrap_or(u64::MAX);
        walk(&directory, log, wanted.from, out, &mut |batch, out| {
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            dump_batch(batch, out)?;
            if wanted.with_records && !batch.is_control() {
                dump_records(batch, out)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(())
}

fn dump_batch(batch: &BatchView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let producer = match batch.producer_id() {
        ProducerId::NONE => "-".to_owned(),
        id => format!("{id}:{}", batch.producer_epoch()),
    };
    let sequence = match batch.base_sequence() {
        ..0 => "-".to_owned(),
        base => range(base.into(), batch.last_sequence().into()),
    };
    let codec = batch.compression().map_or("unknown", |compression| compression.name());
    writeln!(
        out,
        "{:>20} {:>9} {:>7} {codec:6} {producer:>14} {sequence:>19} {:>6} {:11} {}",
        range(batch.base_offset().0, batch.last_offset().0),
        batch.size_in_bytes(),
        batch.record_count(),
        batch.partition_leader_epoch(),
        kind(batch),
        utc(batch.max_timestamp()),
    )
}

fn kind(batch: &BatchView<'_>) -> &'static str {
    match EndTransactionMarker::parse(batch) {
        Ok(marker) if marker.kind == MarkerKind::Commit => "COMMIT",
        Ok(_) => "ABORT",
        Err(_) if batch.is_control() => "control",
        Err(_) if batch.is_transactional() => "transaction",
        Err(_) => "-",
    }
}

fn dump_records(batch: &BatchView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut records = match batch.records() {
        Ok(records) => records,
        Err(error) => return unreadable(&error, out),
    };
    loop {
        let record = match records.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(error) => return unreadable(&error, out),
        };
        let (time, key, value) = (utc(record.timestamp), text(record.key), text(record.value));
        write!(out, "{:>20} {time} key={key} value={value}", record.offset)?;
        for (name, value) in record.headers() {
            write!(out, " {}={}", text(Some(name)), text(value))?;
        }
        writeln!(out)?;
    }
}

fn unreadable(error: &BatchError, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "!! the records cannot be read: {error}")
}

fn range(first: i64, last: i64) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// Bytes as text where they are text, as hexadecimal digits otherwise; not too many of them.
fn text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".into() };
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let mut text = match str::from_utf8(shown) {
        Ok(text) if !text.contains(|letter: char| letter.is_control()) => format!("\"{text}\""),
        _ => shown.iter().fold(String::from("0x"), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        }),
    };
    if shown.len() < bytes.len() {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}
