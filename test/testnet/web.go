package testnet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/need"
)

// nginxConfig answers with the machine's name, on /client with the client's
// address; below /files/ it serves files, and takes them with PUT.
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
		location = /client { return 200 "$remote_addr\n"; }
		location /files/ { alias %[1]s/; dav_methods PUT; }
	}
}
`

// Web starts nginx on a node and returns the directory of its files, a new one
// in dir.
func Web(t testing.TB, node *lab.Node, dir, address string) string {
	t.Helper()
	files, err := os.MkdirTemp(dir, node.Name()+"-")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(files, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, files, address, node.Name())
	WriteFile(t, config, text)
	log := &Log{}
	nginx := node.Command(context.Background(), need.Tool(t, "nginx"), "-e", "stderr", "-c", config)
	nginx.Stderr = log
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	go nginx.Wait()
	Eventually(t, DaemonWait, func() error {
		c, err := node.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return fmt.Errorf("nginx of %s: %w\n%s", node.Name(), err, log)
		}
		return c.Close()
	})
	return files
}

// curlWait bounds one run of curl, however many requests it makes.
const curlWait = 90 * time.Second

func curl(t testing.TB, node *lab.Node, args ...string) (*lab.Cmd, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), curlWait)
	args = append([]string{"--no-progress-meter", "--fail", "--noproxy", "*"}, args...)
	return node.Command(ctx, need.Tool(t, "curl"), args...), cancel
}

// Curl runs curl on a node and returns what it printed.
func Curl(t testing.TB, node *lab.Node, args ...string) (string, error) {
	t.Helper()
	c, cancel := curl(t, node, args...)
	defer cancel()
	out, err := c.Output()
	return string(out), err
}

// Ask asks a web server once, over a connection of its own, and returns the
// first line of its answer.
func Ask(t testing.TB, node *lab.Node, url string, within time.Duration) (string, error) {
	t.Helper()
	seconds := fmt.Sprintf("%.3f", within.Seconds())
	name, err := Curl(t, node, "--max-time", seconds, url)
	return strings.TrimSpace(name), err
}

// Download returns the SHA-256 of what curl gets.
func Download(t testing.TB, node *lab.Node, url string) string {
	t.Helper()
	sum, log := sha256.New(), &Log{}
	c, cancel := curl(t, node, "--max-time", "60", url)
	defer cancel()
	c.Stdout, c.Stderr = sum, log
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TransferBothWays has curl get the file down of a web server of Web, and put it
// there as up; files is the server's directory. It compares what arrives with
// the sum that the file has.
func TransferBothWays(t testing.TB, node *lab.Node, vip, files, sum string) {
	t.Helper()
	url := "http://" + vip + "/files/"
	if got := Download(t, node, url+"down"); got != sum {
		t.Errorf("the download has the sum %s, want %s", got, sum)
	}
	if _, err := Curl(t, node, "--max-time", "60", "--upload-file", filepath.Join(files, "down"), url+"up"); err != nil {
		t.Fatal(err)
	}
	if got := SumOf(t, filepath.Join(files, "up")); got != sum {
		t.Errorf("the upload has the sum %s, want %s", got, sum)
	}
}
