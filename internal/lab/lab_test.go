package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/test/need"
)

// abandonEnv makes this test binary build a lab and wait to be killed.
const abandonEnv = "TINYLB_LAB_TEST_ABANDON"

func TestMain(m *testing.M) {
	if os.Getenv(abandonEnv) != "" {
		abandonLab()
	}
	os.Exit(m.Run())
}

func TestTCPThroughBridge(t *testing.T) {
	tests := []struct {
		name   string
		server netip.Prefix
		client netip.Prefix
	}{
		{"IPv4", netip.MustParsePrefix("192.17.0.2/24"), netip.MustParsePrefix("192.17.0.4/24")},
		{"IPv6", netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("2001:db8::4/64")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			server, client := pairOnBridge(t, l, test.server, test.client)
			exchange(t, server, client, netip.AddrPortFrom(test.server.Addr(), 80))
		})
	}
}

func TestBridgeForwardsAtOnce(t *testing.T) {
	l := labtest.New(t)
	server, client := pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))
	start := time.Now()
	exchange(t, server, client, netip.MustParseAddrPort("10.0.0.1:80"))
	// A lost ARP request costs a second.
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Errorf("the first exchange took %v", took)
	}
}

func TestRoutedPair(t *testing.T) {
	tests := []struct {
		name                                 string
		left, routerLeft, routerRight, right string
		vip, everything, forwarding          string
	}{
		{"IPv4", "10.0.1.1/24", "10.0.1.254/24", "10.0.2.254/24", "10.0.2.1/24",
			"192.17.9.9/32", "0.0.0.0/0", "net.ipv4.ip_forward"},
		{"IPv6", "2001:db8:1::1/64", "2001:db8:1::fe/64", "2001:db8:2::fe/64", "2001:db8:2::1/64",
			"2001:db8:9::9/128", "::/0", "net/ipv6/conf/all/forwarding"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			left, router, right := labtest.Node(t, l, "left"), labtest.Node(t, l, "router"), labtest.Node(t, l, "right")
			end := func(n *lab.Node, ifname, prefix string) lab.End {
				return lab.End{Node: n, Interface: ifname, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}
			}
			must(t, l.Connect(end(left, "eth0", test.left), end(router, "eth0", test.routerLeft)))
			must(t, l.Connect(end(router, "eth1", test.routerRight), end(right, "eth0", test.right)))
			must(t, router.Sysctl(test.forwarding, "1"))

			vip, everything := netip.MustParsePrefix(test.vip), netip.MustParsePrefix(test.everything)
			must(t, right.AddAddress("lo", vip))
			must(t, left.AddRoute(everything, netip.MustParsePrefix(test.routerLeft).Addr()))
			must(t, right.AddRoute(everything, netip.MustParsePrefix(test.routerRight).Addr()))
			must(t, router.AddRoute(vip, netip.MustParsePrefix(test.right).Addr()))

			exchange(t, right, left, netip.AddrPortFrom(vip.Addr(), 80))
		})
	}
}

func TestInterfaceChanges(t *testing.T) {
	l := labtest.New(t)
	server, client := pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))

	mac := net.HardwareAddr{0x02, 0, 0, 0, 0xab, 0xcd}
	must(t, server.SetMAC("eth0", mac))
	must(t, client.SetDown("eth0"))
	must(t, client.SetUp("eth0"))
	exchange(t, server, client, netip.MustParseAddrPort("10.0.0.1:80"))

	eth0, err := server.Interface("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if eth0.HardwareAddr.String() != mac.String() {
		t.Errorf("the MAC is %s, want %s", eth0.HardwareAddr, mac)
	}
	if err := server.SetUp("eth7"); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("setting up a missing interface: %v", err)
	}
}

func TestMACsAreDeterministic(t *testing.T) {
	var seen [2]string
	for i := range seen {
		l := labtest.New(t)
		server, client := pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))
		for _, n := range []*lab.Node{server, client} {
			eth0, err := n.Interface("eth0")
			if err != nil {
				t.Fatal(err)
			}
			seen[i] += eth0.HardwareAddr.String() + " "
		}
		must(t, l.Close())
	}
	if seen[0] != seen[1] {
		t.Errorf("the same lab has MACs %s and then %s", seen[0], seen[1])
	}
}

