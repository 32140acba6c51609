//! Which leader epoch started at which offset, and the `leader-epoch-checkpoint` that keeps it (KIP-101).

use std::path::{Path, PathBuf};

use oncelog_wire::{LeaderEpoch, Offset};

use crate::checkpoint;
use crate::disk::{Disk, replace_file, replace_file_durably};
use crate::error::{IoContext, LogError};

pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// The epochs of one log, oldest first; both numbers grow from entry to entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs(Vec<EpochStart>);

/// An epoch and the first offset that was, or could have been, written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) start_offset: Offset,
}

/// Where an epoch ends: the answer to OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch that is not larger than the one asked for, or none.
    pub leader_epoch: LeaderEpoch,
    /// The offset after its last, or none.
    pub end_offset: Offset,
}

impl LeaderEpochs {
    /// Reads the checkpoint; a missing one is empty, and entries that do not grow are dropped.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<LeaderEpochs, LogError> {
        let path = path(directory);
        let mut epochs = LeaderEpochs::default();
        for line in checkpoint::read(disk, &path)? {
            let mut fields = line.split_whitespace();
            let epoch = fields.next().and_then(|field| field.parse().ok());
            let start = fields.next().and_then(|field| field.parse().ok());
            let (Some(epoch), Some(start), None) = (epoch, start, fields.next()) else {
                return Err(LogError::invalid(&path, format!("'{line}' is not an epoch and an offset")));
            };
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        Ok(epochs)
    }

    /// Writes the checkpoint; durably, where it has to survive a power cut.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path, is_durable: bool) -> Result<(), LogError> {
        let path = path(directory);
        let lines = self.0.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset));
        let content = checkpoint::content(lines);
        match is_durable {
            true => replace_file_durably(disk, &path, &content),
            false => replace_file(disk, &path, &content).on("write", &path),
        }
    }

    pub(crate) fn latest(&self) -> Option<EpochStart> {
        self.0.last().copied()
    }

    /// Notes that `epoch` starts at `start_offset`; says whether that was news.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if self.latest().is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset) {
            return false;
        }
        self.0.retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.0.push(EpochStart { epoch, start_offset });
        true
    }

    /// Drops what starts at `end_offset` or beyond; says whether anything did.
    pub(crate) fn truncate_end(&mut self, end_offset: Offset) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.start_offset < end_offset);
        self.0.len() != before
    }

    /// Drops the epochs that end before `start_offset`; the one it falls into then starts there.
    pub(crate) fn truncate_start(&mut self, start_offset: Offset) -> bool {
        let older = self.0.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(current) = older.checked_sub(1) else { return false };
        let is_change = current > 0 || self.0[current].start_offset != start_offset;
        self.0.drain(..current);
        self.0[0].start_offset = start_offset;
        is_change
    }

    /// The epoch in which `offset` was written.
    pub(crate) fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let count = self.0.partition_point(|entry| entry.start_offset <= offset);
        count.checked_sub(1).map_or(LeaderEpoch::NONE, |at| self.0[at].epoch)
    }

    /// Where `requested` ends (`LeaderEpochFileCache.endOffsetFor`).
    pub(crate) fn end_of(&self, requested: LeaderEpoch, log_end_offset: Offset) -> EpochEnd {
        let none = EpochEnd { leader_epoch: LeaderEpoch::NONE, end_offset: Offset::NONE };
        let Some(latest) = self.latest() else { return none };
        if requested == LeaderEpoch::NONE || requested > latest.epoch {
            return none;
        }
        if requested == latest.epoch {
            return EpochEnd { leader_epoch: requested, end_offset: log_end_offset };
        }
        let next = self.0.partition_point(|entry| entry.epoch <= requested);
        let leader_epoch = next.checked_sub(1).map_or(requested, |at| self.0[at].epoch);
        EpochEnd { leader_epoch, end_offset: self.0[next].start_offset }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in entries {
            epochs.assign(LeaderEpoch(*epoch), Offset(*start));
        }
        epochs
    }

    #[test]
    fn the_end_of_an_epoch_is_where_the_next_known_one_starts() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 35)]);
        let end = |requested: i32| {
            let end = epochs.end_of(LeaderEpoch(requested), Offset(50));
            (end.leader_epoch.0, end.end_offset.0)
        };
        assert_eq!(end(-1), (-1, -1));
        assert_eq!(end(0), (0, 10), "older than all known");
        assert_eq!(end(2), (2, 20));
        assert_eq!(end(3), (2, 20));
        assert_eq!(end(4), (4, 35));
        assert_eq!(end(6), (4, 35));
        assert_eq!(end(7), (7, 50), "the newest ends at the log's end");
        assert_eq!(end(8), (-1, -1));
    }

    #[test]
    fn a_new_epoch_at_the_same_offset_takes_the_place_of_the_old() {
        let epochs = epochs(&[(0, 0), (1, 5), (2, 5)]);
        assert_eq!(epochs.epoch_at(Offset(4)), LeaderEpoch(0));
        assert_eq!(epochs.epoch_at(Offset(5)), LeaderEpoch(2));
    }

    #[test]
    fn epochs_before_the_log_start_go() {
        let mut epochs = epochs(&[(0, 0), (1, 5), (2, 9)]);
        assert!(epochs.truncate_start(Offset(7)));
        assert_eq!(epochs.epoch_at(Offset(7)), LeaderEpoch(1));
        assert_eq!(epochs.epoch_at(Offset(6)), LeaderEpoch::NONE);
        assert!(!epochs.truncate_start(Offset(7)));
    }
}
