//! One kind of damage after the other, and what a check says of it.

use std::fs;

use oncelog_inspect::Severity::{Fault, Note};
use oncelog_records::BatchBuilder;
use oncelog_wire::{Offset, Timestamp, Uuid};

use crate::world::{Data, first_segment, placed};

#[test]
fn a_flipped_bit_in_a_payload_is_found_in_an_old_segment() {
    let data = Data::sound();
    let segment = first_segment("orders-0");
    let batch = &data.batches(&segment)[3];
    data.edit(&segment, |content| content[batch.position + 5000] ^= 4);
    let checked = data.check();
    checked.faults(1).has(Fault, &segment, Some(6), "the CRC of the batch does not match");
    assert_eq!(checked.findings[0].position, Some(batch.position as u64));
    assert!(checked.summary.batches >= 30, "the rest is looked at: {}", checked.summary);
}

#[test]
fn a_broken_header_is_found_and_what_the_index_leads_to_is_read() {
    let data = Data::sound();
    let segment = first_segment("orders-0");
    let batch = &data.batches(&segment)[4];
    data.edit(&segment, |content| content[batch.position + 16] = 7);
    let checked = data.check();
    checked.faults(1).has(
        Fault,
        &segment,
        Some(8),
        "magic 7 is not supported; the batches behind it are whole",
    );
    assert!(checked.summary.batches >= 28, "{}", checked.summary);
}

#[test]
fn a_length_beyond_the_file_is_found() {
    let data = Data::sound();
    let segment = first_segment("refunds-0");
    let batch = &data.batches(&segment)[2];
    data.remove("refunds-0/00000000000000000000.index");
    data.edit(&segment, |content| content[batch.position + 8] = 0x7f);
    data.check().faults(1).has(
        Fault,
        &segment,
        Some(batch.header.base_offset().0),
        "nothing behind it can be read",
    );
}

#[test]
fn batches_that_were_cut_off_are_missed() {
    let data = Data::sound();
    let segment = first_segment("orders-1");
    let batches = data.batches(&segment);
    let last = batches.last().unwrap();
    data.edit(&segment, |content| content.truncate(last.position));
    let end = last.header.base_offset();
    let checked = data.check();
    checked.has(Fault, "orders-1", Some(end.0), "records are lost");
    checked.has(Fault, &segment, Some(end.0 - 3), "hanging transaction of producer");
}

#[test]
fn a_hole_in_the_offsets_is_found() {
    let data = Data::sound();
    let segment = first_segment("orders-0");
    let batches = data.batches(&segment);
    let gone = &batches[5];
    data.edit(&segment, |content| {
        content.drain(gone.position..gone.position + gone.bytes.len());
    });
    for extension in ["index", "timeindex"] {
        data.remove(&format!("orders-0/{:020}.{extension}", 0));
    }
    let checked = data.check();
    checked.faults(1).has(Fault, &segment, Some(12), "a hole: the offsets 10 to 11 are missing");
    checked.has(Note, "orders-0/00000000000000000000.index", None, "missing: the next start makes it anew");
}

#[test]
fn a_missing_segment_is_found() {
    let data = Data::sound();
    data.remove(&first_segment("orders-0"));
    let checked = data.check();
    checked.has(Note, "orders-0/00000000000000000000.index", None, "left over");
    // With the first segment gone, the log begins where records were never deleted.
    checked.has(Fault, "orders-0", None, "the log begins at offset");
}

#[test]
fn records_that_are_not_what_their_batch_says_are_found() {
    let data = Data::sound();
    let segment = first_segment("empty-0");
    fs::create_dir(data.file("empty-0")).unwrap();
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(5), None, Some(b"a"));
    builder.push(Timestamp(6), None, Some(b"b"));
    let mut batch = builder.build().to_vec();
    // One record less than there are, with the CRC made anew.
    batch[60] = 1;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    data.write(&segment, placed(&batch, Offset(0), oncelog_wire::LeaderEpoch(0)));
    data.check().faults(1).has(Fault, &segment, Some(0), "the records cannot be read: bytes are left over");
}

