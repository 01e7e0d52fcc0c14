package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
)

// ReadStatus reads everything from the pinned maps: it needs no running daemon.
// Without a data plane in pinDir it fails with datapath.ErrNotRunning.
func ReadStatus(pinDir string) (lb.Status, error) {
	located := LocatePins(pinDir)
	d, err := datapath.OpenPinned(located)
	if err != nil {
		return lb.Status{}, err
	}
	defer d.Close()
	tables, err := d.ReadTables()
	if err != nil {
		return lb.Status{}, err
	}
	r := statusReader{
		datapath: d, tables: tables,
		entries: map[uint32]lb.ServiceEntry{}, backendsOf: map[uint32][]uint32{}, names: map[int]string{},
	}
	for _, entry := range tables.Services {
		r.entries[entry.ID] = entry
	}
	for id, name := range tables.BackendNames {
		r.backendsOf[name.Service] = append(r.backendsOf[name.Service], id)
	}
	r.status.Pin = pinDir
	if r.status.DaemonPID, err = Running(pinDir); err != nil {
		return lb.Status{}, err
	}
	if err := r.interfaces(located); err != nil {
		return lb.Status{}, err
	}
	if err := r.services(); err != nil {
		return lb.Status{}, err
	}
	if err := r.fragments(); err != nil {
		return lb.Status{}, err
	}
	return r.status, r.reasons()
}

func (r *statusReader) fragments() error {
	now, err := datapath.Now()
	if err != nil {
		return err
	}
	r.status.Fragments, err = r.datapath.FragmentCounts(now)
	return err
}

type statusReader struct {
	datapath   *datapath.Datapath
	tables     lb.Tables
	entries    map[uint32]lb.ServiceEntry // by service id
	backendsOf map[uint32][]uint32        // backend ids by service id
	names      map[int]string             // of interfaces, by index
	status     lb.Status
}

func (r *statusReader) interfaces(pinDir string) error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range all {
		r.names[i.Index] = i.Name
	}
	attached, err := datapath.Attached(pinDir)
	if errors.Is(err, fs.ErrNotExist) { // taken down while we read
		return fmt.Errorf("%s: %w", r.status.Pin, datapath.ErrNotRunning)
	}
	if err != nil {
		return fmt.Errorf("list what is attached: %w", err)
	}
	r.status.Interfaces = []lb.InterfaceStatus{}
	for _, a := range attached {
		r.names[a.Index] = a.Name // right also when this is another network namespace
		if !a.Alive() {
			continue
		}
		notices, err := r.notices(a)
		if err != nil {
			return err
		}
		r.status.Interfaces = append(r.status.Interfaces, lb.InterfaceStatus{Name: a.Name, Index: a.Index, Mode: a.Mode, Notices: notices})
	}
	slices.SortFunc(r.status.Interfaces, func(a, b lb.InterfaceStatus) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// notices are those about an interface, as far as it can be seen from this network namespace.
func (r *statusReader) notices(a datapath.AttachedInterface) ([]string, error) {
	if a.Elsewhere() {
		return []string{}, nil
	}
	resolver, err := nexthop.New(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer resolver.Close()
	i, err := resolver.Interface(a.Name)
	if errors.Is(err, nexthop.ErrNoInterface) { // renamed
		return []string{}, nil
	}
	if err != nil {
		return nil, err
	}
	var outs []int
	for _, hop := range r.tables.NextHops {
		if !slices.Contains(outs, hop.Interface) {
			outs = append(outs, hop.Interface)
		}
	}
	slices.Sort(outs)
	found, err := readNotices(resolver, i, a.Mode, outs)
	return append([]string{}, found...), err
}

func (r *statusReader) interfaceName(index int) string {
	if name, ok := r.names[index]; ok {
		return name
	}
	return fmt.Sprintf("interface %d", index)
}

func (r *statusReader) services() error {
	r.status.Services = []lb.ServiceStatus{}
	for id, name := range r.tables.ServiceNames {
		entry := r.entries[id]
		s := lb.ServiceStatus{
			Name: name.Name, Address: name.Address, Forward: entry.Forward, Scheduler: entry.Scheduler, TableSize: entry.TableSize,
		}
		for _, p := range name.Protocols {
			s.Protocols = append(s.Protocols, p.String())
		}
		var err error
		if s.Backends, err = r.backends(id); err != nil {
			return err
		}
		r.status.Services = append(r.status.Services, s)
	}
	slices.SortFunc(r.status.Services, func(a, b lb.ServiceStatus) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (r *statusReader) backends(service uint32) ([]lb.BackendStatus, error) {
	backends := []lb.BackendStatus{}
	for _, id := range r.backendsOf[service] {
		name := r.tables.BackendNames[id]
		b := lb.BackendStatus{
			Name:    lb.Backend{Name: name.Name, Address: name.Address}.Label(),
			Address: name.Address, Weight: name.Weight,
		}
		entry, health := r.tables.Backends[id], r.tables.Health[id]
		b.Health = healthStatus(health)
		if hop, known := r.tables.NextHops[entry.NextHop]; known && entry.Service != 0 && hasSource(r.entries[service].Forward, entry) {
			b.Usable = health.Usable()
			b.NextHop = &lb.NextHopStatus{
				Interface: r.interfaceName(hop.Interface), MAC: net.HardwareAddr(hop.MAC[:]).String(), VLAN: hop.VLAN,
			}
		}
		var err error
		if b.Active, err = r.datapath.FlowCount(id, entry); err != nil {
			return nil, err
		}
		if b.Counters, err = r.datapath.BackendCounters(id); err != nil {
			return nil, err
		}
		backends = append(backends, b)
	}
	slices.SortFunc(backends, func(a, b lb.BackendStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return backends, nil
}

// healthStatus is nil for a backend that is not checked.
func healthStatus(h *lb.Health) *lb.HealthStatus {
	if h == nil {
		return nil
	}
	s := &lb.HealthStatus{
		State: h.State, Since: h.Last().At, LastError: h.Error, LastErrorAt: h.ErrorAt, Transitions: []lb.TransitionStatus{},
	}
	for _, t := range h.Transitions {
		s.Transitions = append(s.Transitions, lb.TransitionStatus(t))
	}
	return s
}

// hasSource reports whether there is an address that packets to the backend can be
// sent from, where they need one of ours.
func hasSource(forward lb.Forward, b lb.BackendEntry) bool {
	switch {
	case forward == lb.ForwardNAT:
		return b.SNATCount > 0
	case forward.Tunnels():
		return b.TunnelSource.IsValid()
	}
	return true
}

func (r *statusReader) reasons() error {
	var ids []uint32
	for id := range r.tables.ServiceNames {
		ids = append(ids, id)
	}
	counts, err := r.datapath.ReasonCounts(ids)
	if err != nil {
		return err
	}
	r.status.Reasons = []lb.ReasonStatus{}
	for _, c := range counts {
		r.status.Reasons = append(r.status.Reasons, lb.ReasonStatus{
			Reason: c.Reason.String(), Service: r.tables.ServiceNames[c.Service].Name, Packets: c.Packets,
		})
	}
	slices.SortFunc(r.status.Reasons, func(a, b lb.ReasonStatus) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason))
	})
	return nil
}
