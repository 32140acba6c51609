//! Records are taken out of batches, and what stays is as it was.

use oncelog_records::{
    BatchBuilder, BatchView, Compression, DeleteHorizon, EndTransactionMarker, Filtered, MarkerKind,
    TimestampType, emptied, filter,
};
use oncelog_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::round_trip::{codec, records};
use super::{Owned, read_all};

const HORIZON: Timestamp = Timestamp(1_700_000_000_000);

fn not_due() -> DeleteHorizon {
    DeleteHorizon { at: HORIZON, is_due: false }
}

/// A batch of a producer, somewhere in a log.
fn placed(records: &[Owned], compression: Compression, is_append_time: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new()
        .compression(compression)
        .producer(ProducerId(9), ProducerEpoch(3), 77)
        .transactional()
        .at(Offset(1_000), LeaderEpoch(5));
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push_with_headers(Timestamp(record.timestamp), key, value, &headers);
    }
    let mut bytes = builder.build().to_vec();
    if is_append_time {
        let (mut header, payload) = (BatchView::parse(&bytes).unwrap().header(), bytes[61..].to_vec());
        header.stamp(TimestampType::LogAppendTime, Timestamp(1_600_000_000_000), &payload);
        bytes[..61].copy_from_slice(header.as_bytes());
    }
    bytes
}

/// What must not change when records go.
fn place(batch: &BatchView<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (batch.base_offset(), batch.last_offset(), batch.partition_leader_epoch()),
        (batch.producer_id(), batch.producer_epoch(), batch.base_sequence(), batch.last_sequence()),
        (batch.is_transactional(), batch.is_control(), batch.timestamp_type()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn records_that_stay_are_as_they_were_and_the_batch_keeps_its_place(
        records in records(),
        compression in codec(),
        is_append_time in any::<bool>(),
        kept in vec(any::<bool>(), 6),
        again in vec(any::<bool>(), 6),
    ) {
        let bytes = placed(&records, compression, is_append_time);
        let batch = BatchView::parse(&bytes).unwrap();
        let mut expected = read_all(&batch).unwrap();
        let (mut current, mut has_horizon) = (bytes.clone(), false);
        for (round, kept) in [kept, again].into_iter().enumerate() {
            let batch = BatchView::parse(&current).unwrap();
            let before = expected.clone();
            expected.retain(|record| kept[(record.offset - 1_000) as usize]);
            let is_kept = |record: &oncelog_records::Record<'_>| kept[(record.offset.0 - 1_000) as usize];
            // Another moment each time: the first one counts.
            let horizon = DeleteHorizon { at: HORIZON.plus_ms(round as i64), is_due: false };
            let gets_horizon = !has_horizon && expected.iter().any(|record| record.value.is_none());
            let filtered = match filter(&batch, horizon, is_kept).unwrap() {
                Filtered::Nothing => {
                    prop_assert!(expected.is_empty());
                    break;
                }
                Filtered::Whole => {
                    prop_assert!(before == expected && !gets_horizon);
                    current.clone()
                }
                Filtered::Rewritten(filtered) => {
                    prop_assert!(before != expected || gets_horizon);
                    filtered
                }
            };
            if gets_horizon {
                has_horizon = true;
                prop_assert_eq!(BatchView::parse(&filtered).unwrap().delete_horizon(), Some(horizon.at));
            }
            let left = BatchView::parse(&filtered).unwrap();
            prop_assert!(left.is_crc_valid());
            prop_assert_eq!(left.size_in_bytes(), filtered.len());
            prop_assert_eq!(&read_all(&left).unwrap(), &expected);
            prop_assert_eq!(left.record_count() as usize, expected.len());
            prop_assert_eq!(left.compression(), batch.compression());
            prop_assert_eq!(place(&left), place(&batch));
            prop_assert_eq!(left.has_delete_horizon(), has_horizon);
            let largest = expected.iter().map(|record| record.timestamp).max().unwrap();
            prop_assert_eq!(left.max_timestamp(), Timestamp(largest));
            current = filtered;
        }
    }

    #[test]
    fn a_batch_without_records_keeps_its_place(records in records(), compression in codec()) {
        let bytes = placed(&records, compression, false);
        let batch = BatchView::parse(&bytes).unwrap();
        let header = emptied(&batch);
        let empty = BatchView::parse(header.as_bytes()).unwrap();
        prop_assert!(empty.is_crc_valid());
        prop_assert_eq!(place(&empty), place(&batch));
        prop_assert_eq!(empty.max_timestamp(), batch.max_timestamp());
        prop_assert_eq!(read_all(&empty).unwrap(), []);
        prop_assert_eq!(empty.compression().unwrap(), Compression::None);
        prop_assert!(!empty.has_delete_horizon());
    }
}

#[test]
fn a_marker_of_a_transaction_without_records_gets_a_horizon_once() {
    let marker = EndTransactionMarker { kind: MarkerKind::Abort, coordinator_epoch: 4 };
    let bytes = marker.build(ProducerId(1), ProducerEpoch(0), Timestamp(5));
    let batch = BatchView::parse(&bytes).unwrap();
    assert_eq!(filter(&batch, not_due(), |_| true).unwrap(), Filtered::Whole);
    let due = DeleteHorizon { at: HORIZON, is_due: true };
    let Filtered::Rewritten(bytes) = filter(&batch, due, |_| true).unwrap() else { panic!("it gets one") };
    let rewritten = BatchView::parse(&bytes).unwrap();
    assert_eq!(rewritten.delete_horizon(), Some(HORIZON));
    assert_eq!(EndTransactionMarker::parse(&rewritten).unwrap(), marker);
    assert_eq!(read_all(&rewritten).unwrap(), read_all(&batch).unwrap());
    assert_eq!(filter(&rewritten, due, |_| true).unwrap(), Filtered::Whole);
}

#[test]
fn a_batch_that_cannot_be_read_is_not_rewritten() {
    let record = Owned { offset: 0, timestamp: 1, key: None, value: Some(vec![1; 50]), headers: vec![] };
    let mut bytes = placed(&[record.clone(), record], Compression::Zstd, false);
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    bytes[last - 6] ^= 0xff;
    let batch = BatchView::parse(&bytes).unwrap();
    assert!(filter(&batch, not_due(), |_| false).is_err());
}
