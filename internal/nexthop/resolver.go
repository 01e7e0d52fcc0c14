// Package nexthop finds out where packets toward the backends leave this host: by
// which interface and to which Ethernet address. It reads the kernel's routes and
// neighbours over netlink, keeps what it read current, and has the kernel ask for
// neighbours (ARP, RFC 826; ND, RFC 4861) that it does not know or has not heard
// from. It writes nothing into the kernel's tables but such questions.
package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/safchain/ethtool"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
)

// timerGrain gathers what falls due at about the same time into one step.
const timerGrain = 50 * time.Millisecond

// Resolver keeps the next hops of a set of addresses current. Its methods may be
// called from any goroutine and, after New, from any thread and network namespace.
type Resolver struct {
	log          *slog.Logger
	kernel       *kernel
	ethtool      *ethtool.Ethtool
	subscription *nl.NetlinkSocket
	woken        chan struct{} // capacity 1: the wanted set has changed
	changed      chan struct{} // capacity 1: see Changed

	mu    sync.Mutex
	hops  map[netip.Addr]lb.NextHop // the keys are the wanted set
	fresh map[netip.Addr]struct{}   // have changed since the last call of Changes
	own   []netip.Addr              // see Own; nil: not known yet
	out   []int                     // see Out
	// attached is what SetAttached was told. Never changed, but exchanged.
	attached []string
	// interfaces are all by their names; nil: not known yet. Never changed, but exchanged.
	interfaces map[string]sized
}

// New opens netlink in the network namespace of the calling thread (a caller that
// is not in the process's own namespace has locked its goroutine to that thread).
// Reading needs no privilege; asking for neighbours needs CAP_NET_ADMIN.
func New(log *slog.Logger) (*Resolver, error) {
	runtime.LockOSThread() // every socket in one namespace
	defer runtime.UnlockOSThread()
	r := &Resolver{
		log:     log,
		woken:   make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		hops:    map[netip.Addr]lb.NextHop{},
		fresh:   map[netip.Addr]struct{}{},
	}
	var err error
	if r.kernel, err = openKernel(); err != nil {
		return nil, err
	}
	if r.subscription, err = subscribe(); err != nil {
		r.kernel.close()
		return nil, err
	}
	if r.ethtool, err = ethtool.NewEthtool(); err != nil {
		r.kernel.close()
		r.subscription.Close()
		return nil, fmt.Errorf("open ethtool: %w", err)
	}
	return r, nil
}

// Close frees the sockets. Call it after Run has returned, or instead of Run. The
// neighbour entries asked for stay in the kernel's table until it expires them.
func (r *Resolver) Close() error {
	r.subscription.Close()
	r.ethtool.Close()
	r.kernel.close()
	return nil
}

// Set says which addresses are wanted, all of them; invalid ones are left out.
func (r *Resolver) Set(addrs []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hops := make(map[netip.Addr]lb.NextHop, len(addrs))
	changed := false
	for _, addr := range addrs {
		if !addr.IsValid() {
			continue
		}
		hop, known := r.hops[addr]
		if !known {
			hop.Problem = problemNotYet
			changed = true
		}
		hops[addr] = hop
	}
	if !changed && len(hops) == len(r.hops) {
		return
	}
	r.hops = hops
	signal(r.woken)
}

// Hops returns the next hop of every wanted address, usable or not. One that has
// not been looked up yet is missing.
func (r *Resolver) Hops() map[netip.Addr]lb.NextHop {
	r.mu.Lock()
	defer r.mu.Unlock()
	hops := maps.Clone(r.hops)
	maps.DeleteFunc(hops, func(_ netip.Addr, hop lb.NextHop) bool { return hop.Problem == problemNotYet })
	return hops
}

// Changes returns those of Hops that have changed since the last call, be it by
// being looked up for the first time. It is for one caller.
func (r *Resolver) Changes() map[netip.Addr]lb.NextHop {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes := make(map[netip.Addr]lb.NextHop, len(r.fresh))
	for addr := range r.fresh {
		if hop, wanted := r.hops[addr]; wanted && hop.Problem != problemNotYet {
			changes[addr] = hop
		}
	}
	r.fresh = map[netip.Addr]struct{}{}
	return changes
}

