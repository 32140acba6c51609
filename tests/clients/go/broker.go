package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// broker is one broker process with a data directory of its own; it keeps its port across restarts.
type broker struct {
	directory string
	port      string
	process   *exec.Cmd
}

var running sync.Map

func (b *broker) address() string { return "127.0.0.1:" + b.port }

func (b *broker) start() {
	if b.directory == "" {
		b.directory = need(os.MkdirTemp("", "oncelog-go-"))
		b.port = "0"
	}
	portFile := filepath.Join(b.directory, "port")
	b.process = exec.Command(os.Getenv("ONCELOG_BIN"), "serve", "--listen", b.address(),
		"--data-dir", filepath.Join(b.directory, "data"), "--port-file", portFile)
	b.process.Stderr = need(os.OpenFile(filepath.Join(b.directory, "stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))
	output := need(b.process.StdoutPipe())
	must(b.process.Start())
	running.Store(b, true)
	lines := bufio.NewScanner(output)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "ready")
	}
	if !ready {
		text, _ := os.ReadFile(filepath.Join(b.directory, "stderr"))
		panic("the broker ended before it was ready:\n" + string(text))
	}
	go io.Copy(io.Discard, output)
	text := strings.TrimSpace(string(need(os.ReadFile(portFile))))
	b.port = text[strings.LastIndex(text, ":")+1:]
	settle()
}

// kill is kill -9.
func (b *broker) kill() {
	must(b.process.Process.Kill())
	b.process.Wait()
	running.Delete(b)
}

// stop ends the broker by SIGTERM and removes its data.
func (b *broker) stop() {
	if _, found := running.LoadAndDelete(b); found {
		b.process.Process.Signal(syscall.SIGTERM)
		overdue := time.AfterFunc(20*time.Second, func() { b.process.Process.Kill() })
		b.process.Wait()
		overdue.Stop()
	}
	os.RemoveAll(b.directory)
}

func stopAll() {
	running.Range(func(b, _ any) bool {
		b.(*broker).process.Process.Kill()
		os.RemoveAll(b.(*broker).directory)
		return true
	})
}

func unique(name string) string {
	var random [4]byte
	rand.Read(random[:])
	return name + "-" + hex.EncodeToString(random[:])
}

// settle, with APACHE_KAFKA set, waits where Apache Kafka, unlike oncelog, answers before all is in place: before the
// markers of a transaction are written, before the brokers know of a topic, before coordinators are loaded.
func settle() {
	if os.Getenv("APACHE_KAFKA") != "" {
		time.Sleep(1500 * time.Millisecond)
	}
}
