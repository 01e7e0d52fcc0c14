package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

func TestStartIsRefused(t *testing.T) {
	t.Parallel()
	web := service("web", "tcp", webVIP)
	valid := configFor(lb.ModeAuto, web)
	tests := []struct {
		name    string
		config  string
		command func(*network) *lab.Cmd
		code    int
		texts   []string
	}{
		{"not root", valid, (*network).asNobody, exitHost,
			[]string{"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "run as root"}},
		{"root without CAP_NET_ADMIN", valid, withoutCapabilities("net_admin"), exitHost,
			[]string{"a capability is missing", "CAP_NET_ADMIN"}},
		{"root without CAP_BPF", valid, withoutCapabilities("bpf", "sys_admin"), exitHost,
			[]string{"a capability is missing", "CAP_BPF"}},
		{"no such interface", "interfaces: [eth7]\nservices:\n" + web, (*network).plainRun, exitHost,
			[]string{"no such interface: eth7", "interfaces here: lo, eth0"}},
		{"one interface of two", "interfaces: [eth0, eth7]\nservices:\n" + web, (*network).plainRun, exitHost,
			[]string{"no such interface: eth7"}},
		{"interface that XDP cannot be attached to natively", "interfaces: [lo]\nmode: native\nservices:\n" + web,
			(*network).plainRun, exitHost,
			[]string{"interface lo", "does not take a native XDP program", "mode: generic"}},
		{"SNAT ports overlap the kernel's", valid + "snat: {ports: 30000-40000}\n", (*network).plainRun, exitInput,
			[]string{"tinylb.yaml:8:", "30000-40000 overlap 32768-60999", "ip_local_port_range"}},
		{"pin directory on another file system", valid, func(n *network) *lab.Cmd {
			return n.runPinnedTo("/tmp/tinylb-e2e-nowhere")
		}, exitHost, []string{"no BPF file system at /tmp/tinylb-e2e-nowhere", "choose a directory below /sys/fs/bpf"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, lb.ModeAuto)
			n.WriteConfig(test.config)
			n.mustFail(test.command(n), test.code, test.texts...)
			n.checkNothingLeft()
			if id := attachedProgram(t, n.balancer, "lo"); id != 0 {
				t.Errorf("left behind: XDP program %d on lo", id)
			}
		})
	}
}

func (n *network) plainRun() *lab.Cmd { return n.Tinylb("run", "-c", n.ConfigFile()) }

func (n *network) runPinnedTo(dir string) *lab.Cmd {
	c := n.plainRun()
	c.Args = append(c.Args, "--pin", dir)
	return c
}

func (n *network) asNobody() *lab.Cmd {
	c := n.plainRun()
	c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	return c
}

// withoutCapabilities runs as root with all capabilities but these.
func withoutCapabilities(names ...string) func(*network) *lab.Cmd {
	return func(n *network) *lab.Cmd {
		var drop string
		for _, name := range names {
			drop += ",-" + name
		}
		return n.setpriv("--bounding-set", drop[1:], "--inh-caps", drop[1:])
	}
}

func (n *network) setpriv(args ...string) *lab.Cmd {
	n.t.Helper()
	c := n.plainRun()
	setpriv := need.Tool(n.t, "setpriv")
	c.Args = append(append([]string{setpriv}, args...), append([]string{c.Path}, c.Args[1:]...)...)
	c.Path = setpriv
	return c
}

func TestRunsWithNoMoreThanTheCapabilitiesItNames(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeGeneric)
	n.webs()
	n.WriteConfig(n.config(service("web", "tcp", webVIP)))
	const few = "-all,+bpf,+net_admin,+perfmon"
	d := n.Start(n.setpriv("--bounding-set", few, "--inh-caps", few))
	d.AwaitLog(0, "msg=ready")
	n.askOften(n.client, webVIP, 20)
	d.Terminate()
	n.askOften(n.client, webVIP, 20)
}

