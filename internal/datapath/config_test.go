package datapath_test

import (
	"net/netip"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// The addresses of most tests.
const (
	webVIP     = "203.0.113.5:80"
	dnsVIP     = "203.0.113.5:53"
	source     = "10.0.0.5" // the balancer's own, toward backends
	backendA   = "10.0.0.2:80"
	backendB   = "10.0.0.3:8080"
	backendSix = "[2001:db8::2]:80"
	aClient    = "198.51.100.7:40000"
	someTable  = 251
)

func localMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 5} }

// macOf is the MAC of the machine with an address.
func macOf(a netip.Addr) lb.MAC {
	last := [4]byte(a.AsSlice()[a.BitLen()/8-4:])
	return lb.MAC{2, 1, last[0], last[1], last[2], last[3]}
}

// sourceToward is the balancer's own address toward a backend.
func sourceToward(backend netip.Addr) netip.Addr {
	w := wire{six: backend.Is6()}
	return w.of(netip.MustParseAddr(source))
}

func backends(addresses ...string) []lb.Backend {
	var all []lb.Backend
	for _, a := range addresses {
		all = append(all, lb.Backend{Address: netip.MustParseAddrPort(a), Weight: 1})
	}
	return all
}

func service(name, vip string, protocol lb.Protocol, addresses ...string) lb.Service {
	return lb.Service{
		Name: name, Address: lb.VIPAt(netip.MustParseAddrPort(vip)), Protocols: []lb.Protocol{protocol},
		Forward: lb.ForwardNAT, Scheduler: lb.Maglev, TableSize: someTable,
		SNAT:     lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
		Backends: backends(addresses...),
	}
}

// web is a TCP service, dns a UDP service; both are at the same VIP.
func web(addresses ...string) lb.Service { return service("web", webVIP, lb.TCP, addresses...) }
func dns(addresses ...string) lb.Service { return service("dns", dnsVIP, lb.UDP, addresses...) }

func withPorts(s lb.Service, first, last uint16) lb.Service {
	s.SNAT.Ports = lb.PortRange{First: first, Last: last}
	return s
}

func withSources(s lb.Service, addresses ...string) lb.Service {
	s.SNAT.Addresses = nil
	for _, a := range addresses {
		s.SNAT.Addresses = append(s.SNAT.Addresses, netip.MustParseAddr(a))
	}
	return s
}

func config(services ...lb.Service) lb.Config {
	return lb.Config{
		Services: services,
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: time.Minute, TCPEstablished: 2 * time.Hour, TCPHalfClosed: 4 * time.Minute,
			TCPClosed: 10 * time.Second, UDPUnconfirmed: 30 * time.Second, UDPStream: 2 * time.Minute,
		},
		RateLimits: lb.RateLimits{Resets: 1_000_000, ICMPErrors: 1_000_000, EchoReplies: 1_000_000},
		Answers:    lb.VIPAnswers{Echo: true},
		Fragments:  lb.Fragments{Held: 64, Bytes: 1 << 20, Timeout: time.Second},
		Limits:     lb.Limits{Flows: 4096, Services: 16, Backends: 64, TableEntries: 16384, Prefixes: 256, Clients: 4096, Affinity: 4096, Held: 64},
	}
}

// clientAt is the nth of many clients that all use the same port.
func clientAt(n int) string {
	address := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
	return netip.AddrPortFrom(address, 40000).String()
}
