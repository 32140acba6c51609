//! Whatever is built is read back, here and by another implementation.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as other;
use oncelog_records::{BatchView, Compression, batches, recompress, validate};
use oncelog_wire::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Owned, build, read_all, rules};

fn blob() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..40).prop_map(Some),
        (any::<u8>(), 0..200_000usize).prop_map(|(byte, len)| Some(vec![byte; len])),
    ]
}

pub fn records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = vec((vec(b'a'..=b'z', 0..8), prop::option::of(vec(any::<u8>(), 0..20))), 0..3);
    let record = (0..2_000_000_000_000i64, blob(), blob(), headers);
    vec(record, 1..6).prop_map(|records| {
        records
            .into_iter()
            .enumerate()
            .map(|(index, (timestamp, key, value, headers))| Owned {
                offset: index as i64,
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

pub fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_survive_any_codec(records in records(), first in codec(), second in codec()) {
        let bytes = build(&records, first);
        let batch = BatchView::parse(&bytes).unwrap();
        prop_assert_eq!(&read_all(&batch).unwrap(), &records);

        let mut generous = rules();
        generous.max_message_bytes = usize::MAX;
        let now = Timestamp(2_000_000_000_000);
        let validated = validate(&bytes, &generous, now).unwrap();
        let max = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(validated.max_timestamp, Timestamp(max));
        let first_max = records.iter().position(|record| record.timestamp == max).unwrap();
        prop_assert_eq!(validated.max_timestamp_offset_delta, first_max as i32);
        let (offset, _) = batch.record_with_max_timestamp().unwrap().unwrap();
        prop_assert_eq!(offset.0, first_max as i64);

        let again = recompress(&batch, second, usize::MAX).unwrap().unwrap();
        let again = BatchView::parse(&again).unwrap();
        prop_assert!(again.is_crc_valid());
        prop_assert_eq!(again.compression(), Ok(second));
        prop_assert_eq!(read_all(&again).unwrap(), records);
    }

    #[test]
    fn the_first_record_at_a_time_is_the_one_a_scan_finds(records in records(), target in 0..2_000_000_000_000i64) {
        let bytes = build(&records, Compression::Zstd);
        let batch = BatchView::parse(&bytes).unwrap();
        for target in records.iter().map(|record| record.timestamp).chain([target]) {
            let expected = records.iter().find(|record| record.timestamp >= target);
            let found = batch.first_record_at_or_after(Timestamp(target)).unwrap();
            prop_assert_eq!(found.map(|(o, t)| (o.0, t.0)), expected.map(|record| (record.offset, record.timestamp)));
        }
    }

    #[test]
    fn another_implementation_reads_what_is_built(records in records()) {
        let mut bytes = build(&records, Compression::None);
        let decoded = other::RecordBatchDecoder::decode_all(&mut bytes).unwrap();
        let decoded: Vec<_> = decoded.into_iter().flat_map(|set| set.records).collect();
        prop_assert_eq!(decoded.len(), records.len());
        for (theirs, ours) in decoded.iter().zip(&records) {
            prop_assert_eq!((theirs.offset, theirs.timestamp), (ours.offset, ours.timestamp));
            prop_assert_eq!(theirs.key.as_deref(), ours.key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.value.as_deref());
            for (name, value) in &ours.headers {
                prop_assert!(theirs.headers.keys().any(|key| key.as_bytes() == name.as_slice()));
                prop_assert!(ours.headers.len() > 1 || theirs.headers.values().any(|v| v.as_deref() == value.as_deref()));
            }
        }
    }

    #[test]
    fn what_another_implementation_builds_is_read(records in records()) {
        let theirs: Vec<_> = records.iter().map(|record| other::Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 4,
            producer_id: 9,
            producer_epoch: 2,
            timestamp_type: other::TimestampType::Creation,
            offset: record.offset,
            sequence: record.offset as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: Default::default(),
        }).collect();
        let mut bytes = BytesMut::new();
        let options = other::RecordEncodeOptions { version: 2, compression: other::Compression::None };
        other::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        let mut decoded = Vec::new();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            prop_assert!(batch.is_crc_valid() && batch.is_transactional());
            prop_assert_eq!((batch.producer_id().0, batch.producer_epoch().0), (9, 2));
            decoded.extend(read_all(&batch).unwrap());
        }
        let expected: Vec<_> = records.into_iter().map(|record| Owned { headers: vec![], ..record }).collect();
        prop_assert_eq!(decoded, expected);
    }
}
