package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// TestTraceroute: the balancer is a hop on the way, and the way ends at the VIP,
// which is no address of any machine on it.
func TestTraceroute(t *testing.T) {
	need.Tool(t, "traceroute")
	for _, w := range ways(lb.ModeNative, lb.ForwardNAT, lb.ForwardDNAT) {
		if !w.twoArm {
			continue
		}
		w.routed = clientEnd
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			testnet.EchoTCP(t, n.backends[0], n.local(0, echoPort))
			n.Run(n.config())
			far, near := n.vip.address(remote, farHost).Addr(), n.vip.address(middle, nearHost).Addr()
			vip := n.vipAddress()
			port := strconv.Itoa(echoPort)
			for name, trace := range map[string]struct {
				args []string
				want []netip.Addr
			}{
				// The backend says that nobody listens there.
				"UDP": {nil, []netip.Addr{far, near, vip, vip}},
				"TCP": {[]string{"-T", "-p", port}, []netip.Addr{far, near, vip, vip}},
				// The balancer itself answers.
				"ICMP": {[]string{"-I"}, []netip.Addr{far, near, vip}},
			} {
				if got := n.traceroute(trace.args...); fmt.Sprint(got) != fmt.Sprint(trace.want) {
					t.Errorf("%s: the hops are %s, want %s", name, got, trace.want)
				}
			}
			n.checkUnreachable()
		})
	}
}

// traceroute returns who answered, hop by hop; the zero address is nobody.
func (n *network) traceroute(args ...string) (hops []netip.Addr) {
	n.t.Helper()
	args = append(args, "-n", "-q", "1", "-m", "8", "-w", "5", n.vipAddress().String())
	out, err := n.client.Command(n.t.Context(), need.Tool(n.t, "traceroute"), args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("traceroute: %v\n%s", err, out)
	}
	hop := regexp.MustCompile(`(?m)^ *\d+  (\S+)`)
	for _, match := range hop.FindAllStringSubmatch(string(out), -1) {
		address, _ := netip.ParseAddr(match[1]) // or a star
		hops = append(hops, address)
	}
	return hops
}

// checkUnreachable wants a socket to learn that nobody listens at a port of the
// backend.
func (n *network) checkUnreachable() {
	n.t.Helper()
	const nobodysPort = 9999
	c, err := n.client.DialContext(n.t.Context(), "udp", n.at(nobodysPort).String())
	n.must(err)
	defer c.Close()
	if answer, err := send(c.(*net.UDPConn)); !errors.Is(err, unix.ECONNREFUSED) {
		n.t.Errorf("a port where nobody listens answered %q, %v", answer, err)
	}
}

// TestPing: a VIP that no machine has is answered for, as often as the config
// allows.
func TestPing(t *testing.T) {
	need.Tool(t, "ping")
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, f := range []family{v4, v6} {
			w := way{forward: lb.ForwardNAT, vip: f, backend: f, twoArm: true, mode: mode}
			t.Run(w.String()+", "+string(mode), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				testnet.EchoTCP(t, n.backends[0], n.local(0, echoPort))
				n.Run(n.config())
				for _, size := range []int{0, 1, 56, 1400, 1500 - headerOf(f) - 8} {
					if got := n.ping(20, "-s", strconv.Itoa(size)); got != 20 {
						t.Errorf("%d of 20 pings of %d bytes were answered", got, size)
					}
				}
				if echoes := testnet.PacketsOfAll(n.Status(), "echo"); echoes != 100 {
					t.Errorf("%d packets count as echo, want 100", echoes)
				}
				n.checkPingLimits()
				testnet.CheckChecksums(t, n.client)
			})
		}
	}
}

// checkPingLimits changes how often pings are answered.
func (n *network) checkPingLimits() {
	n.t.Helper()
	const asked = 50 // of 100 that may come at once: another try soon after finds as many again
	for _, limit := range []struct {
		config      string
		least, most int
	}{
		{"rate_limits: {echo_replies: 20}\n", 2, asked / 2},
		{"rate_limits: {echo_replies: 0}\n", 0, 0},
		{"answer_echo: false\n", 0, 0},
		{"", asked, asked},
	} {
		n.WriteConfig(limit.config + n.config())
		testnet.Eventually(n.t, testnet.DaemonWait, func() error {
			if got := n.ping(asked); got < limit.least || got > limit.most {
				return fmt.Errorf("%q: %d of %d pings were answered, want %d to %d", limit.config, got, asked, limit.least, limit.most)
			}
			return nil
		})
	}
}

// ping pings the VIP so often, as fast as the answers come or a hundred times a
// second, and returns how many answers were right.
func (n *network) ping(count int, args ...string) (answered int) {
	n.t.Helper()
	return ping(n.t, n.client, n.vipAddress(), count, args...)
}

func ping(t *testing.T, node *lab.Node, to netip.Addr, count int, args ...string) (answered int) {
	t.Helper()
	args = append(args, "-n", "-q", "-f", "-c", strconv.Itoa(count), "-W", "1", to.String())
	out, _ := node.Command(t.Context(), need.Tool(t, "ping"), args...).CombinedOutput() // fails if one is not answered
	_, err := fmt.Sscanf(afterFirst(string(out), "packets transmitted, "), "%d received", &answered)
	if err != nil {
		t.Fatalf("ping: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "duplicates") {
		t.Errorf("ping complains:\n%s", out)
	}
	return answered
}

func afterFirst(text, mark string) string {
	_, after, _ := strings.Cut(text, mark)
	return after
}
