// Package lab builds small networks out of network namespaces, veth pairs and
// bridges, for the demo, the tests and the benchmarks. It speaks netlink and
// needs no ip or ethtool binary. Nothing it makes appears in the namespace of
// its caller, and nothing stays behind: Close removes it, and what a process
// that died could not remove, the next New does.
package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sync"

	"github.com/vishvananda/netns"
)

// ErrClosed is returned by what is asked of a lab after Close.
var ErrClosed = errors.New("the lab is closed")

// validName keeps names usable as part of a file name and of a shell command.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Option changes how a lab is built.
type Option func(*Lab)

// Native prepares the lab for native XDP on its nodes' interfaces. A veth takes
// frames that its peer sends by XDP_REDIRECT only if it has GRO on or an XDP
// program; so GRO is turned on at the far end of every node's interface. For
// XDP_TX that is not enough: it wakes only a peer that has an XDP program.
func Native(on bool) Option {
	return func(l *Lab) { l.native = on }
}

// Lab is a set of namespaces and the processes started in them. Its methods and
// those of its nodes may be called from any goroutine.
type Lab struct {
	prefix string
	native bool
	work   chan func() // for the thread that starts processes

	mu       sync.Mutex
	closed   bool
	closeErr error
	nodes    []*Node
	commands []*Cmd
	ends     uint16 // interfaces made so far
}

// New makes an empty lab. The name, lower-case letters, digits and dashes, must
// be unique among this process's open labs. Without root, the error is an
// fs.ErrPermission.
func New(name string, options ...Option) (*Lab, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("lab name %q: want lower-case letters, digits and dashes", name)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("making network namespaces needs root: %w", fs.ErrPermission)
	}
	owner, err := self()
	if err != nil {
		return nil, fmt.Errorf("naming the lab: %w", err)
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("looking for leftovers of earlier labs: %w", err)
	}
	l := &Lab{prefix: owner.prefix() + name, work: make(chan func())}
	for _, option := range options {
		option(l)
	}
	go l.startProcesses()
	return l, nil
}

// Prefix starts the names of the lab's namespaces. It is unique on this host.
func (l *Lab) Prefix() string { return l.prefix }

// AddNode adds a namespace with its loopback interface up.
func (l *Lab) AddNode(name string) (*Node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	n, err := newNode(l, name)
	if err != nil {
		return nil, fmt.Errorf("adding node %s: %w", name, err)
	}
	l.nodes = append(l.nodes, n)
	return n, nil
}

// Close kills the processes started in the lab and removes its namespaces, with
// all that is in them. It may be called more than once and at any time; every
// call returns when all is gone.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.closeErr
	}
	l.closed = true

	var errs []error
	for _, c := range l.commands {
		if err := c.kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	for _, c := range l.commands {
		c.Wait() // how it ended is its user's business
	}
	close(l.work)
	for _, n := range l.nodes {
		errs = append(errs, n.remove())
	}
	l.closeErr = errors.Join(errs...)
	return l.closeErr
}

// nextEnd numbers the interfaces in the order they are made, from 1.
func (l *Lab) nextEnd() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends++
	return l.ends
}

// remove deletes the namespace and closes what refers to it.
func (n *Node) remove() error {
	n.netlink.Close()
	err := netns.DeleteNamed(n.Namespace())
	return errors.Join(err, n.namespace.Close())
}
