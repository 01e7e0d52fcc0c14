// Package daemon wires the parts together: one loop takes every change of
// config, next hops and health, and has the reconciler make the data plane follow.
package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/health"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
	"github.com/tinylb/tinylb/internal/reconcile"
)

const (
	// settleTime is how long a file must stay unchanged before it is read:
	// editors write it in several steps.
	settleTime = 100 * time.Millisecond
	// backendWait is how long a start waits for backends to answer, so that it neither
	// takes those of a data plane that it took over out of service, nor begins with
	// those that are down.
	backendWait = 2 * time.Second
	retryFirst  = 100 * time.Millisecond
	retryLast   = 10 * time.Second
)

// Options say what a daemon serves.
type Options struct {
	ConfigPath string
	PinDir     string
	LocalPorts lb.PortRange // the kernel's own; see config.Options
	Log        *slog.Logger
	Reload     <-chan os.Signal // each one reads the config again
}

type daemon struct {
	Options
	datapath   *datapath.Datapath
	resolver   *nexthop.Resolver
	checker    *health.Checker
	attacher   *attacher
	groups     *nexthop.Groups
	pins       string // how this process reaches PinDir
	reconciler *reconcile.Reconciler
	inherited  []int     // indices of interfaces that an earlier run has attached
	limits     lb.Limits // of the maps
	config     lb.Config
	text       [sha256.Size]byte      // of the config file that is in effect
	isApplied  bool                   // the config, with the next hops and the health of the last time, is in the tables
	unusable   map[backendName]string // why; "": it is not usable, as its health check has found, which has been logged
	down       []string               // services without any usable backend
	announced  bool
}

// backendName is a backend as the log has it.
type backendName struct {
	service, backend string
}

// Run serves the config until ctx ends, and leaves the data plane forwarding.
// Errors in the config are of type config.Errors; nothing has changed then.
func Run(ctx context.Context, opts Options) error {
	d := &daemon{Options: opts}
	if err := d.read(); err != nil {
		return err
	}
	if err := CheckHost(); err != nil {
		return err
	}
	lock, err := TakeLock(opts.PinDir)
	if err != nil {
		return err
	}
	defer lock.Release()
	if d.resolver, err = nexthop.New(opts.Log); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer d.resolver.Close()
	if d.groups, err = nexthop.NewGroups(); err != nil {
		return err
	}
	defer d.groups.Close()
	d.checker = health.New(opts.Log)
	defer d.checker.Close()
	for _, name := range d.config.Interfaces {
		if _, err := d.resolver.Interface(name); err != nil {
			return err
		}
	}
	if err := d.open(); err != nil {
		return err
	}
	defer d.datapath.Close()
	return d.serve(ctx)
}

// read replaces the config by what the file says now, if that is valid.
func (d *daemon) read() error {
	debug.SetGCPercent(garbageWhileReading)
	// Before Load: a change between the two then looks like one still to come.
	text, _ := os.ReadFile(d.ConfigPath)
	cfg, warnings, err := config.Load(d.ConfigPath, config.Options{LocalPorts: d.LocalPorts})
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		d.Log.Warn(warning.String())
	}
	d.config, d.text, d.isApplied = cfg, sha256.Sum256(text), false
	return nil
}

// open takes over what an earlier daemon left, or loads the data plane anew.
func (d *daemon) open() error {
	var err error
	if d.pins, err = ensureBPFFS(d.PinDir); err != nil {
		return err
	}
	attached, err := datapath.Attached(d.pins)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list what is attached: %w", err)
	}
	for _, a := range attached {
		if a.Elsewhere() {
			return fmt.Errorf("%w (%s): give this one a pin directory of its own with --pin", ErrElsewhere, a.Name)
		}
		d.inherited = append(d.inherited, a.Index)
	}
	d.limits = d.config.Limits
	if have, err := datapath.PinnedLimits(d.pins); err == nil {
		have.Held = max(have.Held, d.config.Limits.Held) // no flow is lost for that
		if d.config.RunsWith(have) {
			d.limits = have
		}
	}
	d.datapath, err = datapath.Open(datapath.Options{PinDir: d.pins, Limits: d.limits})
	if err != nil {
		return errors.Join(err, d.undoStart())
	}
	if len(d.datapath.Replaced) > 0 {
		d.Log.Warn("the maps of an earlier run have another layout or other limits: flows and counters start anew",
			"maps", d.datapath.Replaced)
	}
	if err := d.datapath.StartSweeper(); err != nil {
		return errors.Join(err, d.undoStart())
	}
	if d.reconciler, err = reconcile.New(d.datapath, d.limits); err != nil {
		return errors.Join(err, d.undoStart())
	}
	d.attacher = &attacher{
		log: d.Log, datapath: d.datapath, resolver: d.resolver, pinDir: d.pins,
		current: map[int]datapath.Attachment{},
	}
	return nil
}

