package e2e

import (
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// idleTime is longer than a minute, in which many a table forgets a connection.
const idleTime = 61 * time.Second

func TestConnectionIdleForAMinuteStillWorks(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.echoes(7)
		n.Run(n.config(service("echo", "tcp", echoVIP)))
		c := n.talk(n.client, clientAddress+":0", echoVIP)
		c.MustExchange(t, 1000)

		idle := time.NewTimer(idleTime)
		defer idle.Stop()
		select {
		case <-idle.C:
		case <-t.Context().Done():
		}
		c.MustExchange(t, 1000)
	})
}
