package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// old makes a client speak as one from before transaction version 2 (KIP-890).
var old = kgo.MaxVersions(kversion.V3_7_0())

func client(address string, options ...kgo.Opt) *kgo.Client {
	common := []kgo.Opt{
		kgo.SeedBrokers(address),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	return need(kgo.NewClient(append(common, options...)...))
}

func transactional(address, id string, options ...kgo.Opt) *kgo.Client {
	return client(address, append(options, kgo.TransactionalID(id))...)
}

var admins sync.Map

// admin is the one admin client for the address.
func admin(address string) *kadm.Client {
	if known, found := admins.Load(address); found {
		return known.(*kadm.Client)
	}
	known, _ := admins.LoadOrStore(address, kadm.NewClient(client(address)))
	return known.(*kadm.Client)
}

func createTopic(ctx context.Context, address, name string, partitions int32) string {
	topic := unique(name)
	need(admin(address).CreateTopic(ctx, partitions, 1, nil, topic))
	settle()
	return topic
}

func record(topic string, partition int32, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
}

// send produces the values and waits for the broker's acknowledgement of all.
func send(ctx context.Context, c *kgo.Client, topic string, partition int32, values ...string) {
	must(trySend(ctx, c, topic, partition, values...))
}

func trySend(ctx context.Context, c *kgo.Client, topic string, partition int32, values ...string) error {
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, record(topic, partition, value))
	}
	return c.ProduceSync(ctx, records...).FirstErr()
}

func numbered(prefix string, count int) (values []string) {
	for i := range count {
		values = append(values, fmt.Sprintf("%s %d", prefix, i))
	}
	return values
}

// highWatermark and stableOffset are the two ends that a reader may see.
func highWatermark(ctx context.Context, address, topic string, partition int32) int64 {
	offset, _ := need(admin(address).ListEndOffsets(ctx, topic)).Lookup(topic, partition)
	must(offset.Err)
	return offset.Offset
}

func stableOffset(ctx context.Context, address, topic string, partition int32) int64 {
	offset, _ := need(admin(address).ListCommittedOffsets(ctx, topic)).Lookup(topic, partition)
	must(offset.Err)
	return offset.Offset
}

// readRecords gives what a reader gets from one partition that polls to the end of what it may see.
func readRecords(ctx context.Context, address, topic string, partition int32, isolation kgo.IsolationLevel) (records []*kgo.Record) {
	end := highWatermark(ctx, address, topic, partition)
	if isolation == kgo.ReadCommitted() {
		end = stableOffset(ctx, address, topic, partition)
	}
	reader := client(address, kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	defer reader.Close()
	for next := int64(0); next < end; {
		fetches := reader.PollFetches(ctx)
		must(fetches.Err())
		for _, r := range fetches.Records() {
			next = r.Offset + 1
			check(next <= end, "a record beyond the end %d: %d", end, r.Offset)
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		}
	}
	return records
}

func read(ctx context.Context, address, topic string, partition int32, isolation kgo.IsolationLevel) (values []string) {
	for _, r := range readRecords(ctx, address, topic, partition, isolation) {
		values = append(values, string(r.Value))
	}
	return values
}

func readCommitted(ctx context.Context, address, topic string, partition int32) []string {
	return read(ctx, address, topic, partition, kgo.ReadCommitted())
}

// committed gives the group's offset in a partition, -1 if there is none.
func committed(ctx context.Context, address, group, topic string, partition int32) int64 {
	offsets := need(admin(address).FetchOffsets(ctx, group))
	if offset, found := offsets.Lookup(topic, partition); found {
		must(offset.Err)
		return offset.At
	}
	return -1
}
