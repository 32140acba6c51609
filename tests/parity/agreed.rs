//! The differences that are meant to be, each with its reason. Most are those that `docs/architecture.md` names.

use oncelog_wire::ApiKey;

use crate::compare::Difference;

/// A difference that is meant to be. What is left empty, or `None`, is not looked at.
pub struct Agreed {
    /// Where it is met.
    pub api: Option<ApiKey>,
    /// Part of what the scenario calls the request.
    pub what: &'static str,
    /// The end of the path, or any part of it.
    pub path: &'static str,
    /// The reference's value, or a part of it.
    pub reference: &'static str,
    /// The broker's value, or a part of it.
    pub broker: &'static str,
    /// Why.
    pub because: &'static str,
}

const ANYTHING: Agreed = Agreed { api: None, what: "", path: "", reference: "", broker: "", because: "" };

/// A key of a broker's configuration that says where it is and with whom it forms a cluster.
const fn of_the_cluster(key: &'static str) -> Agreed {
    Agreed {
        api: Some(ApiKey::DescribeConfigs),
        what: "broker",
        path: key,
        because: "where a broker is, and with whom it forms a cluster, is its own",
        ..ANYTHING
    }
}

/// All of them.
pub const AGREED: &[Agreed] = &[
    Agreed {
        api: Some(ApiKey::ApiVersions),
        path: "api_keys[",
        broker: "nothing",
        because: "oncelog serves fewer APIs, and advertises no more than it serves",
        ..ANYTHING
    },
    Agreed {
        path: " order",
        because: "the reference's order is that of a hash table; no client can rely on it",
        ..ANYTHING
    },
    Agreed {
        path: "error_message",
        reference: "None",
        because: "oncelog has words for errors that the reference only numbers",
        ..ANYTHING
    },
    Agreed {
        path: "_features[",
        broker: "nothing",
        because: "features are advertised where the APIs behind them are served",
        ..ANYTHING
    },
    Agreed {
        path: ".config_source",
        reference: "3",
        broker: "5",
        because: "with eligible leader replicas the reference keeps min.insync.replicas as a default of the cluster",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Metadata),
        what: "first answer",
        because: "a topic that is created on the way is there at once; the reference creates it later",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::FindCoordinator),
        what: "type 2",
        because: "share groups are not served",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "offset deltas",
        because: "the reference stores offsets that its clients cannot make sense of",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "a producer without an epoch",
        because: "no client sends this; the reference takes the epoch -1 for one",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "null records",
        reference: "no_answer",
        because: "the reference never answers",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "the same partition twice",
        because: "no client sends this; the reference writes one of the two, or both",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        path: "records[",
        reference: "_bytes_that_are_no_batch",
        because: "the reference cuts the last batch where the limit is; oncelog sends whole batches",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        what: "by partition -1",
        because: "the reference trips over a negative limit",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        what: "isolation 2",
        because: "the reference trips over an isolation level that is none",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        path: "aborted_transactions[",
        broker: "nothing",
        because: "the reference names aborted transactions from beyond the records that it returns",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::ListOffsets),
        what: "isolation 7",
        because: "the reference trips over an isolation level that is none",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::AddPartitionsToTxn),
        what: "no transactions",
        reference: "no_answer",
        because: "the reference never answers",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::EndTxn),
        what: "end of the fenced one",
        reference: "ProducerFenced",
        broker: "None",
        because: "in the reference a producer that is fenced can abort the transaction of its successor",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::EndTxn),
        reference: "InvalidTxnState",
        broker: "ProducerFenced",
        because: "INVALID_TXN_STATE for a commit after an abort kills Kafka Streams threads (KAFKA-20785)",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeTransactions),
        what: "state",
        because: "EndTxn of oncelog answers when the markers are written, that of the reference before",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::ListTransactions),
        what: "pattern",
        reference: "InvalidRegularExpression",
        because: "the regular expressions are those of another library",
        ..ANYTHING
    },
    Agreed {
        what: "no partitions",
        reference: "nothing",
        broker: "partition",
        because: "a topic without partitions is answered by one; the reference leaves it out",
        ..ANYTHING
    },
    Agreed {
        path: "error_message",
        broker: "None",
        because: "the reference has words for errors that oncelog only numbers",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        path: "log_start_offset",
        broker: "-1",
        because: "only an answer without an error tells where the log starts",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "bytes after the batch",
        because: "bytes that are no batch are refused; the reference drops them",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Metadata),
        what: "by zero id",
        because: "the reference fails at an id of zeros",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::CreateTopics),
        what: "__share_group_state",
        because: "share groups are not served, so their topic is not an internal one",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::CreateTopics),
        what: "delete,delete",
        because: "a list that names a value twice is refused",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::CreateTopics),
        what: "config [",
        path: ".value",
        because: "values are kept in their plain form; the reference keeps them as they were written",
        ..ANYTHING
    },
    Agreed {
        path: ".value",
        reference: "0.30",
        broker: "0.3",
        because: "values are kept in their plain form; the reference keeps them as they were written",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DeleteTopics),
        what: "by name, then id",
        because: "a topic named twice is left alone; the reference tells of both mentions in one",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::CreatePartitions),
        what: "empty name",
        because: "the reference leaves out a topic without a name",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeConfigs),
        path: "min.insync.replicas",
        because: "with eligible leader replicas the reference keeps min.insync.replicas as a default of the cluster",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::AlterConfigs),
        what: "all brokers, replaced",
        reference: "InvalidConfig",
        because: "with eligible leader replicas the reference wants min.insync.replicas to stay",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::IncrementalAlterConfigs),
        what: "a resource twice",
        because: "a resource named twice is told of once",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::AlterConfigs),
        what: "a resource replaced twice",
        reference: "no_answer",
        because: "the reference never answers",
        ..ANYTHING
    },
    of_the_cluster("\"advertised.listeners\""),
    of_the_cluster("\"broker.id\""),
    of_the_cluster("\"controller.listener.names\""),
    of_the_cluster("\"controller.quorum.voters\""),
    of_the_cluster("\"listener.security.protocol.map\""),
    of_the_cluster("\"listeners\""),
    of_the_cluster("\"log.dir"),
    of_the_cluster("\"node.id\""),
    of_the_cluster("\"process.roles\""),
    of_the_cluster("\"broker.heartbeat.interval.ms\""),
    of_the_cluster("\"broker.session.timeout.ms\""),
    of_the_cluster("\"controlled.shutdown.enable\""),
    Agreed {
        api: Some(ApiKey::DescribeTransactions),
        what: "twice",
        broker: "nothing",
        because: "what is named twice is answered once, so that no answer outgrows its request",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeGroups),
        what: "twice",
        broker: "nothing",
        because: "what is named twice is answered once, so that no answer outgrows its request",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeConfigs),
        what: "twice",
        broker: "nothing",
        because: "what is named twice is answered once, so that no answer outgrows its request",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::OffsetFetch),
        what: "several groups",
        broker: "nothing",
        because: "what is named twice is answered once, so that no answer outgrows its request",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeTopicPartitions),
        what: "name \"\"",
        path: "topic_authorized_operations",
        because: "the reference trips over a topic without a name",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeConfigs),
        path: "replication.factor\"].synonyms",
        broker: "1",
        because: "internal topics have one replica, as there is one node",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::DescribeConfigs),
        path: "min.isr\"].synonyms",
        broker: "1",
        because: "internal topics have one replica, as there is one node",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        what: "the session by id",
        because: "a session by id knows no name under which the topic might have been",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Fetch),
        what: "the topic goes while it waits",
        path: "aborted_transactions",
        because: "the reference has looked before the topic went",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::ListOffsets),
        what: " -3",
        path: "partitions[0]",
        because: "the reference names the largest timestamp of what is deleted too",
        ..ANYTHING
    },
    Agreed {
        api: Some(ApiKey::Produce),
        what: "the old one writes",
        broker: "InvalidProducerIdMapping",
        because: "the reference looks into the partition before it asks the coordinator",
        ..ANYTHING
    },
    Agreed {
        what: "no UTF-8",
        broker: "connection_closed",
        because: "a string that is no UTF-8 closes the connection; the reference replaces what it cannot read",
        ..ANYTHING
    },
    Agreed { reference: "UnknownServerError", because: "the reference trips over this request", ..ANYTHING },
];

/// The entry that covers a difference.
pub fn find(api: ApiKey, what: &str, difference: &Difference) -> Option<&'static Agreed> {
    AGREED.iter().find(|agreed| {
        agreed.api.is_none_or(|agreed| agreed == api)
            && what.contains(agreed.what)
            && difference.path.contains(agreed.path)
            && difference.reference.contains(agreed.reference)
            && difference.broker.contains(agreed.broker)
    })
}