func (d *daemon) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{})
	group.Go(func() error { return d.resolver.Run(ctx) })
	group.Go(func() error { return watchFile(ctx, d.Log, d.ConfigPath, changed) })
	group.Go(func() error { return d.loop(ctx, changed) })
	return group.Wait()
}

// loop is the one writer of configuration maps.
func (d *daemon) loop(ctx context.Context, fileChanged <-chan struct{}) error {
	d.resolver.SetAttached(d.config.Interfaces)
	d.resolver.Set(d.config.BackendAddresses())
	d.setChecks(lb.HealthUnknown)
	d.awaitBackends(ctx)
	if err := d.apply(); err != nil {
		return errors.Join(err, d.undoStart())
	}
	if err := d.attacher.Set(d.config.Interfaces, d.config.Mode); err != nil {
		return errors.Join(err, d.undoStart())
	}
	d.joinGroups()
	d.warnOfMergedPackets()
	giveBackMemory()
	d.announceReady()

	settled, retry := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	settled.Stop()
	retry.Stop()
	delay := retryFirst
	for {
		select {
		case <-ctx.Done():
			d.Log.Info("ending", "pin", d.PinDir)
			return nil
		case <-fileChanged:
			settled.Reset(settleTime)
			continue
		case <-settled.C:
			if text, err := os.ReadFile(d.ConfigPath); err == nil && sha256.Sum256(text) == d.text {
				continue
			}
			d.reload()
		case <-d.Reload:
			d.reload()
		case <-d.resolver.Changed():
		case <-d.checker.Changed():
		case <-retry.C:
		}
		if err := d.update(); err != nil {
			d.Log.Error("the data plane does not follow; trying again", "error", err, "in", delay)
			retry.Reset(delay)
			delay = min(2*delay, retryLast)
			continue
		}
		delay = retryFirst
		d.announceReady()
	}
}

// update makes the data plane follow, the tables first, because packets wait for them.
func (d *daemon) update() error {
	isNew := !d.isApplied
	if isNew { // first, because backends that are new wait for their first check
		d.setChecks(lb.HealthNew)
	}
	applying := d.apply()
	if isNew {
		d.resolver.Set(d.config.BackendAddresses())
	}
	// An interface may have been made anew, or have another MAC.
	attaching := d.attacher.Set(d.config.Interfaces, d.config.Mode)
	d.joinGroups()
	if isNew {
		d.warnOfMergedPackets()
		giveBackMemory()
	}
	return errors.Join(applying, attaching)
}

// joinGroups makes the interfaces take the solicitations that the data plane answers. A failure
// is not worth more than a warning: most cards take all groups when there are many.
func (d *daemon) joinGroups() {
	if err := d.groups.Set(d.attacher.interfaces, d.reconciler.AnsweredVIPs()); err != nil {
		d.Log.Warn("neighbour solicitations for VIPs may not arrive", "error", err)
	}
}

// Garbage may be this much of what is in use, in percent, until it is collected: while
// a config is read, when there is much of it and time counts, and later, when memory does.
// A little, in bytes, is always allowed then: health checks make garbage, too.
const (
	garbageWhileReading = 100
	garbageLater        = 10
	garbageAllowed      = 4 << 20
)

