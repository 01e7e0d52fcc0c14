package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/need"
)

// nginxConfig answers with the machine's name; below /files/ it serves files,
// and takes them with PUT.
const nginxConfig = `
daemon off;
user root;
worker_processes 1;
pid %[1]s/pid;
events { worker_connections 4096; }
http {
	access_log off;
	default_type text/plain;
	client_max_body_size 0;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s backlog=4096;
		location / { return 200 "%[3]s\n"; }
		location /files/ { alias %[1]s/; dav_methods PUT; }
	}
}
`

// web starts nginx on a node and returns the directory of its files.
func (n *network) web(node *lab.Node, address string) string {
	n.t.Helper()
	dir, err := os.MkdirTemp(n.dir, node.Name()+"-")
	if err != nil {
		n.t.Fatal(err)
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, dir, address, node.Name())
	n.writeFile(config, text)
	log := &logText{}
	nginx := node.Command(context.Background(), need.Tool(n.t, "nginx"), "-e", "stderr", "-c", config)
	nginx.Stderr = log
	if err := nginx.Start(); err != nil {
		n.t.Fatal(err)
	}
	go nginx.Wait()
	eventually(n.t, daemonWait, func() error {
		c, err := node.DialContext(n.t.Context(), "tcp", address)
		if err != nil {
			return fmt.Errorf("nginx of %s: %w\n%s", node.Name(), err, log)
		}
		return c.Close()
	})
	return dir
}

// webs starts the tutorial's two backends.
func (n *network) webs() {
	n.t.Helper()
	n.web(n.backendA, addressA+":80")
	n.web(n.backendB, addressB+":80")
}

// curlWait bounds one run of curl, however many requests it makes.
const curlWait = 90 * time.Second

// curl runs curl on a node and returns what it printed.
func (n *network) curl(node *lab.Node, args ...string) (string, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), curlWait)
	defer cancel()
	args = append([]string{"--no-progress-meter", "--fail", "--noproxy", "*"}, args...)
	out, err := node.Command(ctx, need.Tool(n.t, "curl"), args...).Output()
	return string(out), err
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
	seconds := fmt.Sprintf("%.3f", within.Seconds())
	name, err := n.curl(node, "--max-time", seconds, "http://"+vip+"/")
	return strings.TrimSpace(name), err
}

// askOften sends requests over as many fresh connections, 50 at a time, and
// returns how often each backend answered. Any failure fails the test.
func (n *network) askOften(node *lab.Node, vip string, requests int) map[string]int {
	n.t.Helper()
	out, err := n.curl(node, "--parallel", "--parallel-immediate", "--parallel-max", "50", "--max-time", "30", "--fail-early",
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
