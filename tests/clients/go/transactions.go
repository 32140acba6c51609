package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	scenarios = append(scenarios,
		scenario{name: "commits and aborts are atomic over topics and partitions", shared: func(ctx context.Context, address string) {
			commitsAndAborts(ctx, address)
		}},
		scenario{name: "commits and aborts are atomic for clients from before KIP-890", shared: func(ctx context.Context, address string) {
			commitsAndAborts(ctx, address, old)
		}},
		scenario{name: "every transaction has an epoch of its own", shared: epochs},
		scenario{name: "an open transaction holds back a later committed one", shared: heldBack},
		scenario{name: "a producer that dies is aborted by timeout and readers go on", shared: timedOut},
		scenario{name: "a new instance aborts what a crashed one left", shared: initAborts},
		scenario{name: "a zombie is fenced at each call", shared: func(ctx context.Context, address string) { zombies(ctx, address) }},
		scenario{name: "a zombie from before KIP-890 is fenced at each call", shared: func(ctx context.Context, address string) {
			zombies(ctx, address, old)
		}},
		scenario{name: "a transaction timeout above the maximum is refused", shared: timeoutTooLong},
		scenario{name: "transactions and producers are listed and described", shared: described},
		scenario{name: "an operator ends a hanging transaction by its markers", shared: hanging},
		scenario{name: "transactions survive kill -9", withBroker: transactionsSurvive},
	)
}

func commitsAndAborts(ctx context.Context, address string, options ...kgo.Opt) {
	topics := []string{createTopic(ctx, address, "atomic", 3), createTopic(ctx, address, "atomic", 3)}
	producer := transactional(address, unique("atomic"), options...)
	defer producer.Close()
	for name, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		must(producer.BeginTransaction())
		for _, topic := range topics {
			for partition := range int32(3) {
				send(ctx, producer, topic, partition, numbered(fmt.Sprint(name), 2)...)
			}
		}
		must(producer.EndTransaction(ctx, how))
		settle()
		for _, topic := range topics {
			for partition := range int32(3) {
				want := numbered("0", 2)
				if name == 2 {
					want = append(want, numbered("2", 2)...)
				}
				equal("read_committed", readCommitted(ctx, address, topic, partition), want)
				equal("last stable offset", stableOffset(ctx, address, topic, partition), int64(3*(name+1)))
			}
		}
	}
	all := append(append(numbered("0", 2), numbered("1", 2)...), numbered("2", 2)...)
	equal("read_uncommitted", read(ctx, address, topics[1], 2, kgo.ReadUncommitted()), all)
}

// epochs: with transaction version 2 every end bumps the epoch, and sequences start anew.
func epochs(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "epochs", 1)
	producer := transactional(address, unique("epochs"))
	defer producer.Close()
	for i := range 4 {
		must(producer.BeginTransaction())
		send(ctx, producer, topic, 0, fmt.Sprint(i))
		must(producer.EndTransaction(ctx, kgo.TransactionEndTry(i%2 == 0)))
	}
	settle()
	records := readRecords(ctx, address, topic, 0, kgo.ReadUncommitted())
	for i, r := range records {
		equal("producer id", r.ProducerID, records[0].ProducerID)
		equal("epoch", r.ProducerEpoch, records[0].ProducerEpoch+int16(i))
	}
	equal("records", len(records), 4)
}

func heldBack(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "held-back", 1)
	slow, quick := transactional(address, unique("slow")), transactional(address, unique("quick"))
	defer slow.Close()
	defer quick.Close()
	must(slow.BeginTransaction())
	send(ctx, slow, topic, 0, "slow 1")
	must(quick.BeginTransaction())
	send(ctx, quick, topic, 0, "quick")
	must(quick.EndTransaction(ctx, kgo.TryCommit))
	send(ctx, slow, topic, 0, "slow 2")
	settle()
	equal("while open", readCommitted(ctx, address, topic, 0), nil)
	equal("uncommitted", read(ctx, address, topic, 0, kgo.ReadUncommitted()), []string{"slow 1", "quick", "slow 2"})
	must(slow.EndTransaction(ctx, kgo.TryCommit))
	settle()
	equal("at the end", readCommitted(ctx, address, topic, 0), []string{"slow 1", "quick", "slow 2"})
}

