package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
)

// ErrNotRunning says that the pin directory holds no data plane.
var ErrNotRunning = errors.New("no data plane is loaded")

// Options say how to open the data plane.
type Options struct {
	// PinDir is a directory on a bpffs; "" keeps everything in this process.
	PinDir string
	Limits lb.Limits
}

// Datapath is the data plane's maps, and through Attach its programs.
type Datapath struct {
	maps     lbMaps
	all      map[string]*ebpf.Map // the same, by name
	filters  *filters             // nil when opened for reading
	limits   lb.Limits
	pinDir   string
	window   window   // of the scheduler tables
	Replaced []string // pinned maps of another layout that had to go, flows and counters with them
}

// minNearClients keeps room for both those to come and those to go.
const minNearClients = 1024

// minTunnelEnds is the same for tunnels.
const minTunnelEnds = 1024

// minSNATAddresses keeps room for address lists in installations with few backends.
const minSNATAddresses = 1024

func sizedSpec(limits lb.Limits) (*ebpf.CollectionSpec, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	table := flowTableFor(limits)
	entries := map[string]uint32{
		"services":             2 * limits.Services,
		"policies":             limits.Services + 1,
		"source_rules":         2 * max(1, limits.Prefixes),
		"backend_policies":     limits.Backends + 1,
		"service_rates":        limits.Services + 1,
		"client_buckets":       lb.ClientBuckets(limits.Clients),
		"affinity_buckets":     lb.ClientBuckets(limits.Affinity),
		"affinity_backends":    2 * limits.Backends,                // before and after a change
		"service_blocks":       64 * limits.Services,               // 30 are the most of a range, for TCP and UDP each
		"near_clients":         3*limits.Backends + minNearClients, // addresses, and links before and after a change
		"foreign_vips":         2 * limits.Services,
		"tunnel_ends":          2*limits.Backends + minTunnelEnds,
		"path_mtus":            limits.Backends + 1,
		"tables":               (limits.TableEntries + lb.TableChunk - 1) / lb.TableChunk,
		"backends":             limits.Backends + 1,
		"next_hops":            limits.Backends + 1,
		"quic_servers":         limits.Backends,
		"snat_addresses":       max(minSNATAddresses, limits.Backends),
		"flows":                table.slots,
		"all_flow_prefixes":    table.slots,
		"buckets":              table.flowBuckets + table.answerBuckets,
		"answer_slots":         table.answerBuckets,
		"frame_slots":          frameCount(limits.Held),
		"stored_frames":        frameCount(limits.Held),
		"port_pools":           2 * (limits.Backends + 1),
		"flow_counts":          2 * (limits.Backends + 1),
		"service_flow_counts":  limits.Services + 1,
		"all_reason_counters":  limits.Services + 1,
		"all_backend_counters": limits.Backends + 1,
		"service_names":        limits.Services,
		"backend_names":        limits.Backends,
		"all_backend_health":   limits.Backends,
	}
	for name, n := range entries {
		spec.Maps[name].MaxEntries = n
	}
	return spec, nil
}

// Open takes over the maps in opts.PinDir where their layout fits, and creates
// the others. Maps with another layout are unpinned and made anew.
func Open(opts Options) (*Datapath, error) {
	spec, err := sizedSpec(opts.Limits)
	if err != nil {
		return nil, err
	}
	d := &Datapath{all: map[string]*ebpf.Map{}, limits: opts.Limits, pinDir: opts.PinDir}
	if opts.PinDir != "" {
		if err := os.MkdirAll(opts.PinDir, 0o700); err != nil {
			return nil, fmt.Errorf("create the pin directory: %w", err)
		}
		if err := d.dropIncompatible(spec); err != nil {
			return nil, err
		}
	}
	for name, m := range spec.Maps {
		if m.Name == ".rodata" || name == ".rodata" {
			continue // each program has its own
		}
		if opts.PinDir == "" {
			m.Pinning = ebpf.PinNone
		}
		created, err := ebpf.NewMapWithOptions(m, ebpf.MapOptions{PinPath: opts.PinDir})
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("create map %s (%d entries): %w", name, m.MaxEntries, err)
		}
		d.all[name] = created
	}
	d.assign()
	if err := errors.Join(d.prepareFlowTable(), d.openFilters()); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// assign sets the typed fields from the map by name.
