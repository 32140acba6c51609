//! Prints what a data directory holds, for people: batches, the history of transactions, groups.
//!
//! Takes no lock, so that it can look at the directory of a running broker; what is being written then may show up as
//! damage at the end.

mod batches;
mod groups;
mod transactions;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use oncelog_log::Disk;
use oncelog_records::{BatchError, BatchView};
use oncelog_wire::{Offset, TopicPartition};

use crate::batch_reader::{BatchReader, Next};
use crate::directory::Directory;
use crate::error::{InspectError, IoContext};
use crate::log_files::{LOG, LogFiles, file_name};

pub use batches::{BatchesToDump, dump_batches};
pub use groups::dump_groups;
pub use transactions::dump_transactions;

type Visitor<'v> = dyn FnMut(&BatchView<'_>, &mut dyn Write) -> io::Result<ControlFlow<()>> + 'v;

/// Gives the batches of a log to `visit`, from the one that holds `from` on, for as long as it wants more. What cannot be
/// read is said in the output, and the rest of its segment passed over.
fn walk(
    directory: &Directory<'_>,
    log: &TopicPartition,
    from: Offset,
    out: &mut dyn Write,
    visit: &mut Visitor<'_>,
) -> Result<(), InspectError> {
    let path = directory.path_of(log);
    let segments = LogFiles::list(directory.disk, &path).on("list", &path)?.segments;
    let first = segments.partition_point(|(base, _)| *base <= from).saturating_sub(1);
    for (base, _) in &segments[first..] {
        let path = path.join(file_name(*base, LOG));
        if walk_segment(directory.disk, &path, from, out, visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn walk_segment(
    disk: &dyn Disk,
    path: &Path,
    from: Offset,
    out: &mut dyn Write,
    visit: &mut Visitor<'_>,
) -> Result<ControlFlow<()>, InspectError> {
    let mut reader = BatchReader::open(disk, path).on("open", path)?;
    loop {
        let position = reader.position();
        match reader.read_batch().on("read", path)? {
            Next::End => return Ok(ControlFlow::Continue(())),
            Next::Batch(batch) if batch.last_offset() < from => {}
            Next::Batch(batch) if !batch.is_crc_valid() => {
                writeln!(out, "!! {}, byte {position}: the CRC of the batch does not match", path.display())?;
            }
            Next::Batch(batch) => {
                if visit(&batch, out)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Next::Broken(error) => {
                writeln!(out, "!! {}, byte {position}: {error}", path.display())?;
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}

/// Gives the records of a batch that have a key to `visit`; stops at what cannot be read.
fn for_each_record(
    batch: &BatchView<'_>,
    mut visit: impl FnMut(Offset, Bytes, Option<Bytes>) -> io::Result<()>,
) -> Result<(), RecordsError> {
    let mut records = batch.records().map_err(RecordsError::Batch)?;
    while let Some(record) = records.next_record().map_err(RecordsError::Batch)? {
        let Some(key) = record.key else { continue };
        visit(record.offset, Bytes::copy_from_slice(key), record.value.map(Bytes::copy_from_slice))
            .map_err(RecordsError::Output)?;
    }
    Ok(())
}

/// Why not all records of a batch were visited.
enum RecordsError {
    Batch(BatchError),
    Output(io::Error),
}

/// Says in the output what could not be read.
fn say_unread(
    result: Result<(), RecordsError>,
    batch: &BatchView<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(RecordsError::Batch(error)) => writeln!(out, "!! offset {}: {error}", batch.base_offset()),
        Err(RecordsError::Output(error)) => Err(error),
    }
}

/// Some names in a row, not too many.
fn some_of<T: ToString>(all: &[T]) -> String {
    const SHOWN: usize = 8;
    let mut text = all.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(" ");
    if all.len() > SHOWN {
        text.push_str(&format!(" and {} more", all.len() - SHOWN));
    }
    if text.is_empty() { "-".into() } else { text }
}

/// Text for what is not there.
fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