func TestStartIsRefusedWhereAnotherXDPProgramIsAttached(t *testing.T) {
	t.Parallel()
	attachments := []struct {
		name   string
		attach func(device netlink.Link, program *ebpf.Program) (detach func() error, err error)
	}{
		{"as ip link does it", attachByNetlink},
		{"by a bpf_link", attachByLink},
	}
	for _, attachment := range attachments {
		for _, mode := range []lb.Mode{lb.ModeAuto, lb.ModeNative, lb.ModeGeneric} {
			t.Run(attachment.name+", wanting "+string(mode), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, mode)
				detach := n.attachAnother("eth0", attachment.attach)
				theirs := attachedProgram(t, n.balancer, "eth0")
				n.WriteConfig(n.config(service("web", "tcp", webVIP)))
				n.mustFail(n.plainRun(), exitHost, "interface eth0", "another XDP program is attached",
					fmt.Sprintf("program id %d", theirs), "ip link set dev eth0 xdp off")
				if id := attachedProgram(t, n.balancer, "eth0"); id != theirs {
					t.Errorf("program %d is attached now, before it was %d", id, theirs)
				}
				detach()
				n.checkNothingLeft()
			})
		}
	}
}

// The first interface is free, and attached before the second one is found taken.
func TestRefusedStartLeavesThingsAsTheyWere(t *testing.T) {
	t.Parallel()
	const bothInterfaces = "interfaces: [eth0, veth0]\nmode: generic\nservices:\n"
	web := service("web", "tcp", webVIP)

	t.Run("nothing attached", func(t *testing.T) {
		t.Parallel()
		n := newNetwork(t, lb.ModeGeneric)
		n.addPair("veth0", "veth1", false)
		n.attachAnother("veth0", attachByNetlink)
		n.WriteConfig(bothInterfaces + web)
		n.mustFail(n.plainRun(), exitHost, "interface veth0", "another XDP program is attached")
		n.checkNothingLeft()
	})
	t.Run("an earlier run's data plane forwards", func(t *testing.T) {
		t.Parallel()
		n := newNetwork(t, lb.ModeGeneric)
		n.webs()
		n.Run(n.config(web)).Terminate()
		n.addPair("veth0", "veth1", false)
		n.attachAnother("veth0", attachByNetlink)
		n.WriteConfig(bothInterfaces + web)
		n.mustFail(n.plainRun(), exitHost, "interface veth0", "another XDP program is attached")
		n.askOften(n.client, webVIP, 20)
	})
}

// attachAnother attaches an XDP program that passes everything.
func (n *network) attachAnother(ifname string, attach func(netlink.Link, *ebpf.Program) (func() error, error)) (detach func()) {
	n.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "theirs", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { program.Close() })
	device, err := n.balancer.Netlink().LinkByName(ifname)
	if err != nil {
		n.t.Fatal(err)
	}
	var undo func() error
	err = n.balancer.Do(func() (err error) {
		undo, err = attach(device, program)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return func() {
		n.t.Helper()
		if err := n.balancer.Do(undo); err != nil {
			n.t.Error(err)
		}
	}
}

func attachByNetlink(device netlink.Link, program *ebpf.Program) (func() error, error) {
	return func() error { return netlink.LinkSetXdpFd(device, -1) }, netlink.LinkSetXdpFd(device, program.FD())
}

func attachByLink(device netlink.Link, program *ebpf.Program) (func() error, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: device.Attrs().Index})
	if err != nil {
		return nil, err
	}
	// closing would leave it attached while a child that is just being started has the descriptor, too
	return func() error { return errors.Join(l.Detach(), l.Close()) }, nil
}

func TestSecondDaemonOnTheSamePinDirectory(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeNative)
	n.webs()
	first := n.Run(n.config(service("web", "tcp", webVIP)))
	program := attachedProgram(t, n.balancer, "eth0")
	n.mustFail(n.plainRun(), exitHost, "another tinylb is running", n.PinDir(), fmt.Sprintf("pid %d", first.Process.Pid))
	if now := attachedProgram(t, n.balancer, "eth0"); now != program {
		t.Errorf("program %d is attached, before it was %d", now, program)
	}
	n.askOften(n.client, webVIP, 20)
	first.Terminate()
}
