package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
)

// ReadTables copies the configuration tables, as a start finds them.
func (d *Datapath) ReadTables() (lb.Tables, error) {
	t := lb.Tables{
		Services:         map[lb.ServiceKey]lb.ServiceEntry{},
		Backends:         map[uint32]lb.BackendEntry{},
		NextHops:         map[uint32]lb.NextHop{},
		SNATAddresses:    map[uint32]lb.SNATAddress{},
		NearClients:      map[lb.NearClient]uint32{},
		ForeignVIPs:      map[netip.Addr]lb.VIPAnswers{},
		InterfaceMTUs:    map[uint32]uint32{},
		TunnelEnds:       map[lb.TunnelEnd]uint32{},
		QUICServers:      map[lb.QUICServer]uint32{},
		Policies:         map[uint32]lb.ServicePolicy{},
		SourceRules:      map[uint32]lb.SourceRules{},
		Timeouts:         map[uint8]lb.Timeouts{},
		AffinityBackends: map[lb.BackendKey]uint32{},
		ServiceNames:     map[uint32]lb.ServiceName{},
		BackendNames:     map[uint32]lb.BackendName{},
		Health:           map[uint32]*lb.Health{},
	}
	err := errors.Join(
		each(d.maps.Services, func(k lbServiceKey, v lbService) {
			t.Services[serviceKeyFromBPF(k)] = serviceFromBPF(v)
		}),
		each(d.maps.ServiceBlocks, func(k lbServiceBlock, v lbService) {
			t.Services[serviceBlockFromBPF(k)] = serviceFromBPF(v)
		}),
		each(d.maps.NearClients, func(k lbNearClient, link uint32) {
			t.NearClients[nearClientFromBPF(k)] = link
		}),
		each(d.maps.Policies, func(id uint32, v lbPolicy) {
			if v != (lbPolicy{}) {
				t.Policies[id] = policyFromBPF(v)
			}
		}),
		d.readSourceRules(t.SourceRules),
		each(d.maps.AllTimeouts, func(number uint32, v lbTimeouts) {
			if number > 0 && v != (lbTimeouts{}) {
				t.Timeouts[uint8(number)] = timeoutsFromBPF(v)
			}
		}),
		each(d.maps.AffinityBackends, func(k lbBackendKey, id uint32) {
			t.AffinityBackends[backendKeyFromBPF(k)] = id
		}),
		each(d.maps.QuicServers, func(k lbQuicServer, backend uint32) {
			t.QUICServers[quicServerFromBPF(k)] = backend
		}),
		each(d.maps.ForeignVips, func(k lbAddr, v lbForeignVip) {
			t.ForeignVIPs[addrFromBPF(k)] = foreignVIPFromBPF(v)
		}),
		each(d.maps.InterfaceMtus, func(index, mtu uint32) { t.InterfaceMTUs[index] = mtu }),
		each(d.maps.TunnelEnds, func(k lbTunnelEnd, backend uint32) {
			t.TunnelEnds[tunnelEndFromBPF(k)] = backend
		}),
		each(d.maps.ServiceNames, func(id uint32, v lbServiceName) {
			t.ServiceNames[id] = serviceNameFromBPF(v)
		}),
		each(d.maps.BackendNames, func(id uint32, v lbBackendName) {
			t.BackendNames[id] = backendNameFromBPF(v)
		}),
		each(d.maps.AllBackendHealth, func(id uint32, v lbBackendHealth) {
			t.Health[id] = healthFromBPF(v)
		}),
		each(d.maps.Backends, func(id uint32, v lbBackend) {
			if v != (lbBackend{}) {
				t.Backends[id] = backendFromBPF(v)
			}
		}),
		each(d.maps.NextHops, func(id uint32, v lbNextHop) {
			if v != (lbNextHop{}) {
				t.NextHops[id] = nextHopFromBPF(v)
			}
		}),
		each(d.maps.SnatAddresses, func(id uint32, v lbSnatAddress) {
			if v != (lbSnatAddress{}) {
				t.SNATAddresses[id] = lb.SNATAddress{Address: addrFromBPF(v.Address), IsVIP: v.IsVip != 0}
			}
		}),
	)
	return t, errors.Join(err, each(d.maps.BackendPolicies, func(id uint32, policy lbBackendPolicy) {
		if entry, known := t.Backends[id]; known {
			entry.MaxFlows, entry.Weight = policy.MaxFlows, policy.Weight
			t.Backends[id] = entry
		}
	}))
}

// each calls f with every entry of a map; a thousand entries cost one system call.
func each[K, V any](m *ebpf.Map, f func(K, V)) error {
	const batch = 1024
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, batch), make([]V, batch)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			f(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read map %s: %w", mapName(m), err)
		}
	}
}

func mapName(m *ebpf.Map) string {
	if info, err := m.Info(); err == nil {
		return info.Name
	}
	return m.String()
}

func put(m *ebpf.Map, key, value any) error {
	if err := m.Put(key, value); err != nil {
		return fmt.Errorf("write map %s: %w", mapName(m), err)
	}
	return nil
}