// leaveOpen is a producer that goes away in the middle of a transaction.
func leaveOpen(ctx context.Context, address, topic, id string, timeout time.Duration) {
	producer := transactional(address, id, kgo.TransactionTimeout(timeout))
	must(producer.BeginTransaction())
	send(ctx, producer, topic, 0, "left behind")
	producer.Close()
}

func timedOut(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "timeout", 1)
	leaveOpen(ctx, address, topic, unique("dies"), 1500*time.Millisecond)
	living := transactional(address, unique("lives"))
	defer living.Close()
	must(living.BeginTransaction())
	send(ctx, living, topic, 0, "kept")
	must(living.EndTransaction(ctx, kgo.TryCommit))
	equal("at first", stableOffset(ctx, address, topic, 0), 0)
	eventually(ctx, "the transaction is aborted", func() bool { return stableOffset(ctx, address, topic, 0) == 4 })
	equal("then", readCommitted(ctx, address, topic, 0), []string{"kept"})
}

func initAborts(ctx context.Context, address string) {
	topic, id := createTopic(ctx, address, "init", 1), unique("crashed")
	leaveOpen(ctx, address, topic, id, time.Minute)
	equal("at first", stableOffset(ctx, address, topic, 0), 0)
	heir := transactional(address, id)
	defer heir.Close()
	need2(heir.ProducerID(ctx))
	settle()
	equal("after the init", stableOffset(ctx, address, topic, 0), 2)
	must(heir.BeginTransaction())
	send(ctx, heir, topic, 0, "new life")
	must(heir.EndTransaction(ctx, kgo.TryCommit))
	settle()
	equal("at the end", readCommitted(ctx, address, topic, 0), []string{"new life"})
}

func need2[A, B any](a A, b B, err error) (A, B) {
	must(err)
	return a, b
}

func assertFenced(what string, err error) {
	fenced := errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
	check(fenced, "%s: %v", what, err)
}

func zombies(ctx context.Context, address string, options ...kgo.Opt) {
	topic := createTopic(ctx, address, "zombie", 1)
	calls := map[string]func(*kgo.Client) error{
		"produce": func(zombie *kgo.Client) error { return trySend(ctx, zombie, topic, 0, "too late") },
		"commit":  func(zombie *kgo.Client) error { return zombie.EndTransaction(ctx, kgo.TryCommit) },
		"abort":   func(zombie *kgo.Client) error { return zombie.EndTransaction(ctx, kgo.TryAbort) },
	}
	for name, call := range calls {
		id := unique("zombie")
		zombie, heir := transactional(address, id, options...), transactional(address, id, options...)
		must(zombie.BeginTransaction())
		send(ctx, zombie, topic, 0, "zombie")
		need2(heir.ProducerID(ctx))
		assertFenced(name, call(zombie))
		must(heir.BeginTransaction())
		send(ctx, heir, topic, 0, "heir")
		must(heir.EndTransaction(ctx, kgo.TryCommit))
		zombie.Close()
		heir.Close()
	}
	settle()
	equal("committed", readCommitted(ctx, address, topic, 0), []string{"heir", "heir", "heir"})
}

func timeoutTooLong(ctx context.Context, address string) {
	producer := transactional(address, unique("patient"), kgo.TransactionTimeout(900_001*time.Millisecond))
	defer producer.Close()
	_, _, err := producer.ProducerID(ctx)
	check(errors.Is(err, kerr.InvalidTransactionTimeout), "%v", err)
}

