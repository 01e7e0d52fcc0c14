// Package demo is the tutorial's load balancer on one machine: client, balancer
// and two backends in network namespaces, every one a process of this same
// program. It also contains the backend and the client.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

// Options say what to show and with which program.
type Options struct {
	Forward  lb.Forward
	Mode     lb.Mode           // native or generic
	Binary   string            // this program
	BPFFS    string            // where the balancer's pins go, in a directory of their own
	Progress func(step string) // called before each step
}

// Demo is the running environment.
type Demo struct {
	Options
	network  *network
	balancer *server
	work     string // directory of the config file
}

// Run builds the environment, hands it to use, and removes it, whatever
// happens and even when the context has ended. Without root the error is an
// fs.ErrPermission.
func Run(ctx context.Context, o Options, use func(*Demo) error) (err error) {
	d := &Demo{Options: o}
	l, err := lab.New("demo", lab.Native(o.Mode == lb.ModeNative))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if d.work, err = os.MkdirTemp("", "tinylb-demo-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.work)

	o.Progress("building client, lb, backend-a, backend-b and the bridge " + bridgeName)
	if d.network, err = addMachines(l, o.Forward); err != nil {
		return fmt.Errorf("building the network: %w", err)
	}
	if err := d.removeLeftoverPins(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.takeDown()) }()
	if err := d.startServers(ctx); err != nil {
		return err
	}
	return use(d)
}

// startServers returns when the client can be served.
func (d *Demo) startServers(ctx context.Context) error {
	if err := os.WriteFile(d.configFile(), []byte(balancerConfig(d.Options)), 0o600); err != nil {
		return err
	}
	var servers []*server
	d.Progress("starting the backends")
	for i, b := range backends() {
		args := []string{"demo-backend", "--name", b.name, "--listen", b.listen(d.Forward)}
		if d.Forward.Tunnels() {
			args = append(args, "--decapsulate", string(d.Forward))
		}
		s, err := start(d.command(ctx, d.network.backends[i], args...))
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	d.Progress("starting the balancer")
	// Not ended by ctx, but by takeDown: killed, it would leave its pins.
	balancer, err := start(d.command(context.WithoutCancel(ctx), d.network.balancer,
		"run", "-c", d.configFile(), "--pin", d.pinDir()))
	if err != nil {
		return err
	}
	d.balancer = balancer

	group, ctx := errgroup.WithContext(ctx)
	for _, s := range append(servers, balancer) {
		group.Go(func() error { return s.waitReady(ctx) })
	}
	return group.Wait()
}

// Request sends the requests from the client's namespace.
func (d *Demo) Request(ctx context.Context, l Load) (Result, error) {
	d.Progress(fmt.Sprintf("sending %d requests to %s", l.Requests, l.URL))
	printed, err := output(d.command(ctx, d.network.client, "demo-client",
		"--url", l.URL,
		"--requests", strconv.Itoa(l.Requests),
		"--concurrency", strconv.Itoa(l.Concurrency),
		"--timeout", l.Timeout.String(),
		"-o", "json"))
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	var r Result
	if jsonErr := json.Unmarshal(printed, &r); jsonErr != nil {
		return Result{}, errors.Join(err, fmt.Errorf("the demo client's result: %w", jsonErr))
	}
	return r, nil // failed requests are a result too
}

// Reasons reads what the data plane counted, from `tinylb status`.
func (d *Demo) Reasons(ctx context.Context) ([]lb.ReasonStatus, error) {
	printed, err := output(d.command(ctx, d.network.balancer, "status", "--pin", d.pinDir(), "-o", "json"))
	if err != nil {
		return nil, err
	}
	var status lb.Status
	if err := json.Unmarshal(printed, &status); err != nil {
		return nil, fmt.Errorf("the balancer's status: %w", err)
	}
	return status.Reasons, nil
}

// takeDown ends the balancer and removes what it put into the kernel. It has
// its own time limit, because the context has usually ended by now.
func (d *Demo) takeDown() error {
	d.Progress("removing everything")
	ctx, cancel := context.WithTimeout(context.Background(), 4*stopGrace)
	defer cancel()
	if d.balancer != nil {
		d.balancer.stop()
	}
	return d.removePins(ctx, d.pinDir())
}

// removeLeftoverPins does what a killed demo could not.
func (d *Demo) removeLeftoverPins(ctx context.Context) error {
	entries, err := os.ReadDir(d.BPFFS)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for leftovers of earlier demos: %w", err)
	}
	for _, e := range entries {
		if !lab.Abandoned(e.Name()) {
			continue
		}
		if err := d.removePins(ctx, filepath.Join(d.BPFFS, e.Name())); err != nil {
			return fmt.Errorf("removing what an earlier demo left: %w", err)
		}
	}
	return nil
}

func (d *Demo) removePins(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := output(d.command(ctx, d.network.balancer, "down", "--pin", dir))
	return err
}

func (d *Demo) pinDir() string { return filepath.Join(d.BPFFS, d.network.Prefix()) }

func (d *Demo) configFile() string { return filepath.Join(d.work, "tinylb.yaml") }
