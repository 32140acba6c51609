//! A file that knows which of its bytes would survive a power cut.

use crate::random::Random;

/// What a device writes whole or not at all.
const SECTOR: u64 = 512;

/// The bytes a reader sees, and what the device has of them for sure.
#[derive(Clone, Debug, Default)]
pub struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was changed since the last sync, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { position: u64, bytes: Vec<u8> },
    Truncate(u64),
}

impl Content {
    /// The bytes a reader sees.
    pub fn live(&self) -> &[u8] {
        &self.live
    }

    /// Writes bytes, extending the file with zeros where it ends before.
    pub fn write(&mut self, position: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        write(&mut self.live, position, bytes);
        self.unsynced.push(Change::Write { position, bytes: bytes.to_vec() });
    }

    /// Cuts the file or extends it with zeros.
    pub fn truncate(&mut self, length: u64) {
        self.live.resize(length as usize, 0);
        self.unsynced.push(Change::Truncate(length));
    }

    /// Makes durable what a reader sees.
    pub fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.unsynced.clear();
    }

    /// What is left after the power was cut: the synced bytes, and of every later change some sectors or none,
    /// whatever became of the changes before.
    pub fn cut_power(&mut self, random: &mut Random) {
        // Often all or nothing is lost: a page cache writes back in bursts.
        let keeps = match random.below(4) {
            0 => Keep::Nothing,
            1 => Keep::First(random.below(self.unsynced.len() as u64 + 1) as usize),
            _ => Keep::AnySector,
        };
        for (at, change) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            match (&keeps, change) {
                (Keep::Nothing, _) => {}
                (Keep::First(count), _) if at >= *count => {}
                (Keep::First(_), Change::Write { position, bytes }) => {
                    write(&mut self.durable, position, &bytes)
                }
                (Keep::AnySector, Change::Write { position, bytes }) => {
                    for (start, sector) in sectors(position, &bytes) {
                        if !random.one_in(3) {
                            write(&mut self.durable, start, sector);
                        }
                    }
                }
                (Keep::First(_), Change::Truncate(length)) => self.durable.resize(length as usize, 0),
                (Keep::AnySector, Change::Truncate(length)) => {
                    if random.one_in(2) {
                        self.durable.resize(length as usize, 0);
                    }
                }
            }
        }
        self.live.clone_from(&self.durable);
    }
}

/// Which of the changes that were not synced survive.
enum Keep {
    Nothing,
    First(usize),
    AnySector,
}

/// The parts of a write that lie in different sectors, with their positions.
fn sectors(mut position: u64, mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let room = (SECTOR - position % SECTOR) as usize;
        let (sector, rest) = bytes.split_at(room.min(bytes.len()));
        let start = position;
        (position, bytes) = (position + sector.len() as u64, rest);
        (!sector.is_empty()).then_some((start, sector))
    })
}

fn write(target: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let (start, end) = (position as usize, position as usize + bytes.len());
    if target.len() < end {
        target.resize(end, 0);
    }
    target[start..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_torn_anywhere() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(0, &[1; 1000]);
            content.sync();
            content.write(1000, &[2; 2000]);
            content.cut_power(&mut Random::new(seed));
            assert_eq!(content.live()[..1000], [1; 1000]);
            let after = &content.live()[1000..];
            match after.iter().filter(|byte| **byte == 2).count() {
                0 => lost += 1,
                2000 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 10 && kept > 10 && torn > 10, "{lost} lost, {kept} kept, {torn} torn");
    }
}
