package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// soak keeps killing the broker while records are fed, copied by a group of transacting members that crash as well, and
// accompanied by transactions that are always aborted. At the end every record is in the copy once, in order.
func soak(seconds int, seed uint64) {
	const partitions, members = 4, 3
	fmt.Printf("soak for %d s, seed %d\n", seconds, seed)
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second+3*time.Minute)
	defer cancel()
	b := &broker{}
	defer b.stop()
	b.start()
	address := b.address()
	source, target, group := createTopic(ctx, address, "source", partitions), createTopic(ctx, address, "target", partitions), unique("soak")

	feeding, stopFeeding := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer stopFeeding()
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	var workers sync.WaitGroup
	var fed [partitions]int64
	var transactions, crashes, kills atomic.Int64

	feeder := client(address, kgo.RecordDeliveryTimeout(5*time.Minute))
	workers.Go(func() {
		for feeding.Err() == nil {
			for partition := range int32(partitions) {
				for range 5 {
					feeder.Produce(ctx, record(source, partition, fmt.Sprint(fed[partition])), func(_ *kgo.Record, err error) { must(err) })
					fed[partition]++
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		must(feeder.Flush(ctx))
	})
	for index := range members {
		var options []kgo.Opt
		if index == 0 {
			options = append(options, old)
		}
		random := rand.New(rand.NewPCG(seed, uint64(index)))
		id := unique("copier")
		workers.Go(func() {
			for working.Err() == nil {
				if crashed := copyUntilCrash(working, ctx, address, source, target, group, id, random, &transactions, options); crashed {
					crashes.Add(1)
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	for partition := range int32(partitions) {
		id := unique("noise")
		workers.Go(func() {
			for working.Err() == nil {
				makeNoise(working, address, target, partition, id)
			}
		})
	}

	random := rand.New(rand.NewPCG(seed, members))
	for feeding.Err() == nil {
		time.Sleep(time.Duration(300+random.IntN(2500)) * time.Millisecond)
		b.kill()
		kills.Add(1)
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		b.start()
	}
	eventually(ctx, "all is copied", func() bool {
		for partition := range int32(partitions) {
			offsets, err := admin(address).FetchOffsets(ctx, group)
			if err != nil {
				return false
			}
			offset, _ := offsets.Lookup(source, partition)
			if offset.Err != nil || offset.At < fed[partition] {
				return false
			}
		}
		return true
	})
	stopWorking()
	workers.Wait()
	for partition := range int32(partitions) {
		copied := readCommitted(ctx, address, target, partition)
		for i, value := range copied {
			check(value == fmt.Sprintf("seen %d", i), "partition %d, at %d: %s", partition, i, strings.Join(copied[max(0, i-3):min(len(copied), i+3)], ", "))
		}
		equal("copied", int64(len(copied)), fed[partition])
	}
	fmt.Printf("%d records in %d transactions through %d kills and %d crashes, all there once and in order (%.0f s)\n",
		fed[0]*partitions, transactions.Load(), kills.Load(), crashes.Load(), time.Since(started).Seconds())
}

// copyUntilCrash is the life of one member: it ends by an error of the client, now and then by dying in a transaction.
func copyUntilCrash(working, ctx context.Context, address, source, target, group, id string, random *rand.Rand, transactions *atomic.Int64, options []kgo.Opt) (crashed bool) {
	s := session(address, source, group, id, append(options, kgo.TransactionTimeout(10*time.Second))...)
	defer s.Close()
	defer func() { crashed = recover() != nil }()
	need2(s.Client().ProducerID(ctx))
	for working.Err() == nil {
		if copyOnce(working, s, target, func(step string) {
			if step != "commit" && random.IntN(60) == 0 {
				panic("dies after " + step)
			}
		}) > 0 {
			transactions.Add(1)
		}
	}
	return false
}

// makeNoise aborts transactions until the client fails.
func makeNoise(working context.Context, address, target string, partition int32, id string) {
	defer func() { _ = recover() }()
	noisy := transactional(address, id, kgo.TransactionTimeout(5*time.Second))
	defer noisy.Close()
	for working.Err() == nil {
		must(noisy.BeginTransaction())
		send(working, noisy, target, partition, "noise", "noise")
		must(noisy.EndTransaction(working, kgo.TryAbort))
		time.Sleep(50 * time.Millisecond)
	}
}