// Known is how many of the wanted addresses have a usable next hop, and of how many.
func (r *Resolver) Known() (usable, wanted int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, hop := range r.hops {
		if hop.Usable() {
			usable++
		}
	}
	return usable, len(r.hops)
}

// Own returns the host's own addresses, of all its interfaces; false: they are not known yet. The caller must not
// change them.
func (r *Resolver) Own() (addresses []netip.Addr, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own, r.own != nil
}

// SetAttached says which interfaces have a program, by name: of those packets leave as
// of any other, also where they are VLAN interfaces.
func (r *Resolver) SetAttached(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(r.attached, names) {
		return
	}
	r.attached = slices.Clone(names)
	signal(r.woken)
}

// Out are the indices of the interfaces that packets to the wanted addresses leave by.
func (r *Resolver) Out() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out
}

// Changed receives a value after Hops has changed in any way but by Set, or Own, or MTUs. Several
// changes may be reported by one value.
func (r *Resolver) Changed() <-chan struct{} { return r.changed }

// Run follows the kernel until ctx ends, which is no error. It may be called once.
func (r *Resolver) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// Closing is the only thing that ends a pending receive.
	context.AfterFunc(ctx, r.subscription.Close)
	notified := make(chan hints, 64)
	group.Go(func() error { return receive(ctx, r.subscription, notified) })
	group.Go(func() error {
		r.follow(ctx, notified)
		return nil
	})
	return group.Wait()
}

// follow is the loop that owns the tracker.
func (r *Resolver) follow(ctx context.Context, notified <-chan hints) {
	t := newTracker(r.log, r.kernel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	overran := false
	for {
		var h hints
		wantedChanged := false
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
			wantedChanged = true
		case h = <-notified:
			h.drain(notified)
		case <-timer.C:
		}
		if h.everything && !overran {
			overran = true
			r.log.Warn("netlink notifications were lost, reading everything anew; further losses are not logged")
		}
		r.step(t, h, wantedChanged)
		if next, ok := t.next(); ok {
			timer.Reset(max(time.Until(next), timerGrain))
		}
	}
}

// drain takes what is already there, so that a burst costs one step.
func (h *hints) drain(notified <-chan hints) {
	for range cap(notified) {
		select {
		case more := <-notified:
			h.add(more)
		default:
			return
		}
	}
}

// step brings the tracker and what it tells up to date.
func (r *Resolver) step(t *tracker, h hints, wantedChanged bool) {
	now := time.Now()
	t.stale = t.stale || h.routes || h.everything
	if h.everything {
		t.reread(now)
	}
	t.expedite(h.neighbours, now)
	t.attached = r.attachedNames()

	all := t.stale && !now.Before(t.lookupFrom)
	if all || wantedChanged {
		t.lookup(r.wanted(), all, now)
	}
	touched := t.examineDue(time.Now())
	if all || wantedChanged {
		touched = r.wanted()
	}
	r.publish(t, touched)
}

func (r *Resolver) attachedNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attached
}

func (r *Resolver) wanted() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make([]netip.Addr, 0, len(r.hops))
	for addr := range r.hops {
		addrs = append(addrs, addr)
	}
	return addrs
}

// publish shows the host's addresses, and the next hops of the addresses, as far as they are still wanted.
func (r *Resolver) publish(t *tracker, addrs []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := t.own != nil && !slices.Equal(t.own, r.own)
	changed = changed || !maps.Equal(t.interfaces, r.interfaces)
	r.own, r.interfaces, r.out = t.own, t.interfaces, t.out()
	for _, addr := range addrs {
		before, wanted := r.hops[addr]
		if now := t.hop(addr); wanted && now != before {
			r.hops[addr] = now
			r.fresh[addr] = struct{}{}
			changed = true
			r.log.Debug("next hop changed", "address", addr, "interface", now.Interface, "problem", now.Problem)
		}
	}
	if changed {
		signal(r.changed)
	}
}

// signal sets a channel of capacity 1, unless it is set already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
