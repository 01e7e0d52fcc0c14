package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/testnet"
)

// web starts nginx on a node and returns the directory of its files.
func (n *network) web(node *lab.Node, address string) string {
	n.t.Helper()
	return testnet.Web(n.t, node, n.Dir, address)
}

// webs starts the tutorial's two backends.
func (n *network) webs() {
	n.t.Helper()
	n.web(n.backendA, addressA+":80")
	n.web(n.backendB, addressB+":80")
}

// whoAnswers asks once and returns the backend's name, or fails the test.
func (n *network) whoAnswers(node *lab.Node, vip string) string {
	n.t.Helper()
	name, err := n.ask(node, vip, 10*time.Second)
	if err != nil {
		n.t.Fatalf("asking %s from %s: %v", vip, node.Name(), err)
	}
	return name
}

// ask asks once, over a connection of its own, and returns the backend's name.
func (n *network) ask(node *lab.Node, vip string, within time.Duration) (string, error) {
	n.t.Helper()
	return testnet.Ask(n.t, node, "http://"+vip+"/", within)
}

// askOften sends requests over as many fresh connections, 50 at a time, and
// returns how often each backend answered. Any failure fails the test.
func (n *network) askOften(node *lab.Node, vip string, requests int) map[string]int {
	n.t.Helper()
	out, err := testnet.Curl(n.t, node, "--parallel", "--parallel-immediate", "--parallel-max", "50", "--max-time", "30", "--fail-early",
		"--header", "Connection: close", fmt.Sprintf("http://%s/[1-%d]", vip, requests))
	if err != nil {
		n.t.Errorf("%d requests: %v", requests, err)
	}
	answers := map[string]int{}
	total := 0
	for line := range strings.Lines(out) {
		answers[strings.TrimSpace(line)]++
		total++
	}
	if total != requests {
		n.t.Errorf("%d answers to %d requests: %v", total, requests, answers)
	}
	return answers
}

// wantBoth checks that both of the tutorial's backends are among the answers.
func (n *network) wantBoth(answers map[string]int) {
	n.t.Helper()
	if answers["backend-a"] == 0 || answers["backend-b"] == 0 {
		n.t.Errorf("%v answered, want both backends", answers)
	}
}