func (d *Datapath) assign() {
	d.maps = lbMaps{
		AddressFilters:     d.all["address_filters"],
		AllBackendCounters: d.all["all_backend_counters"],
		AllBackendHealth:   d.all["all_backend_health"],
		AllSettings:        d.all["all_settings"],
		BackendNames:       d.all["backend_names"],
		AnswerClocks:       d.all["answer_clocks"],
		Backends:           d.all["backends"],
		ChecksumBuffers:    d.all["checksum_buffers"],
		Datagrams:          d.all["datagrams"],
		AllDatagramUnits:   d.all["all_datagram_units"],
		FragmentWorks:      d.all["fragment_works"],
		Decisions:          d.all["decisions"],
		AllFlowPrefixes:    d.all["all_flow_prefixes"],
		AllHashKeys:        d.all["all_hash_keys"],
		AnswerSlots:        d.all["answer_slots"],
		InterfaceMtus:      d.all["interface_mtus"],
		FlowHistories:      d.all["flow_histories"],
		Buckets:            d.all["buckets"],
		Locks:              d.all["locks"],
		Ticks:              d.all["ticks"],
		Flows:              d.all["flows"],
		FrameSlots:         d.all["frame_slots"],
		FrameStores:        d.all["frame_stores"],
		StoredFrames:       d.all["stored_frames"],
		NearClients:        d.all["near_clients"],
		ForeignVips:        d.all["foreign_vips"],
		PathMtus:           d.all["path_mtus"],
		TunnelEnds:         d.all["tunnel_ends"],
		NextHops:           d.all["next_hops"],
		Policies:           d.all["policies"],
		SourceRules:        d.all["source_rules"],
		AllTimeouts:        d.all["all_timeouts"],
		BackendPolicies:    d.all["backend_policies"],
		ServiceRates:       d.all["service_rates"],
		ClientBuckets:      d.all["client_buckets"],
		AffinityBuckets:    d.all["affinity_buckets"],
		AffinityBackends:   d.all["affinity_backends"],
		PortPools:          d.all["port_pools"],
		QuicServers:        d.all["quic_servers"],
		FlowCounts:         d.all["flow_counts"],
		ServiceFlowCounts:  d.all["service_flow_counts"],
		Sweepers:           d.all["sweepers"],
		AllReasonCounters:  d.all["all_reason_counters"],
		ServiceNames:       d.all["service_names"],
		ServiceBlocks:      d.all["service_blocks"],
		Services:           d.all["services"],
		SnatAddresses:      d.all["snat_addresses"],
		Tables:             d.all["tables"],
		TestInputs:         d.all["test_inputs"],
	}
}

// fragmentMaps refer to each other, but no other map does: what they hold lives for a second or so.
func fragmentMaps() []string {
	return []string{"frame_slots", "stored_frames", "frame_stores", "datagrams", "all_datagram_units"}
}

// dropIncompatible unpins every map when one of them has another layout: the
// maps refer to each other, so they are kept or dropped together. Those for fragments are by themselves.
func (d *Datapath) dropIncompatible(spec *ebpf.CollectionSpec) error {
	var fragmentsToo bool
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		path := filepath.Join(d.pinDir, name)
		old, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open pinned map %s: %w", path, err)
		}
		isCompatible := m.Compatible(old) == nil
		old.Close()
		switch {
		case isCompatible:
		case slices.Contains(fragmentMaps(), name):
			fragmentsToo = true
		default:
			d.Replaced = append(d.Replaced, name)
		}
	}
	switch {
	case len(d.Replaced) > 0:
		return d.unpinMaps()
	case fragmentsToo:
		return d.unpinFragmentMaps()
	}
	return nil
}

func (d *Datapath) unpinFragmentMaps() error {
	for _, name := range fragmentMaps() {
		if err := os.Remove(filepath.Join(d.pinDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unpin a map of another layout: %w", err)
		}
	}
	return nil
}

// unpinMaps lets go of all maps in the pin directory, also of those that only another version has.
func (d *Datapath) unpinMaps() error {
	entries, err := os.ReadDir(d.pinDir)
	if err != nil {
		return fmt.Errorf("list the pinned maps: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(d.pinDir, entry.Name())
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			continue // a program or a link
		}
		m.Close()
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("unpin a map of another layout: %w", err)
		}
	}
	return nil
}

// OpenPinned opens what a daemon left in dir, for reading.
func OpenPinned(dir string) (*Datapath, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	d := &Datapath{all: map[string]*ebpf.Map{}, pinDir: dir}
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		path := filepath.Join(dir, name)
		opened, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, fs.ErrNotExist) {
			d.Close()
			return nil, fmt.Errorf("%s: %w", dir, ErrNotRunning)
		}
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("open pinned map %s: %w", path, err)
		}
		d.all[name] = opened
		m.MaxEntries = opened.MaxEntries()
		if err := m.Compatible(opened); err != nil {
			d.Close()
			return nil, fmt.Errorf("%s was left by another version of tinylb: %w", path, err)
		}
	}
	d.assign()
	d.limits = lb.Limits{
		Flows:        d.maps.Flows.MaxEntries(),
		Services:     d.maps.Services.MaxEntries() / 2,
		Backends:     d.maps.Backends.MaxEntries() - 1,
		TableEntries: d.maps.Tables.MaxEntries() * lb.TableChunk,
		Prefixes:     d.maps.SourceRules.MaxEntries() / 2,
		Clients:      d.maps.ClientBuckets.MaxEntries() * lb.ClientWays,
		Affinity:     d.maps.AffinityBuckets.MaxEntries() * lb.ClientWays,
		Held:         d.maps.FrameSlots.MaxEntries() - framesInTransit,
	}
	return d, nil
}

// PinnedLimits are the limits of what a daemon left in dir. The errors are those of OpenPinned.
func PinnedLimits(dir string) (lb.Limits, error) {
	d, err := OpenPinned(dir)
	if err != nil {
		return lb.Limits{}, err
	}
	defer d.Close()
	return d.limits, nil
}

// Limits are the sizes that the maps were made with.
func (d *Datapath) Limits() lb.Limits { return d.limits }

// Close lets go of the maps; what is pinned or attached stays.
func (d *Datapath) Close() {
	_ = d.window.close() // fails only for what is not mapped
	for _, m := range d.all {
		m.Close()
	}
}
