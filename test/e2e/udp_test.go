package e2e

import (
	"bytes"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	udpVIP = balancerAddress + ":53"
	// largestDatagram fills an Ethernet frame: MTU without IPv4 and UDP headers.
	largestDatagram = 1500 - 20 - 8
)

func TestUDPRequestAndAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options []func(*net.UDPConn) error // of the sockets at both ends
	}{
		{"with checksums", nil},
		{"without checksums", []func(*net.UDPConn) error{testnet.WithoutChecksums}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				testnet.EchoUDP(t, n.backendA, addressA+":53", test.options...)
				testnet.EchoUDP(t, n.backendB, addressB+":53", test.options...)
				n.Run(n.config(service("dns", "udp", udpVIP)))

				backends := map[string]int{}
				for i := range 40 {
					client := testnet.ListenUDP(t, n.client, clientAddress+":0", test.options...)
					for _, size := range []int{0, 1, 2, 17, 512, 1232, largestDatagram - 1 - i, largestDatagram} {
						backends[n.askUDP(client, size)]++
					}
				}
				if len(backends) != 2 {
					t.Errorf("the answers came from %v, want both backends", backends)
				}
				n.checkChecksums()
			})
		})
	}
}

// askUDP sends a datagram of that size and checks that it comes back, from the
// VIP. It returns the name of the backend that answers on this flow.
func (n *network) askUDP(c *net.UDPConn, size int) string {
	n.t.Helper()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	if got := n.exchangeUDP(c, sent); size > 0 && !bytes.Equal(sent, got) {
		n.t.Fatalf("%d bytes came back as %d others", size, len(got))
	}
	return string(n.exchangeUDP(c, nil))
}

func (n *network) exchangeUDP(c *net.UDPConn, sent []byte) []byte {
	n.t.Helper()
	answer, err := testnet.ExchangeUDP(c, addrPort(udpVIP), sent)
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}