#[test]
fn wrong_index_entries_are_found() {
    let data = Data::sound();
    let index = "orders-0/00000000000000000000.index";
    data.edit(index, |content| content[15] ^= 1);
    let checked = data.check();
    let finding = &checked.findings[0];
    checked.faults(1).has(Fault, index, finding.offset.map(|offset| offset.0), "where no batch starts");
    assert_eq!(finding.position, Some(8));

    let data = Data::sound();
    data.edit(index, |content| content[11] += 1);
    data.check().faults(1).has(Fault, index, Some(6), "the batch at byte");

    let data = Data::sound();
    data.edit(index, |content| content.extend([0, 0, 1, 0, 0x7f, 0, 0, 0]));
    data.check().faults(1).has(Fault, index, Some(256), "beyond the segment's end");

    let data = Data::sound();
    data.edit(index, |content| content.push(1));
    data.check().faults(1).has(Fault, index, None, "are not whole entries of 8");
}

#[test]
fn wrong_entries_of_the_time_index_are_found() {
    let data = Data::sound();
    let index = "orders-1/00000000000000000000.timeindex";
    data.edit(index, |content| content[7] ^= 1);
    let checked = data.check();
    let offset = checked.findings[0].offset.map(|offset| offset.0);
    checked.has(Fault, index, offset, "is not the largest up to this offset");
    assert_eq!(checked.findings[0].position, Some(0));

    let data = Data::sound();
    let index = "orders-0/00000000000000000000.timeindex";
    data.edit(index, |content| content.truncate(content.len() - 12));
    data.check().faults(1).has(Fault, index, None, "the newest record");
}

#[test]
fn what_is_missing_beside_the_segments_is_only_noted() {
    let data = Data::sound();
    for extension in ["index", "timeindex", "txnindex"] {
        data.remove(&format!("orders-1/{:020}.{extension}", 0));
    }
    data.remove("orders-1/leader-epoch-checkpoint");
    data.remove("orders-1/partition.metadata");
    data.write("orders-1/leader-epoch-checkpoint.tmp", "0");
    let checked = data.check();
    checked.faults(0);
    assert_eq!(checked.summary.notes, 6, "{}", checked.text());
}

#[test]
fn garbage_in_a_snapshot_is_found() {
    let data = Data::sound();
    let name = snapshot_of(&data, "orders-1");
    data.edit(&name, |content| content[20] ^= 1);
    let offset = Some(data.batches(&first_segment("orders-1")).pop().unwrap().header.next_offset().0);
    data.check().faults(1).has(Fault, &name, offset, "its CRC does not match");

    // Bytes that are sound and wrong: the last sequence number of the first producer.
    let data = Data::sound();
    data.edit(&name, |content| {
        content[23] ^= 1;
        let crc = crc32c::crc32c(&content[6..]);
        content[2..6].copy_from_slice(&crc.to_be_bytes());
    });
    data.check().faults(1).has(Fault, &name, offset, "it has producer");
}

#[test]
fn a_wrong_leader_epoch_is_found() {
    let data = Data::sound();
    data.write("orders-1/leader-epoch-checkpoint", "0\n2\n0 0\n1 4\n");
    let segment = first_segment("orders-1");
    data.check().has(
        Fault,
        &segment,
        Some(4),
        "the batch is of leader epoch 0, and leader-epoch-checkpoint has 1",
    );
    data.write("orders-1/leader-epoch-checkpoint", "0\n2\n0 0\n0 4\n");
    let name = "orders-1/leader-epoch-checkpoint";
    data.check().faults(1).has(Fault, name, Some(4), "does not follow");
    data.write("orders-1/leader-epoch-checkpoint", "0\n2\n0 0\n");
    data.check().faults(1).has(Fault, name, None, "the broker will not start");
}

#[test]
fn directories_that_do_not_match_the_topics_are_found() {
    let data = Data::sound();
    let id = Uuid([9; 16]);
    data.write("orders-1/partition.metadata", format!("version: 0\ntopic_id: {id}\n"));
    fs::rename(data.file("refunds-0"), data.file("refunds-3")).unwrap();
    fs::create_dir(data.file("strange-0")).unwrap();
    fs::create_dir(data.file("orders-0.00000000000000000000000000000000-delete")).unwrap();
    let checked = data.check();
    checked.has(Fault, "orders-1/partition.metadata", None, "the broker will not start");
    checked.has(Fault, "refunds-3", None, "the topic has 1 partitions");
    checked.has(Fault, "strange-0", None, "belongs to no topic");
    let end = data.batches(&first_segment("refunds-3")).pop().unwrap().header.next_offset();
    checked.has(Fault, "refunds-0", Some(end.0), "missing: it was on the device");
    checked.has(Note, "orders-0.00000000000000000000000000000000-delete", None, "deleted topic");
}

