package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	scenarios = append(scenarios,
		scenario{name: "kadm creates, grows, describes and deletes topics", shared: topics},
		scenario{name: "kadm reads and changes configs", shared: configs},
		scenario{name: "kadm lists offsets of all kinds and deletes records", shared: offsets},
		scenario{name: "kadm describes groups, resets offsets and deletes them", shared: groups},
		scenario{name: "kadm shows the lag of a group with a transaction open", shared: lag},
		scenario{name: "kadm sees one broker with all features and internal topics", shared: cluster},
	)
}

func topics(ctx context.Context, address string) {
	adm, name := admin(address), unique("topic")
	created := need(adm.CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, name))
	settle()
	_, err := adm.CreateTopic(ctx, 2, 1, nil, name)
	check(errors.Is(err, kerr.TopicAlreadyExists), "again: %v", err)
	_, err = adm.CreateTopic(ctx, 1, 1, nil, "not/allowed")
	check(errors.Is(err, kerr.InvalidTopicException), "name: %v", err)
	must(need(adm.UpdatePartitions(ctx, 4, name))[name].Err)
	settle()
	detail := need(adm.ListTopics(ctx, name))[name]
	equal("partitions", len(detail.Partitions), 4)
	equal("topic id", detail.ID, created.ID)
	need(adm.DeleteTopic(ctx, name))
	// kadm answers from what it heard up to a tenth of a second ago.
	eventually(ctx, "the topic is gone", func() bool { return !need(adm.ListTopics(ctx)).Has(name) })
	again := need(adm.CreateTopic(ctx, 1, 1, nil, name))
	check(again.ID != created.ID, "a new topic has a new id")
}

func configs(ctx context.Context, address string) {
	adm, topic := admin(address), createTopic(ctx, address, "configs", 1)
	get := func(key string) *kadm.Config {
		found := need(adm.DescribeTopicConfigs(ctx, topic))
		must(found[0].Err)
		for _, config := range found[0].Configs {
			if config.Key == key {
				return &config
			}
		}
		panic("no such key: " + key)
	}
	alter := func(op kadm.IncrementalOp, key, value string) error {
		answers := need(adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: key, Value: &value}}, topic))
		settle()
		return answers[0].Err
	}
	equal("default", get("cleanup.policy").MaybeValue(), "delete")
	equal("source", get("cleanup.policy").Source, kmsg.ConfigSourceDefaultConfig)
	must(alter(kadm.SetConfig, "retention.ms", "1000000"))
	must(alter(kadm.AppendConfig, "cleanup.policy", "compact"))
	equal("set", get("retention.ms").MaybeValue(), "1000000")
	equal("appended", get("cleanup.policy").MaybeValue(), "delete,compact")
	equal("source", get("cleanup.policy").Source, kmsg.ConfigSourceDynamicTopicConfig)
	equal("synonyms", len(get("cleanup.policy").Synonyms), 2)
	must(alter(kadm.SubtractConfig, "cleanup.policy", "compact"))
	must(alter(kadm.DeleteConfig, "retention.ms", ""))
	equal("back to the default", get("retention.ms").MaybeValue(), "604800000")
	check(errors.Is(alter(kadm.SetConfig, "no.such.key", "1"), kerr.InvalidConfig), "an unknown key is refused")
	check(errors.Is(alter(kadm.SetConfig, "segment.bytes", "few"), kerr.InvalidConfig), "a bad value is refused")
}

func offsets(ctx context.Context, address string) {
	adm, topic := admin(address), createTopic(ctx, address, "offsets", 1)
	producer := client(address)
	defer producer.Close()
	for _, timestamp := range []int64{5000, 9000, 7000} {
		r := record(topic, 0, "x")
		r.Timestamp = time.UnixMilli(1_600_000_000_000 + timestamp)
		must(producer.ProduceSync(ctx, r).FirstErr())
	}
	at := func(listed kadm.ListedOffsets, err error) int64 {
		offset, _ := need(listed, err).Lookup(topic, 0)
		must(offset.Err)
		return offset.Offset
	}
	equal("start", at(adm.ListStartOffsets(ctx, topic)), 0)
	equal("end", at(adm.ListEndOffsets(ctx, topic)), 3)
	equal("largest timestamp", at(adm.ListMaxTimestampOffsets(ctx, topic)), 1)
	equal("after a time", at(adm.ListOffsetsAfterMilli(ctx, 1_600_000_006_000, topic)), 1)
	equal("after all: the end", at(adm.ListOffsetsAfterMilli(ctx, 1_600_000_010_000, topic)), 3)
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 2, -1)
	deleted := need(adm.DeleteRecords(ctx, before))[topic][0]
	must(deleted.Err)
	equal("low watermark", deleted.LowWatermark, 2)
	equal("start after deletion", at(adm.ListStartOffsets(ctx, topic)), 2)

	var ask kadm.OffsetForLeaderEpochRequest
	ask.Add(topic, 0, 0)
	ends := need(adm.OffsetForLeaderEpoch(ctx, ask))[topic][0]
	must(ends.Err)
	equal("the end of the leader epoch", ends.EndOffset, 3)
}

