package forward

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	// transferSize is how much goes each way, in bytes.
	transferSize = 50_000_000
	echoPort     = 7
)

// noise is a file that all tests send.
type noise struct{ path, sum string }

func makeNoise(t *testing.T) noise {
	t.Helper()
	path := filepath.Join(t.TempDir(), "noise")
	return noise{path, testnet.WriteNoise(t, path, transferSize)}
}

// TestNative leaves all offloads at their defaults, but for GRO at the far ends
// of the balancer's links, without which veth takes no frame that XDP sends.
func TestNative(t *testing.T) {
	all := ways(lb.ModeNative, lb.Forwards()...)
	for _, f := range []family{v4, v6} {
		all = append(all, way{forward: lb.ForwardDNAT, vip: f, backend: f, flat: true, mode: lb.ModeNative})
	}
	file := makeNoise(t)
	for _, w := range all {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			n.serve(file)
			testnet.ServeIperf(t, n.backends[0], n.serving(0))
			n.Run(n.config())
			n.checkClient()
			n.transfer(file)
			n.checkIperf()
			n.checkDatagrams()
			n.checkReversed()
			expired := n.checkTTL()
			n.checkStatus(expired)
			n.checkTunnels()
			testnet.CheckChecksums(t, append(n.backends, n.client)...)
		})
	}
}

// serve starts the first backend's web server and UDP echo.
func (n *network) serve(file noise) {
	n.t.Helper()
	files := testnet.Web(n.t, n.backends[0], n.Dir, n.local(0, n.webPort()))
	n.must(os.Symlink(file.path, filepath.Join(files, "down")))
	n.files = files
	testnet.EchoUDP(n.t, n.backends[0], n.local(0, echoPort))
}

func (n *network) transfer(file noise) {
	n.t.Helper()
	testnet.TransferBothWays(n.t, n.client, n.at(80).String(), n.files, file.sum)
}

// checkClient checks which address the backend sees.
func (n *network) checkClient() {
	n.t.Helper()
	seen, err := testnet.Ask(n.t, n.client, n.url("/client"), testnet.AnswerWait)
	n.must(err)
	if want := n.seenClient().String(); seen != want {
		n.t.Errorf("the backend sees %s, want %s", seen, want)
	}
}

// checkIperf wants far less than the slowest machine carries: a balancer that
// loses packets does not reach it.
func (n *network) checkIperf() {
	n.t.Helper()
	const leastBitRate, udpBitRate = 10e6, "10M"
	tcp := testnet.Iperf(n.t, n.client, n.vipAddress(), "--time", "1").End.Received
	if tcp.BitsPerSecond < leastBitRate {
		n.t.Errorf("TCP: %.0f Mbit/s", tcp.BitsPerSecond/1e6)
	}
	udp := testnet.Iperf(n.t, n.client, n.vipAddress(), "--udp", "--bitrate", udpBitRate, "--time", "1").End.Received
	if udp.Packets == 0 || udp.LostPackets > udp.Packets/2 { // sockets on a busy machine lose some
		n.t.Errorf("UDP: %d of %d packets were lost", udp.LostPackets, udp.Packets)
	}
	n.t.Logf("TCP: %.0f Mbit/s; UDP: %d of %d packets lost", tcp.BitsPerSecond/1e6, udp.LostPackets, udp.Packets)
}

// checkDatagrams exchanges datagrams of all parities and sizes up to what fits,
// with checksums and, over IPv4, without.
func (n *network) checkDatagrams() {
	n.t.Helper()
	from := netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 0).String()
	options := [][]func(*net.UDPConn) error{nil}
	if n.vip == v4 {
		options = append(options, []func(*net.UDPConn) error{testnet.WithoutChecksums})
	}
	const largest = 1500 - 40 - 8
	for _, option := range options {
		socket := testnet.ListenUDP(n.t, n.client, from, option...)
		for _, size := range []int{0, 1, 2, 63, 512, largest - 1, largest} {
			sent := bytes.Repeat([]byte{0xa5}, size)
			want := sent
			if size == 0 {
				want = []byte(n.backends[0].Name())
			}
			got, err := testnet.ExchangeUDP(socket, n.at(echoPort), sent)
			n.must(err)
			if !bytes.Equal(got, want) {
				n.t.Errorf("%d bytes came back as %d others", size, len(got))
			}
		}
	}
}

// checkTunnels wants no outer header to have been refused.
func (n *network) checkTunnels() {
	n.t.Helper()
	for _, d := range n.decapsulators {
		if refused := d.Refused(); refused != 0 {
			n.t.Errorf("%d packets in tunnels were malformed", refused)
		}
	}
}