#[test]
fn garbage_in_checkpoints_is_found() {
    let data = Data::sound();
    data.write("recovery-point-offset-checkpoint", "0\n1\norders 0 -7\n");
    data.write("log-start-offset-checkpoint", [0xff; 30]);
    let checked = data.check();
    checked.has(Fault, "recovery-point-offset-checkpoint", None, "'orders 0 -7' is not");
    checked.has(Fault, "log-start-offset-checkpoint", None, "not a text file");
}

#[test]
fn a_missing_metadata_log_is_found() {
    let data = Data::sound();
    fs::remove_dir_all(data.file("__cluster_metadata-0")).unwrap();
    data.check().has(Fault, "__cluster_metadata-0", None, "will start with no topics");
}

#[test]
fn records_of_internal_topics_that_are_none_are_found() {
    let data = Data::sound();
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(5), Some(b"\0\x01\0"), Some(b"\0"));
    let mut offsets = (0..2).map(|at| first_segment(&format!("__consumer_offsets-{at}")));
    let offsets = offsets.find(|name| data.file(name).exists()).unwrap();
    let offset = data.append(&offsets, &builder.build());
    data.check().faults(1).has(Fault, &offsets, Some(offset.0), "no record of a group or an offset");

    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(5), None, Some(b"\x01\x02\x00\x7f"));
    let metadata = first_segment("__cluster_metadata-0");
    let offset = data.append(&metadata, &builder.build());
    data.check().has(Fault, &metadata, Some(offset.0), "no record of the metadata");
}

/// The name of the newest snapshot of a log.
fn snapshot_of(data: &Data, log: &str) -> String {
    let names = fs::read_dir(data.file(log)).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let newest = names.filter(|name| name.ends_with(".snapshot")).max().unwrap();
    format!("{log}/{newest}")
}

#[test]
fn no_flipped_bit_in_a_log_or_an_exact_file_beside_it_is_missed() {
    let sound = Data::sound();
    let exact =
        |name: &str| [".log", ".index", ".txnindex", ".snapshot"].iter().any(|end| name.ends_with(end));
    let files: Vec<_> = sound.content().into_iter().collect();
    let files = files.iter().filter(|(path, content)| exact(&path.to_string_lossy()) && !content.is_empty());
    let mut random = 1_u64;
    for (path, content) in files {
        let name = path.strip_prefix(sound.path()).unwrap().to_str().unwrap();
        for _ in 0..12 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Most damage is looked for near the start, where files of all sizes have something.
            let bit = (random >> 20) as usize % (content.len().min(4000) * 8);
            sound.edit(name, |content| content[bit / 8] ^= 1 << (bit % 8));
            let checked = sound.check();
            assert!(checked.summary.faults > 0, "{name}: bit {bit} of {}", content.len() * 8);
            sound.write(name, content);
        }
    }
    sound.check().faults(0);
}

#[test]
fn no_cut_of_a_log_is_missed_and_none_is_too_much() {
    let sound = Data::sound();
    for (path, content) in sound.content() {
        let name = path.strip_prefix(sound.path()).unwrap().to_str().unwrap();
        for length in (0..content.len()).step_by(content.len() / 7 + 1) {
            sound.write(name, &content[..length]);
            if name == "meta.properties" {
                continue;
            }
            let checked = sound.check();
            assert!(checked.summary.faults > 0 || !name.ends_with(".log"), "{name} cut to {length}");
        }
        sound.write(name, &content);
    }
    sound.check().faults(0);
}

#[test]
fn what_a_journal_will_replace_is_only_noted() {
    let data = Data::sound();
    let properties = String::from_utf8(data.read("meta.properties")).unwrap();
    data.write("meta.properties", properties.replace("durability=os", "durability=fsync"));
    let segment = first_segment("orders-0");
    let batch = &data.batches(&segment)[3];
    data.edit(&segment, |content| content[batch.position + 5000] ^= 4);
    data.check().faults(1);
    data.unclose();
    let what = "the next start has it from the journal, or cuts the log here";
    data.check().faults(0).has(Note, &segment, Some(6), what);
}
