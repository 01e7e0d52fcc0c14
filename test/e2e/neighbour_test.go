package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// Addresses of nobody, on the link of the clients.
const (
	foreignVIP  = "192.17.0.99"
	foreignVIP6 = "fd17::99"
)

// six is the IPv6 address of a machine of the tutorial's.
func six(address string) netip.Addr {
	last := netip.MustParseAddr(address).As4()[3]
	return netip.AddrFrom16([16]byte{0xfd, 0x17, 15: last})
}

// addSix gives all machines their IPv6 addresses.
func (n *network) addSix() {
	n.t.Helper()
	for node, address := range map[*lab.Node]string{
		n.client: clientAddress, n.balancer: balancerAddress, n.backendA: addressA, n.backendB: addressB,
	} {
		if err := node.AddAddress("eth0", netip.PrefixFrom(six(address), 64)); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *network) websOfBothFamilies() {
	n.t.Helper()
	n.webs()
	n.web(n.backendA, fmt.Sprintf("[%s]:80", six(addressA)))
	n.web(n.backendB, fmt.Sprintf("[%s]:80", six(addressB)))
}

// foreignServices have VIPs that are no address of any interface.
func foreignServices() []string {
	return []string{
		service("web", "tcp", foreignVIP+":80"),
		service("web6", "tcp", fmt.Sprintf("%q", "["+foreignVIP6+"]:80"),
			fmt.Sprintf("{name: backend-a, address: \"[%s]:80\"}", six(addressA)),
			fmt.Sprintf("{name: backend-b, address: \"[%s]:80\"}", six(addressB))),
	}
}

// neighbourOf is the MAC that a node knows an address by; "" for none.
func (n *network) neighbourOf(node *lab.Node, address string) string {
	n.t.Helper()
	all, err := node.Netlink().NeighList(0, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, neighbour := range all {
		if neighbour.IP.String() == address {
			return neighbour.HardwareAddr.String()
		}
	}
	return ""
}

func TestVIPOfNoInterface(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.addSix()
		n.websOfBothFamilies()
		n.Run(n.config(foreignServices()...))
		own, err := n.balancer.Interface("eth0")
		if err != nil {
			t.Fatal(err)
		}
		for _, vip := range []string{foreignVIP, foreignVIP6} {
			host := vip
			if strings.Contains(vip, ":") {
				host = "[" + vip + "]"
			}
			n.wantBoth(n.askOften(n.client, host+":80", 200))
			if mac := n.neighbourOf(n.client, vip); mac != own.HardwareAddr.String() {
				t.Errorf("the client knows %s by %q, want %s", vip, mac, own.HardwareAddr)
			}
		}
		const group = "33:33:ff:00:00:99"
		if !n.takesGroup(group) {
			t.Errorf("eth0 does not take frames to %s", group)
		}
		n.Down()
		if n.takesGroup(group) {
			t.Errorf("eth0 still takes frames to %s", group)
		}
	})
}

// takesGroup reports whether the balancer's interface takes frames to a group.
func (n *network) takesGroup(mac string) (known bool) {
	n.t.Helper()
	err := n.balancer.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
		known = strings.Contains(string(text), strings.ReplaceAll(mac, ":", ""))
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return known
}

// What neighbours are told is counted.
func TestAnswersToNeighboursAreCounted(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.addSix()
		n.websOfBothFamilies()
		n.Run(n.config(foreignServices()...))
		n.whoAnswers(n.client, foreignVIP+":80")
		n.whoAnswers(n.client, "["+foreignVIP6+"]:80")
		if answered := testnet.Packets(n.Status(), "", "neighbour"); answered < 2 {
			t.Errorf("%d questions were answered, want 2 at least", answered)
		}
	})
}

// Without a daemon, too: who asks for the first time then is answered.
func TestVIPOfNoInterfaceWithoutDaemon(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.addSix()
		n.websOfBothFamilies()
		n.Run(n.config(foreignServices()...)).Kill()
		n.wantBoth(n.askOften(n.client, foreignVIP+":80", 100))
		n.wantBoth(n.askOften(n.client, "["+foreignVIP6+"]:80", 100))
	})
}

// Nobody has the VIP where the data plane is told not to say so, until the host gets it.
func TestNobodyAnswersForTheVIP(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run("answer_arp: false\n" + n.config(service("web", "tcp", foreignVIP+":80")))
		if name, err := n.ask(n.client, foreignVIP+":80", 2*time.Second); err == nil {
			t.Errorf("%s answered", name)
		}
		if err := n.balancer.AddAddress("eth0", prefixes(foreignVIP)...); err != nil {
			t.Fatal(err)
		}
		testnet.Eventually(t, testnet.AnswerWait, func() error { // the client's kernel has just given up
			_, err := n.ask(n.client, foreignVIP+":80", 2*time.Second)
			return err
		})
		n.wantBoth(n.askOften(n.client, foreignVIP+":80", 100))
		if answered := testnet.Packets(n.Status(), "", "neighbour"); answered > 0 {
			t.Errorf("the data plane answered %d questions", answered)
		}
	})
}

// The host's kernel answers for what it has itself, as soon as it has it.
func TestVIPBecomesTheHosts(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	n.Run(n.config(service("web", "tcp", foreignVIP+":80")))
	n.whoAnswers(n.client, foreignVIP+":80")
	before := testnet.Packets(n.Status(), "", "neighbour")
	if err := n.balancer.AddAddress("eth0", prefixes(foreignVIP)...); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, testnet.DaemonWait, func() error {
		last := testnet.Packets(n.Status(), "", "neighbour")
		n.forget(n.backendA, foreignVIP)
		n.whoAnswers(n.backendA, foreignVIP+":80")
		if now := testnet.Packets(n.Status(), "", "neighbour"); now != last {
			return fmt.Errorf("the data plane still answers: %d times, %d before the host had the VIP", now, before)
		}
		return nil
	})
}

// forget removes what a node knows of a neighbour.
func (n *network) forget(node *lab.Node, address string) {
	n.t.Helper()
	all, err := node.Netlink().NeighList(0, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, neighbour := range all {
		if neighbour.IP.String() == address {
			if err := node.Netlink().NeighDel(&neighbour); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}
