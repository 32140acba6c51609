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
