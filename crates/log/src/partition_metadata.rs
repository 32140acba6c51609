//! `partition.metadata`: the id of the topic a directory belongs to (`PartitionMetadataFile`).

use std::io;
use std::path::Path;

use oncelog_wire::Uuid;

use crate::disk::{Disk, read_file, replace_file};
use crate::error::{IoContext, LogError};

pub(crate) const FILE_NAME: &str = "partition.metadata";

/// The topic id; nothing where there is no such file, or no sense in it.
pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Uuid>, LogError> {
    let path = directory.join(FILE_NAME);
    let content = match read_file(disk, &path, 4096) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content.on("read", &path)?,
    };
    let text = String::from_utf8_lossy(&content);
    Ok(text.lines().find_map(|line| Uuid::parse(line.strip_prefix("topic_id: ")?.trim())))
}

pub(crate) fn write(disk: &dyn Disk, directory: &Path, topic_id: Uuid) -> Result<(), LogError> {
    let path = directory.join(FILE_NAME);
    replace_file(disk, &path, format!("version: 0\ntopic_id: {topic_id}\n").as_bytes()).on("write", &path)
}