// giveBackMemory follows on the reading of a config, which takes several times what
// remains of it.
func giveBackMemory() {
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	debug.SetGCPercent(max(garbageLater, int(100*garbageAllowed/memory.HeapAlloc)))
}

// undoStart leaves things as this start found them: what an earlier run attached
// goes on forwarding, and where nothing was attached, nothing stays.
func (d *daemon) undoStart() error {
	if len(d.inherited) == 0 {
		return datapath.Remove(d.pins)
	}
	attached, err := datapath.Attached(d.pins)
	for _, a := range attached {
		if !slices.Contains(d.inherited, a.Index) {
			err = errors.Join(err, datapath.Detach(d.pins, a.Index))
		}
	}
	return err
}

// awaitBackends waits, within bounds, until every backend's next hop is known, and
// every one has been checked that is to be.
func (d *daemon) awaitBackends(ctx context.Context) {
	deadline := time.NewTimer(backendWait)
	defer deadline.Stop()
	for {
		if usable, wanted := d.resolver.Known(); usable == wanted && d.checker.Unknown() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-d.resolver.Changed():
		case <-d.checker.Changed():
		}
	}
}

// reload puts a changed config into effect, or says why it cannot be.
func (d *daemon) reload() {
	before := *d
	if err := d.read(); err != nil {
		giveBackMemory()
		d.Log.Error("the changed config is not used; the old one stays in effect", "error", err)
		return
	}
	if !d.config.RunsWith(d.limits) {
		d.keep(before)
		d.Log.Error("the changed config is not used: limits change only with a restart; the old one stays in effect")
		return
	}
	if err := d.reattach(before.config); err != nil {
		d.keep(before)
		back := d.attacher.Set(d.config.Interfaces, d.config.Mode)
		d.Log.Error("the changed config is not used; the old one stays in effect", "error", errors.Join(err, back))
		return
	}
	d.Log.Info("config reloaded", "services", len(d.config.Services))
}

// keep goes back to the config from before a reload.
func (d *daemon) keep(before daemon) {
	defer giveBackMemory()
	d.config, d.text, d.isApplied = before.config, before.text, before.isApplied
}

// reattach finds out whether a changed config's interfaces can be used, by using them.
func (d *daemon) reattach(before lb.Config) error {
	if slices.Equal(d.config.Interfaces, before.Interfaces) && d.config.Mode == before.Mode {
		return nil
	}
	return d.attacher.Set(d.config.Interfaces, d.config.Mode)
}

func (d *daemon) apply() error {
	result, err := d.reconcile()
	if err != nil {
		d.isApplied = false
		return err
	}
	if !d.isApplied {
		d.isApplied, d.config.Services = true, d.reconciler.Services()
	}
	unusable := map[backendName]string{}
	for _, u := range result.Unusable {
		name := backendName{u.Service, u.Backend}
		if u.IsDown {
			unusable[name] = ""
			continue
		}
		unusable[name] = u.Problem
		if d.unusable[name] != u.Problem {
			d.Log.Warn("backend not usable", "service", u.Service, "backend", u.Backend, "problem", u.Problem)
		}
	}
	for name, problem := range d.unusable {
		if _, still := unusable[name]; !still && problem != "" {
			d.Log.Info("backend usable again", "service", name.service, "backend", name.backend)
		}
	}
	d.unusable = unusable
	d.down = result.Down
	return nil
}

func (d *daemon) reconcile() (reconcile.Result, error) {
	hops := d.resolver.Changes()
	d.reconciler.LearnHealth(d.checker.Changes())
	if own, known := d.resolver.Own(); known {
		d.reconciler.SetHost(own)
	}
	if mtus := d.resolver.MTUs(d.config.Interfaces); len(mtus) > 0 {
		d.reconciler.SetInterfaceMTUs(mtus)
	}
	if d.isApplied {
		return d.reconciler.Follow(hops)
	}
	return d.reconciler.Apply(d.config, hops)
}

// announceReady says once that every service can take traffic.
func (d *daemon) announceReady() {
	if d.announced || len(d.down) > 0 {
		return
	}
	d.announced = true
	d.Log.Info("ready", "services", len(d.config.Services), "pin", d.PinDir)
}
