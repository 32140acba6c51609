//! The history of transactional ids, from the records of `__transaction_state`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use oncelog_coordinator::transactions::Record;
use oncelog_log::Disk;
use oncelog_wire::{Offset, ProducerId, TopicPartition};

use super::{for_each_record, say_unread, some_of, walk};
use crate::directory::Directory;
use crate::error::InspectError;
use crate::time::utc;

/// Prints the steps of all transactional ids, or of one.
///
/// # Errors
/// Where the directory is not one of oncelog, or a file cannot be read.
pub fn dump_transactions(
    disk: &dyn Disk,
    root: &Path,
    transactional_id: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let directory = Directory::open(disk, root)?;
    writeln!(
        out,
        "{:23} {:>12} {:30} {:14} {:>14} {:>9} PARTITIONS",
        "TIME (UTC)", "LOG:OFFSET", "TRANSACTIONAL ID", "STATE", "PRODUCER:EPOCH", "TIMEOUT"
    )?;
    for log in directory.logs.iter().filter(|log| log.topic == "__transaction_state") {
        walk(&directory, log, Offset::ZERO, out, &mut |batch, out| {
            if !batch.is_control() {
                let result =
                    for_each_record(batch, |offset, key, value| match Record::decode(&key, value.as_ref()) {
                        Ok(Some(record))
                            if transactional_id.is_none_or(|id| record.transactional_id == id) =>
                        {
                            dump_step(log, offset, &record, out)
                        }
                        Ok(_) => Ok(()),
                        Err(error) => writeln!(out, "!! {log}, offset {offset}: {error}"),
                    });
                say_unread(result, batch, out)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(())
}

fn dump_step(log: &TopicPartition, offset: Offset, record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let place = format!("{}:{offset}", log.partition);
    let id = record.transactional_id.as_str();
    let Some(metadata) = &record.metadata else {
        return writeln!(out, "{:23} {place:>12} {id:30} expired", "-");
    };
    let mut producer = format!("{}:{}", metadata.producer.id, metadata.producer.epoch);
    if metadata.next_producer_id != ProducerId::NONE {
        producer.push_str(&format!(" (next {})", metadata.next_producer_id));
    }
    writeln!(
        out,
        "{:23} {place:>12} {id:30} {:14} {producer:>14} {:>7}ms {}",
        utc(metadata.last_update),
        metadata.state.name(),
        metadata.timeout_ms,
        some_of(&metadata.partitions),
    )
}
