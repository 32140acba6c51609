//! What is printed for people.

use oncelog_client::TransactionVersion;
use oncelog_inspect::{BatchesToDump, InspectError, dump_batches, dump_groups, dump_transactions};
use oncelog_log::FileDisk;
use oncelog_wire::Offset;

use crate::world::{Data, connect, first_segment, transactional};

fn data() -> Data {
    Data::killed(|broker| {
        let mut client = connect(broker);
        client.create_topic("orders", 2).unwrap();
        client.produce_values("orders", 1, ["plain", "text"]).unwrap();
        client.commit_offset("readers", "orders", 1, Offset(1)).unwrap();
        let mut producer = transactional(broker, "pay", TransactionVersion::V2);
        for is_commit in [true, false] {
            producer.begin();
            producer.send("orders", 0, "key", "value").unwrap();
            producer.send_offset("readers", "orders", 0, Offset(5)).unwrap();
            if is_commit { producer.commit() } else { producer.abort() }.unwrap();
        }
        producer.begin();
        producer.send("orders", 0, [0, 255], "open").unwrap();
        producer.send_offset("readers", "orders", 1, Offset(2)).unwrap();
    })
}

fn batches(data: &Data, name: &str, from: i64, count: Option<u64>, with_records: bool) -> String {
    let wanted = BatchesToDump { name: name.into(), from: Offset(from), count, with_records };
    let mut out = Vec::new();
    dump_batches(&FileDisk::new(), data.path(), &wanted, &mut out).unwrap();
    settled(&out)
}

/// The output without what differs from run to run: times become `TIME`.
fn settled(out: &[u8]) -> String {
    let text = String::from_utf8_lossy(out);
    let mut settled = String::new();
    let mut rest = &text[..];
    while let Some(at) = rest.find(" 20").map(|at| at + 1) {
        let is_time =
            rest.len() >= at + 23 && rest.as_bytes()[at + 4] == b'-' && rest.as_bytes()[at + 19] == b'.';
        let (before, after) = rest.split_at(if is_time { at } else { at + 2 });
        settled.push_str(before);
        rest = after;
        if is_time {
            settled.push_str("TIME");
            rest = &rest[23..];
        }
    }
    settled + rest
}

#[test]
fn batches_are_a_line_each() {
    let data = data();
    insta::assert_snapshot!("all_batches_of_a_topic", batches(&data, "orders", 0, None, false));
    insta::assert_snapshot!("records_of_some_batches", batches(&data, "orders-0", 1, Some(4), true));
}

#[test]
fn damage_does_not_stop_a_dump() {
    let data = data();
    let batch = &data.batches(&first_segment("orders-0"))[1];
    data.edit(&first_segment("orders-0"), |content| content[batch.position + 70] ^= 1);
    let text = batches(&data, "orders-0", 0, None, false);
    assert!(
        text.contains(&format!("log, byte {}: the CRC of the batch does not match\n", batch.position)),
        "{text}"
    );
    assert!(text.contains("ABORT"), "what follows is printed: {text}");
}

#[test]
fn transactions_are_shown_step_by_step() {
    let data = data();
    let dump = |id| {
        let mut out = Vec::new();
        dump_transactions(&FileDisk::new(), data.path(), id, &mut out).unwrap();
        // The first column of a line has nothing before it.
        settled(format!("\n{}", String::from_utf8(out).unwrap()).replace("\n20", "\n 20").as_bytes())
    };
    insta::assert_snapshot!("steps_of_a_transactional_id", dump(None));
    assert_eq!(dump(Some("pay")), dump(None));
    assert_eq!(dump(Some("other")).trim().lines().count(), 1);
}

#[test]
fn groups_are_shown_with_what_is_pending() {
    let data = data();
    let mut out = Vec::new();
    dump_groups(&FileDisk::new(), data.path(), None, &mut out).unwrap();
    insta::assert_snapshot!("groups", settled(&out));
    let mut out = Vec::new();
    dump_groups(&FileDisk::new(), data.path(), Some("other"), &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn a_topic_without_files_is_named() {
    let data = data();
    let wanted = BatchesToDump { name: "none".into(), from: Offset(0), count: None, with_records: false };
    let result = dump_batches(&FileDisk::new(), data.path(), &wanted, &mut Vec::new());
    assert!(matches!(result, Err(InspectError::NotFound { name, .. }) if name == "none"));
}
