package forward

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

// TestNoBackend: clients of a service without a backend that takes new flows are
// told at once, unless the config wants them to wait.
func TestNoBackend(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if w.twoArm != (w.vip == v4) || w.vip != w.backend {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			d := n.Run(n.config())
			config := strings.ReplaceAll(n.config(), "}]", ", weight: 0}]")
			d.Logs("config reloaded", func() { n.WriteConfig(config) })
			for _, network := range []string{"tcp", "udp"} {
				if err := n.try(network, 10*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: %v", network, err)
				}
			}
			d.Logs("config reloaded", func() {
				n.WriteConfig(strings.ReplaceAll(config, "    forward:", "    reject: drop\n    forward:"))
			})
			for _, network := range []string{"tcp", "udp"} {
				if err := n.try(network, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s with reject: drop: %v", network, err)
				}
			}
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