func groups(ctx context.Context, address string) {
	adm, topic, group := admin(address), createTopic(ctx, address, "grouped", 2), unique("group")
	member := client(address, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID("the-member"), kgo.DisableAutoCommit())
	eventually(ctx, "stable", func() bool {
		described, err := adm.DescribeGroups(ctx, group)
		about := described[group]
		return err == nil && about.State == "Stable" && len(about.AssignedPartitions()[topic]) == 2
	})
	about := need(adm.DescribeGroups(ctx, group))[group]
	equal("type", about.ProtocolType, "consumer")
	equal("client", about.Members[0].ClientID, "the-member")
	listed := need(adm.ListGroups(ctx, "Stable"))[group]
	equal("listed state", listed.State, "Stable")
	wanted := kadm.Offsets{}
	wanted.Add(kadm.Offset{Topic: topic, Partition: 0, At: 5, LeaderEpoch: -1, Metadata: "note"})
	_, err := adm.DeleteGroup(ctx, group)
	check(errors.Is(err, kerr.NonEmptyGroup), "%v", err)
	member.Close()
	eventually(ctx, "empty", func() bool { return need(adm.DescribeGroups(ctx, group))[group].State == "Empty" })
	must(need(adm.CommitOffsets(ctx, group, wanted)).Error())
	found, _ := need(adm.FetchOffsets(ctx, group)).Lookup(topic, 0)
	equal("offset", found.At, 5)
	equal("metadata", found.Metadata, "note")
	equal("no offset", committed(ctx, address, group, topic, 1), -1)
	gone := kadm.TopicsSet{}
	gone.Add(topic, 0)
	need(adm.DeleteOffsets(ctx, group, gone))
	equal("deleted offset", committed(ctx, address, group, topic, 0), -1)
	must(need(adm.CommitOffsets(ctx, group, wanted)).Error())
	need(adm.DeleteGroup(ctx, group))
	_, listedStill := need(adm.ListGroups(ctx))[group]
	check(!listedStill, "the group is gone")
}

func lag(ctx context.Context, address string) {
	topic, group := createTopic(ctx, address, "lag", 1), unique("lag")
	producer := transactional(address, unique("lag"))
	defer producer.Close()
	plain := client(address)
	defer plain.Close()
	send(ctx, plain, topic, 0, numbered("plain", 10)...)
	wanted := kadm.Offsets{}
	wanted.AddOffset(topic, 0, 4, -1)
	must(need(admin(address).CommitOffsets(ctx, group, wanted)).Error())
	must(producer.BeginTransaction())
	send(ctx, producer, topic, 0, numbered("open", 5)...)
	lagOf := func() int64 {
		about := need(admin(address).Lag(ctx, group))[group]
		must(about.Error())
		return about.Lag[topic][0].Lag
	}
	equal("lag to the high watermark", lagOf(), 11)
	equal("what a reader may see", stableOffset(ctx, address, topic, 0), 10)
	must(producer.EndTransaction(ctx, kgo.TryAbort))
	settle()
	equal("lag after the abort", lagOf(), 12)
	equal("what a reader may see after the abort", stableOffset(ctx, address, topic, 0), 16)
}

func cluster(ctx context.Context, address string) {
	adm := admin(address)
	metadata := need(adm.Metadata(ctx))
	equal("brokers", len(metadata.Brokers), 1)
	node := metadata.Brokers[0]
	equal("advertised", fmt.Sprintf("%s:%d", node.Host, node.Port), address)
	check(len(metadata.Cluster) > 0 && metadata.Controller == node.NodeID, "%+v", metadata)
	versions := need(adm.ApiVersions(ctx))[node.NodeID]
	must(versions.Err)
	response := kmsg.NewPtrApiVersionsRequest()
	response.ClientSoftwareName, response.ClientSoftwareVersion = "suite", "1"
	raw := need(response.RequestWith(ctx, client(address)))
	features := map[string]int16{}
	for _, feature := range raw.FinalizedFeatures {
		features[feature.Name] = feature.MaxVersionLevel
	}
	equal("transaction.version", features["transaction.version"], 2)
	eventually(ctx, "the internal topics are there", func() bool {
		return need(adm.ListTopicsWithInternal(ctx, "__transaction_state"))["__transaction_state"].Err == nil
	})
	internal := need(adm.ListTopicsWithInternal(ctx, "__transaction_state"))["__transaction_state"]
	check(internal.IsInternal && len(internal.Partitions) == 50, "%+v", internal)
	broker := need(adm.DescribeBrokerConfigs(ctx, node.NodeID))[0]
	must(broker.Err)
	check(len(broker.Configs) > 200, "%d configs", len(broker.Configs))
}
