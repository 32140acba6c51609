package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	scenarios = append(scenarios,
		scenario{name: "three transacting members copy exactly once through rebalances", shared: func(ctx context.Context, address string) {
			threeMembers(ctx, address)
		}},
		scenario{name: "three transacting members from before KIP-890 copy exactly once", shared: func(ctx context.Context, address string) {
			threeMembers(ctx, address, old)
		}},
		scenario{name: "a static member returns without a rebalance", shared: staticMember},
	)
	for _, step := range []string{"poll", "send", "commit"} {
		scenarios = append(scenarios, scenario{
			name:   "the copy is exact when the process is killed at " + step,
			shared: func(ctx context.Context, address string) { killedAt(ctx, address, step) },
		})
	}
}

func session(address, source, group, id string, options ...kgo.Opt) *kgo.GroupTransactSession {
	common := []kgo.Opt{
		kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(source), kgo.TransactionalID(id),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(100 * time.Millisecond),
	}
	return need(kgo.NewGroupTransactSession(append(common, options...)...))
}

// copyOnce copies at most 20 records from the session's topic to the target and says how many it committed.
func copyOnce(ctx context.Context, s *kgo.GroupTransactSession, target string, atStep func(string)) int {
	polling, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	fetches := s.PollRecords(polling, 20)
	cancel()
	if err := fetches.Err0(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		panic(err)
	}
	if fetches.NumRecords() == 0 {
		return 0
	}
	atStep("poll")
	must(s.Begin())
	var failed atomic.Bool
	for _, r := range fetches.Records() {
		s.Produce(ctx, record(target, r.Partition, "seen "+string(r.Value)), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(true)
			}
		})
	}
	must(s.Client().Flush(ctx))
	atStep("send")
	atStep("commit")
	if need(s.End(ctx, kgo.TransactionEndTry(!failed.Load()))) {
		return fetches.NumRecords()
	}
	return 0
}

func threeMembers(ctx context.Context, address string, options ...kgo.Opt) {
	const partitions, each = 6, 100
	source, target, group := createTopic(ctx, address, "source", partitions), createTopic(ctx, address, "target", partitions), unique("three")
	feeder := client(address)
	defer feeder.Close()
	feed := func(from int) {
		for partition := range int32(partitions) {
			send(ctx, feeder, source, partition, numbered(fmt.Sprint(partition), each)[from:from+each/2]...)
		}
	}
	feed(0)

	var copied atomic.Int64
	var members sync.WaitGroup
	crashes := make(chan any, 3)
	member := func(ctx context.Context, index int) {
		members.Add(1)
		go func() {
			defer members.Done()
			defer func() { crashes <- recover() }()
			s := session(address, source, group, unique(fmt.Sprint("member-", index)), options...)
			defer s.Close()
			for ctx.Err() == nil {
				// A member that is told to leave ends its transaction first.
				copied.Add(int64(copyOnce(context.WithoutCancel(ctx), s, target, func(string) {})))
			}
		}()
	}
	stay, stop := context.WithCancel(ctx)
	defer stop()
	leaving, leave := context.WithCancel(stay)
	defer leave()
	member(stay, 0)
	member(stay, 1)
	eventually(ctx, "two members copy", func() bool { return copied.Load() > 0 })
	member(leaving, 2)
	eventually(ctx, "the third has joined", func() bool {
		return len(need(admin(address).DescribeGroups(ctx, group))[group].Members) == 3
	})
	feed(each / 2)
	leave()
	eventually(ctx, "all is copied", func() bool { return copied.Load() >= partitions*each })
	stop()
	members.Wait()
	for range 3 {
		crash := <-crashes
		check(crash == nil, "a member: %v", crash)
	}
	settle()
	for partition := range int32(partitions) {
		equal("the copy", readCommitted(ctx, address, target, partition), numbered(fmt.Sprint("seen ", partition), each))
		equal("the offset", committed(ctx, address, group, source, partition), each)
	}
}

// transformAndDie is the process that crashes: it copies until the group's offsets reach the count, and kills itself
// at the given step of its second transaction.
func transformAndDie(arguments []string) {
	address, source, target, group, id, step := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[6]
	count := need(strconv.ParseInt(arguments[5], 10, 64))
	ctx := context.Background()
	s := session(address, source, group, id, kgo.InstanceID("the-only-one"))
	// The transaction left open is aborted here; its offsets would hold back the first fetch of offsets.
	need2(s.Client().ProducerID(ctx))
	seen := 0
	for committed(ctx, address, group, source, 0) < count {
		copyOnce(ctx, s, target, func(name string) {
			if name != step {
				return
			}
			if seen++; seen < 2 {
				return
			}
			if step == "commit" {
				go s.End(ctx, kgo.TryCommit)
				time.Sleep(time.Millisecond)
			}
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
	}
}

func killedAt(ctx context.Context, address, step string) {
	source, target, group, id := createTopic(ctx, address, "source", 1), createTopic(ctx, address, "target", 1), unique("group"), unique("copy")
	feeder := client(address)
	defer feeder.Close()
	send(ctx, feeder, source, 0, numbered("value", 60)...)
	child := func(step string) error {
		program := need(os.Executable())
		command := exec.CommandContext(ctx, program, "child", address, source, target, group, id, "60", step)
		command.Stderr = os.Stderr
		return command.Run()
	}
	var exit *exec.ExitError
	check(errors.As(child(step), &exit) && !exit.Exited(), "the process was to be killed")
	must(child("never"))
	settle()
	equal("the copy", readCommitted(ctx, address, target, 0), numbered("seen value", 60))
	equal("the offset", committed(ctx, address, group, source, 0), 60)
}

func staticMember(ctx context.Context, address string) {
	topic, group := createTopic(ctx, address, "static", 4), unique("static")
	join := func(instance string) *kgo.Client {
		return client(address, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.InstanceID(instance),
			kgo.SessionTimeout(20*time.Second), kgo.HeartbeatInterval(300*time.Millisecond), kgo.Balancers(kgo.RangeBalancer()))
	}
	assigned := func() map[string]string {
		partitions := map[string]string{}
		about := need(admin(address).DescribeGroups(ctx, group))[group]
		if about.State != "Stable" {
			return partitions
		}
		for _, member := range about.Members {
			if assignment, found := member.Assigned.AsConsumer(); found && member.InstanceID != nil {
				partitions[*member.InstanceID] = fmt.Sprint(assignment.Topics)
			}
		}
		return partitions
	}
	leaving, staying := join("leaving"), join("staying")
	defer staying.Close()
	eventually(ctx, "both have partitions", func() bool { return len(assigned()) == 2 })
	before := assigned()
	member, generation := staying.GroupMetadata()
	leaving.Close()
	back := join("leaving")
	defer back.Close()
	eventually(ctx, "the member is back", func() bool { _, g := back.GroupMetadata(); return g > 0 })
	time.Sleep(time.Second)
	equal("assignment", assigned(), before)
	sameMember, sameGeneration := staying.GroupMetadata()
	equal("member", sameMember, member)
	equal("generation", sameGeneration, generation)
	_, g := back.GroupMetadata()
	equal("generation of the one that came back", g, generation)
}
