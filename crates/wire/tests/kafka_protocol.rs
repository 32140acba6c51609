//! Byte for byte against the `kafka-protocol` crate, which is generated from Kafka 4.1's own definitions.
//!
//! It reads what we write, writes the same bytes again, and names the same fields with the same numbers.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::BytesMut;
use kafka_protocol::messages;
use kafka_protocol::protocol::{Decodable, Encodable, Message as KafkaMessage};
use oncelog_wire::internal::{consumer_protocol, control};
use oncelog_wire::{ApiKey, Message, Reader, Record, Request};
use support::{Sample, Sampler, encode};

/// Messages and versions that `kafka-protocol` reads or writes in another way than Kafka does.
const QUIRKS: &[(&str, RangeInclusive<i16>, &str)] =
    &[("LeaderChangeMessage", 0..=1, SHADOWED_VERSION), ("VotersRecord", 0..=0, SHADOWED_VERSION)];

const SHADOWED_VERSION: &str =
    "its decoder reads the parts at the version that the field named version happens to say";

/// What Kafka 4.3 has and `kafka-protocol` does not know. A change here means that it has learned something.
/// `testdata/kafka-4.3.1.txt` covers these.
const UNKNOWN_VERSIONS: &[&str] = &[
    "AddRaftVoterRequest v1",
    "AddRaftVoterResponse v1",
    "DescribeLogDirsRequest v5",
    "DescribeLogDirsResponse v5",
    "DescribeShareGroupOffsetsRequest v1",
    "DescribeShareGroupOffsetsResponse v1",
    "InitProducerIdRequest v6",
    "ListOffsetsRequest v11",
    "ListOffsetsResponse v11",
    "OffsetCommitRequest v10",
    "OffsetFetchRequest v10",
    "ReadShareGroupStateSummaryRequest v1",
    "ReadShareGroupStateSummaryResponse v1",
    "ShareAcknowledgeRequest v2",
    "ShareAcknowledgeResponse v2",
    "ShareFetchRequest v2",
    "ShareFetchResponse v2",
    "WriteShareGroupStateRequest v1",
    "WriteShareGroupStateResponse v1",
    "WriteTxnMarkersRequest v2",
    "WriteTxnMarkersResponse v2",
];

/// APIs that `kafka-protocol` has no messages of, covered there too.
const UNKNOWN_APIS: &[ApiKey] = &[ApiKey::StreamsGroupHeartbeat, ApiKey::StreamsGroupDescribe];

struct Comparison {
    sampler: Sampler,
    unknown: BTreeSet<String>,
    compared: usize,
}

impl Comparison {
    fn compare<Ours, Theirs>(&mut self, name: &str, versions: RangeInclusive<i16>)
    where
        Ours: Message + Sample + Debug,
        Theirs: KafkaMessage + Encodable + Decodable + Debug,
    {
        let newest = *versions.end();
        for version in versions {
            if !(Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version) {
                self.unknown.insert(format!("{name} v{version}"));
                continue;
            }
            if QUIRKS.iter().any(|(quirky, versions, _)| *quirky == name && versions.contains(&version)) {
                continue;
            }
            for round in 0..10 {
                let ours = if round == 0 { Ours::default() } else { self.sampler.message(version) };
                let (ours, theirs) = compare_bytes::<Ours, Theirs>(name, version, &ours);
                if Theirs::VERSIONS.max == newest {
                    compare_fields(name, version, &ours, &theirs);
                }
            }
            self.compared += 1;
        }
    }
}

fn compare_bytes<Ours, Theirs>(name: &str, version: i16, ours: &Ours) -> (Ours, Theirs)
where
    Ours: Message + Debug,
    Theirs: Encodable + Decodable + Debug,
{
    let bytes = encode(ours, version);
    let mut left = bytes.clone();
    let theirs = Theirs::decode(&mut left, version);
    let theirs = theirs.unwrap_or_else(|error| panic!("{name} v{version}: {error}\n{ours:?}"));
    assert!(left.is_empty(), "{name} v{version} leaves bytes unread\n{ours:?}");
    let mut written = BytesMut::new();
    theirs
        .encode(&mut written, version)
        .unwrap_or_else(|error| panic!("{name} v{version}: {error}\n{ours:?}"));
    assert_eq!(written, bytes, "{name} v{version} is written in another way\n{ours:?}\n{theirs:?}");

    let ours = Ours::decode(&mut Reader::new(written.freeze()), version).expect("the same bytes");
    (ours, theirs)
}