func TestNativeTurnsOnGROAtFarEnds(t *testing.T) {
	for _, native := range []bool{false, true} {
		t.Run(fmt.Sprint(native), func(t *testing.T) {
			l := labtest.New(t, lab.Native(native))
			bridge, err := l.AddBridge("br-lb")
			if err != nil {
				t.Fatal(err)
			}
			a, b := labtest.Node(t, l, "a"), labtest.Node(t, l, "b")
			must(t, a.Connect(bridge, "eth0"))
			must(t, l.Connect(lab.End{Node: a, Interface: "eth1"}, lab.End{Node: b, Interface: "eth0"}))

			tests := []struct {
				node   *lab.Node
				ifname string
				want   bool
			}{
				{bridge.Node(), "a", native},
				{a, "eth0", false}, // its far end is the bridge, which runs no XDP
				{a, "eth1", native},
				{b, "eth0", native},
			}
			for _, test := range tests {
				if got := features(t, test.node, test.ifname)["rx-gro"]; got != test.want {
					t.Errorf("GRO of %s at %s is %t, want %t", test.ifname, test.node.Name(), got, test.want)
				}
			}
		})
	}
}

func features(t *testing.T, n *lab.Node, ifname string) (all map[string]bool) {
	t.Helper()
	must(t, n.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		all, err = tool.Features(ifname)
		return err
	}))
	return all
}

func TestCounter(t *testing.T) {
	l := labtest.New(t)
	server, client := pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))
	exchange(t, server, client, netip.MustParseAddrPort("10.0.0.1:80"))

	tests := []struct {
		group, name string
		want        uint64
	}{
		{"Tcp", "PassiveOpens", 1},
		{"Tcp", "InCsumErrors", 0},
		{"TcpExt", "ListenDrops", 0},
		{"Udp6", "InCsumErrors", 0},
	}
	for _, test := range tests {
		got, err := server.Counter(test.group, test.name)
		if err != nil || got != test.want {
			t.Errorf("%s %s = %d (%v), want %d", test.group, test.name, got, err, test.want)
		}
	}
	if _, err := server.Counter("Tcp", "NoSuchThing"); err == nil {
		t.Error("a counter that does not exist was read")
	}
}

func TestCommandRunsInNodeAndDiesWithLab(t *testing.T) {
	l := labtest.New(t)
	n := labtest.Node(t, l, "node")

	output, err := n.Command(t.Context(), "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	var inside string
	must(t, n.Do(func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	if got := strings.TrimSpace(string(output)); got != inside {
		t.Errorf("the command ran in %s, want %s", got, inside)
	}

	_, err = n.Command(t.Context(), "sh", "-c", "echo broken >&2; exit 3").Output()
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the error %v does not carry the standard error", err)
	}

	// A child of the command must go, too.
	family := n.Command(context.Background(), "sh", "-c", "sleep 1000 & echo $!; wait")
	stdout, err := family.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	must(t, family.Start())
	var child int
	if _, err := fmt.Fscan(stdout, &child); err != nil {
		t.Fatal(err)
	}
	must(t, l.Close())
	if err := family.Wait(); err == nil {
		t.Error("the command ended well, want it killed")
	}
	waitUntilGone(t, child)
	if err := n.Command(t.Context(), "true").Run(); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("running in a closed lab: %v, want %v", err, lab.ErrClosed)
	}
}

func TestStop(t *testing.T) {
	tests := []struct {
		name, script string
		want         string // of the error
	}{
		{"heeds the signal", `trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done`, "exit status 7"},
		{"ignores it", `trap '' TERM; echo ready; while :; do sleep 0.01; done`, "signal: killed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := labtest.Node(t, labtest.New(t), "node")
			c := n.Command(t.Context(), "sh", "-c", test.script)
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			must(t, c.Start())
			if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(syscall.SIGTERM, 300*time.Millisecond); err == nil || err.Error() != test.want {
				t.Errorf("stopped with %v, want %s", err, test.want)
			}
			if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("signalling the ended command: %v", err)
			}
		})
	}
}

