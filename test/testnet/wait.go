package testnet

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

const (
	// DaemonWait is for what takes a daemon well under a second on an idle host.
	DaemonWait = time.Minute
	// AnswerWait is for an answer that takes well under a second when no packet is lost.
	AnswerWait = 20 * time.Second
)

// Eventually polls until check succeeds, and ends the test if it does not in time.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", within, err)
		}
		<-poll.C
	}
}

// Log keeps what a process writes.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
