package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// bulkSize is how much goes each way, in bytes.
const bulkSize = 200_000_000

func Test200MegabytesEachWay(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		dir := n.web(n.backendA, addressA+":80")
		n.run(n.config(service("web", "tcp", webVIP, "{name: backend-a, address: "+addressA+":80}")))
		n.transferBothWays(filepath.Join(dir, "down"), filepath.Join(dir, "up"), bulkSize)
		n.checkChecksums()
	})
}

// transferBothWays has curl get the file down and put the file up, both in the
// directory of the web server, and compares what arrives.
func (n *network) transferBothWays(down, up string, size int64) {
	n.t.Helper()
	files := "http://" + webVIP + "/files/"
	sum := n.writeNoise(down, size)
	if got := n.download(files + filepath.Base(down)); got != sum {
		n.t.Errorf("the download has the sum %s, want %s", got, sum)
	}
	if _, err := n.curl(n.client, "--max-time", "60", "--upload-file", down, files+filepath.Base(up)); err != nil {
		n.t.Fatal(err)
	}
	if got := n.sumOf(up); got != sum {
		n.t.Errorf("the upload has the sum %s, want %s", got, sum)
	}
}

// writeNoise fills a file and returns its SHA-256.
func (n *network) writeNoise(path string, size int64) string {
	n.t.Helper()
	file, err := os.Create(path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	sum, out := sha256.New(), bufio.NewWriterSize(file, 1<<20)
	noise := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	if _, err := io.Copy(io.MultiWriter(sum, out), noise); err != nil {
		n.t.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		n.t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (n *network) sumOf(path string) string {
	n.t.Helper()
	file, err := os.Open(path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		n.t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// download returns the SHA-256 of what curl gets.
func (n *network) download(url string) string {
	n.t.Helper()
	sum, log := sha256.New(), &logText{}
	c := n.client.Command(context.Background(), need.Tool(n.t, "curl"), "--no-progress-meter", "--fail", "--noproxy", "*",
		"--max-time", "60", url)
	c.Stdout, c.Stderr = sum, log
	if err := c.Run(); err != nil {
		n.t.Fatalf("%v: %s", err, log)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
