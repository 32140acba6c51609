//! Whose data directory it is.

use std::path::Path;
use std::sync::Arc;

use oncelog_log::{DataDir, DataDirOptions, Disk, FileDisk, LogConfig, LogError, MemoryDisk, OpenMode};
use oncelog_wire::{TopicPartition, Uuid};

use crate::world::{TOPIC_ID, World, options, partition};

const ROOT: &str = "/data";

fn open(disk: &MemoryDisk, options: DataDirOptions) -> Result<DataDir, LogError> {
    DataDir::open(Arc::new(disk.clone()), Path::new(ROOT), options)
}

fn write(disk: &MemoryDisk, name: &str, content: &str) {
    let path = Path::new(ROOT).join(name);
    disk.create_directory(path.parent().unwrap()).unwrap();
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.truncate(0).unwrap();
    file.write_at(content.as_bytes(), 0).unwrap();
}

#[test]
fn a_second_process_is_refused_on_both_disks() {
    let directory = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Disk>, &Path); 2] =
        [(Arc::new(MemoryDisk::new()), Path::new(ROOT)), (Arc::new(FileDisk::new()), directory.path())];
    for (disk, root) in disks {
        let first = DataDir::open(disk.clone(), root, options()).unwrap();
        let error = DataDir::open(disk.clone(), root, options()).unwrap_err();
        assert!(matches!(error, LogError::Locked { .. }), "{error}");
        drop(first);
        DataDir::open(disk, root, options()).unwrap();
    }
}

#[test]
fn a_new_directory_takes_the_ids_it_is_given_and_keeps_them() {
    let disk = MemoryDisk::new();
    let first = open(&disk, options()).unwrap();
    let (cluster, directory) = (first.cluster_id().to_owned(), first.directory_id());
    assert_eq!((cluster.as_str(), directory), (&*Uuid([1; 16]).to_string(), Uuid([2; 16])));
    drop(first);
    let later =
        DataDirOptions { new_cluster_id: Uuid([8; 16]), new_directory_id: Uuid([9; 16]), ..options() };
    let second = open(&disk, later).unwrap();
    assert_eq!((second.cluster_id(), second.directory_id()), (&*cluster, directory));
}

#[test]
fn a_directory_of_another_cluster_node_or_broker_is_refused_with_the_reason() {
    let disk = MemoryDisk::new();
    drop(open(&disk, options()).unwrap());
    let refuse = |options: DataDirOptions, reason: &str| {
        let error = open(&disk, options).unwrap_err().to_string();
        assert!(error.contains("/data/meta.properties") && error.contains(reason), "{error}");
    };
    refuse(DataDirOptions { expected_cluster_id: Some("elsewhere".into()), ..options() }, "elsewhere");
    refuse(DataDirOptions { node_id: 2, ..options() }, "belongs to node 1");
    write(
        &disk,
        "meta.properties",
        "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAA\n",
    );
    refuse(options(), "Apache Kafka");
    write(&disk, "meta.properties", "version=1\noncelog.version=2\n");
    refuse(options(), "oncelog.version=2");
    write(&disk, "meta.properties", "version=1\noncelog.version=1\noncelog.durability=tape\n");
    refuse(options(), "durability tape");
}

#[test]
fn a_directory_with_something_else_in_it_is_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    write(&disk, "thesis.txt", "...");
    let error = open(&disk, options()).unwrap_err().to_string();
    assert!(error.contains("thesis.txt"), "{error}");
    assert!(disk.list(Path::new(ROOT)).unwrap().iter().all(|entry| entry.name != "meta.properties"));
}

#[test]
fn a_broken_checkpoint_is_named() {
    let disk = MemoryDisk::new();
    drop(open(&disk, options()).unwrap());
    for content in [
        "",
        "1\n0\n",
        "0\n2\norders 0 5\noncelog.checksum 0 17\n",
        "0\n2\norders 0 5\n",
        "0\n1\norders zero 5\n",
        "0\n1\norders 0\n",
    ] {
        write(&disk, "log-start-offset-checkpoint", content);
        let error = open(&disk, options()).unwrap_err().to_string();
        assert!(error.contains("/data/log-start-offset-checkpoint"), "{error}");
    }
}

