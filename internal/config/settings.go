package config

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	maxInterfaceName = 15 // IFNAMSIZ without its final zero
	minTimeout       = time.Second
	maxTimeout       = 30 * 24 * time.Hour
	maxRate          = 1_000_000 // a second

	maxHeld            = 4096 // frames
	maxHeldBytes       = 64 << 20
	minFragmentTimeout = 10 * time.Millisecond
	maxFragmentTimeout = time.Minute // RFC 8200, 4.5
)

func defaultTimeouts() lb.Timeouts {
	return lb.Timeouts{
		TCPUnconfirmed: 4 * time.Minute,             // RFC 5382, REQ-5, transitory
		TCPEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382, REQ-5
		TCPHalfClosed:  4 * time.Minute,             // as transitory
		TCPClosed:      4 * time.Minute,             // as transitory
		UDPUnconfirmed: 2 * time.Minute,             // RFC 4787, REQ-5
		UDPStream:      2 * time.Minute,             // RFC 4787, REQ-5
	}
}

func defaultRateLimits() lb.RateLimits {
	return lb.RateLimits{Resets: 1000, ICMPErrors: 1000, EchoReplies: 1000}
}

func defaultFragments() lb.Fragments {
	return lb.Fragments{Held: 512, Bytes: 2 << 20, Timeout: time.Second}
}

func (d *decoder) interfaces(n *node) []string {
	var all []string
	first := map[string]position{}
	for _, item := range d.list(n, 1, "interfaces: [eth0]") {
		name, ok := d.text(item, "the name of a network interface")
		if !ok {
			continue
		}
		if problem := interfaceProblem(name); problem != "" {
			d.fail(item.position, "`ip link` lists the names", "interfaces: %s is not the name of an interface: %s", quote(name), problem)
			continue
		}
		if before, twice := first[name]; twice {
			d.fail(item.position, "remove one of them", "interfaces: %q was already given in line %d", name, before.line)
			continue
		}
		first[name] = item.position
		all = append(all, strings.Clone(name))
	}
	return all
}

// interfaceProblem says what the kernel's dev_valid_name would not accept.
func interfaceProblem(name string) string {
	switch {
	case len(name) > maxInterfaceName:
		return fmt.Sprintf("longer than %d characters", maxInterfaceName)
	case name == "." || name == "..":
		return "it names a directory"
	case strings.ContainsAny(name, "/:") || strings.ContainsFunc(name, unicode.IsSpace):
		return "slashes, colons and spaces are not allowed"
	}
	return ""
}

// timeouts reads a "timeouts" map over the values that hold without it.
func (d *decoder) timeouts(n *node, inherited lb.Timeouts) lb.Timeouts {
	t := inherited
	timeout := func(name string, to *time.Duration) field {
		return field{name: name, read: func(n *node) {
			if value, ok := d.duration(n, minTimeout, maxTimeout); ok {
				*to = value
			}
		}}
	}
	d.fields(n, "timeouts",
		timeout("tcp_unconfirmed", &t.TCPUnconfirmed),
		timeout("tcp_established", &t.TCPEstablished),
		timeout("tcp_half_closed", &t.TCPHalfClosed),
		timeout("tcp_closed", &t.TCPClosed),
		timeout("udp_unconfirmed", &t.UDPUnconfirmed),
		timeout("udp_stream", &t.UDPStream),
	)
	return t
}

func (d *decoder) rateLimits(n *node) lb.RateLimits {
	r := defaultRateLimits()
	rate := func(name string, to *uint32) field {
		return field{name: name, read: func(n *node) {
			if value, ok := d.number(n, 0, maxRate); ok {
				*to = value
			}
		}}
	}
	d.fields(n, "rate_limits",
		rate("resets", &r.Resets),
		rate("icmp_errors", &r.ICMPErrors),
		rate("echo_replies", &r.EchoReplies),
	)
	return r
}

func (d *decoder) fragments(n *node) lb.Fragments {
	f := defaultFragments()
	d.fields(n, "fragments",
		field{name: "held", read: func(n *node) {
			if value, ok := d.number(n, 0, maxHeld); ok {
				f.Held = value
			}
		}},
		field{name: "bytes", read: func(n *node) {
			if value, ok := d.size(n, maxHeldBytes); ok {
				f.Bytes = value
			}
		}},
		field{name: "timeout", read: func(n *node) {
			if value, ok := d.duration(n, minFragmentTimeout, maxFragmentTimeout); ok {
				f.Timeout = value
			}
		}},
	)
	return f
}

// limits are those that the file gives, and where.
type limits struct {
	lb.Limits
	at map[string]position
}

// over has the automatic ones where the file gives none.
func (l limits) over(automatic lb.Limits) lb.Limits {
	choose := func(name string, given, automatic uint32) uint32 {
		if _, isGiven := l.at[name]; isGiven {
			return given
		}
		return automatic
	}
	return lb.Limits{
		Flows:        choose("flows", l.Flows, automatic.Flows),
		Services:     choose("services", l.Services, automatic.Services),
		Backends:     choose("backends", l.Backends, automatic.Backends),
		TableEntries: choose("table_entries", l.TableEntries, automatic.TableEntries),
		Prefixes:     choose("prefixes", l.Prefixes, automatic.Prefixes),
		Clients:      choose("clients", l.Clients, automatic.Clients),
		Affinity:     choose("affinity", l.Affinity, automatic.Affinity),
	}
}

func (d *decoder) limits(n *node) limits {
	l := limits{at: map[string]position{}}
	least, most := lb.LeastLimits(), lb.MostLimits()
	limit := func(name string, to *uint32, least, most uint32) field {
		return field{name: name, read: func(n *node) {
			if value, ok := d.number(n, least, most); ok {
				*to = value
				l.at[name] = n.position
			}
		}}
	}
	d.fields(n, "limits",
		limit("flows", &l.Flows, least.Flows, most.Flows),
		limit("services", &l.Services, least.Services, most.Services),
		limit("backends", &l.Backends, least.Backends, most.Backends),
		limit("table_entries", &l.TableEntries, least.TableEntries, most.TableEntries),
		limit("prefixes", &l.Prefixes, least.Prefixes, most.Prefixes),
		limit("clients", &l.Clients, least.Clients, most.Clients),
		limit("affinity", &l.Affinity, least.Affinity, most.Affinity),
	)
	return l
}
