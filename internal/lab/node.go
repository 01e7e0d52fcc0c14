package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Node is one machine of the lab: a network namespace, bind-mounted below
// /run/netns so that `ip netns exec` finds it.
type Node struct {
	lab       *Lab
	name      string
	namespace netns.NsHandle
	netlink   *netlink.Handle
}

func newNode(l *Lab, name string) (*Node, error) {
	if !validName.MatchString(name) {
		return nil, errors.New("want lower-case letters, digits and dashes")
	}
	n := &Node{lab: l, name: name, namespace: netns.None()}
	if err := n.createNamespace(); err != nil {
		return nil, fmt.Errorf("creating namespace %s: %w", n.Namespace(), err)
	}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(err, n.remove())
	}
	return n, nil
}

// Name is the node's name within the lab.
func (n *Node) Name() string { return n.name }

// Namespace is the name that `ip netns exec` knows the node by.
func (n *Node) Namespace() string { return n.lab.prefix + "-" + n.name }

// Path is the file to open or to give to nsenter --net.
func (n *Node) Path() string { return filepath.Join(namespaceDir, n.Namespace()) }

// Netlink speaks to the node's namespace from any goroutine, for what has no
// method here. It is closed with the lab.
func (n *Node) Netlink() *netlink.Handle { return n.netlink }

// createNamespace also makes the handles that keep and configure it.
func (n *Node) createNamespace() error {
	if _, err := os.Lstat(n.Path()); err == nil {
		return fs.ErrExist
	}
	err := onLockedThread(func() (err error) {
		n.namespace, err = netns.NewNamed(n.Namespace())
		return err
	})
	if err != nil {
		netns.DeleteNamed(n.Namespace())
		os.Remove(n.Path()) // NewNamed leaves it when the mount fails
		return err
	}
	n.netlink, err = netlink.NewHandleAt(n.namespace)
	if err != nil {
		return errors.Join(err, netns.DeleteNamed(n.Namespace()), n.namespace.Close())
	}
	return nil
}

func (n *Node) prepare() error {
	// Duplicate address detection would keep IPv6 addresses unusable for a second.
	for _, which := range []string{"all", "default"} {
		err := n.Sysctl("net.ipv6.conf."+which+".accept_dad", "0")
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
			return err
		}
	}
	return n.SetUp("lo")
}

// Do runs f inside the node's namespace, on an OS thread that nothing else uses
// meanwhile. What f opens stays in the namespace; goroutines that f starts do
// not run in it. f must not end its goroutine (as testing.T.Fatal does).
func (n *Node) Do(f func() error) error {
	return onLockedThread(func() error {
		if err := netns.Set(n.namespace); err != nil {
			return fmt.Errorf("entering namespace %s: %w", n.Namespace(), err)
		}
		return f()
	})
}

// onLockedThread runs f, which may change the thread's namespace, on a locked
// thread and restores the namespace. A thread that cannot be restored stays
// locked, so the runtime ends it with the goroutine instead of using it again.
func onLockedThread(f func() error) error {
	done := make(chan struct{})
	err := errors.New("the function ended its goroutine")
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var restored bool
		if err, restored = keepingNamespace(f); restored {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return err
}

// keepingNamespace runs f on the current, locked thread.
func keepingNamespace(f func() error) (err error, restored bool) {
	home, err := netns.Get()
	if err != nil {
		return fmt.Errorf("opening the thread's namespace: %w", err), true
	}
	defer home.Close()
	err = f()
	restoreErr := netns.Set(home)
	if err == nil && restoreErr != nil {
		err = fmt.Errorf("returning to the thread's namespace: %w", restoreErr)
	}
	return err, restoreErr == nil
}

// Listen is net.Listen inside the node. The address must be numeric.
func (n *Node) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket inside the node. The address must be numeric.
func (n *Node) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// DialContext is net.Dialer.DialContext inside the node, and fits
// http.Transport. The address must be numeric: a look-up of a name would use
// goroutines, and thereby the caller's namespace.
func (n *Node) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dialing from node %s: %w", n.name, err)
	}
	err = n.Do(func() error {
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Sysctl sets a kernel parameter of the namespace, as sysctl(8) does. In a key
// with a slash, dots belong to the names.
func (n *Node) Sysctl(key, value string) error {
	path := key
	if !strings.Contains(key, "/") {
		path = strings.ReplaceAll(key, ".", "/")
	}
	// /proc/sys/net shows the namespace of the thread that opens it.
	return n.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0)
	})
}