#[test]
fn the_clean_mark_is_there_only_between_a_close_and_the_next_open() {
    let mut world = World::in_memory(LogConfig::default());
    assert!(!world.open.as_ref().unwrap().0.was_clean());
    world.append(1);
    world.restart();
    assert!(world.open.as_ref().unwrap().0.was_clean());
    world.crash();
    assert!(!world.open.as_ref().unwrap().0.was_clean());
}

#[test]
fn logs_are_found_with_their_topic_ids_and_leftovers_of_deleted_ones_are_removed() {
    let disk = MemoryDisk::new();
    let mut world = World::on(Arc::new(disk.clone()), ROOT.into(), LogConfig::default());
    world.append(1);
    write(&disk, "gone-3.0123456789abcdef0123456789abcdef-delete/00000000000000000000.log", "");
    write(&disk, "not a log/file", "");
    let (data, _) = world.open.as_ref().unwrap();
    let logs = data.logs().unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!((&logs[0].topic_partition, logs[0].topic_id), (&partition(), Some(TOPIC_ID)));
    let left = disk.list(Path::new(ROOT)).unwrap();
    assert!(left.iter().all(|entry| !entry.name.ends_with("-delete")));
}

#[test]
fn a_deleted_log_leaves_nothing_to_one_of_the_same_name() {
    let mut world = World::in_memory(LogConfig::default());
    for _ in 0..5 {
        world.append(1);
    }
    world.log().delete_records(None).unwrap().1.remove().unwrap();
    world.checkpoint();
    let (data, log) = world.open.take().unwrap();
    drop(log);
    data.delete_log(&partition()).unwrap();
    data.delete_log(&partition()).unwrap();
    let other = Uuid([77; 16]);
    let now = world.now();
    let config = Arc::new(LogConfig::default());
    let open = |data: &DataDir| data.open_log(&partition(), other, config.clone(), now).unwrap();
    world.open = Some((
        data,
        DataDir::open_log(
            &DataDir::open(Arc::new(MemoryDisk::new()), Path::new("/x"), options()).unwrap(),
            &partition(),
            other,
            config.clone(),
            now,
        )
        .unwrap(),
    ));
    let mut log = open(&world.open.as_ref().unwrap().0);
    assert_eq!((log.log_start_offset().0, log.log_end_offset().0), (0, 0));
    world.open.as_mut().unwrap().1 = log;
    world.append(2);
    world.open = None;
    let data = DataDir::open(world.disk.clone(), &world.root, options()).unwrap();
    log = open(&data);
    assert_eq!((log.log_start_offset().0, log.log_end_offset().0), (0, 2));
}

#[test]
fn a_directory_of_another_topic_is_not_taken_for_this_one() {
    let mut world = World::in_memory(LogConfig::default());
    world.append(1);
    let now = world.now();
    let (data, _) = world.open.as_ref().unwrap();
    let error = data.open_log(&partition(), Uuid([9; 16]), Arc::default(), now).unwrap_err().to_string();
    assert!(error.contains("/data/orders-0"), "{error}");
}

#[test]
fn the_directory_of_a_topic_with_the_longest_name_can_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::open(Arc::new(FileDisk::new()), directory.path(), options()).unwrap();
    let partition = TopicPartition::new("x".repeat(249), 12);
    let mut world = World::in_memory(LogConfig::default());
    let now = world.now();
    let mut log = data.open_log(&partition, TOPIC_ID, Arc::default(), now).unwrap();
    let batch = crate::world::plain(1, 1, 1);
    let batch = oncelog_records::BatchView::parse(&batch).unwrap();
    log.append(&batch, oncelog_log::Origin::Coordinator, now).unwrap();
    drop(log);
    data.delete_log(&partition).unwrap();
    assert_eq!(data.logs().unwrap(), []);
    world.append(1);
}