func described(ctx context.Context, address string) {
	topic, id := createTopic(ctx, address, "described", 2), unique("described")
	producer := transactional(address, id, kgo.TransactionTimeout(50*time.Second))
	defer producer.Close()
	must(producer.BeginTransaction())
	send(ctx, producer, topic, 1, "open")
	producerID, epoch := need2(producer.ProducerID(ctx))

	about := need(admin(address).DescribeTransactions(ctx, id))[id]
	must(about.Err)
	equal("state", about.State, "Ongoing")
	equal("timeout", about.TimeoutMillis, 50_000)
	equal("producer", about.ProducerID, producerID)
	equal("epoch", about.ProducerEpoch, epoch)
	equal("partitions", about.Topics.Sorted(), kadm.TopicsList{{Topic: topic, Partitions: []int32{1}}})
	check(time.Since(time.UnixMilli(about.StartTimestamp)).Abs() < time.Minute, "start: %d", about.StartTimestamp)
	unknown := need(admin(address).DescribeTransactions(ctx, unique("unknown")))
	for _, one := range unknown {
		check(errors.Is(one.Err, kerr.TransactionalIDNotFound), "%v", one.Err)
	}

	listed := need(admin(address).ListTransactions(ctx, []int64{producerID}, []string{"Ongoing"}))
	equal("listed", len(listed), 1)
	equal("listed state", listed[id].State, "Ongoing")
	equal("of another state", len(need(admin(address).ListTransactions(ctx, []int64{producerID}, []string{"Empty"}))), 0)

	active := activeProducer(ctx, address, topic, 1)
	equal("active producer", active.ProducerID, producerID)
	equal("first offset", active.CurrentTxnStartOffset, 0)

	must(producer.EndTransaction(ctx, kgo.TryCommit))
	settle()
	about = need(admin(address).DescribeTransactions(ctx, id))[id]
	equal("state at the end", about.State, "CompleteCommit")
	equal("epoch at the end", about.ProducerEpoch, epoch+1)
	equal("no transaction", activeProducer(ctx, address, topic, 1).CurrentTxnStartOffset, -1)
}

func activeProducer(ctx context.Context, address, topic string, partition int32) kadm.DescribedProducer {
	set := kadm.TopicsSet{}
	set.Add(topic, partition)
	found := need(admin(address).DescribeProducers(ctx, set))[topic].Partitions[partition]
	must(found.Err)
	equal("active producers", len(found.ActiveProducers), 1)
	return found.ActiveProducers.Sorted()[0]
}

func hanging(ctx context.Context, address string) {
	topic := createTopic(ctx, address, "hanging", 1)
	leaveOpen(ctx, address, topic, unique("hangs"), time.Minute)
	active := activeProducer(ctx, address, topic, 0)
	set := kadm.TopicsSet{}
	set.Add(topic, 0)
	answers := need(admin(address).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: active.ProducerID, ProducerEpoch: active.ProducerEpoch,
		CoordinatorEpoch: max(0, active.CoordinatorEpoch), Topics: set,
	}))
	for _, answer := range answers.SortedPartitions() {
		must(answer.Err)
	}
	equal("last stable offset", stableOffset(ctx, address, topic, 0), 2)
	equal("read_committed", readCommitted(ctx, address, topic, 0), nil)
}

func transactionsSurvive(ctx context.Context, b *broker) {
	b.start()
	address := b.address()
	topic, abandonedID := createTopic(ctx, address, "survives", 2), unique("abandoned")
	id := unique("goes-on")
	producer := transactional(address, id)
	defer producer.Close()
	must(producer.BeginTransaction())
	send(ctx, producer, topic, 0, "before")
	must(producer.EndTransaction(ctx, kgo.TryCommit))
	leaveOpen(ctx, address, topic, abandonedID, time.Minute)
	must(producer.BeginTransaction())
	send(ctx, producer, topic, 1, "one half")
	b.kill()
	b.start()
	equal("not committed", readCommitted(ctx, address, topic, 1), nil)
	equal("committed before", readCommitted(ctx, address, topic, 0), []string{"before"})
	if os.Getenv("DURABILITY") == "fsync" {
		equal("aborted by the start", stableOffset(ctx, address, topic, 0), highWatermark(ctx, address, topic, 0))
		equal("aborted by the start", stableOffset(ctx, address, topic, 1), highWatermark(ctx, address, topic, 1))
		assertFenced("going on", trySend(ctx, producer, topic, 1, "other half"))
		producer = transactional(address, id)
		defer producer.Close()
		must(producer.BeginTransaction())
		send(ctx, producer, topic, 1, "one half")
	}
	send(ctx, producer, topic, 1, "other half")
	must(producer.EndTransaction(ctx, kgo.TryCommit))
	settle()
	equal("went on", readCommitted(ctx, address, topic, 1), []string{"one half", "other half"})
	heir := transactional(address, abandonedID)
	defer heir.Close()
	need2(heir.ProducerID(ctx))
	settle()
	equal("abandoned is aborted", stableOffset(ctx, address, topic, 0), highWatermark(ctx, address, topic, 0))
	equal("abandoned is not seen", readCommitted(ctx, address, topic, 0), []string{"before"})
}
