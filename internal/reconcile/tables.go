// Package reconcile turns the desired state into the data plane's tables: it
// compares with what they hold and writes the difference, in an order in which
// no packet ever meets half a change. It owns the ids.
package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Tables is what a Reconciler writes to. Every call replaces entries whole and may
// be repeated. Those that take many write them in order, and say how many they have
// written: all, if there is no error.
type Tables interface {
	ReadTables() (lb.Tables, error)
	SetSettings(lb.Settings) error
	PutInterfaceMTU(index, mtu uint32) error
	DeleteInterfaceMTU(index uint32) error
	// SetAddressFilter says which packets are looked at: those to one of
	// destinations and those from one of sources.
	SetAddressFilter(destinations, sources []netip.Addr) error
	PutNextHops(ids []uint32, hops []lb.NextHop) (written int, err error)
	// ForgetPath says that a next hop that was cleared will be another one.
	ForgetPath(hop uint32) error
	PutSNATAddress(index uint32, a lb.SNATAddress) error
	PutBackends(ids []uint32, entries []lb.BackendEntry) (written int, err error)
	PutTable(offset uint32, backends []uint32) error
	PutService(key lb.ServiceKey, entry lb.ServiceEntry) error
	DeleteService(key lb.ServiceKey) error
	PutNearClient(client lb.NearClient, interfaceIndex uint32) error
	DeleteNearClient(client lb.NearClient) error
	// PutTimeouts and PutSourceRules write under a number that nobody has yet.
	PutTimeouts(number uint8, t lb.Timeouts) error
	PutSourceRules(number uint32, rules lb.SourceRules) error
	DeleteSourceRules(number uint32, rules lb.SourceRules) error
	PutAffinityBackend(key lb.BackendKey, id uint32) error
	DeleteAffinityBackend(key lb.BackendKey) error
	PutPolicy(service uint32, policy lb.ServicePolicy) error
	PutQUICServer(server lb.QUICServer, backend uint32) error
	DeleteQUICServer(server lb.QUICServer) error
	PutTunnelEnd(end lb.TunnelEnd, backend uint32) error
	DeleteTunnelEnd(end lb.TunnelEnd) error
	PutForeignVIP(vip netip.Addr, answers lb.VIPAnswers) error
	DeleteForeignVIP(vip netip.Addr) error
	PutServiceName(id uint32, name lb.ServiceName) error
	DeleteServiceName(id uint32) error
	PutBackendNames(ids []uint32, names []lb.BackendName) (written int, err error)
	// DeleteBackendName forgets the backend's health, too.
	DeleteBackendName(id uint32) error
	PutBackendHealth(ids []uint32, health []*lb.Health) (written int, err error)
	DeleteBackendHealth(id uint32) error
}
