//! Every decoder against bytes that are no message: it neither panics nor takes more memory than the frame is worth.

#[path = "support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use oncelog_wire::{
    ApiKey, DecodeError, Message, Reader, Reason, RequestHeader, Writer, consumer_group_heartbeat, metadata,
};
use support::samples::visit_messages;
use support::{Sample, Sampler, Visitor, encode};

/// Counts the bytes this thread holds, and the most it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn count(allocated: usize, freed: usize) {
    let held = (HELD.get() + allocated).saturating_sub(freed);
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: every call is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that was held while `run` ran, beyond what was held before.
fn memory_of<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = run();
    (MOST.get() - before, result)
}

fn decode<M: Message>(frame: Bytes, version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(frame), version)
}

struct Attack {
    sampler: Sampler,
    refused: usize,
}

impl Attack {
    fn try_frame<M: Message>(&mut self, name: &str, version: i16, frame: Bytes) {
        let length = frame.len();
        let (memory, result) = memory_of(|| decode::<M>(frame, version));
        let ceiling = 4096 + 128 * length;
        assert!(memory <= ceiling, "{name} v{version}: {length} bytes took {memory} bytes of memory");
        self.refused += usize::from(result.is_err());
    }

    fn damage(&mut self, valid: &Bytes) -> Bytes {
        let mut frame = BytesMut::from(&valid[..]);
        for _ in 0..=self.sampler.below(3) {
            let at = self.sampler.below(frame.len());
            frame[at] ^= 1 << self.sampler.below(8);
        }
        frame.freeze()
    }
}

impl Visitor for Attack {
    fn message<M: Message + Sample + Clone + Debug + PartialEq>(
        &mut self,
        name: &'static str,
        versions: RangeInclusive<i16>,
    ) {
        for version in versions {
            for _ in 0..20 {
                let length = self.sampler.below(200);
                let noise = (0..length).map(|_| self.sampler.word() as u8).collect();
                self.try_frame::<M>(name, version, noise);
            }
            let message: M = self.sampler.message(version);
            let valid = encode(&message, version);
            for length in (0..valid.len().min(300)).step_by(3) {
                self.try_frame::<M>(name, version, valid.slice(..length));
            }
            if valid.is_empty() {
                continue;
            }
            for _ in 0..40 {
                let damaged = self.damage(&valid);
                self.try_frame::<M>(name, version, damaged);
            }
            for at in (0..valid.len().min(300)).step_by(2) {
                for huge in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0, 0, 0, 100]]
                {
                    let frame = [&valid[..at], huge, &valid[at..]].concat();
                    self.try_frame::<M>(name, version, frame.into());
                }
            }
        }
    }
}

#[test]
fn no_decoder_panics_or_takes_memory_a_frame_is_not_worth() {
    let mut attack = Attack { sampler: Sampler::from_environment(), refused: 0 };
    visit_messages(&mut attack);
    println!("{} frames were refused", attack.refused);
    assert!(attack.refused > 10_000);
}

#[test]
fn twenty_million_tagged_fields_are_refused_at_the_sixty_fifth() {
    let mut w = Writer::new();
    w.int16(ApiKey::ApiVersions.code());
    w.int16(3);
    w.int32(1);
    w.nullable_string(Some("client"), false);
    w.unsigned_varint(20_000_000);
    for _ in 0..20_000_000 {
        w.raw(&[100, 0]);
    }
    let frame = w.finish_bytes();
    let (memory, result) = memory_of(|| RequestHeader::decode(&mut Reader::new(frame)));
    let error = result.expect_err("too many tags");
    assert_eq!(error.reason, Reason::TooManyUnknownTags);
    assert!(error.position < 200 && memory < 1024, "{error}, with {memory} bytes of memory");
}

#[test]
fn small_elements_that_become_large_structs_are_held_to_the_budget() {
    // Each empty name takes one byte of the frame and the size of a `Str` in memory.
    let names = 20_000_000;
    let header =
        consumer_group_heartbeat::Request { subscribed_topic_names: Some(vec![]), ..Default::default() };
    let mut frame = BytesMut::from(&encode(&header, 0)[..]);
    // The empty array, then the three fields behind it and the tags take a byte each.
    frame.truncate(frame.len() - 4);
    let mut count = Writer::new();
    count.unsigned_varint(names + 1);
    frame.extend_from_slice(&count.finish_bytes());
    frame.resize(frame.len() + names as usize, 1);
    let frame = frame.freeze();
    let (memory, result) = memory_of(|| decode::<consumer_group_heartbeat::Request>(frame, 0));
    assert_eq!(result.expect_err("too much memory").reason, Reason::TooMuchMemory);
    assert!(memory < 1024, "{memory} bytes of memory");
}

#[test]
fn a_large_honest_message_fits_the_budget() {
    let partition = metadata::MetadataResponsePartition {
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let topic = metadata::MetadataResponseTopic { partitions: vec![partition; 100], ..Default::default() };
    let response = metadata::Response { topics: vec![topic; 2000], ..Default::default() };
    let frame = encode(&response, 13);
    let (memory, result) = memory_of(|| decode::<metadata::Response>(frame.clone(), 13));
    assert_eq!(result.expect("an honest message").topics.len(), 2000);
    assert!(memory < 16 * frame.len(), "{memory} bytes of memory for {} of the frame", frame.len());
}
