// Command clients runs franz-go (kgo and kadm) against a broker and prints one line for each scenario.
//
// The broker is the binary ONCELOG_BIN, started and killed here, or the one at BOOTSTRAP; then scenarios that need a
// broker of their own are skipped. Arguments select scenarios by a part of their name; `soak [SECONDS [SEED]]` instead
// kills the broker for so long under a load of transactions.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	atOnce = 6
	limit  = 90 * time.Second
)

// A scenario is handed the address of a running broker, or a broker of its own that is not started yet.
type scenario struct {
	name       string
	shared     func(ctx context.Context, address string)
	withBroker func(ctx context.Context, b *broker)
}

var scenarios []scenario

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		transformAndDie(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "soak" {
		seconds, seed := 60, uint64(time.Now().UnixNano())
		if len(os.Args) > 2 {
			seconds = need(strconv.Atoi(os.Args[2]))
		}
		if len(os.Args) > 3 {
			seed = need(strconv.ParseUint(os.Args[3], 10, 64))
		}
		soak(seconds, seed)
		return
	}
	address := os.Getenv("BOOTSTRAP")
	var chosen []scenario
	for _, s := range scenarios {
		if selected(s.name) && (s.shared != nil || address == "") {
			chosen = append(chosen, s)
		}
	}
	if address == "" {
		common := &broker{}
		common.start()
		defer common.stop()
		address = common.address()
	}

	var group sync.WaitGroup
	var failed sync.Map
	slots := make(chan struct{}, atOnce)
	for _, s := range chosen {
		group.Add(1)
		go func() {
			defer group.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			if !run(s, address) {
				failed.Store(s.name, true)
			}
		}()
	}
	group.Wait()
	failures := 0
	failed.Range(func(_, _ any) bool { failures++; return true })
	fmt.Printf("%d passed, %d failed\n", len(chosen)-failures, failures)
	if failures > 0 || len(chosen) == 0 {
		stopAll()
		os.Exit(1)
	}
}

func selected(name string) bool {
	for _, word := range os.Args[1:] {
		if strings.Contains(name, word) {
			return true
		}
	}
	return len(os.Args) == 1
}

// run runs one scenario with a time limit; a failed check is a panic.
func run(s scenario, address string) bool {
	started := time.Now()
	failure := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		defer func() {
			text := ""
			if r := recover(); r != nil {
				text = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
			failure <- text
		}()
		if s.shared != nil {
			s.shared(ctx, address)
			return
		}
		own := &broker{}
		defer own.stop()
		s.withBroker(ctx, own)
	}()
	var text string
	select {
	case text = <-failure:
	case <-time.After(limit + 20*time.Second):
		text = "did not end"
	}
	word := "ok"
	if text != "" {
		word = "FAIL"
	}
	fmt.Printf("%s go franz-go: %s (%.1f s)\n%s", word, s.name, time.Since(started).Seconds(), text)
	return text == ""
}

// check fails the scenario unless the condition holds.
func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Sprintf(format, arguments...))
	}
}

// must fails the scenario if there is an error.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// need returns the value, or fails the scenario if there is an error.
func need[V any](value V, err error) V {
	must(err)
	return value
}

// equal fails the scenario unless the two are the same when printed.
func equal[V any](what string, got, wanted V) {
	g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", wanted)
	check(g == w, "%s\n   got %.2000s\nwanted %.2000s", what, g, w)
}

// eventually waits until the condition holds.
func eventually(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		check(ctx.Err() == nil, "never so: %s", what)
		time.Sleep(30 * time.Millisecond)
	}
}
