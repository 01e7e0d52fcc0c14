package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// TestNoBackend: clients of a service without a backend that takes new flows are
// told at once, unless the config wants them to wait.
func TestNoBackend(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.ForwardDNAT, lb.ForwardGUE) {
		if w.twoArm != (w.vip == v4) || w.vip != w.backend {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			n.Run(n.config())
			weightless := strings.ReplaceAll(n.config(), "}]", ", weight: 0}]")
			n.WriteConfig(weightless)
			n.awaitEnd(10*time.Second, unix.ECONNREFUSED)
			n.WriteConfig(strings.ReplaceAll(weightless, "    forward:", "    reject: drop\n    forward:"))
			n.awaitEnd(300*time.Millisecond, os.ErrDeadlineExceeded)
		})
	}
}

// awaitEnd waits until questions over TCP and UDP end like that.
func (n *network) awaitEnd(within time.Duration, want error) {
	n.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		testnet.Eventually(n.t, testnet.DaemonWait, func() error {
			if err := n.try(network, within); !errors.Is(err, want) {
				return fmt.Errorf("%s: %w, want %w", network, err, want)
			}
			return nil
		})
	}
}

// try wants an answer of the service in time.
func (n *network) try(network string, within time.Duration) error {
	var c net.Conn
	err := n.client.Do(func() (err error) {
		c, err = net.DialTimeout(network, n.at(echoPort).String(), within)
		return err
	})
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write([]byte("anybody?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	return err
}