// putAll writes entries in order, and says how many; a thousand cost one system call.
func putAll[V, W any](m *ebpf.Map, ids []uint32, values []V, toBPF func(V) W) (written int, err error) {
	const batch = 1024
	for written < len(ids) {
		n := min(batch, len(ids)-written)
		entries := make([]W, n)
		for i := range entries {
			entries[i] = toBPF(values[written+i])
		}
		done, err := m.BatchUpdate(ids[written:written+n], entries, nil)
		if err != nil && done == n {
			done = 0 // the kernel had not come to counting
		}
		if written += done; err != nil {
			return written, fmt.Errorf("write map %s: %w", mapName(m), err)
		}
	}
	return written, nil
}

func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from map %s: %w", mapName(m), err)
	}
	return nil
}

// SetSettings replaces all of them at once, but for the timeouts.
func (d *Datapath) SetSettings(s lb.Settings) error {
	if err := d.PutTimeouts(0, s.Timeouts); err != nil {
		return err
	}
	settings := lbSettings{
		SmallestMtu:     uint64(s.SmallestMTU),
		FragmentTimeout: uint64(s.Fragments.Timeout),
		Held:            min(s.Fragments.Held, d.limits.Held),
		HeldBytes:       s.Fragments.Bytes,
	}
	limits := s.RateLimits
	for kind, rate := range []uint32{limits.Resets, limits.ICMPErrors, limits.EchoReplies} { // in the order of enum answer
		if rate > 0 {
			settings.Interval[kind] = uint64(time.Second) / uint64(rate)
		}
	}
	return put(d.maps.AllSettings, uint32(0), &settings)
}

// PutTimeouts writes timeouts that no backend has yet; number 0 are those for all.
func (d *Datapath) PutTimeouts(number uint8, t lb.Timeouts) error {
	entry := timeoutsToBPF(t)
	return put(d.maps.AllTimeouts, uint32(number), &entry)
}

// PutNextHops writes next hops, in order; an unusable one clears its entry.
func (d *Datapath) PutNextHops(ids []uint32, hops []lb.NextHop) (written int, err error) {
	return putAll(d.maps.NextHops, ids, hops, nextHopToBPF)
}

// ForgetPath forgets what is known of the way by a next hop that nobody has any more.
func (d *Datapath) ForgetPath(hop uint32) error {
	return put(d.maps.PathMtus, hop, &lbPathMtu{})
}

// PutSNATAddress writes one entry of the source address lists.
func (d *Datapath) PutSNATAddress(index uint32, a lb.SNATAddress) error {
	entry := lbSnatAddress{Address: addrToBPF(a.Address)}
	if a.IsVIP {
		entry.IsVip = 1
	}
	return put(d.maps.SnatAddresses, index, &entry)
}

// PutBackends writes backends, in order.
func (d *Datapath) PutBackends(ids []uint32, entries []lb.BackendEntry) (written int, err error) {
	if _, err := putAll(d.maps.BackendPolicies, ids, entries, backendPolicyToBPF); err != nil {
		return 0, err
	}
	return putAll(d.maps.Backends, ids, entries, backendToBPF)
}

// PutTable writes a scheduler table that no service uses yet.
func (d *Datapath) PutTable(offset uint32, backends []uint32) error {
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(backends))), 4*len(backends))
	begin := 4 * int(offset)
	memory, err := d.window.at(d.maps.Tables, begin, len(bytes))
	if err != nil {
		return fmt.Errorf("map %d scheduler table entries at %d into memory: %w", len(backends), offset, err)
	}
	copy(memory, bytes)
	return nil
}

// PutService makes new flows to key go by entry, from the next packet on.
func (d *Datapath) PutService(key lb.ServiceKey, entry lb.ServiceEntry) error {
	v := serviceToBPF(entry)
	if key.Block > 0 {
		k := serviceBlockToBPF(key)
		return put(d.maps.ServiceBlocks, &k, &v)
	}
	k := serviceKeyToBPF(key)
	var known lbService
	isNew := d.maps.Services.Lookup(&k, &known) != nil
	if err := put(d.maps.Services, &k, &v); err != nil || !isNew {
		return err
	}
	return d.filters.expect(key, true)
}

// DeleteService makes packets to key pass; a key that is not there is no error.
func (d *Datapath) DeleteService(key lb.ServiceKey) error {
	if key.Block > 0 {
		k := serviceBlockToBPF(key)
		return remove(d.maps.ServiceBlocks, &k)
	}
	k := serviceKeyToBPF(key)
	err := d.maps.Services.Delete(&k)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete from map services: %w", err)
	}
	return d.filters.expect(key, false)
}

// PutNearClient says that a service's clients in a prefix share a link with its
// backends behind that interface; 0: with any.
func (d *Datapath) PutNearClient(client lb.NearClient, link uint32) error {
	k := nearClientToBPF(client)
	return put(d.maps.NearClients, &k, link)
}