/// Both declare a message's fields in one order. (With the newest version in common: older ones keep their fields.)
fn compare_fields(name: &str, version: i16, ours: &impl Debug, theirs: &impl Debug) {
    let (ours, theirs) = (numbers(&format!("{ours:?}")), numbers(&format!("{theirs:?}")));
    let fields = |numbers: &[(String, Option<i64>)]| {
        numbers.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(&ours), fields(&theirs), "{name} v{version} has other fields");
    // What is a number to one may be an error's name or an id to the other.
    for ((field, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert!(
            ours.is_none() || theirs.is_none() || ours == theirs,
            "{name} v{version} has another {field}"
        );
    }
}

/// The names of the fields in a `Debug` text, each with its value where that is a whole number.
fn numbers(debug: &str) -> Vec<(String, Option<i64>)> {
    let mut fields = Vec::new();
    for (at, _) in debug.match_indices(": ") {
        let name =
            debug[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let name = name.replace('_', "");
        if name.is_empty() || name == "unknowntaggedfields" {
            continue;
        }
        let value = &debug[at + 2..];
        // Some newtype around the number, perhaps.
        let value = value.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '(');
        let end = value.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(value.len());
        fields.push((name, value[..end].parse().ok()));
    }
    fields
}

macro_rules! compare_apis {
    ($($module:ident $request:ident $response:ident,)*) => {
        fn compare_apis(comparison: &mut Comparison) -> Vec<ApiKey> {
            $(
                use oncelog_wire::$module;
                let key = <$module::Request as Request>::KEY;
                let versions = *key.versions().start()..=key.newest_version();
                comparison.compare::<$module::Request, messages::$request>(stringify!($request), versions.clone());
                comparison.compare::<$module::Response, messages::$response>(stringify!($response), versions);
            )*
            vec![$(<$module::Request as Request>::KEY,)*]
        }
    };
}

compare_apis! {
    add_offsets_to_txn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
    add_partitions_to_txn AddPartitionsToTxnRequest AddPartitionsToTxnResponse,
    add_raft_voter AddRaftVoterRequest AddRaftVoterResponse,
    alter_client_quotas AlterClientQuotasRequest AlterClientQuotasResponse,
    alter_configs AlterConfigsRequest AlterConfigsResponse,
    alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    alter_replica_log_dirs AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse,
    alter_share_group_offsets AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse,
    alter_user_scram_credentials AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse,
    api_versions ApiVersionsRequest ApiVersionsResponse,
    consumer_group_describe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
    consumer_group_heartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
    create_acls CreateAclsRequest CreateAclsResponse,
    create_delegation_token CreateDelegationTokenRequest CreateDelegationTokenResponse,
    create_partitions CreatePartitionsRequest CreatePartitionsResponse,
    create_topics CreateTopicsRequest CreateTopicsResponse,
    delete_acls DeleteAclsRequest DeleteAclsResponse,
    delete_groups DeleteGroupsRequest DeleteGroupsResponse,
    delete_records DeleteRecordsRequest DeleteRecordsResponse,
    delete_share_group_offsets DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse,
    delete_share_group_state DeleteShareGroupStateRequest DeleteShareGroupStateResponse,
    delete_topics DeleteTopicsRequest DeleteTopicsResponse,
    describe_acls DescribeAclsRequest DescribeAclsResponse,
    describe_client_quotas DescribeClientQuotasRequest DescribeClientQuotasResponse,
    describe_cluster DescribeClusterRequest DescribeClusterResponse,
    describe_configs DescribeConfigsRequest DescribeConfigsResponse,
    describe_delegation_token DescribeDelegationTokenRequest DescribeDelegationTokenResponse,
    describe_groups DescribeGroupsRequest DescribeGroupsResponse,
    describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse,
    describe_producers DescribeProducersRequest DescribeProducersResponse,
    describe_quorum DescribeQuorumRequest DescribeQuorumResponse,
    describe_share_group_offsets DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse,
    describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
    describe_transactions DescribeTransactionsRequest DescribeTransactionsResponse,
    describe_user_scram_credentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse,
    elect_leaders ElectLeadersRequest ElectLeadersResponse,
    end_txn EndTxnRequest EndTxnResponse,
    expire_delegation_token ExpireDelegationTokenRequest ExpireDelegationTokenResponse,
    fetch FetchRequest FetchResponse,
    find_coordinator FindCoordinatorRequest FindCoordinatorResponse,
    get_telemetry_subscriptions GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse,
    heartbeat HeartbeatRequest HeartbeatResponse,
    incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    init_producer_id InitProducerIdRequest InitProducerIdResponse,
    initialize_share_group_state InitializeShareGroupStateRequest InitializeShareGroupStateResponse,
    join_group JoinGroupRequest JoinGroupResponse,
    leave_group LeaveGroupRequest LeaveGroupResponse,
    list_config_resources ListConfigResourcesRequest ListConfigResourcesResponse,
    list_groups ListGroupsRequest ListGroupsResponse,
    list_offsets ListOffsetsRequest ListOffsetsResponse,
    list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    list_transactions ListTransactionsRequest ListTransactionsResponse,
    metadata MetadataRequest MetadataResponse,
    offset_commit OffsetCommitRequest OffsetCommitResponse,
    offset_delete OffsetDeleteRequest OffsetDeleteResponse,
    offset_fetch OffsetFetchRequest OffsetFetchResponse,
    offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    produce ProduceRequest ProduceResponse,
    push_telemetry PushTelemetryRequest PushTelemetryResponse,
    read_share_group_state ReadShareGroupStateRequest ReadShareGroupStateResponse,
    read_share_group_state_summary ReadShareGroupStateSummaryRequest ReadShareGroupStateSummaryResponse,
    remove_raft_voter RemoveRaftVoterRequest RemoveRaftVoterResponse,
    renew_delegation_token RenewDelegationTokenRequest RenewDelegationTokenResponse,
    sasl_authenticate SaslAuthenticateRequest SaslAuthenticateResponse,
    sasl_handshake SaslHandshakeRequest SaslHandshakeResponse,
    share_acknowledge ShareAcknowledgeRequest ShareAcknowledgeResponse,
    share_fetch ShareFetchRequest ShareFetchResponse,
    share_group_describe ShareGroupDescribeRequest ShareGroupDescribeResponse,
    share_group_heartbeat ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse,
    sync_group SyncGroupRequest SyncGroupResponse,
    txn_offset_commit TxnOffsetCommitRequest TxnOffsetCommitResponse,
    unregister_broker UnregisterBrokerRequest UnregisterBrokerResponse,
    update_features UpdateFeaturesRequest UpdateFeaturesResponse,
    write_share_group_state WriteShareGroupStateRequest WriteShareGroupStateResponse,
    write_txn_markers WriteTxnMarkersRequest WriteTxnMarkersResponse,
}

macro_rules! compare_records {
    ($comparison:ident $($ours:path, $theirs:ident;)*) => {
        $($comparison.compare::<$ours, messages::$theirs>(stringify!($theirs), <$ours as Record>::VERSIONS);)*
    };
}

#[test]
fn every_message_is_that_of_kafka_protocol_byte_for_byte() {
    let sampler = Sampler::from_environment();
    let mut comparison = Comparison { sampler, unknown: BTreeSet::new(), compared: 0 };
    let apis = compare_apis(&mut comparison);
    compare_records! { comparison
        consumer_protocol::Subscription, ConsumerProtocolSubscription;
        consumer_protocol::Assignment, ConsumerProtocolAssignment;
        control::EndTxnMarker, EndTxnMarker;
        control::LeaderChangeMessage, LeaderChangeMessage;
        control::SnapshotHeaderRecord, SnapshotHeaderRecord;
        control::SnapshotFooterRecord, SnapshotFooterRecord;
        control::KRaftVersionRecord, KRaftVersionRecord;
        control::VotersRecord, VotersRecord;
    }
    let missing: Vec<ApiKey> = ApiKey::ALL.iter().copied().filter(|key| !apis.contains(key)).collect();
    assert_eq!(missing, UNKNOWN_APIS);
    let unknown: Vec<String> = comparison.unknown.into_iter().collect();
    assert_eq!(unknown, UNKNOWN_VERSIONS);
    println!("{} versions of messages compared", comparison.compared);
}
