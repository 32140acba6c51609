//! Pure state machines: transactions, groups, and the cluster's metadata.

pub mod groups;
pub mod metadata;
#[cfg(test)]
mod script_files;
pub mod transactions;

/// The partition, out of `count`, that a group or a transactional id belongs to: by Java's hash of the text, as Kafka
/// has it.
pub fn partition_for(key: &str, count: usize) -> usize {
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    positive as usize % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_the_partitions_that_kafka_puts_them_in() {
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("my-group", 50), 12);
        // Its hash is the smallest 32-bit number, which has no positive counterpart.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("zażółć 🦀", 50), 3);
    }
}
