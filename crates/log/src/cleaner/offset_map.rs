//! The newest offset of each key, in memory that is bounded beforehand (`SkimpyOffsetMap`).
//!
//! Keys are told apart by 128 bits of hash, whose secret is drawn anew for each map: nobody can make two keys collide,
//! and by chance no two ever will.

use std::hash::{BuildHasher, RandomState};

use oncelog_wire::Offset;

/// Two words of hash, and the offset plus one; zero where the slot is free.
type Slot = [u64; 3];

#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    /// Beyond this a search takes too long.
    max_len: usize,
    hashers: [RandomState; 2],
}

impl OffsetMap {
    /// A map that takes as many keys as fit into `max_bytes`, or `most_keys`, as many as there can be.
    pub(super) fn new(max_bytes: u64, load_factor: f64, most_keys: u64) -> OffsetMap {
        let load_factor = load_factor.clamp(0.1, 0.95);
        let needed = (most_keys as f64 / load_factor).ceil() as u64 + 1;
        let slots = needed.min(max_bytes / size_of::<Slot>() as u64).max(2) as usize;
        OffsetMap {
            slots: vec![[0; 3]; slots],
            len: 0,
            max_len: ((slots as f64 * load_factor) as usize).clamp(1, slots - 1),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Notes the newest offset of a key so far; says whether there was room for it.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let [first, second] = self.hash(key);
        let at = self.find([first, second]);
        if self.slots[at][2] == 0 {
            if self.len == self.max_len {
                return false;
            }
            self.len += 1;
        }
        self.slots[at] = [first, second, offset.0 as u64 + 1];
        true
    }

    /// The newest offset of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        slot[2].checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of a key, or the free one it would get. There always is a free one.
    fn find(&self, [first, second]: [u64; 2]) -> usize {
        let mut at = (first % self.slots.len() as u64) as usize;
        loop {
            let [one, other, offset] = self.slots[at];
            if offset == 0 || (one, other) == (first, second) {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_map_finds_what_a_plain_one_would_until_it_is_full(
            keys in prop::collection::vec(0..40u16, 1..200),
            slots in 2..60u64,
        ) {
            let mut map = OffsetMap::new(slots * 24, 0.9, u64::MAX >> 8);
            let mut plain: HashMap<u16, i64> = HashMap::new();
            for (offset, key) in keys.into_iter().enumerate() {
                let offset = offset as i64;
                if map.put(&key.to_be_bytes(), Offset(offset)) {
                    plain.insert(key, offset);
                } else {
                    prop_assert!(!plain.contains_key(&key));
                    prop_assert!(plain.len() as u64 >= (slots * 9 / 10).max(1));
                }
            }
            prop_assert_eq!(map.len(), plain.len());
            for key in 0..40u16 {
                let found = map.get(&key.to_be_bytes()).map(|offset| offset.0);
                prop_assert_eq!(found, plain.get(&key).copied());
            }
        }
    }

    #[test]
    fn no_more_memory_is_taken_than_the_keys_can_need() {
        let mut map = OffsetMap::new(1 << 40, 0.9, 100);
        assert!(map.slots.len() < 120);
        for key in 0..100u8 {
            assert!(map.put(&[key], Offset(0)), "there is room for all that can come");
        }
    }
}