func TestCloseRemovesAll(t *testing.T) {
	l := labtest.New(t)
	pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))
	if got := namespaces(t, l.Prefix()); len(got) != 3 {
		t.Fatalf("the open lab has %q, want 3 namespaces", got)
	}
	must(t, l.Close())
	must(t, l.Close())
	if left := namespaces(t, l.Prefix()); len(left) != 0 {
		t.Errorf("Close left %q", left)
	}
	if _, err := l.AddNode("late"); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("adding to a closed lab: %v, want %v", err, lab.ErrClosed)
	}
}

func TestNames(t *testing.T) {
	l := labtest.New(t)
	labtest.Node(t, l, "node")
	if _, err := l.AddNode("node"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second node of the same name: %v, want %v", err, fs.ErrExist)
	}
	if _, err := l.AddNode("../escape"); err == nil {
		t.Error("a node name that is a path was accepted")
	}
	if got := namespaces(t, l.Prefix()); len(got) != 1 {
		t.Errorf("the lab has %q, want the one node", got)
	}
}

func TestLeftoversOfKilledProcess(t *testing.T) {
	need.Root(t)
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), abandonEnv+"=1")
	victim.Stderr = os.Stderr
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	must(t, victim.Start())
	defer victim.Wait()
	defer victim.Process.Kill()
	var prefix string
	var child int
	if _, err := fmt.Fscan(stdout, &prefix, &child); err != nil {
		t.Fatal(err)
	}

	must(t, mustNew(t, "living").Close())
	if got := namespaces(t, prefix); len(got) != 1 {
		t.Fatalf("of the living lab there is %q left, want its one namespace", got)
	}
	must(t, victim.Process.Kill())
	victim.Wait()
	waitUntilGone(t, child)
	must(t, mustNew(t, "dead").Close())
	if left := namespaces(t, prefix); len(left) != 0 {
		t.Errorf("of the killed lab there is %q left", left)
	}
}

// abandonLab is the life of the process that the test above kills.
func abandonLab() {
	l, err := lab.New("abandoned")
	if err != nil {
		panic(err)
	}
	n, err := l.AddNode("node")
	if err != nil {
		panic(err)
	}
	c := n.Command(context.Background(), "sleep", "1000")
	if err := c.Start(); err != nil {
		panic(err)
	}
	fmt.Println(l.Prefix(), c.Process.Pid)
	<-time.After(time.Minute)
	os.Exit(1)
}

func pairOnBridge(t *testing.T, l *lab.Lab, a, b netip.Prefix) (nodeA, nodeB *lab.Node) {
	t.Helper()
	bridge, err := l.AddBridge("br-lb")
	if err != nil {
		t.Fatal(err)
	}
	nodeA, nodeB = labtest.Node(t, l, "server"), labtest.Node(t, l, "client")
	must(t, nodeA.Connect(bridge, "eth0", a))
	must(t, nodeB.Connect(bridge, "eth0", b))
	return nodeA, nodeB
}

// exchange sends a word over one TCP connection and reads it back.
func exchange(t *testing.T, server, client *lab.Node, at netip.AddrPort) {
	t.Helper()
	listener, err := server.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := client.DialContext(ctx, "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || answer != "hello\n" {
		t.Fatalf("answer %q, %v", answer, err)
	}
}

func namespaces(t *testing.T, prefix string) []string {
	t.Helper()
	found, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// waitUntilGone waits for the end of a process that is not this one's child.
func waitUntilGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	if err != nil || ready != 1 {
		t.Fatalf("process %d is still there (%v)", pid, err)
	}
}

func mustNew(t *testing.T, name string) *lab.Lab {
	t.Helper()
	l, err := lab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
