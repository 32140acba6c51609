package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	scenarios = append(scenarios,
		scenario{name: "every codec carries keys, headers, nulls and timestamps", shared: codecs},
		scenario{name: "a thousand idempotent records survive kill -9 once and in order", withBroker: idempotent},
		scenario{name: "a reader from the middle of a batch gets the rest of it", shared: middle},
		scenario{name: "a fetch larger than the limit still makes progress", shared: largeRecords},
	)
}

func codecs(ctx context.Context, address string) {
	all := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	topic := createTopic(ctx, address, "codecs", int32(len(all)))
	var sent [][]*kgo.Record
	for partition, codec := range all {
		var records []*kgo.Record
		for i := range 40 {
			r := record(topic, int32(partition), fmt.Sprintf("value %d", i))
			r.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i))
			r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte{byte(i)}}, {Key: "h", Value: []byte{}}, {Key: "null"}}
			if i%3 != 0 {
				r.Key = fmt.Appendf(nil, "key %d", i)
			}
			if i%5 == 0 {
				r.Value = nil
			}
			records = append(records, r)
		}
		producer := client(address, kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond))
		must(producer.ProduceSync(ctx, records...).FirstErr())
		producer.Close()
		sent = append(sent, records)
	}
	describe := func(records []*kgo.Record) (lines []string) {
		for _, r := range records {
			lines = append(lines, fmt.Sprintf("%d %#v %#v %#v %d", r.Offset, r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()))
		}
		return lines
	}
	for partition, records := range sent {
		got := readRecords(ctx, address, topic, int32(partition), kgo.ReadCommitted())
		equal(fmt.Sprintf("codec %d", partition), describe(got), describe(records))
	}
}

func idempotent(ctx context.Context, b *broker) {
	b.start()
	topic := createTopic(ctx, b.address(), "idempotent", 1)
	producer := client(b.address(), kgo.ProducerBatchMaxBytes(2000), kgo.RecordDeliveryTimeout(limit))
	defer producer.Close()
	values := numbered("record", 1000)
	offsets, failures := make([]int64, len(values)), make(chan error, len(values))
	var group sync.WaitGroup
	produce := func(from, to int) {
		for i := from; i < to; i++ {
			group.Add(1)
			producer.Produce(ctx, record(topic, 0, values[i]), func(r *kgo.Record, err error) {
				defer group.Done()
				if offsets[i] = r.Offset; err != nil {
					failures <- err
				}
			})
		}
	}
	produce(0, 500)
	eventually(ctx, "some are written", func() bool { return highWatermark(ctx, b.address(), topic, 0) > 0 })
	produce(500, 700)
	b.kill()
	produce(700, 1000)
	b.start()
	group.Wait()
	equal("failures", len(failures), 0)
	for i, offset := range offsets {
		equal("offset", offset, int64(i))
	}
	equal("the log", readCommitted(ctx, b.address(), topic, 0), values)
}

func middle(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "middle", 1)
	producer := client(address, kgo.ProducerLinger(20*time.Millisecond))
	defer producer.Close()
	send(ctx, producer, topic, 0, numbered("value", 10)...)
	for from := range int64(10) {
		reader := client(address, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}}))
		fetches := reader.PollFetches(ctx)
		must(fetches.Err())
		equal("the first", fetches.Records()[0].Offset, from)
		reader.Close()
	}
}

func largeRecords(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "large", 1)
	producer := client(address)
	defer producer.Close()
	for range 3 {
		send(ctx, producer, topic, 0, string(make([]byte, 300_000)))
	}
	reader := client(address, kgo.FetchMaxPartitionBytes(1000), kgo.FetchMaxBytes(1000),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer reader.Close()
	count := 0
	for count < 3 {
		fetches := reader.PollFetches(ctx)
		must(fetches.Err())
		count += fetches.NumRecords()
	}
	equal("records", count, 3)
}