// DeleteNearClient undoes PutNearClient; one that is not there is no error.
func (d *Datapath) DeleteNearClient(client lb.NearClient) error {
	k := nearClientToBPF(client)
	return remove(d.maps.NearClients, &k)
}

// PutPolicy makes new flows to a service comply with p, from the next packet on. The zero
// one asks for nothing.
func (d *Datapath) PutPolicy(id uint32, p lb.ServicePolicy) error {
	entry := policyToBPF(p)
	return put(d.maps.Policies, id, &entry)
}

// PutAffinityBackend says which backend of a service has an address.
func (d *Datapath) PutAffinityBackend(key lb.BackendKey, id uint32) error {
	k := backendKeyToBPF(key)
	return put(d.maps.AffinityBackends, &k, id)
}

// DeleteAffinityBackend undoes PutAffinityBackend; one that is not there is no error.
func (d *Datapath) DeleteAffinityBackend(key lb.BackendKey) error {
	k := backendKeyToBPF(key)
	return remove(d.maps.AffinityBackends, &k)
}

// PutQUICServer makes packets whose connection ids name a server go to a backend.
func (d *Datapath) PutQUICServer(server lb.QUICServer, backend uint32) error {
	k, err := quicServerToBPF(server)
	if err != nil {
		return err
	}
	return put(d.maps.QuicServers, &k, backend)
}

// DeleteQUICServer undoes PutQUICServer; one that is not there is no error.
func (d *Datapath) DeleteQUICServer(server lb.QUICServer) error {
	k, err := quicServerToBPF(server)
	if err != nil {
		return err
	}
	return remove(d.maps.QuicServers, &k)
}

// PutTunnelEnd says that outer packets of the data plane with these ends go to a backend.
func (d *Datapath) PutTunnelEnd(end lb.TunnelEnd, backend uint32) error {
	k := tunnelEndToBPF(end)
	return put(d.maps.TunnelEnds, &k, backend)
}

// DeleteTunnelEnd undoes PutTunnelEnd; one that is not there is no error.
func (d *Datapath) DeleteTunnelEnd(end lb.TunnelEnd) error {
	k := tunnelEndToBPF(end)
	return remove(d.maps.TunnelEnds, &k)
}

// PutForeignVIP says that a VIP is no address of the host, and what is answered for it.
func (d *Datapath) PutForeignVIP(vip netip.Addr, answers lb.VIPAnswers) error {
	k, v := addrToBPF(vip), foreignVIPToBPF(answers)
	return put(d.maps.ForeignVips, &k, &v)
}

// DeleteForeignVIP undoes PutForeignVIP; one that is not there is no error.
func (d *Datapath) DeleteForeignVIP(vip netip.Addr) error {
	k := addrToBPF(vip)
	return remove(d.maps.ForeignVips, &k)
}

// PutInterfaceMTU says how large IP packets on an interface may be.
func (d *Datapath) PutInterfaceMTU(index, mtu uint32) error {
	return put(d.maps.InterfaceMtus, index, mtu)
}

// DeleteInterfaceMTU undoes PutInterfaceMTU; one that is not there is no error.
func (d *Datapath) DeleteInterfaceMTU(index uint32) error {
	return remove(d.maps.InterfaceMtus, index)
}

// PutServiceName records what a service id stands for.
func (d *Datapath) PutServiceName(id uint32, name lb.ServiceName) error {
	entry := serviceNameToBPF(name)
	return put(d.maps.ServiceNames, id, &entry)
}

// DeleteServiceName forgets a service id and clears its counters.
func (d *Datapath) DeleteServiceName(id uint32) error {
	zero := make([]lbReasonCounters, ebpf.MustPossibleCPU())
	if err := put(d.maps.AllReasonCounters, id, zero); err != nil {
		return err
	}
	if err := put(d.maps.ServiceRates, id, &lbServiceRate{}); err != nil {
		return err
	}
	return remove(d.maps.ServiceNames, id)
}

// PutBackendNames records what backend ids stand for.
func (d *Datapath) PutBackendNames(ids []uint32, names []lb.BackendName) (written int, err error) {
	return putAll(d.maps.BackendNames, ids, names, backendNameToBPF)
}

// PutBackendHealth records what is known of backends' health.
func (d *Datapath) PutBackendHealth(ids []uint32, health []*lb.Health) (written int, err error) {
	return putAll(d.maps.AllBackendHealth, ids, health, healthToBPF)
}

// DeleteBackendHealth says that a backend is not checked; one without a record is no error.
func (d *Datapath) DeleteBackendHealth(id uint32) error {
	return remove(d.maps.AllBackendHealth, id)
}

// DeleteBackendName forgets a backend id and its health, and clears its counters.
func (d *Datapath) DeleteBackendName(id uint32) error {
	if err := d.DeleteBackendHealth(id); err != nil {
		return err
	}
	zero := make([]lbBackendCounters, ebpf.MustPossibleCPU())
	if err := put(d.maps.AllBackendCounters, id, zero); err != nil {
		return err
	}
	return remove(d.maps.BackendNames, id)
}
